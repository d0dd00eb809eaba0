"""`analyze`: what a function loses under a policy, where, and why."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from precsim._arrays import is_traced
from precsim.analysis.account.account import AUTO, DTYPES, NODES, Analysis
from precsim.analysis.account.report import Report, report_of
from precsim.formats.arguments import integer, shown
from precsim.products.backends import BACKENDS
from precsim.transform.emulate import key_of, trace
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from precsim.transform.tracing import Flat, check_function, flattened, with_arrays

TURNS = ("together", "each")


def analyze(
    fun: Callable[..., Any],
    *args: Any,
    policy: str | Policy,
    reference: str = "fp64",
    of: Callable[[Any], Any] | None = None,
    nodes: int | str = 1,
    turns: str = "together",
    recompute: bool = False,
    strict: bool = True,
    backend: str = "auto",
    params: int | None = 0,
    seed: Any = 0,
    kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Find what a function loses under a policy, and which operations lose it.

    Parameters
    ----------
    fun : callable
        A function that JAX can trace, of pytrees of arrays: a formula, a model, a training step.
    *args : pytree
        Its arguments.
    policy : str or Policy
        As of `emulate`: a format ("bf16"), a preset ("fp16_mixed"), settings, rules for scopes.
    reference : {"fp64", "fp32"}
        Arithmetic of the exact run. Conversions to narrower dtypes that `fun` itself asks for are
        left out there: they count as roundings of the emulated run.
    of : callable, optional
        The scalar that is asked about, a function of the result such as a loss, computed in the
        arithmetic of the reference. By default it is the result itself, if that is one real
        number. Otherwise it is the distance of the emulated result from the exact one (the root of
        the sum of squares over all its elements; infinite where one has become infinite or NaN).
    nodes : {1, 3, "auto"}
        Where the shares are taken on the path from the exact run to the emulated one: in its
        middle, or, at three times the cost, by Simpson's rule. "auto" begins in the middle. It
        takes the rule where more than 1 % of the gross is left, or more than 1 % of a change that
        is above a tenth of the gross. `Report.nodes` says which it was.
    turns : {"together", "each"}
        Whether the turns of a loop make one row of the report, or each has its own share.
    recompute : bool
        Whether what is inside calls and loops is computed a second time instead of stored.
    strict : bool
        As of `emulate`, and so are `backend`, `params` and `seed`.
    backend : {"auto", "emulated", "native"}
        What computes products.
    params : int, optional
        Position of the argument that holds the parameters.
    seed : int or jax.Array
        Seed or key of stochastic rounding.
    kwargs : mapping, optional
        Keyword arguments of `fun`.

    Returns
    -------
    Report
        One row for each operation. ``print(report)`` shows a table; see `Report`.

    Raises
    ------
    ValueError
        If an argument is none of those allowed, or a rule of the policy matches no scope.
    TypeError
        If `fun` cannot be called, or `of` returns no real number.
    NotImplementedError
        If `strict` and an operation has no rule, or JAX cannot differentiate `of`.

    Notes
    -----
    The emulated result has the bits of ``emulate(fun, policy)(*args)``, but for operations that the
    policy leaves in float32: XLA may fuse those in other ways. Let e[i] be the error that operation
    i commits there: its result less the exact result of the operands it is given. So it includes
    the rounding of operands to the format, as of float32 arguments. Numbers of Python with a point
    become arrays, as under `jax.jit`; integers stay as they are. The
    path F(t) is the exact program with t e[i] added behind each operation: F(0) is the exact run,
    F(1) the emulated one. The change F(1) - F(0) is an integral over t of the sum of
    ``dF/de[i] * e[i]``; the share of operation i is its summand, at t = 1/2 for one node. What is
    left, `Report.remainder`, is of third order in the errors (of fifth with three nodes), and is
    measured. The program is differentiated as it computes: `stop_gradient` and derivatives of the
    program's own do not count.

    No such account exists where an emulated number is infinite or NaN and the exact one is not, or
    where the two runs take different branches or numbers of turns, or where JAX cannot
    differentiate an operation. The report then says so, and which operation it was. A loop that
    takes more than 10,000 turns, and more than ten times those of the exact run, counts as one that
    does not end: it is stopped after as many turns as there, and named. Comparisons,
    choices, `floor` and the like have no errors of their own; where one falls differently, the
    remainder has its effect. Inside `jax.shard_map` an operation is one row for all devices, whose
    elements and events are added up, also where these compute the same.

    Cost: the emulated function, four evaluations in the reference's arithmetic and one backward
    pass. Memory: about 64 bytes for each number that the program computes, in loops for each turn;
    `recompute` stores only what enters and leaves calls and turns.

    Source: Aumann and Shapley, *Values of Non-Atomic Games*, 1974; Sundararajan, Taly and Yan,
    "Axiomatic attribution for deep networks", 2017 (the same integral for inputs); here it is
    taken over rounding errors. :doc:`/explanation/account` has the proof and its limits.

    Examples
    --------
    The mean of the squares needs 17 bits, of which float16 has 11:

    >>> import jax.numpy as jnp, precsim as ps
    >>> def variance(x):
    ...     return jnp.mean(x**2) - jnp.mean(x) ** 2
    >>> report = ps.analyze(variance, 100 + jnp.arange(4.0), policy="fp16")
    >>> report.value, report.reference_value
    (0.0, 1.25)
    >>> report.top(1)[0].endswith("amplifies a relative error of 0.0002 into 1: cancellation")
    True
    """
    key = key_of(seed)
    find = analyses(
        fun, policy, reference, of, nodes, turns, recompute, strict, backend, params, key, once=True
    )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs is {shown(kwargs)}; allowed is a dict of keyword arguments")
    return find(args, dict(kwargs or {}), key)


