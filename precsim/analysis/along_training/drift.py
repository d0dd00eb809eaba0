"""`track_drift`: how a training in low precision leaves a float32 one on the same data."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.along_training.batches import arguments_of_steps
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import not_allowed, shown
from precsim.transform.emulate import emulate
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function
from precsim.transform.values import is_float

KINDS = ("total", "local", "inherited")
Leaves = dict[str, Array]
"""Path -> array, of those leaves of a state that are floating-point numbers."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Distances of a run from its shadow, by tensor and step.

    Parameters
    ----------
    paths : tuple of str
        The tensors: paths of the state's floating-point leaves that both runs have.
    total, local, inherited : np.ndarray
        2-norms of the difference after each step, of what the roundings of this step add to it,
        and of the rest; float64 of shape (tensors, steps).
    size : np.ndarray
        2-norm of the shadow's tensors after each step, same shape.
    change : np.ndarray
        2-norm of the shadow's change in each step, same shape.
    amax : np.ndarray
        Largest magnitude in the run's tensors after each step, same shape. For single numbers, such
        as a loss scale, it is the number (scale trace).
    updates, swallowed : np.ndarray
        Elements that the step without roundings changes from the run's own state, and those among
        them that stay as they are in the run; int64, same shape.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> def step(w, x):
    ...     return w + x
    >>> drift = ps.track_drift(step, "bf16", jnp.ones(1), [(jnp.float32(2.0**-10),)] * 3)
    >>> drift.swallowed.tolist(), (drift.total * 2**10).tolist()
    ([[1, 1, 1]], [[1.0, 2.0, 3.0]])
    >>> (drift.local * 2**10).tolist(), (drift.inherited * 2**10).tolist()
    ([[1.0, 1.0, 1.0]], [[0.0, 1.0, 2.0]])
    """

    paths: tuple[str, ...]
    total: np.ndarray = field(repr=False)
    local: np.ndarray = field(repr=False)
    inherited: np.ndarray = field(repr=False)
    size: np.ndarray = field(repr=False)
    change: np.ndarray = field(repr=False)
    amax: np.ndarray = field(repr=False)
    updates: np.ndarray = field(repr=False)
    swallowed: np.ndarray = field(repr=False)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self.total.shape[1])

    def relative(self, kind: str = "total") -> np.ndarray:
        """Return a distance as a share of the shadow's norm, of shape (tensors, steps).

        `kind` is "total", "local" or "inherited". 0 / 0 is 0.
        """
        if kind not in KINDS:
            raise not_allowed("kind", kind, KINDS)
        return _ratio(getattr(self, kind), self.size)

    @cached_property
    def by_layer(self) -> "Drift":
        """The same with the tensors of each layer as one: their paths without the last part."""
        names = [path.rpartition("/")[0] or path for path in self.paths]
        layers = tuple(dict.fromkeys(names))
        rows = [[n for n, name in enumerate(names) if name == layer] for layer in layers]
        norms = {
            name: np.stack([np.linalg.norm(getattr(self, name)[row], axis=0) for row in rows])
            for name in (*KINDS, "size", "change")
        }
        counts = {
            name: np.stack([getattr(self, name)[row].sum(axis=0) for row in rows])
            for name in ("updates", "swallowed")
        }
        amax = np.stack([self.amax[row].max(axis=0) for row in rows])
        return replace(self, paths=layers, amax=amax, **norms, **counts)

    @property
    def swallowed_share(self) -> np.ndarray:
        """Swallowed updates as a share of all updates, of shape (tensors, steps)."""
        return _ratio(self.swallowed, self.updates)

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        last = self.relative()[:, -1]
        worst = int(np.argmax(np.nan_to_num(last, nan=np.inf)))
        local, inherited = (self.relative(kind)[worst, -1] for kind in KINDS[1:])
        swallowed = self.swallowed.sum() / max(self.updates.sum(), 1)
        return (
            f"after {self.steps} steps {self.paths[worst]} is farthest from the shadow, by "
            f"{last[worst]:.2g} of its norm (local {local:.2g}, inherited {inherited:.2g}); "
            f"{100 * swallowed:.3g} % of all updates are swallowed"
        )

    def __str__(self) -> str:
        """Return the sentence, and a table of the tensors after the last step."""
        return f"{self.sentence}\n\n{text_table(_HEADER, self._rows())}"

    def _rows(self) -> list[tuple[object, ...]]:
        kinds = [self.relative(kind)[:, -1] for kind in KINDS]
        swallowed = 100 * _ratio(self.swallowed.sum(axis=1), self.updates.sum(axis=1))
        columns = [*kinds, swallowed, self.amax[:, -1]]
        return [
            (path, *(float(column[n]) for column in columns)) for n, path in enumerate(self.paths)
        ]

    def to_json(self) -> str:
        """Return all arrays and the sentence as JSON."""
        return json_text({"sentence": self.sentence, **asdict(self)})

    def _repr_html_(self) -> str:
        """Return the sentence and the table for a notebook."""
        return html_table(self.sentence, _HEADER, self._rows())


_HEADER = ("tensor", "drift", "local", "inherited", "swallowed %", "amax")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return a quotient of arrays; 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((whole == 0) & (part == 0), 0.0, part / whole))


def track_drift(
    step: Callable[..., Any],
    low: str | Policy | Callable[..., Any],
    state: Any,
    batches: Iterable[tuple[Any, ...]],
    *,
    low_state: Any = None,
) -> Drift:
    """Run a training in low precision beside its float32 shadow, and split what parts them.

    Parameters
    ----------
    step : callable
        ``step(state, *batch)`` returns the next state, or a pair of it and anything; a function of
        pytrees that JAX can trace. It makes the shadow.
    low : str, Policy or callable
        A policy, under which `emulate` runs the step; or a step of its own, such as that of
        `replay.prepare_run`.
    state : pytree of arrays
        The first state of both runs.
    batches : iterable of tuple
        The other arguments of each step, the same for both runs.
    low_state : pytree of arrays, optional
        First state of the run in low precision, where it has other leaves (a loss scale) or rounded
        weights. Leaves of the same path and shape belong together.

    Returns
    -------
    Drift
        Distances by tensor and step, local and inherited, swallowed updates, amax and scale traces.

    Raises
    ------
    TypeError
        If `step` or `low` cannot be called, a step does not return a state like the one given, or
        `batches` has no tuples.
    ValueError
        If the policy is unknown, there are no steps, or the states have no tensor in common.

    Notes
    -----
    Let s be the shadow's state, e that of the run, F the step and E the step in low precision. Then
    ``E(e) - F(s) = (E(e) - F(e)) + (F(e) - F(s))``: the first part is *local*, what the roundings
    of this step add; the second is *inherited*, what the step makes of the difference that was
    there. The sum is one of vectors; norms need not add up. (A low step from s instead would count
    the rounding of all that the shadow has gathered as local, at every step anew.)

    An update is swallowed where ``F(e)`` differs from e and ``E(e)`` does not. Under a policy every
    operation of the step is rounded, the addition of the update too; a rule such as
    ``";update:fp32"`` keeps a named scope in float32. Distances are computed in float32 from the
    states; special values make them infinite or NaN.

    Cost: three evaluations of the step, one of them in low precision, in one compiled program.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def step(w, x):
    ...     return w - 0.1 * jax.grad(lambda w: jnp.sum((w * x - 1) ** 2))(w)
    >>> drift = ps.track_drift(step, "bf16", jnp.ones(3), [(jnp.float32([1, 2, 3]),)] * 4)
    >>> drift.total.shape, bool(drift.inherited[0, 0] == 0)
    ((1, 4), True)
    """
    check_function(step)
    if isinstance(low, (str, Policy)):
        low = emulate(step, low)
    elif not callable(low):
        raise TypeError(f"low is {shown(low)}; allowed are a policy and a step function")
    shadow, run = state, state if low_state is None else low_state
    paths = _common(_leaves(shadow), _leaves(run))
    compiled = jax.jit(_measured(step, low, paths))
    history = []
    for batch in arguments_of_steps(batches):
        shadow, run, measured = compiled(shadow, run, *batch)
        history.append(measured)
    rows = jax.device_get(history)
    stacked = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    counts = ("updates", "swallowed")
    arrays = {
        name: x.astype(np.int64 if name in counts else np.float64) for name, x in stacked.items()
    }
    return Drift(paths=paths, **arrays)


def _leaves(state: Any) -> Leaves:
    """Return the floating-point leaves of a state by path."""
    flat = jax.tree_util.tree_flatten_with_path(state)[0]
    arrays: Leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/") or "state": jnp.asarray(leaf)
        for path, leaf in flat
        if not jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)
    }
    return {path: x for path, x in arrays.items() if is_float(x)}


def _common(ours: Leaves, theirs: Leaves) -> tuple[str, ...]:
    both = [path for path, x in ours.items() if path in theirs and x.shape == theirs[path].shape]
    if not both:
        raise ValueError(
            "state has no floating-point leaf in common with low_state; allowed are states with "
            "leaves of the same path and shape"
        )
    return tuple(sorted(both, key=lambda path: re.sub(r"\d+", lambda m: m[0].zfill(9), path)))


def _measured(
    step: Callable[..., Any], low: Callable[..., Any], paths: Sequence[str]
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """Return f(shadow, run, *batch): both next states, and what is measured between them."""

    def measured(shadow: Any, run: Any, *batch: Any) -> tuple[Any, Any, dict[str, Array]]:
        next_shadow = _state_of(step(shadow, *batch), shadow, "step")
        next_run = _state_of(low(run, *batch), run, "low")
        exact = _state_of(step(_with_leaves(shadow, run), *batch), shadow, "step")
        names = ("shadow", "run", "next_shadow", "next_run", "exact")
        states = shadow, run, next_shadow, next_run, exact
        found = dict(zip(names, map(_leaves, states), strict=True))
        rows = [_row({name: leaves[path] for name, leaves in found.items()}) for path in paths]
        columns: Leaves = {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}
        return next_shadow, next_run, columns

    return measured


def _row(x: dict[str, Array]) -> dict[str, Array]:
    """Return what is measured of one tensor."""
    x = {name: jnp.asarray(array, jnp.float32) for name, array in x.items()}
    is_updated = x["exact"] != x["run"]
    is_kept = x["next_run"] == x["run"]
    size = x["next_run"] if not x["next_run"].ndim else jnp.abs(x["next_run"])
    return {
        "total": _norm(x["next_run"] - x["next_shadow"]),
        "local": _norm(x["next_run"] - x["exact"]),
        "inherited": _norm(x["exact"] - x["next_shadow"]),
        "size": _norm(x["next_shadow"]),
        "change": _norm(x["next_shadow"] - x["shadow"]),
        "amax": jnp.max(size, initial=-jnp.inf) if size.size else jnp.float32(0),
        "updates": jnp.sum(is_updated, dtype=jnp.int32),
        "swallowed": jnp.sum(is_updated & is_kept, dtype=jnp.int32),
    }


def _norm(x: Array) -> Array:
    """Return the 2-norm, without overflow of the squares."""
    largest = jnp.max(jnp.abs(x), initial=0.0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((x / unit) ** 2))


def _with_leaves(own: Any, other: Any) -> Any:
    """Return a state with the floating-point leaves of another one where it has them."""
    theirs = _leaves(other)

    def chosen(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "state"
        found = theirs.get(name)
        if found is None or found.shape != jnp.shape(leaf):
            return leaf
        return found.astype(jnp.asarray(leaf).dtype)

    return jax.tree_util.tree_map_with_path(chosen, own)


def _state_of(returned: Any, state: Any, argument: str) -> Any:
    """Return the state of what a step returns: all of it, or the first of a pair."""
    tree: Any = jax.tree.structure(state)
    if jax.tree.structure(returned) == tree:
        return returned
    is_pair = isinstance(returned, tuple) and len(returned) == 2
    if is_pair and jax.tree.structure(returned[0]) == tree:
        return returned[0]
    raise TypeError(
        f"{argument} returned {shown(jax.tree.structure(returned))}; allowed are a state like the "
        "one given, and a pair of it and anything"
    )
