"""`precsim train --verify-bits`: hash the state along a run, and compare it with a stored run."""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from precsim.cli import run_directory
from precsim.cli.console import PlainConsole
from precsim.cli.output import naming_options, reported
from precsim.cli.progress import Progress, live_screen
from precsim.products.native.refusal import RECOMMENDED_FLAGS, native_refusal
from precsim.products.specs.fused_block import FusedBlock
from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream
from precsim.training.loop import train_on
from precsim.training.replay.bits import BitLog
from precsim.training.replay.files import file_name
from precsim.training.replay.stored import HASHES, read_run
from precsim.training.result import TrainResult


def set_flags(configs: list[TrainConfig]) -> None:
    """Set the XLA flags of known native products, where these are wanted and no flags are set.

    XLA reads them when its first device is used; after that they have no effect.
    """
    wants_native = any(
        config.backend != "emulated" and isinstance(spec.order, FusedBlock)
        for config in configs
        for spec in config.policy.products
    )
    if wants_native and "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = RECOMMENDED_FLAGS


def run(
    args: argparse.Namespace, path: Path, data: Data | Stream, configs: list[TrainConfig]
) -> int:
    """Train each policy, print and store the hashes.

    Return 1 if one differs from the stored run, 2 if a run failed.
    """
    if args.compare_bits is not None:
        run_directory.require_run(args.compare_bits, "--compare-bits")
    with naming_options({"every": "--verify-bits"}):
        logs = [_log(config, data, args) for config in configs]  # bad input leaves nothing behind
    path = (run_directory.create if args.out is None else run_directory.reuse)(path)
    console = PlainConsole(stderr=args.json)
    failures: dict[str, str] = {}
    try:
        for config, log in zip(configs, logs, strict=True):
            log.folder = run_directory.reuse(path / file_name(config.policy.name))
            with reported(config.policy.name, failures, with_traceback=args.traceback):
                _run(config, data, log, console, is_quiet=args.json)
    finally:
        if args.json:
            told = [_content(log) for log in logs if log.hashes]
            print(json.dumps({"policies": told, "failures": failures}, indent=2))
    return 2 if failures else int(any(log.difference is not None for log in logs))


def _run(
    config: TrainConfig, data: Data | Stream, log: BitLog, console: Console, *, is_quiet: bool
) -> None:
    """Train by one policy, whose hashes are stored as the run goes on."""
    assert log.folder is not None
    reason = emulated_because(config)
    if reason is not None and not is_quiet:
        print(f"{config.policy.name}: products are emulated, the bits are the same ({reason})")
    progress = Progress([config.policy.name], config.steps)
    with progress.of(config.policy.name) as follow, live_screen(progress, console):
        result = train_on(data, replace(config, snapshots=1), on_state=log, on_step=follow)
    found = _summary(result) | {"emulated_because": reason}
    log.finish({**log.about, "kernels": _kernels(), "result": found})
    if not is_quiet:
        console.print(_table(config.policy.name, log, result))
        print(_verdict(log), f"({log.folder / HASHES})")


def _content(log: BitLog) -> dict[str, Any]:
    """Return what is stored of a run, hashes of all tensors together, and its comparison."""
    comparison = None
    if log.stored is not None:
        difference = None if log.difference is None else asdict(log.difference)
        comparison = {
            "stored": str(log.stored),
            "compared_steps": log.compared,
            "is_equal": log.difference is None,
            "difference": difference,
        }
    return {
        **log.about,
        "folder": str(log.folder),
        "every": log.every,
        "hashes": {str(step): hashes[""] for step, hashes in log.hashes.items()},
        "comparison": comparison,
    }


def _log(config: TrainConfig, data: Data | Stream, args: argparse.Namespace) -> BitLog:
    """Return the log of a run, with the stored run that it is compared with; nothing is written."""
    name = config.policy.name
    stored = None if args.compare_bits is None else _stored(args.compare_bits, name)
    digest = data_hash(data)
    if stored is not None:
        _check_data(stored, digest, config.task)
    about = {
        "name": name,
        "policy": str(config.policy),
        "config": run_directory.config_fields(config),
        "data": digest,
        "environment": run_directory.provenance(sys.argv[1:], config.seed)
        | {"xla_flags": os.environ.get("XLA_FLAGS", "")},
    }
    return BitLog(every=args.verify_bits, stored=stored, about=about)


def emulated_because(config: TrainConfig) -> str | None:
    """Return why a tensor core's products are emulated unasked; None if they are not."""
    if config.backend != "auto":
        return None
    fused = [spec for spec in config.policy.products if isinstance(spec.order, FusedBlock)]
    return next(filter(None, map(native_refusal, fused)), None)


def _stored(path: Path, policy: str) -> Path:
    """Return the stored run of a policy: the path given, or its subfolder for the policy."""
    own = path / file_name(policy)
    return own if own.is_dir() else path


def data_hash(data: Data | Stream) -> str:
    """Return the SHA-256 of the examples and targets for training; "" of batches one by one."""
    if isinstance(data, Stream):
        return ""
    import jax

    digest = hashlib.sha256()
    for part in (*jax.tree.leaves(data.train_inputs), data.train_targets):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _check_data(stored: Path, data: str, task: str) -> None:
    theirs = read_run(stored).said("data", str)
    if theirs not in (None, data):
        hint = "; name the folder with its text.txt by --data-dir" if task == "text" else ""
        raise ValueError(
            f"the training data differ from those of {stored} (SHA-256 {data[:16]} against {theirs[:16]}){hint}"
        )


def _kernels() -> dict[str, Any]:
    """Return what ran the native products of this process."""
    from precsim.products.native.finding import tried_products

    return {
        shapes: {"kernel": found.kernel, "schedule": str(found.schedule)}
        for shapes, found in tried_products().items()
    }


def _summary(result: TrainResult) -> dict[str, Any]:
    loss = float(result.losses[-1])
    return {
        "backend": result.backend,
        "last_loss": loss if np.isfinite(loss) else None,
        "test_accuracy": result.test_accuracy,
        "skipped_steps": result.skipped_steps,
        "seconds": round(result.run_seconds, 1),
    }


def _table(name: str, log: BitLog, result: TrainResult) -> Table:
    table = Table(title=f"{name}, {result.backend}: SHA-256 of all state, first 16 digits")
    for column in ("step", "hash", "stored run"):
        table.add_column(column)
    for step, hashes in log.hashes.items():
        theirs = log.stored_hashes.get(step, {}).get("")
        told = "" if theirs is None else "same" if theirs == hashes[""] else theirs[:16]
        table.add_row(str(step), hashes[""][:16], told)
    return table


def _verdict(log: BitLog) -> str:
    if log.stored is None:
        return f"{len(log.hashes)} hashes stored"
    if log.difference is not None:
        return f"not the same bits as {log.stored}: {log.difference}"
    return f"the same bits as {log.stored} at all {log.compared} compared steps"
