"""A training analysed step by step."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.analyze import analyses
from precsim.analysis.account.report import Report
from precsim.formats.arguments import each_of, integer, shown
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
    nodes: int | str = 1,
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
    nodes : {1, 3, "auto"}
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
    batches = each_of(batches, "batches", "iterables, with one element for each step")
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
