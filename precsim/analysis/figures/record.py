"""What a run leaves: data as CSV, provenance as JSON, and the arrays by which it is resumed."""

import csv
import hashlib
import io
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from precsim import __version__
from precsim.analysis.figures.check import Check
from precsim.analysis.figures.definition import Figure
from precsim.analysis.figures.parameters import Value
from precsim.formats.arguments import shown
from precsim.training.replay.files import write_whole

_FACTS = "provenance.json"
PACKAGES = ("jax", "jaxlib", "matplotlib", "ml_dtypes", "numpy")


@dataclass(frozen=True, slots=True)
class Kept:
    """Arrays of an earlier run, how long it took, and the key under which they were made."""

    results: dict[str, np.ndarray]
    seconds: float
    key: str


def code_key(
    figure: Figure,
    *,
    fast: bool,
    parameters: Mapping[str, Value] | None = None,
    tables: Iterable[Path] = (),
) -> str:
    """Return a digest of all that decides the numbers: code, inputs, options, versions, device.

    Published data files decide what the numbers are compared with, which the record says too.
    """
    inputs = [figure.path.parent / name for name in figure.inputs]
    options = [versions(), device(), fast, sorted((parameters or {}).items())]
    digest = hashlib.sha256(json.dumps(options).encode())
    for path in (figure.path, *inputs, *tables):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(_package())
    return digest.hexdigest()


@cache
def _package() -> bytes:
    """Return a digest of the code of precsim, which this process has loaded."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(files("precsim"))).rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "precsim": __version__, **found}


def device() -> str:
    """Return what JAX computes on."""
    import jax

    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"


def missing_device() -> str | None:
    """Return why nothing can be computed, None if JAX has a device."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return f"JAX has no device here; JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
    return None


def provenance(
    figure: Figure,
    folder: Path,
    *,
    command: str,
    fast: bool,
    parameters: Mapping[str, Value],
    seconds: float,
    checks: Iterable[Check],
) -> dict[str, Any]:
    """Return who computed what, with which code, where and when."""
    rows = [{**asdict(check), "matched": check.matched} for check in checks]
    every = {name: parameter.default for name, parameter in figure.parameters.items()}
    return {
        "experiment": figure.name,
        "source": source_of(figure, folder),
        "title": figure.title,
        "citation": figure.citation,
        "class": figure.grade,
        "command": command,
        "fast": fast,
        "parameters": every | dict(parameters),
        "own parameters": sorted(parameters),
        "seed": (every | dict(parameters)).get("seed", getattr(figure.module, "SEED", None)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "git": _git_state(figure.path),
        "versions": versions(),
        "device": device(),
        "platform": platform.platform(),
        "matched": f"{sum(row['matched'] for row in rows)}/{len(rows)}",
        "checks": rows,
    }


def _git_state(file: Path) -> dict[str, Any] | None:
    """Return commit and whether files differ from it; None if git does not know the file."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def source_of(figure: Figure, folder: Path) -> str:
    """Return what a record in `folder` calls the source of a figure.

    It is the way from the folder to the file, so that both can be moved together; a published
    figure has the name of its module, wherever precsim is installed.
    """
    if not figure.is_file:
        return figure.module.__name__
    try:
        return Path(os.path.relpath(figure.path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return figure.path.resolve().as_posix()


def refuse_others(figure: Figure, folder: Path, *, force: bool = False) -> None:
    """Refuse a folder that holds files of something else; with `force` those of a figure pass.

    A record of a precsim that wrote no source passes if its figure has the same name.

    Raises
    ------
    ValueError
        If it is such a folder.
    """
    try:
        is_empty = all(file.name == f"{_FACTS}.tmp" for file in folder.iterdir())  # ended there
    except FileNotFoundError:
        return
    if is_empty:
        return
    facts = _facts(folder)
    if not all(isinstance(facts.get(name), str) for name in ("experiment", "key")):
        raise ValueError(f"{folder} holds files, but no {_FACTS} of a figure; name another --out")
    source, experiment = source_of(figure, folder), facts["experiment"]
    other = facts.get("source", source if experiment == figure.name else experiment)
    if other != source and not force:
        raise ValueError(
            f"{folder} was recorded from {shown(other)}, not from {shown(source)}; name another --out, or "
            "overwrite it with --force (also if the file was moved)"
        )


def _facts(folder: Path) -> dict[str, Any]:
    """Return what the record in a folder says; nothing if it is missing, damaged or no record."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def save(folder: Path, key: str, results: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Write JSON and CSV, and at last the arrays with their key: a result is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain({**facts, "key": key}), indent=1, allow_nan=False)
    write_whole(folder / _FACTS, text + "\n")
    write_table(folder, results)
    stored = {**results, "__key__": np.array(key), "__seconds__": np.array(facts["seconds"])}
    arrays = io.BytesIO()
    np.savez_compressed(arrays, allow_pickle=False, **stored)
    write_whole(folder / "data.npz", arrays.getvalue())


def write_table(folder: Path, results: dict[str, np.ndarray]) -> None:
    """Write the arrays as CSV."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows(_rows(results))
    write_whole(folder / "data.csv", table.getvalue())


def load(folder: Path, keys: Iterable[str]) -> Kept | None:
    """Return the arrays of an earlier run if they were made under one of the keys.

    A damaged record is none: its numbers are computed again.
    """
    facts = _facts(folder)
    try:
        with (folder / "data.npz").open("rb") as file, np.load(file) as stored:
            arrays = dict(stored)
        key, seconds = str(arrays.pop("__key__")), float(arrays.pop("__seconds__"))
        is_made_so = key in list(keys) and facts.get("key") == key
    except Exception:  # noqa: BLE001 zlib, zipfile, NumPy and JSON each have several errors of their own
        return None
    return Kept(seconds=seconds, results=arrays, key=key) if is_made_so else None


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