def analyzer(
    fun: Callable[..., Any],
    *,
    policy: str | Policy,
    reference: str = "fp64",
    of: Callable[[Any], Any] | None = None,
    nodes: int | str = 1,
    turns: str = "together",
    recompute: bool = False,
    strict: bool = True,
    backend: str = "auto",
    params: int | None = 0,
    seed: Any = 0,
) -> Callable[..., Report]:
    """Return a function that analyses many calls of one function, compiled once.

    Parameters
    ----------
    fun : callable
        As of `analyze`, and so are all others.
    policy : str or Policy
        The emulated arithmetic.
    reference : {"fp64", "fp32"}
        Arithmetic of the exact run.
    of : callable, optional
        The scalar that is asked about.
    nodes : {1, 3, "auto"}
        Nodes on the path.
    turns : {"together", "each"}
        How the turns of loops are shown.
    recompute : bool
        Whether what is inside calls and loops is computed twice.
    strict : bool
        Whether an operation without a rule is refused.
    backend : {"auto", "emulated", "native"}
        What computes products.
    params : int, optional
        Position of the argument that holds the parameters.
    seed : int or jax.Array
        Seed or key of stochastic rounding.

    Returns
    -------
    callable
        It takes the arguments of `fun` and returns a `Report`. It compiles once for the shapes and
        dtypes of the arguments, and again where a `while_loop` takes another number of turns.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As `analyze`.

    Notes
    -----
    `fun` is traced once for each kind of arguments, so what it reads elsewhere is read then.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> find = ps.analyzer(lambda x: jnp.exp(x) - 1, policy="fp16")
    >>> [f"{find(jnp.float32(x)).change:.1e}" for x in (0.5, 1.0)]
    ['-2.8e-04', '4.7e-04']
    """
    key = key_of(seed)
    find = analyses(
        fun,
        policy,
        reference,
        of,
        nodes,
        turns,
        recompute,
        strict,
        backend,
        params,
        key,
        once=False,
    )
    return lambda *args, **kwargs: find(args, kwargs, key)


def analyses(
    fun: Callable[..., Any],
    policy: str | Policy,
    reference: str,
    of: Callable[[Any], Any] | None,
    nodes: int | str,
    turns: str,
    recompute: bool,
    strict: bool,
    backend: str,
    params: int | None,
    key: Any,
    *,
    once: bool,
) -> Callable[[Any, Any, Any], Report]:
    """Return a function of arguments, keyword arguments and a key: what `analyzer` compiles."""
    policy = Policy.parse(policy)
    check_function(fun)
    _check_choice("reference", reference, tuple(DTYPES))
    _check_choice("turns", turns, TURNS)
    _check_choice("backend", backend, tuple(b for b in BACKENDS if b != "reference"))
    is_text = isinstance(nodes, str)
    if not (nodes == AUTO if is_text else integer(nodes, "nodes", 1) in NODES):
        raise ValueError(
            f"nodes is {shown(nodes)}; allowed are 1 (midpoint), 3 (Simpson's rule), {AUTO!r}"
        )
    if of is not None and not callable(of):
        raise TypeError(f"of is {shown(of)}; allowed is a function of the result")
    for name, value in (("recompute", recompute), ("strict", strict)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {shown(value)}; allowed are True, False")
    if params is not None:
        params = integer(params, "params", 0)
    context = Context(policy=policy, backend=backend, strict=strict, key=key)
    kept: dict[Any, Analysis] = {}

    def find(args: Any, kwargs: Any, key: Any) -> Report:
        args, kwargs = with_arrays((args, kwargs))
        flat = flattened(fun, args, kwargs)
        if any(map(is_traced, flat.arrays)):
            raise TypeError(
                "args are traced by JAX; allowed are arrays: call it outside jit and grad"
            )
        kind = _kind(flat, args, kwargs)
        analysis = kept.get(kind)
        if analysis is None:
            traced = trace(fun, args, kwargs, params)
            is_each = turns == "each"
            analysis = Analysis(traced, context, of, reference, nodes, is_each, recompute, once)
            kept[kind] = analysis
        account = analysis.run(flat.arrays, key)
        return report_of(account, policy=policy.name, reference=reference, of=_name(of))

    return find


def _kind(flat: Flat, args: Any, kwargs: Any) -> Any:
    """Return what two calls have in common if one program serves both."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    fixed = [x for x, yes in zip(leaves, flat.is_array, strict=True) if not yes]
    arrays = [(x.shape, x.dtype, getattr(x, "weak_type", False)) for x in flat.arrays]
    return tree, tuple(arrays), tuple((type(x), x) for x in fixed)


def _check_choice(name: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f"{name} is {shown(given)}; allowed are {', '.join(map(repr, allowed))}")


def _name(of: Callable[..., Any] | None) -> str:
    return "" if of is None else getattr(of, "__name__", type(of).__name__)
