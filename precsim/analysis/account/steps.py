"""A training analysed step by step, and the map of its shares: scopes by steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.analyze import analyses
from precsim.analysis.account.report import Report
from precsim.analysis.account.words import group_name
from precsim.formats.arguments import integer, shown
from precsim.transform.emulate import emulate, key_of
from precsim.transform.policy import Policy
from precsim.transform.tracing import with_arrays


def analyze_steps(
    step: Callable[[Any, Any], Any],
    state: Any,
    batches: Iterable[Any],
    *,
    policy: str | Policy,
    every: int = 1,
    reference: str = "fp64",
    of: Callable[[Any], Any] | None = None,
    nodes: int = 1,
    recompute: bool = False,
    strict: bool = True,
    backend: str = "auto",
    seed: Any = 0,
) -> Iterator[tuple[int, Report]]:
    """Run a training under a policy, and analyse its steps, compiled once.

    Parameters
    ----------
    step : callable
        ``step(state, batch)``, which returns the next state: a pytree of arrays with the structure,
        shapes and dtypes of `state`. It is a function that JAX can trace.
    state : pytree of arrays
        Where the training begins: parameters, the optimizer's state.
    batches : iterable of pytrees of arrays
        One for each step, all of the same shapes.
    policy : str or Policy
        As of `analyze`, and so are the further options.
    every : int
        The first step is analysed, and each `every`-th after it. The others run emulated.
    reference : {"fp64", "fp32"}
        Arithmetic of the exact run.
    of : callable, optional
        The scalar that is asked about, a function of the next state.
    nodes : {1, 3}
        Nodes on the path.
    recompute : bool
        Whether what is inside calls and loops is computed twice.
    strict : bool
        Whether an operation without a rule is refused.
    backend : {"auto", "emulated", "native"}
        What computes products.
    seed : int or jax.Array
        As of `emulate`. Step n has the key ``jax.random.fold_in(jax.random.key(seed), n)``.

    Returns
    -------
    iterator of (int, Report)
        For each step that is analysed its number, from 1 on, and a report of the errors of this
        step alone: both of its runs begin with the state of the emulated training. The report's
        `result` is the next state, from which the training goes on.

    Raises
    ------
    ValueError
        If the next state is unlike the state; as of `analyze`.
    TypeError
        As of `analyze`.

    Notes
    -----
    A step runs when its report is asked for. The first one compiles; with `every` above 1 the
    emulated step is compiled too. A report holds two states, so keep its numbers, as `share_map`
    does, rather than many reports.

    Examples
    --------
    Gradient descent on a parabola, whose small steps bfloat16 swallows:

    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def step(w, x):
    ...     return w - 0.0005 * jax.grad(lambda w: (w - x) ** 2)(w)
    >>> batches = 3 * [jnp.float32(0)]
    >>> for n, report in ps.analyze_steps(step, jnp.float32(1), batches, policy="bf16"):
    ...     print(n, report.result, f"{report.change:.4f}")
    1 1.0 0.0010
    2 1.0 0.0010
    3 1.0 0.0010
    """
    every, key = integer(every, "every", 1), key_of(seed)
    find = analyses(
        step,
        policy,
        reference,
        of,
        nodes,
        "together",
        recompute,
        strict,
        backend,
        0,
        key,
        once=False,
    )
    return _steps(step, find, state, batches, every, Policy.parse(policy), strict, backend, key)


def _steps(
    step: Callable[[Any, Any], Any],
    find: Callable[[Any, Any, Any], Report],
    state: Any,
    batches: Iterable[Any],
    every: int,
    policy: Policy,
    strict: bool,
    backend: str,
    key: Any,
) -> Iterator[tuple[int, Report]]:
    @jax.jit
    def emulated(state: Any, batch: Any, key: Array) -> Any:
        return emulate(step, policy, strict=strict, backend=backend, seed=key)(state, batch)

    state = _strong(state)
    for n, batch in enumerate(batches, 1):
        here = jax.random.fold_in(key, n)
        if (n - 1) % every:
            state = _strong(emulated(state, _strong(batch), here))
            continue
        report = find((state, _strong(batch)), {}, here)
        _check_like(report.result, state)
        state = report.result
        yield n, report


def _strong(tree: Any) -> Any:
    """Return a tree whose arrays are of a dtype of their own: others would be compiled apart."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, x.dtype) if getattr(x, "weak_type", False) else x,
        with_arrays(tree),
    )


def _check_like(new: Any, old: Any) -> None:
    """Refuse a step that returns something else than a state."""
    kinds = [
        (jax.tree.structure(tree), [(np.shape(x), str(x.dtype)) for x in jax.tree.leaves(tree)])
        for tree in (new, old)
    ]
    if kinds[0] != kinds[1]:
        described = [_described(tree) for tree in (new, old)]
        raise ValueError(
            f"step returns {described[0]}; allowed is a state such as it takes, {described[1]}"
        )


