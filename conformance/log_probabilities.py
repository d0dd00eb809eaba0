"""Read log-probabilities of a small language model in many ways, and compare their hashes.

    python -m conformance.log_probabilities
    python -m conformance.log_probabilities --backend native --arrays jax   # on an H100 or H200

The first table has the stated arithmetic: the products of an H100's tensor cores, all other
operations rounded once, sums pairwise by position. Each way of reading has to have the stored hash.
The second table has the platform's own arithmetic, compared with its reading of whole sequences.
The exit status is 1 if a hash of the first table differs.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from typing import Any

from conformance.command_line import CommandLine
from conformance.training import FLAGS

SEQUENCES, LENGTH = 8, 24
STORED = {"bf16": "10f482fdd5b5550e", "fp16": "17b10c33dac48118"}
"""Format -> first digits of the SHA-256 of all log-probabilities, for these sizes."""
TABLES = ("stated", "platform")
WAYS = (
    (64, "right", 0),
    (8, "left", 0),
    (3, "left", 5),
    (1, "right", 0),
    (64, "right", 1),
    (8, "left", 1),
    (3, "left", 1),
    (1, "left", 1),
)
"""Batch, padding, and tokens at once (0: all). The first is what others are compared with."""


def main(argv: list[str]) -> int:
    """Print the tables."""
    parser = CommandLine("conformance.log_probabilities", __doc__)
    for name, allowed, text in (
        ("backend", ("reference", "emulated", "native"), "what multiplies"),
        ("arrays", ("numpy", "jax"), "what computes all between the products"),
    ):
        said = f"{text}: {', '.join(allowed)} (default: {allowed[0]})"
        parser.add_argument(
            f"--{name}", choices=allowed, default=allowed[0], metavar="NAME", help=said
        )
    for name, several in (("format", tuple(STORED)), ("tables", TABLES)):
        said = f"only these: {', '.join(several)} (default: both)"
        parser.add_argument(
            f"--{name}", nargs="+", choices=several, default=several, metavar="NAME", help=said
        )
    for name, usual, text in (
        ("sequences", SEQUENCES, "how many are read"),
        ("length", LENGTH, "tokens of each"),
    ):
        said = f"{text} (default: {usual})"
        parser.add_argument(f"--{name}", type=int, default=usual, help=said)
    args = parser.read(argv, sequences=1, length=1)
    if args.backend == "native":
        os.environ.setdefault("XLA_FLAGS", FLAGS)
    if args.backend != "reference" and args.arrays == "numpy":
        print("all between the products is computed in NumPy", flush=True)
    try:
        wrong = stated(args) if "stated" in args.tables else 0
        if "platform" in args.tables:
            platform(args)
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return int(wrong > 0)


def stated(args: argparse.Namespace) -> int:
    """Print the hashes of all ways; return how many differ."""
    from experiments import decoder
    from experiments import log_probabilities as lp

    given, wrong = lp.sequences(args.sequences, args.length), 0
    is_usual = (args.sequences, args.length) == (SEQUENCES, LENGTH)
    for name in args.format:
        spec = f"h100:{name}->{name}"
        using = decoder.Stated(format=name, products=spec, backend=args.backend)
        wanted = STORED[name] if is_usual else ""
        for batch, padding, chunk in WAYS:
            way, start = lp.Way(batch=batch, padding=padding, chunk=chunk), time.perf_counter()
            ours = lp.digest(lp.read(using, *given, way, runs=args.arrays))
            wanted = wanted or ours
            is_same = ours.startswith(wanted)
            wrong += not is_same
            told = "same" if is_same else f"differs from {wanted[:16]}"
            seconds = time.perf_counter() - start
            print(f"{name} {way!s:42} {ours} {told} {seconds:.1f} s", flush=True)
    return wrong


def platform(args: argparse.Namespace) -> None:
    """Print how far the platform's arithmetic is from its own reading of whole sequences."""
    import ml_dtypes
    import numpy as np

    from experiments import decoder
    from experiments import log_probabilities as lp

    tokens, lengths = lp.sequences(args.sequences, args.length)
    dtypes: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
    for name in args.format:
        whole = None
        for batch, padding, chunk in WAYS:
            way = replace(lp.Way(batch=batch, padding=padding, chunk=chunk), is_aligned=False)
            using = decoder.Platform(dtypes[name])
            found = lp.read(using, tokens, lengths, way, runs="program")
            whole = found if whole is None else whole
            change = lp.differences(found, whole, tokens, lengths)
            listed = ", ".join(f"{key} {value:.3g}" for key, value in change.items())
            print(f"{name} {way!s:58} {lp.digest(found)[:16]} {listed}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
