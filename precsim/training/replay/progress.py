"""How far a training has come: all that it needs to go on, on disk, and as it was."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from precsim import __version__
from precsim.formats.arguments import integer, shown
from precsim.training.replay.checkpoint import load_checkpoint, save_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """Where a training keeps its state, and how often.

    Parameters
    ----------
    folder : str or Path
        A folder for this run alone. If it has checkpoints of the run, the run goes on from the
        newest one, and ends with the same bits as one that was never interrupted.
    every : int
        Steps between two checkpoints. The last step has one, too.
    keep : int
        How many checkpoints stay.

    Raises
    ------
    ValueError
        If `every` or `keep` is not an integer from 1 on.

    Examples
    --------
    >>> from precsim.training.replay.progress import Checkpoints
    >>> Checkpoints(folder="run", every=100).keep
    2
    """

    folder: Path
    every: int
    keep: int = 2

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "folder", Path(self.folder))
        for name in ("every", "keep"):
            object.__setattr__(self, name, integer(getattr(self, name), name, least=1))


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a training has after some steps."""

    state: Any
    """Everything that changes from step to step."""
    history: list[Any] = field(default_factory=list)
    """What each step has measured: a named tuple of arrays, and of dicts of arrays."""
    snapshots: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    first_gradient: dict[str, np.ndarray] = field(default_factory=dict)
    last_gradient: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """What compiling and running took, up to here."""
    score: float | None = None
    """Of the trained weights; None before the end."""

    @property
    def done(self) -> int:
        """Steps that were made."""
        return len(self.history)

    def save(self, checkpoints: Checkpoints, run: Mapping[str, Any]) -> None:
        """Write a checkpoint; `run` says which run this is."""
        self.history = jax.device_get(self.history)
        columns = jax.tree.map(lambda *x: np.stack(x), *self.history)
        gradients = {"first": self.first_gradient, "last": self.last_gradient}
        arrays = _joined("history", columns._asdict()) | _joined("gradient", gradients)
        arrays |= _joined("snapshot", {str(k): x for k, x in self.snapshots.items()})
        about = {
            "step": self.done,
            "run": dict(run),
            "environment": _environment(),
            "seconds": self.seconds,
            "score": None if self.score is None else self.score.hex(),
        }
        folder, keep = checkpoints.folder, checkpoints.keep
        save_checkpoint(folder, self.state, about=about, arrays=arrays, keep=keep)


def load_progress(
    folder: Path, state: Any, run: Mapping[str, Any], measured: type[Any]
) -> Progress | None:
    """Return how far a run has come; None if its folder has no checkpoint.

    `state` is the one before the first step, `measured` the named tuple of what a step measures.

    Raises
    ------
    ValueError
        If the checkpoint is of another run; the message says what differs.
    """
    try:
        found = load_checkpoint(folder, like=state)
    except FileNotFoundError:
        return None
    _check_run(found.file, found.about.get("run"), run)
    _check_environment(found.file, found.about.get("environment"))
    history, gradient, snapshots = (
        _parted(name, found.arrays) for name in ("history", "gradient", "snapshot")
    )
    columns = measured(**{name: history.get(name, {}) for name in measured._fields})
    score = found.about["score"]
    return Progress(
        state=found.state,
        history=[jax.tree.map(lambda x, k=k: x[k], columns) for k in range(found.about["step"])],
        snapshots={int(k): weights for k, weights in snapshots.items()},
        first_gradient=gradient["first"],
        last_gradient=gradient["last"],
        seconds=found.about["seconds"],
        score=None if score is None else float.fromhex(score),
    )


def _check_run(file: Path, theirs: Any, ours: Mapping[str, Any]) -> None:
    theirs = theirs if isinstance(theirs, dict) else {}
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{file} is of a run whose {name} is {shown(theirs.get(name))}; this one has "
                f"{shown(value)} (name another folder, or the same run)"
            )


def _environment() -> dict[str, str]:
    return {
        "precsim": __version__,
        "jax": jax.__version__,
        "device": str(jax.devices()[0].device_kind),
    }


def _check_environment(file: Path, theirs: Any) -> None:
    ours = _environment()
    changed = [
        name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]
    ]
    if changed:
        name = changed[0]
        was = theirs.get(name) if isinstance(theirs, dict) else None
        warnings.warn(
            f"{file} was written with {name} {was}, and {ours[name]} goes on: bits may differ",
            UserWarning,
            stacklevel=4,
        )


def _joined(first: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays, and dicts of arrays, by their joined names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        found |= {f"{first}/{name}/{part}": array for part, array in parts.items()}
    return found


def _parted(first: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_joined`."""
    found: dict[str, Any] = {}
    for joined, array in arrays.items():
        if joined.startswith(f"{first}/"):
            _, name, part = joined.split("/", 2)
            if part:
                found.setdefault(name, {})[part] = array
            else:
                found[name] = array
    return found
