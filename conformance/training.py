"""Trainings whose every bit is known, replayed and compared with hashes of a GPU's tensor cores.

    python -m conformance.training                        # the first 50 steps of each, emulated
    python -m conformance.training --steps 2000 mlp_bf16  # one of them, whole
    python -m conformance.training --backend native       # on the tensor cores of an H100
    python -m conformance.training gpt124m --steps 2      # GPT-2 small, see conformance/gpt124m.py

Prints one table: case, step, hash of all state, and whether it is the stored one; exit status 1 if
one is not. `--record FOLDER` writes hash files as those in `conformance/replay`. A native step may
take more than twice as long as one of float32: docs/explanation/bit-exact-training.md, Cost. With
`--products platform` the platform multiplies in an order of its own, to see the bits change.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from conformance.command_line import CommandLine

FOLDER = Path(__file__).parent / "replay"
FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_cublaslt=true"
STEPS = (0, 50, *range(400, 2001, 400))
"""Steps whose hashes are stored."""

_FP16 = "h100_fp16,scale=dynamic@16777216"
"""Loss scaling begins so high that gradients overflow, and the first steps are skipped."""
_TRANSFORMER = {
    "model": "transformer",
    "task": "text",
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "batch_size": 16,
    "data_dir": str(FOLDER),
}
CASES: dict[str, dict[str, Any]] = {
    "mlp_bf16": {"policy": "h100_bf16", "batch_size": 128, "learning_rate": 0.05},
    "mlp_fp16": {"policy": _FP16, "batch_size": 128, "learning_rate": 0.05},
    "mlp_fp8": {"policy": "h100_fp8", "batch_size": 128, "learning_rate": 0.05},
    "cnn_bf16": {
        "policy": "h100_bf16",
        "model": "cnn",
        "optimizer": "momentum",
        "learning_rate": 0.02,
    },
    "cnn_mnist5k_bf16": {
        "policy": "h100_bf16",
        "model": "cnn",
        "task": "mnist5k",
        "optimizer": "momentum",
        "learning_rate": 0.01,
        "batch_size": 16,
    },
    "transformer_bf16": {"policy": "h100_bf16", **_TRANSFORMER},
    "transformer_fp16": {"policy": _FP16, **_TRANSFORMER},
    "transformer_fp8": {"policy": "h100_fp8", **_TRANSFORMER},
}
"""Name -> fields of `TrainConfig`; 2,000 steps each."""
LARGE = "gpt124m"
"""The case of `conformance/gpt124m.py`, which takes minutes a step on a CPU."""
_OF_LARGE = {"steps": 2, "sequence": 256, "seed": 0}
"""Its options, if they are not given."""


def main(argv: list[str]) -> int:
    """Replay the cases that are named, by default all but the large one."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    cases = list(dict.fromkeys(args.cases)) or list(CASES)
    if unknown := [name for name in cases if name not in (*CASES, LARGE)]:
        parser.error(f"unknown case {unknown[0]!r}; known are {', '.join([*CASES, LARGE])}")
    if set(cases) != {LARGE} and (args.sequence, args.seed) != (None, None):
        parser.error(f"--sequence and --seed are options of {LARGE} alone")
    if LARGE in cases and args.products == "platform":
        parser.error(f"--products is no option of {LARGE}")
    if args.backend == "native" and args.products == "machine":
        os.environ.setdefault("XLA_FLAGS", FLAGS)
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        wanted = os.environ.get("JAX_PLATFORMS", "")
        print(f"error: JAX has no device here; JAX_PLATFORMS is {wanted!r}", file=sys.stderr)
        return 2
    runs = {name: _run_of(name, args) for name in cases}
    try:
        if args.record is not None:
            check_new_files(args.record, [file for file, _ in runs.values()])
        same = [run() for _, run in runs.values()]
    except (ValueError, OSError, ModuleNotFoundError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0 if all(same) else 1


def _run_of(name: str, args: argparse.Namespace) -> tuple[str, Callable[[], bool]]:
    """Return the name of a case's file of hashes, and what replays the case."""
    if name != LARGE:
        return f"{name}.json", partial(replay, name, args)
    from conformance import gpt124m

    given = {option: value for option, value in vars(args).items() if value is not None}
    of_large = argparse.Namespace(**vars(args) | _OF_LARGE | given)
    return gpt124m.file_name(of_large), partial(gpt124m.replay, of_large)


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine("conformance.training", __doc__)
    known = f"{', '.join([*CASES, LARGE])} (default: all but {LARGE})"
    parser.add_argument("cases", nargs="*", metavar="CASE", help=known)
    parser.add_argument("--backend", default="emulated", help="emulated or native")
    parser.add_argument(
        "--native", dest="backend", action="store_const", const="native", help="--backend native"
    )
    far = f"how far to go (default: {STEPS[1]}, of {LARGE} {_OF_LARGE['steps']})"
    parser.add_argument("--steps", type=int, help=far)
    parser.add_argument(
        "--products",
        choices=("machine", "platform"),
        default="machine",
        help="whose products (default: machine)",
    )
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write hash files there")
    large = parser.add_argument_group(f"options of {LARGE}")
    for name, about in (("sequence", "tokens of a step"), ("seed", "of weights and batches")):
        large.add_argument(f"--{name}", type=int, help=f"{about} (default: {_OF_LARGE[name]})")
    return parser


def replay(name: str, args: argparse.Namespace) -> bool:
    """Train one case and compare it with the stored hashes; True if none differs."""
    import precsim as ps

    fields = dict(CASES[name])
    policy = ps.Policy.parse(fields.pop("policy"))
    if args.products == "platform":
        policy = with_platform_products(policy)
    config = ps.TrainConfig(
        policy=policy,
        steps=STEPS[1] if args.steps is None else args.steps,
        backend=args.backend,
        snapshots=1,
        **fields,
    )
    stored = stored_hashes(FOLDER / f"{name}.json")
    hashes: dict[int, dict[str, str]] = {}

    def on_state(step: int, state: Any) -> None:
        if step == 0:
            hashes.clear()
        if step in STEPS:
            hashes[step] = ps.replay.hash_state(state)

    start = time.perf_counter()
    result = ps.train(config, on_state=on_state)
    seconds = time.perf_counter() - start
    is_same = True
    for step, ours in hashes.items():
        told = compared(ours, stored.get(step))
        is_same &= not told.startswith("differs")
        print(f"{name:18} {result.backend:9} step {step:5} {ours[''][:16]} {told}", flush=True)
    print(
        f"{name:18} {result.backend:9} loss {result.losses[-1]:.4f}, test accuracy {result.test_accuracy:.4f}, "
        f"skipped steps {result.skipped_steps}, {seconds:.0f} s with compilation, "
        f"{1e3 * result.run_seconds / config.steps:.2f} ms a step",
        flush=True,
    )
    if args.record is not None:
        about = {
            "backend": result.backend,
            "test_accuracy": result.test_accuracy,
            "skipped_steps": result.skipped_steps,
        }
        record(args.record / f"{name}.json", str(policy), hashes, about)
    return is_same


def compared(ours: dict[str, str], theirs: dict[str, str] | None) -> str:
    """Say whether hashes are the stored ones, and else which tensor differs first."""
    if theirs is None:
        return "nothing stored"
    if theirs[""] == ours[""]:
        return "same"
    differing = next(k for k in [*sorted(ours)[1:], ""] if ours[k] != theirs.get(k))
    return f"differs from {theirs[''][:16]}, first in {differing}"


def stored_hashes(path: Path) -> dict[int, dict[str, str]]:
    """Return the hashes of a file by step, none if there is no file; a damaged one is refused."""
    import precsim as ps

    return ps.replay.BitLog(every=1, stored=path).stored_hashes if path.exists() else {}


def with_platform_products(policy: Any) -> Any:
    """Return the policy with its operands, multiplied in the order of the platform's kernel."""
    import precsim as ps

    def plain(spec: Any) -> Any:
        return ps.MatmulSpec(lhs=spec.lhs, rhs=spec.rhs, accumulator="fp32")

    roles = ("forward", "dgrad", "wgrad")
    return replace(policy, **{role: plain(getattr(policy, role)) for role in roles})


def check_new_files(folder: Path, names: list[str]) -> None:
    """Make a folder that files of hashes can be written to; refuse one that has any of them."""
    for path in (folder / name for name in names):
        if path.exists():
            raise FileExistsError(f"{path} exists; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise OSError(f"{folder} cannot be written to: {problem.strerror}") from None


def record(
    path: Path, policy: str, hashes: dict[int, dict[str, str]], of_run: dict[str, Any]
) -> None:
    """Write a file of hashes and what made them; one that exists is refused."""
    import jax

    check_new_files(path.parent, [path.name])
    about = {
        "policy": policy,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": f"python -m conformance.training {' '.join(sys.argv[1:])}",
        **of_run,
    }
    path.write_text(json.dumps({"about": about, "steps": hashes}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
