"""How far weights drift apart when only the order of the additions inside matrix products differs.

    python -m conformance.drift measure FILE.csv [--case mlp_bf16] [--steps 2000]
    python -m conformance.drift draw FILE.svg FILE.csv [FILE.csv ...]

`measure` trains a case of `conformance.training` twice, with the products of its policy (emulated:
the bits of an H100's tensor cores) and with the platform's own products of the same operands, and
writes the relative distance of the weights every 10 steps. `draw` makes one picture of several such
files.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from conformance.command_line import CommandLine
from conformance.training import CASES, check_new_files, with_platform_products

EVERY = 10


def weights_along(policy: Any, fields: dict[str, Any], steps: int, backend: str) -> np.ndarray:
    """Return all weights after every tenth step, shape (steps / 10 + 1, weights), float64."""
    import precsim as ps

    kept: dict[int, np.ndarray] = {}

    def on_state(step: int, state: Any) -> None:
        if step == 0:
            kept.clear()
        if step % EVERY == 0:
            kept[step] = np.concatenate([np.asarray(w).ravel() for w in state.params.values()])

    ps.train(
        ps.TrainConfig(policy=policy, steps=steps, backend=backend, snapshots=1, **fields),
        on_state=on_state,
    )
    return np.stack(list(kept.values())).astype(np.float64)


def measure(path: Path, case: str, steps: int) -> None:
    """Train twice and write step, distance."""
    import jax

    import precsim as ps

    check_new_files(path.parent, [path.name])
    fields = dict(CASES[case])
    policy = ps.Policy.parse(fields.pop("policy"))
    exact = weights_along(policy, fields, steps, "emulated")
    other = weights_along(with_platform_products(policy), fields, steps, "native")
    distances = np.linalg.norm(other - exact, axis=1) / np.linalg.norm(exact, axis=1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", f"{case}: XLA's own products on {jax.devices()[0].device_kind}"])
        writer.writerows((EVERY * k, repr(float(d))) for k, d in enumerate(distances))


def read(path: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Return what `measure` wrote: a label, steps, distances."""
    try:
        (_, label), *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        step, distance = np.array(rows, float).T
    except (ValueError, csv.Error) as problem:
        raise ValueError(f"{path} is no table of step and distance: {problem}") from None
    return label, step, distance


def draw(path: Path, files: list[Path]) -> None:
    """Draw the distances of several files against the step."""
    import precsim as ps

    tables = [read(source) for source in files]
    with ps.plots.figure(path=path) as axes:
        ps.plots.plot_weight_drift(axes[0], {name: (step, y) for name, step, y in tables})
        axes[0].set_ylabel("distance from the bit-exact run")


def main(argv: list[str]) -> int:
    """Run a subcommand."""
    parser = CommandLine("conformance.drift", __doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=argparse.ArgumentParser
    )
    first = commands.add_parser("measure")
    first.add_argument("path", type=Path, metavar="FILE.csv", help="what is written")
    first.add_argument(
        "--case", default="mlp_bf16", choices=CASES, help="what is trained (default: mlp_bf16)"
    )
    first.add_argument("--steps", type=int, default=2000, help="how far (default: 2000)")
    second = commands.add_parser("draw")
    second.add_argument("path", type=Path, metavar="FILE.svg", help="what is drawn")
    second.add_argument("files", type=Path, nargs="+", metavar="FILE.csv", help="what is measured")
    args = parser.parse_args(argv)
    try:
        if args.command == "measure":
            measure(args.path, args.case, args.steps)
        else:
            draw(args.path, args.files)
    except (ValueError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
