"""How far a training has come: all that it needs to go on, on disk, and as it was."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from precsim import __version__
from precsim.formats.arguments import integer, shown
from precsim.training.control.controller import Controller
from precsim.training.parallel.devices import fetched
from precsim.training.replay.bits import hash_state
from precsim.training.replay.checkpoint import load_checkpoint, save_checkpoint
from precsim.training.setup import Setup


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
    >>> import tempfile, precsim as ps
    >>> config = ps.TrainConfig(policy="fp32", model="linear", steps=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = ps.replay.Checkpoints(folder=folder, every=2)
    ...     result = ps.train(config, checkpoints=kept)
    ...     again = ps.train(config, checkpoints=kept)  # nothing is left to do
    >>> again.losses.tolist() == result.losses.tolist()
    True
    """

    folder: Path | Any
    every: int
    keep: int = 2

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "folder", Path(self.folder))
        for name in ("every", "keep"):
            object.__setattr__(self, name, integer(getattr(self, name), name, least=1))

    def below(self, name: str) -> "Checkpoints":
        """Return the same in a subfolder."""
        return replace(self, folder=self.folder / name)


_SAID_OTHERWISE = ("policy", "model", "task", "data_dir")
"""Fields of a config that `run_identity` has in other words, by what they stand for."""


def run_identity(setup: Setup, data: Any, start: Any) -> dict[str, Any]:
    """Return what two runs have in common if one may go on with the other's checkpoints.

    `data` is the data, or the first batch where batches are read one by one; `start` is the state
    before the first step.
    """
    config = setup.config
    chosen = (f.name for f in fields(config) if f.name not in _SAID_OTHERWISE)
    settings = {name: getattr(config, name) for name in chosen}
    return {
        "policy": str(config.policy),
        "model": setup.model.name,
        "loss": getattr(setup.loss, "__qualname__", str(setup.loss)),
        "metric": setup.metric_name,
        **{name: x if isinstance(x, (int, float)) else str(x) for name, x in settings.items()},
        "data": hash_state(data)[""],
        "first state": hash_state(start)[""],
    }


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a training has after some steps."""

    state: Any
    """Everything that changes from step to step."""
    controller: Controller
    """What decides the policies, and its decisions."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Which run it is, see `run_identity`."""
    measured: Any = None
    """A named tuple of arrays, and of dicts of arrays by name, whose rows are steps."""
    recent: list[Any] = field(default_factory=list)
    """What later steps have measured, one by one, on the device."""
    snapshots: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    first_gradient: dict[str, np.ndarray] = field(default_factory=dict)
    last_gradient: dict[str, np.ndarray] = field(default_factory=dict)
    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    score: float | None = None
    """Of the trained weights; None before the end."""

    @property
    def done(self) -> int:
        """Steps that were made."""
        rows = jax.tree.leaves(self.measured)
        return (len(rows[0]) if rows else 0) + len(self.recent)

    def settle(self) -> None:
        """Fetch what was measured."""
        if not self.recent:
            return
        one_by_one = [jax.tree.map(lambda x: x[None], m) for m in jax.device_get(self.recent)]
        parts = one_by_one if self.measured is None else [self.measured, *one_by_one]
        self.measured = jax.tree.map(lambda *x: np.concatenate(x), *_with_all_places(parts))
        self.recent = []

    def last(self, count: int) -> list[Any]:
        """Return what each of the last steps measured."""
        self.settle()
        steps = range(self.done - count, self.done)
        return [jax.tree.map(lambda x, k=k: x[k], self.measured) for k in steps]

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint; of several processes, the first does."""
        self.settle()
        state = fetched(self.state)  # which all processes do together
        if jax.process_index() != 0:
            return
        gradients = {"first": self.first_gradient, "last": self.last_gradient}
        arrays = _joined("measured", self.measured._asdict()) | _joined("gradient", gradients)
        arrays |= _joined("snapshot", {str(k): x for k, x in self.snapshots.items()})
        about = {
            "step": self.done,
            "run": dict(self.run),
            "control": self.controller.to_json(),
            "environment": _environment(),
            "compile_seconds": self.compile_seconds,
            "run_seconds": self.run_seconds,
            "score": None if self.score is None else self.score.hex(),
        }
        folder, keep = checkpoints.folder, checkpoints.keep
        save_checkpoint(folder, state, about=about, arrays=arrays, keep=keep)


def load_progress(
    folder: Path,
    start: Progress,
    measured: type[Any],
    state_after: Callable[[Controller], Any],
) -> Progress | None:
    """Return how far a run has come; None if its folder has no checkpoint.

    `start` is the run before its first step, `measured` the named tuple of what a step measures.
    `state_after` makes a state as it is after the decisions of a controller.

    Raises
    ------
    ValueError
        If the checkpoint is of another run; the message says what differs.
    """
    try:
        found = load_checkpoint(folder, like=start.state)
    except FileNotFoundError:
        return None
    except ValueError:
        other = load_checkpoint(folder)
        _check_run(other.file, other.about.get("run"), start.run)  # which says more
        known = start.controller.after(other.about["control"])
        found = load_checkpoint(folder, like=state_after(known))
    about = found.about
    _check_run(found.file, about.get("run"), start.run)
    _check_environment(found.file, about.get("environment"))
    rows, gradient, snapshots = (
        _parted(name, found.arrays) for name in ("measured", "gradient", "snapshot")
    )
    try:
        steps = measured(**{name: rows.get(name, {}) for name in measured._fields})
        if any(len(x) != about["step"] for x in jax.tree.leaves(steps)):
            raise ValueError(f"its measures are not those of {about['step']} steps")
        return Progress(
            state=found.state,
            controller=start.controller.after(about["control"]),
            run=start.run,
            measured=steps,
            snapshots={int(k): weights for k, weights in snapshots.items()},
            first_gradient=gradient["first"],
            last_gradient=gradient.get("last", {}),
            compile_seconds=float(about["compile_seconds"]),
            run_seconds=float(about["run_seconds"]),
            score=None if about["score"] is None else float.fromhex(about["score"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{found.file} is no checkpoint of a training: {error}") from None


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


def _with_all_places(parts: list[Any]) -> list[Any]:
    """Return what steps measured with the same names in each of their dicts, zeros for new ones."""
    fields = [f for f in parts[0]._fields if isinstance(getattr(parts[0], f), Mapping)]
    every = {
        field: {name: x for part in parts for name, x in getattr(part, field).items()}
        for field in fields
    }

    def filled(part: Any, field: str) -> dict[str, np.ndarray]:
        own: dict[str, np.ndarray] = getattr(part, field)
        rows = len(part.loss)
        none = {name: np.zeros((rows, *x.shape[1:]), x.dtype) for name, x in every[field].items()}
        return none | own

    return [part._replace(**{field: filled(part, field) for field in fields}) for part in parts]


def _joined(first: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays, and dicts of arrays, by their joined names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= {f"{first}/{name}/{part}": array for part, array in value.items()}
        else:
            found[f"{first}/{name}"] = value
    return found


def _parted(first: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_joined`."""
    found: dict[str, Any] = {}
    for joined, array in arrays.items():
        if joined.startswith(f"{first}/"):
            _, name, *part = joined.split("/", 2)
            if part:
                found.setdefault(name, {})[part[0]] = array
            else:
                found[name] = array
    return found
