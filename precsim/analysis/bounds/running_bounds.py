"""Running error bounds: how far the results of an emulated function may be from the exact ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.bounds import bounded_loops, bounded_rules
from precsim.analysis.bounds.bounded_values import Bounded, End, Walk, as_bounded, exact, in_float64
from precsim.analysis.bounds.error_propagation import distance
from precsim.analysis.bounds.local_errors import Likelihood
from precsim.analysis.bounds.units import unit_of
from precsim.analysis.compiling import compiler_options
from precsim.formats.arguments import shown
from precsim.transform import jaxprs
from precsim.transform.emulate import check_rules, key_of, output, trace
from precsim.transform.interpreter import interpret
from precsim.transform.operation import Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function, with_arrays
from precsim.transform.values import is_float


class BoundedRun(NamedTuple):
    """What an emulated function gives, and the bounds of its errors."""

    values: list[np.ndarray]
    """The leaves of the emulated result."""
    bounds: list[np.ndarray]
    """Bounds on their errors, in float64; for integers whether they may differ."""
    places: tuple[str, ...]
    """The operations that add to the errors."""
    shares: np.ndarray | None
    """What each of them contributes to the bounds: the sum is 1. None if a bound is infinite."""
    unlimited: End | None
    """The first operation without a bound, if that was asked for."""
    tree: Any
    """The structure of the result."""


def running_bound(
    fun: Callable[..., Any],
    /,
    *args: Any,
    policy: str | Policy,
    confidence: float | None = None,
    seed: int = 0,
) -> Any:
    """Return bounds on the rounding errors of a function under a policy, computed along with it.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, which JAX can trace.
    *args : pytree of arrays
        Its arguments, which count as exact.
    policy : str or Policy
        As of `emulate`.
    confidence : float, optional
        Between 0 and 1: sums and products take the bounds of `order_bound` that hold for random
        errors with this probability, all of them at once. By default the bounds always hold.
    seed : int
        Seed of stochastic rounding.

    Returns
    -------
    pytree of ndarray of float64
        Like the result of `fun`: bounds on ``|emulated - exact|`` for each real number, in its
        unit. Infinite where nothing is known: after an overflow, or where the exact function may
        take another branch or another number of turns. For integers and Booleans 0, or infinity
        where they may differ.

    Raises
    ------
    TypeError
        If `fun` is no function.
    ValueError
        If the policy is unknown or `confidence` out of range, or given for a function with a
        `while_loop`, of whose sums nobody knows the number.
    NotImplementedError
        If an operation has no bound here, as the factorisations of linear algebra, complex numbers
        and functions of several variables.

    Notes
    -----
    Each operation inherits ``sup |f'| b`` from errors b of its operands, with the largest slope of
    the interval, so products of errors are counted and nothing is of first order. It adds the
    larger of two errors: the one that it has in this run, against its exact result in float64, and
    the one that theory allows: u times its result, plus half a unit of the subnormals; for sums and
    products the bound of their order times the sum of the magnitudes; in float32 left to the
    platform, any order and 4 u for functions. So the bounds are guaranteed for this run, whatever
    the format, saturation and fixed point included. For other runs with the same specs (another
    order of float32, other random bits) they hold to first order, within the range of the format:
    their u counts on numbers that differ from these by as little as the bounds say. Scales of
    blocks and tensors are measured only. What the steps of tensor cores may lose is derived in
    :doc:`/explanation/tensor-cores`.

    Where a choice depends on a rounded number that may fall the other way, the distance of the
    cases counts. The bounds are computed in float64 and enlarged by 2**-30 at each operation. They
    grow with each subtraction, since nothing remembers that errors may cancel: for long iterations
    they are far too large. Kahan's summation in the body of a `scan` is known, though: its bound is
    about 2 u times the sum of the magnitudes, plus u times the result.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, 3.3 and 4.3;
    Wilkinson, Error analysis revisited, IMA Bulletin 22 (1986).

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> x = np.array([1.1, 2.2, 3.3], np.float32)
    >>> bound = ps.running_bound(jnp.sum, x, policy="fp16")
    >>> error = abs(float(ps.emulate(jnp.sum, "fp16")(x)) - float(np.sum(x, dtype=float)))
    >>> f"{error:.1g} {bound:.1g}"
    '0.002 0.01'
    """
    found = bounded_run(fun, args, policy, confidence=confidence, seed=seed)
    bounds = [b if b.dtype == float else np.where(b, np.inf, 0.0) for b in found.bounds]
    return jax.tree.unflatten(found.tree, bounds)


def bounded_run(
    fun: Callable[..., Any],
    args: Sequence[Any],
    policy: str | Policy,
    *,
    confidence: float | None = None,
    seed: int = 0,
    has_shares: bool = False,
) -> BoundedRun:
    """Run a function under a policy with bounds; see `running_bound`."""
    check_function(fun)
    is_number = isinstance(confidence, (int, float)) and not isinstance(confidence, bool)
    if confidence is not None and not (is_number and 0 < confidence < 1):
        allowed = "allowed are None and numbers between 0 and 1"
        raise ValueError(f"confidence is {shown(confidence)}; {allowed}")
    policy = Policy.parse(policy)
    traced = trace(fun, with_arrays(args), {}, 0)
    check_rules(policy, traced.program)
    program = traced.program
    names = {eqn.primitive.name for eqn in jaxprs.equations(program)}
    if confidence is not None and "while" in names:
        raise ValueError(
            f"confidence is {confidence}; allowed for a function with a while_loop is None, since the "
            "number of its sums is not known"
        )

    inputs = traced.values()

    def run(walk: Walk, arrays: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        context = Context(
            policy=policy,
            backend="auto",
            strict=True,
            key=key_of(seed),
            compute=partial(_compute, walk=walk),
        )
        pairs = zip(inputs, arrays, strict=True)
        operands: Any = [exact(each._replace(array=x)) for each, x in pairs]
        results = [as_bounded(result) for result in interpret(program, operands, context)]
        outputs = [_output(each, context, n) for n, each in enumerate(results)]
        return [each.array for each in outputs], [each.bound for each in outputs]

    with jax.enable_x64(True):
        arrays = [each.array for each in inputs]
        first = Walk()
        jax.eval_shape(partial(run, first), arrays)
        walk = replace(first, likelihood=Likelihood(confidence, max(1, first.num_sums)))

        compiled = jax.jit(
            lambda weights, arrays: run(replace(walk, weights=weights), arrays),
            compiler_options=compiler_options(program),
        )
        weights = np.eye(len(walk.places))
        values, bounds = compiled(weights.sum(axis=0), arrays)
        bounds = [np.asarray(b) for b in bounds]
        shares, unlimited = None, dict[int, End]()
        if has_shares:
            shares = _shares(lambda one: compiled(one, arrays)[1], weights, bounds)
        if has_shares and not all(map(_is_known, bounds)):
            watched = jax.jit(lambda arrays: run(replace(walk, unlimited=unlimited), arrays))
            jax.block_until_ready(watched(arrays))  # type: ignore[no-untyped-call]
            jax.effects_barrier()  # type: ignore[no-untyped-call]
    return BoundedRun(
        values=[np.asarray(x) for x in values],
        bounds=bounds,
        places=tuple(walk.places.values()),
        shares=shares,
        unlimited=_first(unlimited),
        tree=jax.tree.structure(traced.shape),
    )


def _is_known(bound: np.ndarray) -> bool:
    """Return whether real numbers have a bound, and others are those of the exact function."""
    return bool(np.isfinite(bound).all() if bound.dtype == float else not bound.any())


def _first(ends: dict[int, End]) -> End | None:
    """Return the first end of real numbers; if there is none, that of integers and Booleans."""
    return min(ends.items(), key=lambda end: (not end[1].is_real, end[0]))[1] if ends else None


def _shares(
    evaluate: Callable[[np.ndarray], Any], weights: np.ndarray, bounds: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Return what each operation contributes to the bounds, every result counting alike.

    A contribution is the bound that remains if no other operation adds anything.
    """
    scales = [float(np.sum(b)) if b.dtype == float else 0.0 for b in bounds]
    if not all(map(np.isfinite, scales)) or not any(scales):
        return None
    parts = np.zeros(len(weights))
    for n, one in enumerate(weights):
        alone = zip(evaluate(one), scales, strict=True)
        parts[n] = sum(float(np.sum(b)) / scale for b, scale in alone if scale)
    total = float(parts.sum())
    return np.asarray(parts / total) if total else None


