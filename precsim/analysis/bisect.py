"""Where two runs part: the first step, and in it the first operation, whose bits differ."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from precsim.training.config import TrainConfig
from precsim.training.loop import prepare_run
from precsim.training.replay.bits import (
    BitDifference,
    differing_element,
    hash_state,
    load_state,
    read_log,
    state_arrays,
)
from precsim.transform.tags import tagged_values

Step = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first difference of two runs.

    Parameters
    ----------
    operation : str, optional
        Name of the first operation of that step whose results differ, all named ones before it being equal;
        None if the state differs though no named operation does.
    where : BitDifference
        Step, and the first element that differs, of the operation's result or of the state.

    Examples
    --------
    >>> import precsim as ps
    >>> print(ps.Divergence(operation=None, where=ps.BitDifference(step=37, tensor="params/w")))
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
        None if all states are equal. Operations are known by the names that `precsim.transform.tags.tag` gives
        (precsim's own layers and functions have them); those that only one of the two has are passed over.

    Notes
    -----
    Each step starts from one state, so that what is found is the first difference, not its consequence. Cost: both
    steps compiled, and at the end once more each with its named values as results.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> from precsim.transform.tags import tag
    >>> def step(state, x, scale=1.0):
    ...     return state + tag(scale * x, "scaled input"), None
    >>> theirs = lambda state, x: step(state, x, jnp.where(x > 2, 1 + 2.0**-23, 1.0))
    >>> print(ps.find_divergence(step, theirs, jnp.float32(0), [(jnp.float32(k),) for k in range(5)]))
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
        The run whose stored hash its own replay does not give, where both replays agree: it was disturbed, or
        computed by other operations than those that its configuration names.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.RunComparison(last_equal=400).first_different is None
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
        Backend of both replays, "emulated" for runs of a GPU that is not at hand; by default each run's own.

    Returns
    -------
    RunComparison
        The two compared steps around the first difference, and the first step, operation and element that differ.

    Raises
    ------
    ValueError
        If the runs have no common steps, or start differently.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.bisect_runs("runs/gpu", "runs/cpu", backend="emulated")  # doctest: +SKIP
    RunComparison(last_equal=400, first_different=800, divergence=Divergence(...), departs=None)
    """
    ours, theirs = Path(ours), Path(theirs)
    logs = [read_log(path) for path in (ours, theirs)]
    steps = [{int(k): hashes for k, hashes in log["steps"].items()} for log in logs]
    common = sorted(steps[0].keys() & steps[1].keys())
    if not common:
        raise ValueError(f"{ours} and {theirs} have no hashes of the same step")
    differing = [k for k in common if steps[0][k][""] != steps[1][k][""]]
    if not differing:
        return RunComparison(last_equal=common[-1])
    bad = differing[0]
    good = max((k for k in common if k < bad), default=-1)
    if good < 0:
        name = next(k for k, v in steps[0][bad].items() if k and v != steps[1][bad].get(k))
        raise ValueError(f"the runs differ at their first common step, {bad}, in {name}")
    runs = [prepare_run(_config(log, backend)) for log in logs]
    state = load_state(ours, good, runs[0].state)
    if state is None:
        state, good = runs[0].state, 0
    batches = [runs[0].batch(k) for k in range(good, bad)]
    found = find_divergence(runs[0].step, runs[1].step, state, batches, first_step=good + 1)
    if found is not None:
        return RunComparison(last_equal=good, first_different=bad, divergence=found)
    return _disturbed(runs[0].step, state, batches, good, bad, (ours, theirs), steps)


def _disturbed(
    step: Step,
    state: Any,
    batches: list[tuple[Any, ...]],
    good: int,
    bad: int,
    paths: tuple[Path, Path],
    steps: list[dict[int, dict[str, str]]],
) -> RunComparison:
    """Tell which stored run the common replay does not confirm, and in which element."""
    initial = state
    compiled = jax.jit(step)
    for batch in batches:
        state = compiled(state, *batch)[0]
    replayed = hash_state(state)
    k = next(i for i in (0, 1) if steps[i][bad][""] != replayed[""])
    name = next(n for n, v in replayed.items() if n and v != steps[k][bad].get(n))
    stored = load_state(paths[k], bad, initial)
    where = BitDifference(step=bad, tensor=name)
    if stored is not None:
        where = differing_element(bad, name, state_arrays(state), state_arrays(stored))
    divergence = Divergence(operation=None, where=where)
    return RunComparison(
        last_equal=good, first_different=bad, divergence=divergence, departs=str(paths[k])
    )


def _config(log: Mapping[str, Any], backend: str | None) -> TrainConfig:
    about = log["about"]
    fields = dict(about["config"])
    if backend is not None:
        fields["backend"] = backend
    return TrainConfig(policy=about["policy"], **fields)
