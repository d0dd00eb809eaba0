"""``python -m experiments.training_matrix``: every model under every policy, as one table.

A cell is one run of `precsim.train`, compared with the float32 run of its model: the same seed,
first weights and batches. The table is written after each run, so that nothing finished is lost,
and ``--resume`` goes on from it, under the same settings, which stand beside it in settings.json.
"""

import argparse
import csv
import json
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
MODELS = (
    *("linear", "factorisation", "logistic", "recommender", "mlp", "lstm", "gru", "cnn", "lenet"),
    *("mobilenet", "resnet", "encoder", "transformer", "gpt2"),
)
"""All models, those that compile and run in the shortest time first."""

SETTINGS = ("steps", "batch_size", "learning_rate", "optimizer", "seed")
"""What all runs of a table have in common."""
SETTINGS_FILE = "settings.json"

Cell = tuple[str, str]
"""A model and a policy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; return 1 if a run failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.resume and not (options.out / "training_matrix.csv").exists():
        parser.error(f"--resume: {options.out} has no training_matrix.csv")
    settings = {name: getattr(options, name) for name in SETTINGS}
    if options.resume and (other := _other_settings(options.out, settings)):
        parser.error(other)
    cells = [(m, p) for m in options.models for p in dict.fromkeys(("fp32", *options.policies))]
    kept = read(options.out) if options.resume else {}
    unfinished = {model for model, policy in cells if (model, policy) not in kept}
    missing = [c for c in cells if c not in kept or (c[0] in unfinished and c[1] == "fp32")]
    results: dict[Cell, ps.TrainResult] = {}
    failures: dict[Cell, str] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        (options.out / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    write(options.out, rows(cells, results, failures, kept))
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = {
            pool.submit(run, model, policy, settings | {"snapshots": 1}): (model, policy)
            for model, policy in missing
        }
        for done in as_completed(runs):
            cell, error = runs[done], done.exception()
            if error is None:
                results[cell] = done.result()
                _compare(cell, results[cell], kept)
            else:
                failures[cell] = f"{type(error).__name__}: {error}"
            print(
                f"{len(results) + len(failures)}/{len(missing)} {' '.join(cell)}", file=sys.stderr
            )
            write(options.out, rows(cells, results, failures, kept))
    print((options.out / "training_matrix.md").read_text(encoding="utf-8"), end="")
    return 1 if failures else 0


def run(model: str, policy: str, settings: dict[str, Any]) -> ps.TrainResult:
    """Train one model under one policy."""
    config = ps.TrainConfig(policy=policy, model=model, **settings)
    return ps.train(config)


def rows(
    cells: Iterable[Cell],
    results: dict[Cell, ps.TrainResult],
    failures: dict[Cell, str],
    kept: dict[Cell, dict[str, str]],
) -> list[dict[str, str]]:
    """Return a row for each cell that is finished and whose model has its float32 run.

    Rows that are `kept` stay as they are.
    """
    found = []
    every = dict.fromkeys((*kept, *cells))
    for model, policy in sorted(every, key=lambda cell: MODELS.index(cell[0])):
        reference, result = results.get((model, "fp32")), results.get((model, policy))
        if (model, policy) in kept:
            found.append(kept[model, policy])
        elif (model, policy) in failures:
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


def _compare(cell: Cell, result: ps.TrainResult, kept: dict[Cell, dict[str, str]]) -> None:
    """Say if a run that is in the table already, one of float32, has another score there."""
    if cell in kept:
        now, then = _row(cell[0], ps.summarise(result, result), result), kept[cell]
        if now["test score"] != then["test score"]:
            print(
                f"{' '.join(cell)} scores {now['test score']} here and {then['test score']} in the "
                "table: of other settings, or of another machine",
                file=sys.stderr,
            )


def _other_settings(folder: Path, settings: dict[str, Any]) -> str:
    """Say which setting a table has otherwise; empty if none, or if nothing tells of them."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        print(f"{folder} has no {SETTINGS_FILE}: settings of its rows are unknown", file=sys.stderr)
        return ""
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return f"--resume: {path} is not understood; allowed is an object in JSON"
    for name, given in settings.items():
        if known.get(name) != given:
            option, allowed = name.replace("_", "-"), known.get(name)
            return f"--{option} is {given!r}; allowed with --resume is {allowed!r}, as in {path}"
    return ""


def read(folder: Path) -> dict[Cell, dict[str, str]]:
    """Return the rows of a table, but for those of runs that failed."""
    with (folder / "training_matrix.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(row["model"], row["policy"]): row for row in rows if row["test score"]}


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
    for name, every in (("models", MODELS), ("policies", policies)):
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
    parser.add_argument(
        "--resume", action="store_true", help="keep what the table in --out has, run what it lacks"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
