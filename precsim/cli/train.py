"""`precsim train`: one network, several policies, one table."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from precsim.analysis.comparison import PolicySummary, event_rates, summarise
from precsim.analysis.report import LEGEND, comparison_tables, places_table
from precsim.arithmetic.sums.all_reduce import ALGORITHMS
from precsim.cli import cache, devices, resume, run_directory, verify
from precsim.cli.console import PlainConsole
from precsim.cli.jobs import train_all
from precsim.cli.output import naming_options, of_own_code, print_rows, reported
from precsim.cli.policies import WORDS, read_policy, read_schedule
from precsim.cli.progress import Progress, live_screen
from precsim.formats.arguments import integer
from precsim.products.backends import resolve_backend
from precsim.training.config import BACKENDS, OPTIMIZERS, TrainConfig
from precsim.training.control.schedule import schedule_from
from precsim.training.data.batches import MOST_EXAMPLES, check_parts
from precsim.training.data.dataset import Data
from precsim.training.data.registry import TASKS
from precsim.training.data.stream import Stream
from precsim.training.loop import check_policy, train_on
from precsim.training.models.registry import MODELS
from precsim.training.parallel.devices import Devices
from precsim.training.prepared import load_data
from precsim.training.recipes.clipping import CLIP_RULES
from precsim.training.result import TrainResult
from precsim.transform.presets import PRESETS

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
    *("model", "task", "steps", "batch_size", "learning_rate", "optimizer", "seed", "backend"),
    "data_dir",
    "accumulate",
    "accumulator",
    "clip_norm",
    "clip_value",
    "clip_rule",
    "delay",
    "shards",
    "all_reduce",
)
_OPTIONS = {name: resume.option(name) for name in _SETTINGS}
_USUAL = {f.name: f.default for f in fields(TrainConfig) if f.name in _SETTINGS}

_EPILOG = """\
exit status:
  0    everything was trained, written and drawn
  1    with --compare-bits: a bit differs
  2    the input was refused, or a policy or a picture failed (a line says why)
  130  interrupted; what was finished is shown and kept

docs/tutorials/first-training.md explains the tables, column by column."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Without a default is what --resume reads in the folder of the run."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "--policy",
        nargs="+",
        action="extend",
        metavar="POLICY",
        help=f"policies to compare with fp32: {', '.join(PRESETS)}, KEY=VALUE,..., "
        f"with rules ;SCOPE:SETTINGS, or FILE.toml ({WORDS}) (default: {' '.join(DEFAULT_POLICIES)})",
    )
    parser.add_argument(
        "--schedule",
        nargs="+",
        action="extend",
        metavar="SCHEDULE",
        help="policies by step, each a further run: POLICY@STEP,POLICY@STEP,..., "
        "ramp[STEPS]:POLICY<POLICY or cyclic[STEPS]:POLICY<POLICY (default: none)",
    )
    choices: dict[str, tuple[Iterable[str], str]] = {
        "model": (MODELS, "the network, or MODULE:FUNCTION, which returns yours"),
        "task": (TASKS, "what it learns, or MODULE:FUNCTION, which returns your data"),
        "optimizer": (OPTIMIZERS, "how it learns"),
        "backend": (BACKENDS, "what computes matrix products; auto never changes a result"),
    }
    for name, (allowed, said) in choices.items():
        parser.add_argument(
            f"--{name}",
            metavar="NAME",
            help=f"{said}: {', '.join(allowed)} (default: {_USUAL[name] or 'that of the model'})",
        )
    numbers: dict[str, tuple[Callable[[str], Any], str, str]] = {
        "steps": (int, "N", "optimizer steps"),
        "batch_size": (int, "N", "training examples in a step"),
        "learning_rate": (float, "X", "step size of the optimizer"),
        "seed": (int, "N", "decides the first weights, the order of the data, and random bits"),
        "accumulate": (int, "N", "microbatches whose gradients a step adds up"),
        "accumulator": (str, "FORMAT", "format of these sums, with :sr, :kahan, :first"),
        "clip_norm": (float, "X", "largest norm of a gradient"),
        "clip_value": (float, "X", "largest magnitude of a gradient's elements"),
        "clip_rule": (str, "NAME", f"the formula of --clip-norm: {', '.join(CLIP_RULES)}"),
        "delay": (int, "N", "steps between a gradient and the update by it"),
        "shards": (int, "N", "parts of each batch whose gradients are averaged"),
        "all_reduce": (
            str,
            "NAME",
            f"how these are added up: {', '.join(ALGORITHMS)}, with :FORMAT, :feedback",
        ),
    }
    for name, (kind, metavar, said) in numbers.items():
        parser.add_argument(
            _OPTIONS[name],
            type=kind,
            metavar=metavar,
            help=f"{said} (default: {'none' if _USUAL[name] is None else _USUAL[name]})",
        )
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="folder with the files of the task, see docs/reference/data.md (default: none)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the results; one that holds files is refused "
        "(default: runs/train-DATE-TIME)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=min(2, os.cpu_count() or 1),
        help="policies trained side by side; it changes no result (default: %(default)s)",
    )
    parser.add_argument(
        "--verify-bits",
        type=int,
        metavar="N",
        help="only train the policies named, and print and store the hash of all state every N steps "
        "(default: off)",
    )
    parser.add_argument(
        "--compare-bits",
        type=Path,
        metavar="RUN",
        help="with --verify-bits: a stored run (folder or hashes.json) to compare with (default: none)",
    )
    resume.add_arguments(parser)
    devices.add_arguments(parser)
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead of tables (default: off)"
    )
    cache.add_argument(parser)


