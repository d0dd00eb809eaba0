"""`precsim bisect`: the first step and operation at which two stored runs part."""

import argparse
from pathlib import Path

from precsim.analysis.bisect import bisect_runs
from precsim.cli import cache
from precsim.cli.output import naming_options
from precsim.cli.run_directory import require_device, require_run
from precsim.training.replay.stored import HASHES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    for name in ("ours", "theirs"):
        help_ = "folder that train --verify-bits wrote"
        parser.add_argument(name, type=Path, metavar="RUN", help=help_)
    parser.add_argument(
        "--backend", help="of both replays, for example emulated (default: each run's own)"
    )
    cache.add_argument(parser)


@cache.with_cache
def run(args: argparse.Namespace) -> int:
    """Print where the runs part; return 1 if they do."""
    ours, theirs = (_of_one_policy(path) for path in (args.ours, args.theirs))
    require_device()
    with naming_options({"backend": "--backend"}):
        found = bisect_runs(ours, theirs, backend=args.backend)
    if found.first_different is None:
        print(f"the same bits at all common steps, the last of them {found.last_equal}")
        return 0
    print(f"equal at step {found.last_equal}, different at step {found.first_different}")
    if found.departs is not None:
        print(f"both replays agree with each other, and not with {found.departs}")
    print(found.divergence)
    return 1


def _of_one_policy(path: Path) -> Path:
    """Return the folder with a run's hashes: the path, or in it that of its only policy."""
    require_run(path, "RUN")
    within = sorted(file.parent for file in path.glob(f"*/{HASHES}"))
    if (path / HASHES).exists() or not within:
        return path
    if len(within) > 1:
        names = ", ".join(map(str, within))
        raise ValueError(f"RUN is {path}, which has several policies; allowed is one of {names}")
    return within[0]
