"""Read log-probabilities of a small language model in many ways, and compare their hashes.

    python -m conformance.log_probabilities
    python -m conformance.log_probabilities --backend native --arrays jax      # on an H100 or H200

The first table has the stated arithmetic: the products of an H100's tensor cores, all other
operations rounded once, sums pairwise by position. Every way has one hash, which is stored here.
The second table has the platform's arithmetic, compared with its own reading of whole sequences.
The exit status is 1 if a hash of the first table differs.
"""

import argparse
import os
import sys
import time

FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_cublaslt=true"
BATCHES = (64, 8, 3, 1)
STORED: dict[tuple[str, int, int], str] = {}
"""Format, number and length of sequences -> SHA-256 of all log-probabilities."""


def main(argv: list[str]) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m conformance.log_probabilities")
    parser.add_argument("--backend", default="reference", help="reference, emulated or native")
    parser.add_argument("--arrays", default="numpy", help="numpy or jax, which compute all else")
    parser.add_argument("--format", nargs="+", default=["bf16", "fp16"])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=24)
    parser.add_argument("--tables", nargs="+", default=["stated", "platform"])
    args = parser.parse_args(argv)
    if args.backend == "native":
        os.environ.setdefault("XLA_FLAGS", FLAGS)
    import ml_dtypes
    import numpy as np

    from experiments import decoder
    from experiments import log_probabilities as lp

    tokens, lengths = lp.sequences(args.sequences, args.length)
    whole = lp.Way(batch=64)
    ways = [whole, *(lp.Way(batch=n, padding=side, chunk=chunk)
            for n, side, chunk in ((8, "left", 0), (3, "left", 5), (1, "right", 0),
                                   (64, "right", 1), (8, "left", 1), (3, "left", 1), (1, "left", 1)))]  # fmt: skip
    wrong = 0
    for name in args.format if "stated" in args.tables else ():
        stored = STORED.get((name, args.sequences, args.length), "")
        using = decoder.Stated(format=name, products=f"h100:{name}->{name}", backend=args.backend)
        for way in ways:
            start = time.perf_counter()
            ours = lp.digest(lp.read(using, tokens, lengths, way, runs=args.arrays))
            stored = stored or ours
            wrong += ours != stored
            told = "same" if ours == stored else "differs"
            seconds = time.perf_counter() - start
            print(f"{name} {way!s:45} {ours[:16]} {told} {seconds:.1f} s", flush=True)
    for name in args.format if "platform" in args.tables else ():
        dtype = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32}[name]
        readings = {
            way: lp.read(decoder.Platform(dtype), tokens, lengths, way, runs="program")
            for way in (replaced(way) for way in ways)
        }
        for way, found in readings.items():
            change = lp.differences(found, readings[replaced(whole)], tokens, lengths)
            listed = ", ".join(f"{key} {value:.3g}" for key, value in change.items())
            print(f"{name} {way!s:45} {lp.digest(found)[:16]} {listed}", flush=True)
    return int(wrong > 0)


def replaced(way: "object") -> "object":
    """Return a way whose keys are kept by column, as programs usually do."""
    from dataclasses import replace

    return replace(way, is_aligned=False)  # type: ignore[type-var]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