@cache.with_cache
def run(args: argparse.Namespace) -> int:
    """Train, print the tables, write the run directory; several processes do so together."""
    integer(args.jobs, "--jobs", 1)
    begun, settings = resume.settings_of(args, _USUAL)
    devices.check(args, settings["shards"])
    with devices.together(args):
        return _run(args, begun, settings)


def _run(args: argparse.Namespace, begun: dict[str, Any] | None, settings: dict[str, Any]) -> int:
    if args.verify_bits is None and args.compare_bits is not None:
        raise ValueError("--compare-bits is given without --verify-bits N")
    if args.verify_bits is not None:
        integer(args.verify_bits, "--verify-bits", 1)
        if args.verify_bits > args.steps:
            raise ValueError(
                f"--verify-bits is {args.verify_bits}; allowed with --steps {args.steps} are 1 to "
                f"{args.steps}"
            )
    reference = ("fp32",) if args.verify_bits is None else ()
    texts = args.policy or (() if args.schedule else DEFAULT_POLICIES)
    policies = [read_policy(text) for text in (*reference, *texts)]
    policies += [read_schedule(text, args.steps) for text in args.schedule or ()]
    if args.verify_bits is not None and args.schedule:
        raise ValueError("--schedule is given with --verify-bits; allowed is one of them")
    if begun is not None:
        policies = resume.same_policies(args, policies, begun)
    _check_model(args.model, args.task)
    with naming_options(_OPTIONS):
        named = {policy.name: TrainConfig(policy=policy, **settings) for policy in policies}
    configs = list(named.values())
    settings["task"] = configs[0].task
    verify.set_flags(configs)
    for policy in policies:  # refuse before anything is trained or written
        if policy != named[policy.name].policy:
            raise ValueError(f"--policy gives two policies of the name {policy.name!r}")
        for spec in () if policy.rules else policy.products:
            resolve_backend(spec, args.backend)
    kind = "train" if args.verify_bits is None else "bits"
    path = args.resume or args.out or Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    if begun is None and (args.out is not None or not path.exists()):
        run_directory.check_place(path)
    run_directory.require_device()
    Devices.parse(args.devices).mesh()
    with of_own_code(args.model, settings["task"]):
        data = _data(configs[0])
        _check_size(configs[0], data)
        for config in configs:
            schedule = schedule_from(config.policy)
            for policy in schedule.policies if schedule else (config.policy,):
                check_policy(data, replace(config, policy=policy))
    if args.verify_bits is not None:
        return verify.run(args, path, data, configs)
    if args.process:
        devices.follow(args, data, configs)
        return 0
    about = run_directory.provenance(sys.argv[1:], args.seed) | {"config": settings}
    if begun is None:
        path = (run_directory.create if args.out is None else run_directory.reuse)(path)
        if args.checkpoint_every is None:
            return _train(args, path, data, configs, about)
    with resume.going_on(args, path, begun, settings, policies, about) as (every, about):
        return _train(args, path, data, configs, about, every)