def _described(tree: Any) -> str:
    return shown(jax.tree.map(lambda x: f"{x.dtype}{list(np.shape(x))}", tree))


@dataclass(frozen=True, slots=True)
class ShareMap:
    """Shares of scopes along a training, as `share_map` returns them.

    Parameters
    ----------
    steps : ndarray of int, shape (steps,)
        Numbers of the steps.
    scopes : tuple of str
        Scopes in the order in which the program first computes them, backward ones marked so.
    shares, sqnr : ndarray, shape (scopes, steps)
        Sum of the shares of each scope; signal-to-noise ratio of its own roundings, in decibel. NaN
        where a step has no such scope.
    events : ndarray of int, shape (scopes, steps)
        Results that left the range: underflowed, overflowed, saturated or NaN.
    change, remainder, gross : ndarray, shape (steps,)
        As of `Report`.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> find = ps.analyzer(jnp.sin, policy="bf16")
    >>> found = ps.share_map((n, find(jnp.float32(n))) for n in (1, 2))
    >>> found.shares.shape, bool((found.shares[0] == found.change).all())
    ((1, 2), True)
    """

    steps: np.ndarray
    scopes: tuple[str, ...]
    shares: np.ndarray
    sqnr: np.ndarray
    events: np.ndarray
    change: np.ndarray
    remainder: np.ndarray
    gross: np.ndarray


_LEFT = ("underflowed", "overflowed", "saturated", "nan")


def share_map(
    reports: Mapping[int, Report] | Iterable[tuple[int, Report]], *, depth: int | None = None
) -> ShareMap:
    """Return the shares of each scope in reports of several steps, as arrays.

    Parameters
    ----------
    reports : mapping of int to Report, or iterable of pairs
        Reports by the number of their step, such as `analyze_steps` yields or ``enumerate`` makes
        of a list. Only the numbers of each are kept, so the reports may be made one by one.
    depth : int, optional
        How many parts of a scope count; all by default.

    Returns
    -------
    ShareMap
        Arrays of shape (scopes, steps); `plots.plot_share_map` draws them.

    Raises
    ------
    TypeError
        If `reports` are no pairs of a number and a report.

    Examples
    --------
    Which layer loses how much, at each step of a training:

    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def step(w, x):
    ...     with jax.named_scope("layer"):
    ...         y = w * x
    ...     with jax.named_scope("update"):
    ...         return w - 0.1 * y
    >>> batches = jnp.float32([[0.7], [0.3], [0.9]])
    >>> found = ps.share_map(ps.analyze_steps(step, jnp.ones(1), batches, policy="bf16"))
    >>> found.scopes, found.steps.tolist()
    (('layer', 'update'), [1, 2, 3])
    """
    pairs = reports.items() if isinstance(reports, Mapping) else reports
    steps: list[int] = []
    names: dict[str, None] = {}
    columns: list[dict[str, tuple[float, float, int]]] = []
    totals: list[tuple[float, float, float]] = []
    for pair in pairs:
        number, report = _pair(pair)
        steps.append(number)
        column = {}
        for group in report.by_scope(depth):
            count = sum(getattr(group, kind) for kind in _LEFT)
            column[group_name(group, "scope")] = group.share, group.sqnr, count
        columns.append(column)
        totals.append((report.change, report.remainder, report.gross))
        names |= dict.fromkeys(_in_order(report, depth))
    empty = (math.nan, math.nan, 0)
    cells = [[column.get(name, empty) for column in columns] for name in names]
    table = np.array(cells, np.float64).reshape(len(names), len(steps), 3)
    change, remainder, gross = np.array(totals, np.float64).reshape(-1, 3).T
    return ShareMap(
        np.array(steps, np.int64),
        tuple(names),
        table[..., 0],
        table[..., 1],
        table[..., 2].astype(np.int64),
        change,
        remainder,
        gross,
    )


def _pair(pair: Any) -> tuple[int, Report]:
    try:
        number, report = pair
    except (TypeError, ValueError):
        number, report = None, pair
    if not isinstance(report, Report) or number is None:
        raise TypeError(f"reports has {shown(pair)}; allowed are pairs of a step and its Report")
    return integer(number, "a step of reports"), report


def _in_order(report: Report, depth: int | None) -> list[str]:
    """Return the names of the scopes of a report, in the order of the program."""
    rank: dict[tuple[str, bool], int] = {}
    for n, row in enumerate(report.rows):
        rank.setdefault(("/".join(row.scope.split("/")[:depth]), row.is_backward), n)
    groups = sorted(report.by_scope(depth), key=lambda g: rank[g.name, g.is_backward])
    return [group_name(group, "scope") for group in groups]
