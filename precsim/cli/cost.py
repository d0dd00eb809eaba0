"""`precsim cost`: what a training step needs under several policies."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from precsim.analysis.cost.built_in import task_of
from precsim.analysis.cost.cost import Cost, cost, of_task
from precsim.analysis.cost.table import LEGEND, cost_table
from precsim.cli.console import PlainConsole
from precsim.cli.output import naming_options, of_own_code, print_words
from precsim.training.config import OPTIMIZERS, TrainConfig
from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS
from precsim.transform.policy import Policy

DEFAULT_POLICIES = ("fp32", "bf16", "bf16_mixed", "fp16_mixed", "fp8_current")
"""Those that are compared unless others are named."""

_OF_STEPS = ("model", "task", "batch_size", "data_dir")
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in (*_OF_STEPS, "optimizer")}
_OPTIONS["fun"] = "--parameters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    default = _config("fp32")
    parser.add_argument(
        "--policy", nargs="+", action="extend", metavar="POLICY",
        help="presets, formats or KEY=VALUE,... with rules ;SCOPE:SETTINGS "
        f"(default: {' '.join(DEFAULT_POLICIES)})",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="NAME", help=f"{', '.join(MODELS)} (default: {default.model})"
    )
    parser.add_argument(
        "--task", metavar="NAME", help=f"{', '.join(TASKS)} (default: that of the model)"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N",
        help=f"examples in a step (default: {default.batch_size})",
    )  # fmt: skip
    parser.add_argument(
        "--optimizer", metavar="NAME", default=default.optimizer,
        help=f"{', '.join(OPTIMIZERS)} (default: {default.optimizer})",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="FOLDER",
        help="folder with the files of the task, see docs/reference/data.md (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--parameters", type=int, metavar="N",
        help="instead of a model: the number of its weights, all of them operands of products "
        "(default: none)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print a table with a row per policy."""
    texts = list(dict.fromkeys(args.policy or DEFAULT_POLICIES))
    policies = [Policy.parse(text) for text in texts]
    if args.parameters is not None:
        given = [_OPTIONS[name] for name in _OF_STEPS if getattr(args, name) is not None]
        if given:
            raise ValueError(f"{given[0]} is given beside --parameters; allowed is one of the two")
        title = f"Training of {args.parameters} weights, {args.optimizer}"
    with naming_options(_OPTIONS):
        if args.parameters is None:
            settings = _settings(args)
            config = _config("fp32", **settings)
            title = (
                f"A step of {config.model} on {config.task}, batch of {config.batch_size}, "
                f"{config.optimizer}"
            )
            with of_own_code(config.model, config.task):
                costs = _of_model(config, policies)
        else:
            optimizer = args.optimizer
            costs = [cost(args.parameters, policy=p, optimizer=optimizer) for p in policies]
    if args.json:
        print(json.dumps({"title": title, "costs": [c.to_dict() for c in costs]}, indent=1))
        return 0
    PlainConsole(highlight=False).print(cost_table(title, costs))
    print_words(LEGEND)
    return 0


def _config(policy: Any, **settings: Any) -> TrainConfig:
    return TrainConfig(policy=policy, **settings)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was given."""
    names = (*_OF_STEPS, "optimizer")
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _of_model(config: TrainConfig, policies: Sequence[Policy]) -> list[Cost]:
    task = task_of(config)
    return [of_task(task, policy, config.optimizer) for policy in policies]