def _train(
    args: argparse.Namespace,
    path: Path,
    data: Data | Stream,
    configs: list[TrainConfig],
    about: dict[str, Any],
    every: int | None = None,
) -> int:
    """Train, show and write, with checkpoints every so many steps."""
    console = PlainConsole(stderr=args.json, highlight=False)
    progress = Progress([c.policy.name for c in configs], args.steps, args.jobs)
    results: dict[str, TrainResult] = {}
    rows: list[PolicySummary] = []
    weights: dict[str, str] = {}
    failures: dict[str, str] = {}

    def train_one(config: TrainConfig, on_step: Callable[[int, float], None]) -> TrainResult:
        kept = resume.checkpoints_of(path, every, config.policy)
        control = schedule_from(config.policy)
        return train_on(
            data,
            config,
            control=control,
            on_step=on_step,
            checkpoints=kept,
            devices=args.devices,
        )

    def finished() -> list[Any]:
        return comparison_tables(rows, console.width)[:1] if rows else []

    try:
        with live_screen(progress, console, finished):
            for config, outcome in train_all(train_one, configs, progress):
                name = config.policy.name
                if not results and every is None:
                    run_directory.require_empty(path)
                with reported(name, failures, with_traceback=args.traceback):
                    if isinstance(outcome, Exception):
                        raise outcome
                    results[name] = outcome
                    run_directory.add_result(path, outcome)
                    weights[name] = run_directory.weights_file(config.policy)
                    done = _in_order(results, configs)
                    rows = [summarise(result, done[0]) for result in done]
                    content = run_directory.summary(done, weights, about)
                    run_directory.write_summary(path, content)
    finally:
        # What is finished is shown and drawn, also when the run is interrupted.
        if done := _in_order(results, configs):
            content = run_directory.summary(done, weights, about)
            content["complete"] = len(done) == len(configs)
            if [*results] != [result.config.policy.name for result in done]:
                with reported("metrics.csv", failures, with_traceback=args.traceback):
                    run_directory.arrange_metrics(path, done)
            _finish(args, console, path, done, content, failures)
    return 2 if failures else 0


def _check_model(model: str, task: str) -> None:
    """Refuse a task that the default model, which the user need not have named, cannot learn."""
    if model != _USUAL["model"] or not TASKS.get(task) or not TASKS[task].has:
        return
    fitting = [name for name, each in MODELS.items() if TASKS[task].has in each.reads]
    if model not in fitting:
        raise ValueError(
            f"--task is {task!r}, which has {TASKS[task].has}; model {model!r} reads "
            f"{' or '.join(MODELS[model].reads)} (give --model {' or '.join(fitting)})"
        )


def _data(config: TrainConfig) -> Data | Stream:
    """Return the data that all runs share."""
    try:
        return load_data(config)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None


def _check_size(config: TrainConfig, data: Data | Stream) -> None:
    """Refuse batches larger than the data, and runs whose order of examples fills the memory."""
    if isinstance(data, Stream):
        return
    with naming_options(_OPTIONS):
        check_parts(config)
    size, count = config.batch_size, len(data.train_targets)
    if size > count:
        raise ValueError(
            f"--batch-size is {size}; allowed for task {config.task!r} are 1 to {count}, the number "
            "of its training examples"
        )
    if config.steps * size > MOST_EXAMPLES:
        raise ValueError(
            f"--steps is {config.steps}; allowed with --batch-size {size} are 1 to "
            f"{MOST_EXAMPLES // size}"
        )


def _finish(
    args: argparse.Namespace,
    console: Console,
    path: Path,
    results: list[TrainResult],
    content: dict[str, Any],
    failures: dict[str, str],
) -> None:
    """Print the tables, draw the pictures, and at last write whether everything is there."""
    files = run_directory.FILES | (resume.FILES if (path / run_directory.OPTIONS).exists() else {})
    try:
        if not args.json:
            _print_tables(console, results)
    finally:
        for name, said in run_directory.pictures(results).items():
            with reported(f"picture {name}", failures, with_traceback=args.traceback):
                files[run_directory.draw(path, name, results).name] = said
        content["complete"] = content["complete"] and not failures
        content["failures"] = failures
        with reported("summary.json", failures, with_traceback=args.traceback):
            run_directory.write_summary(path, content)
    if args.json:
        print(json.dumps(content, indent=2))
        return
    if any(name.endswith(".png") for name in files):
        files["*.svg"] = "each picture once more, as lines and text"
    print(f"{path}:")
    print_rows(list(files.items()), label=24)


def _print_tables(console: Console, results: list[TrainResult]) -> None:
    summaries = [summarise(result, results[0]) for result in results]
    for table in comparison_tables(summaries, console.width):
        console.print(table)
    for line in (*LEGEND, "Every column: docs/tutorials/first-training.md"):
        console.print(line)
    console.print()
    places = places_table({r.config.policy.name: event_rates(r) for r in results})
    if places is not None:
        console.print(places)


def _in_order(results: dict[str, TrainResult], configs: list[TrainConfig]) -> list[TrainResult]:
    """Return the finished runs in the order asked for, once the float32 run is among them."""
    names = [config.policy.name for config in configs]
    return [results[name] for name in names if name in results] if names[0] in results else []
