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

from rich.console import Console

from precsim.analysis.comparison import event_rates, summarise
from precsim.analysis.report import comparison_table, places_table
from precsim.cli import run_directory, verify
from precsim.cli.progress import line_of, progress_bar
from precsim.products.backends import resolve_backend
from precsim.training.config import BACKENDS, TrainConfig
from precsim.training.data.registry import TASKS
from precsim.training.loop import train
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
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}; allowed are integers from 1 on")
    settings = {name: getattr(args, name) for name in _SETTINGS}
    if args.verify_bits is None and args.compare_bits is not None:
        raise ValueError("--compare-bits is given without --verify-bits N")
    if args.verify_bits is not None and args.verify_bits < 1:
        raise ValueError(f"--verify-bits is {args.verify_bits}; allowed are integers from 1 on")
    reference = ("fp32",) if args.verify_bits is None else ()
    policies = [Policy.parse(text) for text in (*reference, *(args.policy or DEFAULT_POLICIES))]
    named = {policy.name: TrainConfig(policy=policy, **settings) for policy in policies}
    configs = list(named.values())
    verify.set_flags(configs)
    for policy in policies:  # refuse before anything is trained or written
        for spec in (policy.forward, policy.dgrad, policy.wgrad):
            resolve_backend(spec, args.backend)
    if args.verify_bits is not None:
        return verify.run(args, configs)
    path = args.out or Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}"
    run_directory.create(path)
    about = run_directory.provenance(sys.argv[1:], args.seed) | {"config": settings}
    console = Console(stderr=args.json)
    results: dict[str, TrainResult] = {}
    try:
        for result in _train_all(configs, args.jobs, console):
            results[result.config.policy.name] = result
            run_directory.add_result(path, result)
            run_directory.write_summary(path, _in_order(results, configs), about, complete=False)
    finally:
        # What is finished is drawn and shown, also when the run is interrupted.
        done = _in_order(results, configs)
        if done:
            complete = len(done) == len(configs)
            content = run_directory.write_summary(path, done, about, complete=complete)
            pictures = run_directory.draw(path, done)
            if args.json:
                print(json.dumps(content, indent=2))
            else:
                _print_report(console, done, path, pictures)
    return 0


def _in_order(results: dict[str, TrainResult], configs: list[TrainConfig]) -> list[TrainResult]:
    """Return the finished runs in the order asked for, once the float32 run is among them."""
    names = [config.policy.name for config in configs]
    return [results[name] for name in names if name in results] if names[0] in results else []


def _print_report(
    console: Console, results: list[TrainResult], path: Path, pictures: list[Path]
) -> None:
    console.print(comparison_table([summarise(result, results[0]) for result in results]))
    console.print(places_table({r.config.policy.name: event_rates(r) for r in results}))
    files = ", ".join(["summary.json", "metrics.csv", "weights", *(p.name for p in pictures)])
    console.print(f"{path}: {files}", soft_wrap=True)


def _train_all(configs: list[TrainConfig], jobs: int, console: Console) -> Iterator[TrainResult]:
    """Train in `jobs` threads, and yield each run as it ends."""
    stopped = threading.Event()
    with progress_bar(console) as bar, ThreadPoolExecutor(jobs) as pool:

        def train_one(config: TrainConfig) -> TrainResult:
            with line_of(config, bar) as show:

                def on_step(done: int, loss: float) -> None:
                    if stopped.is_set():
                        raise KeyboardInterrupt
                    show(done, loss)

                return train(config, on_step=on_step)

        runs = [pool.submit(train_one, config) for config in configs]
        failure: BaseException | None = None
        try:
            for finished in as_completed(runs):
                if finished.cancelled():
                    continue
                if (error := finished.exception()) is None:
                    yield finished.result()
                else:
                    # The others stop at their next report; what had ended before is still handed out.
                    failure = failure or error
                    stopped.set()
                    pool.shutdown(wait=False, cancel_futures=True)
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if failure is not None:
            raise failure
