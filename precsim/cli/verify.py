"""`precsim train --verify-bits`: hash the state along a run, and compare it with a stored run."""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from precsim.cli import run_directory
from precsim.cli.progress import line_of, progress_bar
from precsim.products.backends import native_refusal
from precsim.products.specs.fused_block import FusedBlock
from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data
from precsim.training.loop import load_data, train_on
from precsim.training.replay.bits import HASHES, BitLog, read_log
from precsim.training.result import TrainResult


def set_flags(configs: list[TrainConfig]) -> None:
    """Set the XLA flags under which native products are known, where they are wanted and none are set.

    XLA reads them when its first device is used; after that they have no effect.
    """
    wants_native = any(
        config.backend != "emulated" and isinstance(config.policy.forward.order, FusedBlock)
        for config in configs
    )
    if wants_native and "XLA_FLAGS" not in os.environ:
        from precsim.products.native.tensor_core import RECOMMENDED_FLAGS

        os.environ["XLA_FLAGS"] = RECOMMENDED_FLAGS


def run(args: argparse.Namespace, configs: list[TrainConfig]) -> int:
    """Train each policy, print and store the hashes; 1 if one differs from the stored run."""
    path = args.out or Path("runs") / f"bits-{datetime.now():%Y%m%d-%H%M%S}"
    data = load_data(configs[0])  # of task, folder and seed, which all of them share
    logs = [_log(config, data, path, args) for config in configs]  # bad input leaves nothing behind
    run_directory.create(path)
    console = Console(stderr=args.json)
    for config, log in zip(configs, logs, strict=True):
        assert log.folder is not None
        run_directory.create(log.folder)
        reason = emulated_because(config)
        if reason is not None and not args.json:
            print(f"{config.policy.name}: products are emulated, the bits are the same ({reason})")
        with progress_bar(console) as bar, line_of(config, bar) as show:
            result = train_on(data, replace(config, snapshots=1), on_state=log, on_step=show)
        summary = _summary(result) | {"emulated_because": reason}
        log.finish({**log.about, "kernels": _kernels(), "result": summary})
        if not args.json:
            console.print(_table(config.policy.name, log, result))
            print(_verdict(log), f"({log.folder / HASHES})")
    if args.json:
        print(json.dumps({"policies": [_content(log) for log in logs]}, indent=2))
    return int(any(log.difference is not None for log in logs))


def _content(log: BitLog) -> dict[str, Any]:
    """Return what is stored of a run, without the hashes of single tensors, and what its comparison found."""
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


def _log(config: TrainConfig, data: Data, path: Path, args: argparse.Namespace) -> BitLog:
    """Return the log of a run, with the stored run that it is compared with; nothing is written."""
    name = config.policy.name
    stored = None if args.compare_bits is None else _stored(args.compare_bits, name)
    digest = data_hash(data)
    if stored is not None:
        _check_data(stored, digest)
    about = {
        "policy": str(config.policy),
        "config": run_directory.config_fields(config),
        "data": digest,
        "environment": run_directory.provenance(sys.argv[1:], config.seed)
        | {"xla_flags": os.environ.get("XLA_FLAGS", "")},
    }
    folder = path / name.replace("/", "-")
    return BitLog(every=args.verify_bits, folder=folder, stored=stored, about=about)


def emulated_because(config: TrainConfig) -> str | None:
    """Say why a tensor core's products will be emulated though nobody asked for it; None if they are not."""
    spec = config.policy.forward
    if config.backend != "auto" or not isinstance(spec.order, FusedBlock):
        return None
    return native_refusal(spec)


def _stored(path: Path, policy: str) -> Path:
    """Return the stored run of a policy: the file or folder given, or its subfolder of that name."""
    own = path / policy.replace("/", "-")
    return own if own.is_dir() else path


def data_hash(data: Data) -> str:
    """Return the SHA-256 of the examples and labels for training."""
    digest = hashlib.sha256(np.ascontiguousarray(data.train_images).tobytes())
    digest.update(np.ascontiguousarray(data.train_labels).tobytes())
    return digest.hexdigest()


def _check_data(stored: Path, data: str) -> None:
    theirs = read_log(stored).get("about", {}).get("data", data)
    if theirs != data:
        raise ValueError(
            f"the training data differ from those of {stored} (SHA-256 {data[:16]} against {theirs[:16]}); for "
            "task text, name the folder with its text.txt by --data-dir"
        )


def _kernels() -> dict[str, Any]:
    """Return what ran the native products of this process."""
    from precsim.products.native.tensor_core import tried_products

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