def _compute(op: Operation, walk: Walk) -> Any:
    """Return the results of one operation, with their bounds."""
    operands: Sequence[Any] = op.operands
    given = [as_bounded(each) for each in operands]
    results = _bounded(replace(op, operands=[each.value for each in given]), given, walk)
    walk.watch(op, given, results)
    return results


def _bounded(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    if op.name in bounded_loops.RULES:
        return bounded_loops.RULES[op.name](op, given, walk)
    atoms = [a for a in (*op.eqn.invars, *op.eqn.outvars) if hasattr(a.aval, "dtype")]
    if not any(jnp.issubdtype(a.aval.dtype, jnp.inexact) for a in atoms):
        return bounded_rules.of_integers(op, given)
    is_complex = any(jnp.issubdtype(a.aval.dtype, jnp.complexfloating) for a in atoms)
    if not any(each.is_real for each in given) and not is_complex and not _makes_numbers(op):
        return [exact(value) for value in op.as_it_is()]
    rule = None if is_complex else bounded_rules.RULES.get(op.name)
    if rule is None or jaxprs.applied_by(op.eqn) is not None:
        line = op.line or jaxprs.NOWHERE
        dtypes = ", ".join(dict.fromkeys(str(each.array.dtype) for each in given))
        raise NotImplementedError(
            f"'{op.name}' of {dtypes} at {line} has no running bound; allowed are sums, products, "
            "arithmetic, functions of one variable and what moves real numbers"
        )
    return rule(op, given, walk)


def _makes_numbers(op: Operation) -> bool:
    """Return whether real numbers come from integers, which may differ."""
    return op.name in bounded_rules.RULES


def _output(each: Bounded, context: Context, n: int) -> Bounded:
    """Return a result as the policy rounds it."""
    y = output(each.value, context, n)
    if not is_float(y) or context.policy.output is None:
        return each._replace(value=each.value._replace(array=y))
    unit = unit_of(context.policy.output)
    before, after = in_float64(each.array), in_float64(y)
    error = distance(before, after)
    theory = jnp.where(error > 0, unit.relative * jnp.abs(after) + unit.absolute, 0)
    bound = each.bound + jnp.maximum(error, theory)
    return Bounded(each.value._replace(array=y), bound)
