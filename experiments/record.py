"""What a run leaves: data as CSV, provenance as JSON, and the arrays by which it is resumed."""

import csv
import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import numpy as np

import precsim as ps

PACKAGES = ("jax", "jaxlib", "matplotlib", "ml_dtypes", "numpy")


@dataclass(frozen=True, slots=True)
class Kept:
    """Arrays of an earlier run, and how long it took."""

    results: dict[str, np.ndarray]
    seconds: float


def code_key(module: Any, *, fast: bool, tables: Iterable[Path] = ()) -> str:
    """Return a digest of all that decides the numbers: code, inputs, options, versions, device.

    Published data files decide what the numbers are compared with, which the record says too.
    """
    own = Path(module.__file__)
    package = sorted(Path(str(files("precsim"))).rglob("*.py"))
    inputs = [own.parent / name for name in getattr(module, "INPUTS", ())]
    digest = hashlib.sha256(json.dumps([versions(), device(), fast]).encode())
    for path in (own, *inputs, *package, *tables):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "precsim": ps.__version__, **found}


def device() -> str:
    """Return what JAX computes on."""
    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"


def missing_device() -> str | None:
    """Return why nothing can be computed, None if JAX has a device."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return f"JAX has no device here; JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
    return None


def provenance(
    module: Any, request: Any, *, seconds: float, checks: Iterable[Any]
) -> dict[str, Any]:
    """Return who computed what, with which code, where and when."""
    rows = [{**asdict(check), "matched": check.matched} for check in checks]
    return {
        "experiment": request.name,
        "title": module.TITLE,
        "citation": module.CITATION,
        "class": module.CLASS,
        "command": request.command,
        "fast": request.fast,
        "seed": getattr(module, "SEED", None),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "git": _git_state(),
        "versions": versions(),
        "device": device(),
        "platform": platform.platform(),
        "matched": f"{sum(row['matched'] for row in rows)}/{len(rows)}",
        "checks": rows,
    }


def _git_state() -> dict[str, Any] | None:
    """Return commit and whether files differ from it; None outside a repository or without git."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def save(folder: Path, key: str, results: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Write CSV and JSON, and at last the arrays with their key: a result is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_rows(results))
    text = json.dumps(_plain({**facts, "key": key}), indent=1, allow_nan=False)
    (folder / "provenance.json").write_text(text + "\n", encoding="utf-8")
    part = folder / "data.npz.part"
    with part.open("wb") as file:
        stored = {**results, "__key__": np.array(key), "__seconds__": np.array(facts["seconds"])}
        np.savez_compressed(file, allow_pickle=False, **stored)
    part.replace(folder / "data.npz")


def load(folder: Path, keys: Iterable[str]) -> Kept | None:
    """Return the arrays of an earlier run if they were made under one of the keys.

    A damaged record is none: its numbers are computed again.
    """
    try:
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        with (folder / "data.npz").open("rb") as file, np.load(file) as stored:
            arrays = dict(stored)
        key, seconds = str(arrays.pop("__key__")), float(arrays.pop("__seconds__"))
        is_made_so = key in list(keys) and facts["key"] == key
    except Exception:  # noqa: BLE001 zlib, zipfile, NumPy and JSON each have several errors of their own
        return None
    return Kept(seconds=seconds, results=arrays) if is_made_so else None


def _rows(results: dict[str, np.ndarray]) -> Iterator[list[Any]]:
    """Yield a header, then a row for each number: its array, its indices there, its value.

    Arrays of fewer dimensions than the others have index 0 in the missing ones.
    """
    depth = max([1, *(np.ndim(array) for array in results.values())])
    yield ["array", *(f"index{k}" for k in range(depth)), "value"]
    for name, array in results.items():
        filled = np.reshape(array, np.shape(array) + (1,) * (depth - np.ndim(array)))
        for index in np.ndindex(filled.shape):
            yield [name, *index, filled[index].item()]


def _plain(value: Any) -> Any:
    """Replace what JSON lacks: infinities and NaN become strings, NumPy scalars Python numbers."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
