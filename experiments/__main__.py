"""``python -m experiments``: `precsim reproduce` in a clone, of all figures if none is named."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

OUT = Path(__file__).parent / "out"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the figures named first, all if there are none; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):
        print(f"`python -m experiments` is `precsim reproduce --out {OUT.parent.name}/{OUT.name}`:")
        print("without a name it computes all figures.\n")
    if not any(word.partition("=")[0] == "--out" for word in words):
        words += ["--out", str(OUT)]
    command = runpy.run_module("precsim")["main"]
    return int(command(["reproduce", *words]))


if __name__ == "__main__":
    raise SystemExit(main())
