"""Where two runs part: the first step, and in it the first operation, whose bits differ."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from precsim.formats.arguments import shown
from precsim.training.config import TrainConfig
from precsim.training.prepared import prepare_run
from precsim.training.replay.bits import (
    BitDifference,
    differing_element,
    hash_state,
    load_state,
    state_arrays,
)
from precsim.training.replay.stored import StoredRun, read_run
from precsim.transform.tags import tagged_values

Step = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first difference of two runs.

    Parameters
    ----------
    operation : str, optional
        Name of the first operation of that step whose results differ; all named ones before it are
        equal. None if the state differs though no named operation does.
    where : BitDifference
        Step, and the first element that differs, of the operation's result or of the state.

    Examples
    --------
    >>> import precsim as ps
    >>> where = ps.replay.BitDifference(step=37, tensor="params/w")
    >>> print(ps.replay.Divergence(operation=None, where=where))
    no operation differs, the state does; step 37: params/w differs
    """

    operation: str | None
    where: BitDifference

    def __str__(self) -> str:
        """Return a sentence."""
        kind = (
            "first differing operation"
            if self.operation
            else "no operation differs, the state does"
        )
        return f"{kind}; {self.where}"


def find_divergence(
    ours: Step, theirs: Step, state: Any, batches: Iterable[tuple[Any, ...]], *, first_step: int = 1
) -> Divergence | None:
    """Run two step functions side by side and return where their bits first differ.

    Parameters
    ----------
    ours, theirs : callable
        ``step(state, *batch) -> (new_state, anything)``, functions that JAX can compile.
    state : pytree of arrays
        The state before the first step, common to both.
    batches : iterable of tuple
        The arguments of each step.
    first_step : int
        Number of the first step.

    Returns
    -------
    Divergence or None
        None if all states are equal. Operations are known by the names that
        `precsim.transform.tags.tag` gives (precsim's own layers and functions have them); those
        that only one of the two has are passed over.

    Notes
    -----
    Each step of both runs starts from the same state, so the difference that is found is the first
    one, not a consequence. Cost: both steps are compiled, and at the end each once more, with its
    named values as results.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> from precsim.transform.tags import tag
    >>> def step(state, x, scale=1.0):
    ...     return state + tag(scale * x, "scaled input"), None
    >>> theirs = lambda state, x: step(state, x, jnp.where(x > 2, 1 + 2.0**-23, 1.0))
    >>> batches = [(jnp.float32(k),) for k in range(5)]
    >>> print(ps.replay.find_divergence(step, theirs, jnp.float32(0), batches))
    first differing operation; step 4: scaled input[0] differs, 0x40400000 against 0x40400002
    """
    compiled = [jax.jit(step) for step in (ours, theirs)]
    for k, batch in enumerate(batches, first_step):
        new = [step(state, *batch)[0] for step in compiled]
        arrays = [state_arrays(each) for each in new]
        name = _first_differing(*arrays)
        if name is not None:
            values = [
                {key: np.asarray(x) for key, x in tagged_values(step, state, *batch).items()}
                for step in (ours, theirs)
            ]
            operation = _first_differing(*values)
            sides = arrays if operation is None else values
            where = differing_element(k, operation or name, *sides)
            return Divergence(operation=operation, where=where)
        state = new[0]
    return None


