"""`precsim train --devices`: one training on several devices, and in several processes."""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from precsim.formats.arguments import integer
from precsim.training.config import TrainConfig
from precsim.training.control.schedule import schedule_from
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream
from precsim.training.loop import train_on
from precsim.training.parallel.devices import Devices

_OF_PROCESSES = ("coordinator", "processes", "process")
_LONGEST_WAIT = 60
"""Seconds that a process waits for the others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--devices",
        metavar="DATA[xTENSOR]",
        default="1",
        help="devices that share out the shards of each batch, and in groups of TENSOR the columns "
        "of each product; it changes no result of portable functions (default: %(default)s)",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of several processes: where the first one listens; they are started with the same "
        "options, each with its number (default: none)",
    )
    parser.add_argument(
        "--processes", type=int, metavar="P", help="how many there are (default: none)"
    )
    parser.add_argument(
        "--process",
        type=int,
        metavar="I",
        help="which one this is, 0 to P - 1; the first one writes the results (default: none)",
    )


def check(args: argparse.Namespace, shards: int) -> None:
    """Refuse options that do not fit each other, or the number of shards."""
    devices = Devices.parse(args.devices)
    if shards % devices.data:
        raise ValueError(
            f"--shards is {shards}; allowed with --devices {args.devices} are multiples of "
            f"{devices.data}"
        )
    given = [name for name in _OF_PROCESSES if getattr(args, name) is not None]
    if given and len(given) < len(_OF_PROCESSES):
        missing = next(name for name in _OF_PROCESSES if name not in given)
        raise ValueError(f"--{given[0]} is given without --{missing}; they belong together")
    if given:
        if not re.fullmatch(r".+:[0-9]{1,5}", args.coordinator):
            raise ValueError(f"--coordinator is {args.coordinator[:80]!r}; allowed is HOST:PORT")
        integer(args.processes, "--processes", 1)
        integer(args.process, "--process", 0, args.processes - 1)
        args.jobs = 1  # all processes make the same steps in the same order
    if devices.count > 1 and args.verify_bits is not None:
        raise ValueError("--devices is given with --verify-bits; allowed is one of them")


@contextmanager
def together(args: argparse.Namespace) -> Iterator[None]:
    """Meet the other processes, where there are any, and leave together.

    To be entered before JAX's first device is used.
    """
    if args.coordinator is None:
        yield
        return
    import jax

    try:
        jax.distributed.initialize(
            args.coordinator,
            num_processes=args.processes,
            process_id=args.process,
            initialization_timeout=_LONGEST_WAIT,
        )
    except (RuntimeError, ValueError, OSError) as error:  # XLA's errors are RuntimeErrors
        first = str(error).splitlines()[0][:200]
        raise ValueError(
            f"--coordinator is {args.coordinator}, and the {args.processes} processes have not met "
            f"there: {first}"
        ) from None
    yield
    shutdown: Any = jax.distributed.shutdown
    shutdown()  # waits for the others; after an error they are not waited for


def follow(args: argparse.Namespace, data: Data | Stream, configs: Sequence[TrainConfig]) -> None:
    """Make the steps of all policies beside the first process, which writes them down."""
    for config in configs:
        train_on(data, config, control=schedule_from(config.policy), devices=args.devices)
