"""``python -m experiments.claims``: settle popular claims about low precision."""

import argparse
import sys
from collections.abc import Sequence

from experiments.claims import command


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a claim is not reproduced, 2 for an unknown row."""
    parser = argparse.ArgumentParser(prog="python -m experiments.claims", description=__doc__)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(words))
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
