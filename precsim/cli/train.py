"""`precsim train`: one network, several policies, one table."""

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from precsim.analysis.comparison import event_rates, summarise
from precsim.analysis.report import comparison_table, places_table
from precsim.cli import run_directory, verify
from precsim.cli.console import PlainConsole
from precsim.cli.output import reported
from precsim.cli.progress import line_of, progress_bar
from precsim.formats.arguments import integer
from precsim.products.backends import resolve_backend
from precsim.training.config import BACKENDS, TrainConfig
from precsim.training.data.dataset import Data
from precsim.training.data.registry import TASKS
from precsim.training.loop import load_data, train_on
from precsim.training.models.registry import MODELS
from precsim.training.policy import Policy
from precsim.training.result import TrainResult

DEFAULT_POLICIES = (
    "fp32",
    "bf16",
    "bf16_mixed",
    "fp16",
    "fp16_mixed",
    "fp8_current",
    "q3.8",
    "q3.8_sr",
)
"""Policies of the main job."""

_SETTINGS = (
    "model",
    "task",
    "steps",
    "batch_size",
    "learning_rate",
    "optimizer",
    "seed",
    "backend",
    "data_dir",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    default = TrainConfig(policy="fp32")  # type: ignore[arg-type]
    parser.add_argument(
        "--policy",
        nargs="+",
        action="extend",
        metavar="POLICY",
        help="policies to compare with fp32, presets or KEY=VALUE,... (default: "
        f"{' '.join(DEFAULT_POLICIES)})",
    )
    parser.add_argument("--model", default=default.model, help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--task", default=default.task, help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--steps", type=int, default=default.steps, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=default.batch_size)
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument(
        "--optimizer", default=default.optimizer, help="sgd, momentum, adam or adamw"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="data order, weights, noise")
    parser.add_argument("--backend", default=default.backend, help=f"one of {', '.join(BACKENDS)}")
    parser.add_argument("--data-dir", default="", help="folder with text.txt, for task text")
    parser.add_argument(
        "--out", type=Path, help="new directory for the results (default: runs/...)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="policies trained side by side (default: 2; the results do not depend on it)",
    )
    parser.add_argument(
        "--verify-bits",
        type=int,
        metavar="N",
        help="only train the policies named, and print and store the hash of all state every N steps",
    )
    parser.add_argument(
        "--compare-bits",
        type=Path,
        metavar="RUN",
        help="with --verify-bits: a stored run (folder or hashes.json) to compare with; exit status 1 if "
        "a bit differs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Train, print the tables, write the run directory."""
    integer(args.jobs, "--jobs", 1)
    settings = {name: getattr(args, name) for name in _SETTINGS}
    if args.verify_bits is None and args.compare_bits is not None:
        raise ValueError("--compare-bits is given without --verify-bits N")
    if args.verify_bits is not None:
        integer(args.verify_bits, "--verify-bits", 1)
    reference = ("fp32",) if args.verify_bits is None else ()
    policies = [Policy.parse(text) for text in (*reference, *(args.policy or DEFAULT_POLICIES))]
    named = {policy.name: TrainConfig(policy=policy, **settings) for policy in policies}
    configs = list(named.values())
    verify.set_flags(configs)
    for policy in policies:  # refuse before anything is trained or written
        for spec in (policy.forward, policy.dgrad, policy.wgrad):
            resolve_backend(spec, args.backend)
    kind = "train" if args.verify_bits is None else "bits"
    path = args.out or Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    run_directory.check_place(path)
    run_directory.require_device()
    data = _data(configs[0])
    if args.verify_bits is not None:
        return verify.run(args, path, data, configs)
    about = run_directory.provenance(sys.argv[1:], args.seed) | {"config": settings}
    run_directory.create(path)
    console = PlainConsole(stderr=args.json)
    results: dict[str, TrainResult] = {}
    weights: dict[str, str] = {}
    failures: dict[str, str] = {}
    try:
        for config, outcome in _train_all(data, configs, args.jobs, console):
            name = config.policy.name
            with reported(name, failures, with_traceback=args.traceback):
                if isinstance(outcome, Exception):
                    raise outcome
                results[name] = outcome
                run_directory.add_result(path, outcome)
                weights[name] = run_directory.weights_file(outcome)
                content = run_directory.summary(_in_order(results, configs), weights, about)
                run_directory.write_summary(path, content)
    finally:
        # What is finished is shown and drawn, also when the run is interrupted.
        if done := _in_order(results, configs):
            content = run_directory.summary(done, weights, about)
            content["complete"] = len(done) == len(configs)
            _finish(args, console, path, done, content, failures)
    return 2 if failures else 0


def _data(config: TrainConfig) -> Data:
    """Return the data that all runs share."""
    try:
        return load_data(config)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None


def _finish(
    args: argparse.Namespace,
    console: Console,
    path: Path,
    results: list[TrainResult],
    content: dict[str, Any],
    failures: dict[str, str],
) -> None:
    """Print the tables, draw the pictures, and at last write whether everything is there."""
    files = ["summary.json", "metrics.csv", "weights"]
    try:
        if not args.json:
            console.print(comparison_table([summarise(r, results[0]) for r in results]))
            console.print(places_table({r.config.policy.name: event_rates(r) for r in results}))
    finally:
        for name in run_directory.pictures(results):
            with reported(f"picture {name}", failures, with_traceback=args.traceback):
                files.append(run_directory.draw(path, name, results).name)
        content["complete"] = content["complete"] and not failures
        content["failures"] = failures
        with reported("summary.json", failures, with_traceback=args.traceback):
            run_directory.write_summary(path, content)
    if args.json:
        print(json.dumps(content, indent=2))
    else:
        console.print(f"{path}: {', '.join(files)}", soft_wrap=True)


def _in_order(results: dict[str, TrainResult], configs: list[TrainConfig]) -> list[TrainResult]:
    """Return the finished runs in the order asked for, once the float32 run is among them."""
    names = [config.policy.name for config in configs]
    return [results[name] for name in names if name in results] if names[0] in results else []


def _train_all(
    data: Data, configs: list[TrainConfig], jobs: int, console: Console
) -> Iterator[tuple[TrainConfig, TrainResult | Exception]]:
    """Train in `jobs` threads; yield what becomes of each run as it ends."""
    stopped = threading.Event()
    with progress_bar(console) as bar, ThreadPoolExecutor(jobs) as pool:

        def train_one(config: TrainConfig) -> TrainResult:
            with line_of(config, bar) as show:

                def on_step(done: int, loss: float) -> None:
                    if stopped.is_set():
                        raise KeyboardInterrupt
                    show(done, loss)

                return train_on(data, config, on_step=on_step)

        runs = {pool.submit(train_one, config): config for config in configs}
        interruption: BaseException | None = None
        try:
            for run in as_completed(runs):
                if run.cancelled():
                    continue
                error = run.exception()
                if error is None:
                    yield runs[run], run.result()
                elif isinstance(error, Exception):
                    yield runs[run], error
                else:
                    # The others stop at their next report; what has ended is still handed out.
                    # Each is cancelled by itself: of those that a pool drops, nobody would hear.
                    interruption = error
                    stopped.set()
                    for other in runs:
                        other.cancel()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if interruption is not None:
            raise interruption