def _first_differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return the first name, in our order, whose arrays differ in a bit."""
    for name, x in ours.items():
        if name in theirs and hash_state({"": x}) != hash_state({"": theirs[name]}):
            return name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """What two stored runs have in common, and where they part.

    Parameters
    ----------
    last_equal : int
        The last compared step up to which all hashes are equal; -1 if none is.
    first_different : int, optional
        The compared step after it, whose hashes differ; None if the runs agree.
    divergence : Divergence, optional
        What replaying both found.
    departs : str, optional
        Where both replays agree: the run whose own replay does not give its stored hash. It was
        disturbed, or computed by other operations than those that its configuration names.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.replay.RunComparison(last_equal=400).first_different is None
    True
    """

    last_equal: int
    first_different: int | None = None
    divergence: Divergence | None = None
    departs: str | None = None


def bisect_runs(
    ours: str | Path, theirs: str | Path, *, backend: str | None = None
) -> RunComparison:
    """Find where two runs stored by `precsim train --verify-bits` part, by replaying them.

    Parameters
    ----------
    ours, theirs : str or Path
        Folders with ``hashes.json``.
    backend : str, optional
        Backend of both replays, "emulated" for runs of a GPU that is not at hand; by default each
        run's own.

    Returns
    -------
    RunComparison
        The two compared steps around the first difference, and the first step, operation and
        element that differ.

    Raises
    ------
    ValueError
        If the runs have no common steps, start differently, or take other examples, as with another
        seed.
    TypeError
        If `ours` or `theirs` is no path.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.replay.bisect_runs("runs/gpu", "runs/cpu", backend="emulated")  # doctest: +SKIP
    RunComparison(last_equal=400, first_different=800, divergence=Divergence(...), departs=None)
    """
    for argument, folder in (("ours", ours), ("theirs", theirs)):
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"{argument} is {shown(folder)}; allowed are folders, as str or Path")
    runs = [read_run(Path(path)) for path in (ours, theirs)]
    first, second = (run.hashes for run in runs)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise ValueError(f"{ours} and {theirs} have no hashes of the same step")
    differing = [k for k in common if first[k][""] != second[k][""]]
    if not differing:
        return RunComparison(last_equal=common[-1])
    bad = differing[0]
    good = max((k for k in common if k < bad), default=-1)
    if good < 0:
        name = _first_unequal(first[bad], second[bad])
        raise ValueError(f"the runs differ at their first common step, {bad}, in {name}")
    prepared = [prepare_run(_config(run, backend, bad)) for run in runs]
    replays = [each.step for each in prepared]
    state = load_state(runs[0], good, prepared[0].state)
    if state is None:
        state, good = prepared[0].state, 0
    batches = [prepared[0].batch(k) for k in range(good, bad)]
    for k, batch in enumerate(batches, good):
        if hash_state(batch) != hash_state(prepared[1].batch(k)):
            raise ValueError(
                f"{ours} and {theirs} take other examples in step {k + 1}: {_settings_of(runs)}"
            )
    found = find_divergence(replays[0], replays[1], state, batches, first_step=good + 1)
    departs = None
    if found is None:
        found, departs = _disturbed(replays[0], state, batches, bad, runs)
    return RunComparison(last_equal=good, first_different=bad, divergence=found, departs=departs)


def _disturbed(
    step: Step, state: Any, batches: list[tuple[Any, ...]], bad: int, runs: list[StoredRun]
) -> tuple[Divergence, str]:
    """Return where a stored run differs from what both replays give, and which run that is."""
    initial = state
    compiled = jax.jit(step)
    for batch in batches:
        state = compiled(state, *batch)[0]
    replayed = hash_state(state)
    run = next(run for run in runs if run.hashes[bad][""] != replayed[""])
    name = _first_unequal(replayed, run.hashes[bad])
    where = BitDifference(step=bad, tensor=name)
    stored = load_state(run, bad, initial)
    if stored is not None:
        where = differing_element(bad, name, state_arrays(state), state_arrays(stored))
    return Divergence(operation=None, where=where), str(run.file.parent)


def _first_unequal(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return the first tensor whose hashes differ, or that one side lacks."""
    names = sorted({*ours, *theirs} - {""})
    return next((n for n in names if ours.get(n) != theirs.get(n)), "no tensor by itself")


def _settings_of(runs: list[StoredRun]) -> str:
    """Return in which settings two runs differ."""
    first, second = (run.said("config", dict) for run in runs)
    pairs = {name: (first[name], second.get(name)) for name in first}
    unlike = [f"{name} is {a!r} and {b!r}" for name, (a, b) in pairs.items() if a != b]
    return ", ".join(unlike) or "their settings are the same, their data are not"


def _config(run: StoredRun, backend: str | None, steps: int) -> TrainConfig:
    """Return the configuration of a stored run, as far as a step."""
    policy, config = run.said("policy", str), run.said("config", dict)
    if policy is None or config is None:
        missing = "policy" if policy is None else "config"
        raise ValueError(
            f"{run.file} does not say how to repeat the run: it has no about.{missing}"
        )
    given = {**config, "steps": steps} | ({} if backend is None else {"backend": backend})
    kinds = {f.name: f.type for f in fields(TrainConfig) if f.name != "policy"}
    for name, value in given.items():
        kind: Any = (int, float) if kinds.get(name) is float else kinds.get(name, ())
        is_setting = isinstance(value, kind) and not isinstance(value, bool)
        if not is_setting:
            raise ValueError(
                f"{run.file}: about.config.{name} is {value!r:.40}, no setting of a training run"
            )
    try:
        return TrainConfig(policy=policy, **given)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{run.file}: about.config or about.policy: {error}") from None
