"""``python -m experiments.training_matrix``: every model under every policy, as one table.

A cell is one run of `precsim.train`, compared with the float32 run of its model: the same seed,
first weights and batches. The table is written after each run, so that nothing finished is lost.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import precsim as ps

COLUMNS = (
    *("model", "task", "policy", "metric", "test score", "loss gap", "skipped steps"),
    *("gradient underflow %", "swallowed updates %", "compile s", "train s"),
)
ALIASES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float32")
"""Other names of policies that are in the table already."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; return 1 if a run failed."""
    options = _parser().parse_args(arguments)
    cells = [(m, p) for p in ("fp32", *options.policies) for m in options.models]
    cells = list(dict.fromkeys(cells))
    settings = {
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "optimizer": options.optimizer,
        "seed": options.seed,
        "snapshots": 1,
    }
    results: dict[tuple[str, str], ps.TrainResult] = {}
    failures: dict[tuple[str, str], str] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = {
            pool.submit(run, model, policy, settings): (model, policy) for model, policy in cells
        }
        for done in as_completed(runs):
            cell, error = runs[done], done.exception()
            if error is None:
                results[cell] = done.result()
            else:
                failures[cell] = f"{type(error).__name__}: {error}"
            print(f"{len(results) + len(failures)}/{len(cells)} {' '.join(cell)}", file=sys.stderr)
            write(options.out, rows(cells, results, failures))
    print((options.out / "training_matrix.md").read_text(encoding="utf-8"), end="")
    return 1 if failures else 0


def run(model: str, policy: str, settings: dict[str, Any]) -> ps.TrainResult:
    """Train one model under one policy."""
    config = ps.TrainConfig(policy=policy, model=model, **settings)
    return ps.train(config)


def rows(
    cells: Iterable[tuple[str, str]],
    results: dict[tuple[str, str], ps.TrainResult],
    failures: dict[tuple[str, str], str],
) -> list[dict[str, str]]:
    """Return a row for each cell that is finished and whose model has its float32 run."""
    found = []
    for model, policy in sorted(cells, key=lambda cell: ps.list_models().index(cell[0])):
        reference, result = results.get((model, "fp32")), results.get((model, policy))
        if (model, policy) in failures:
            found.append({"model": model, "policy": policy, "metric": failures[model, policy]})
        elif reference is not None and result is not None:
            found.append(_row(model, ps.summarise(result, reference), result))
    return found


def _row(model: str, s: ps.PolicySummary, result: ps.TrainResult) -> dict[str, str]:
    is_accuracy = s.metric == "accuracy"
    values = (
        model,
        result.config.task,
        s.policy,
        s.metric,
        f"{s.test_accuracy_percent:.2f} %" if is_accuracy else f"{s.test_score:.4g}",
        f"{s.loss_gap:+.3f}",
        str(s.skipped_steps),
        f"{s.gradient_underflow_percent:.2g}",
        f"{s.swallowed_updates_percent:.3g}",
        f"{s.compile_seconds:.1f}",
        f"{s.run_seconds:.1f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def write(folder: Path, found: list[dict[str, str]]) -> None:
    """Write the rows as CSV and as a table in Markdown."""
    with (folder / "training_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(found)
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([row.get(c, "") for c in COLUMNS] for row in found)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (folder / "training_matrix.md").write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.training_matrix", description=str(__doc__).splitlines()[0]
    )
    policies = [name for name in ps.list_policies() if name not in ALIASES]
    for name, every in (("models", ps.list_models()), ("policies", policies)):
        parser.add_argument(
            f"--{name}", nargs="+", default=every, metavar="NAME", help="(default: all)"
        )
    for name, metavar, usual, text in (
        ("steps", "N", 200, "of each training"),
        ("batch-size", "N", 32, "training examples in a step"),
        ("learning-rate", "X", 0.003, "of the optimizer"),
        ("optimizer", "NAME", "adam", "how they learn"),
        ("seed", "N", 0, "of first weights and batches"),
        ("jobs", "N", 2, "trainings side by side"),
        ("out", "FOLDER", Path("runs/matrix"), "of the tables"),
    ):
        said = f"{text} (default: {usual})"
        parser.add_argument(
            f"--{name}", type=type(usual), metavar=metavar, default=usual, help=said
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
