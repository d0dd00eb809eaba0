"""One training on several devices: the same bits, however many share it out.

    python -m conformance.parallel mlp_bf16 --devices 1 2 4x2   # simulated on a CPU
    python -m conformance.parallel transformer_bf16 --backend native --devices 1 2 1x2   # on GPUs
    python -m conformance.parallel cnn_bf16 --all-reduce ring:bf16 --devices 1 2

Prints one row for each: devices, hash of all state after the last step, and time of a step as a
ratio to the first row; exit status 1 if hashes differ. `--platform` trains again with the sums of
the platform's own all-reduce, and prints how far the weights are from the first row's.
`--checkpoints FOLDER` goes on where a killed run stopped; `--kill-at STEP` kills this one there.
"""

import argparse
import os
import signal
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from conformance.command_line import CommandLine
from conformance.training import CASES as REPLAYED
from conformance.training import FLAGS

CASES: dict[str, dict[str, Any]] = REPLAYED | {
    "cnn_fp8": REPLAYED["cnn_bf16"] | {"policy": "h100_fp8"},
    "gpt2_bf16": REPLAYED["transformer_bf16"] | {"model": "gpt2", "batch_size": 256},
}
"""`gpt2_bf16` has 86 million weights, to fill a GPU: too large for a CPU's emulation."""


def main(argv: list[str]) -> int:
    """Train each case on each number of devices."""
    parser = CommandLine("conformance.parallel", __doc__)
    parser.add_argument("cases", nargs="+", metavar="CASE", help=", ".join(CASES))
    parser.add_argument(
        "--devices", nargs="+", default=["1"], metavar="D[xT]",
        help="numbers of devices for the data, and for the columns of products (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--backend", default="emulated", help="emulated or native (default: emulated)"
    )
    parser.add_argument("--steps", type=int, default=20, help="of a training (default: 20)")
    parser.add_argument("--batch-size", type=int, help="of a step (default: that of the case)")
    parser.add_argument("--shards", type=int, default=8, help="parts of a batch (default: 8)")
    parser.add_argument(
        "--all-reduce", default="doubling", help="how their gradients are added (default: doubling)"
    )
    parser.add_argument("--platform", action="store_true", help="also with the platform's sums")
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="go on from there")
    parser.add_argument("--kill-at", type=int, help="step at which this process kills itself")
    args = parser.parse_args(argv)
    parser.check("case", args.cases, CASES)
    if args.checkpoints is not None and (len(args.devices) > 1 or args.platform):
        parser.error("--checkpoints goes with one of --devices; others would take its last state")
    os.environ.setdefault("XLA_FLAGS", FLAGS if args.backend == "native" else _simulated(args))
    try:
        same = [compare(case, args) for case in args.cases]
    except (ValueError, OSError, ModuleNotFoundError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0 if all(same) else 1


def _simulated(args: argparse.Namespace) -> str:
    """Return the flag that makes one CPU as many devices as are asked for."""
    import precsim as ps

    most = max(ps.replay.Devices.parse(text).count for text in args.devices)
    return f"--xla_force_host_platform_device_count={most}"


def compare(case: str, args: argparse.Namespace) -> bool:
    """Train one case on each number of devices; True if all have the same bits."""
    rows = [(devices, args.all_reduce) for devices in args.devices]
    rows += [(devices, "platform") for devices in args.devices if args.platform]
    first: tuple[str, Any, float] | None = None
    is_same = True
    for devices, how in rows:
        found = train(case, devices, how, args)
        first = first or found
        apart = ""
        if how == args.all_reduce:
            is_same &= found[0] == first[0]
            apart = "same" if found[0] == first[0] else "differs"
        distance, size = _norm(found[1], first[1]), _norm(first[1], None)
        print(
            f"{case} {args.backend} steps {args.steps} shards {args.shards} {how:10} "
            f"devices {devices:5} {found[0][:16]} {apart:8} weights apart by {distance / size:.1e}, "
            f"a step takes {found[2] / first[2]:.2f} of the first row's {1e3 * first[2]:.2f} ms",
            flush=True,
        )
    return is_same


def _norm(weights: dict[str, Any], others: dict[str, Any] | None) -> float:
    import numpy as np

    total = 0.0
    for name, w in weights.items():
        other = 0 if others is None else others[name].astype(np.float64)
        total += float(np.sum((w.astype(np.float64) - other) ** 2))
    return float(total**0.5)


def train(
    case: str, devices: str, how: str, args: argparse.Namespace
) -> tuple[str, dict[str, Any], float]:
    """Return the hash of all state after the last step, the weights, a step's median seconds."""
    import jax

    import precsim as ps

    fields = dict(CASES[case])
    if args.batch_size is not None:
        fields["batch_size"] = args.batch_size
    config = ps.TrainConfig(
        policy=ps.Policy.parse(fields.pop("policy")),
        steps=args.steps,
        backend=args.backend,
        snapshots=1,
        shards=args.shards,
        all_reduce=how,
        **fields,
    )
    last: dict[str, str] = {}
    ends: list[float] = []

    def on_state(step: int, state: Any) -> None:
        jax.block_until_ready(state)  # type: ignore[no-untyped-call]
        ends.append(time.perf_counter())
        if step == args.steps:
            last.update(ps.replay.hash_state(state))
        if step == args.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    kept = None
    if args.checkpoints is not None:
        kept = ps.replay.Checkpoints(folder=args.checkpoints / case, every=10)
    result = ps.train(config, devices=devices, on_state=on_state, checkpoints=kept)
    seconds = statistics.median(end - begin for begin, end in pairwise(ends))
    return last[""], dict(result.weights), seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
