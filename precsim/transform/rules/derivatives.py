"""Functions with derivatives of their own, and linear solvers: their programs are interpreted."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from precsim._arrays import Array
from precsim.transform import jaxprs
from precsim.transform.interpreter import evaluate, evaluate_function
from precsim.transform.operation import Context, Operation, rule
from precsim.transform.rules.control import known_results, watch_inside, with_arrays
from precsim.transform.values import Value, common_origin, is_inexact


@rule("custom_jvp_call")
def with_own_tangent(op: Operation) -> list[Value]:
    """Interpret the function and keep its own rule for tangents, which runs as it is."""
    if op.is_watched:  # then nothing is differentiated
        return evaluate(op.params["call_jaxpr"], op.operands, op.inside())
    (_, tangent_rule), _ = jaxprs.parameters_to_bind(op.eqn)
    knows_zeros = op.params["symbolic_zeros"]
    results: list[Value] = []

    # The key is an argument: JAX may run the rule when a loop around has been left.
    @jax.custom_jvp
    def function(key: Array, *arrays: Any) -> list[Array]:
        values = with_arrays(op.operands, arrays)
        results[:] = evaluate(op.params["call_jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    @partial(function.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> Any:
        given = [
            _no_tangent(x) if _is_no_array(t) and not knows_zeros else t
            for x, t in zip(primals[1:], tangents[1:], strict=True)
        ]
        outputs = tangent_rule.call_wrapped(*primals[1:], *given)
        values = function(*primals)
        found = zip(values, outputs[len(values) :], strict=True)
        return values, [_no_tangent(y) if _is_no_array(t) else t for y, t in found]

    return known_results(function, [op.context.key, *op.arrays], results)


@rule("custom_vjp_call")
def with_own_gradient(op: Operation) -> list[Value]:
    """Interpret the function, and what it computes forward and backward under differentiation."""
    if op.is_watched:
        return evaluate(op.params["call_jaxpr"], op.operands, op.inside())
    (_, forward_rule, backward_rule), others = jaxprs.parameters_to_bind(op.eqn)
    count = len(op.eqn.outvars)
    results: list[Value] = []

    @jax.custom_vjp
    def function(key: Array, *arrays: Any) -> list[Array]:
        values = with_arrays(op.operands, arrays)
        results[:] = evaluate(op.params["call_jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    def forward(key: Any, *inputs: Any) -> Any:
        key, arrays = key.value, [x.value for x in inputs]

        def with_needs(*arrays: Any) -> Any:
            pairs = zip(arrays, inputs, strict=True)
            flat = [part for x, given in pairs for part in (x, given.perturbed)]
            return forward_rule.call_wrapped(*flat)

        values = with_arrays(op.operands, arrays)
        found = evaluate_function(with_needs, values, op.inside(key=key))
        results[:] = found[len(found) - count :]
        kept = iter(found[: len(found) - count])
        forwarded = others["out_trees"]()[2]
        residuals = [next(kept).array if n is None else arrays[n] for n in forwarded]
        return [value.array for value in results], (key, residuals)

    def backward(residuals: Any, cotangents: Any) -> Any:
        key, saved = residuals
        if not op.params["symbolic_zeros"]:
            cotangents = [jnp.zeros(g.shape, g.dtype) if _is_no_array(g) else g for g in cotangents]
        rule = lambda *arrays: jaxprs.cotangents_of(backward_rule.call_wrapped(*arrays))
        found = _gradients(rule, [*saved, *cotangents], op.inside(key=key))
        pairs = zip(found, op.operands, strict=True)
        return None, *(g if is_inexact(x.array) else None for g, x in pairs)

    function.defvjp(forward, backward, symbolic_zeros=True)
    return known_results(function, [op.context.key, *op.arrays], results)


def _is_no_array(x: Any) -> bool:
    """Return whether a tangent or a cotangent is a zero that is only a type."""
    return not isinstance(x, (jax.Array, np.ndarray))


def _is_known_truth(x: Any) -> bool:
    is_known = not (_is_no_array(x) or isinstance(x, jax.core.Tracer))
    return is_known and x.dtype == np.bool_ and x.ndim == 0


def _no_tangent(y: Array) -> Any:
    """Return the zero that JAX takes as the tangent of an array."""
    if is_inexact(y):
        return jnp.zeros_like(y)
    return np.zeros(y.shape, jax.dtypes.float0)


def _gradients(run: Callable[..., Any], operands: list[Any], context: Context) -> list[Any]:
    """Interpret a rule for gradients; operands and results may be zeros that are no arrays.

    A rule may decide by a truth value that is known, as Equinox's loops do.
    """
    is_zero: list[bool] = []
    operands = [bool(x) if _is_known_truth(x) else x for x in operands]
    stays = [_is_no_array(x) for x in operands]
    values = [Value(x) for x, fixed in zip(operands, stays, strict=True) if not fixed]

    def arrays_of(*arrays: Any) -> list[Any]:
        given = iter(arrays)
        pairs = zip(operands, stays, strict=True)
        found = run(*(x if fixed else next(given) for x, fixed in pairs))
        is_zero[:] = list(map(_is_no_array, found))
        return [g for g in found if not _is_no_array(g)]

    kept = iter(evaluate_function(arrays_of, values, replace(context, is_backward=True)))
    return [None if zero else next(kept).array for zero in is_zero]


@rule("custom_linear_solve")
def solved(op: Operation) -> list[Value]:
    """Interpret the solver and the product that it inverts; gradients solve by them too."""
    counts, programs = op.params["const_lengths"], op.params["jaxprs"]
    given = iter(op.operands)
    constants = [list(itertools.islice(given, count)) for count in counts]
    right = list(given)
    origin = common_origin(op.operands, is_backward=op.context.is_backward)

    def interpreted(program: Any, fixed: list[Value]) -> Callable[..., list[Array]]:
        def run(arrays: list[Array]) -> list[Array]:
            values = [*fixed, *(Value(x, origin=origin) for x in arrays)]
            context = op.inside(watch=watch_inside(op))  # a solver's roundings are not counted
            return [value.array for value in evaluate(program, values, context)]

        return run

    def solver(program: Any, fixed: list[Value]) -> Callable[..., Any]:
        run = interpreted(program, fixed)

        def solve(_: Any, arrays: list[Array]) -> Any:
            found = run(arrays)
            return (found[: len(right)], found[len(right) :]) if has_more else found

        return solve

    has_more = len(op.eqn.outvars) > len(right)
    is_symmetric, back = programs.vecmat is programs.matvec, programs.transpose_solve
    if is_symmetric:
        products = interpreted(programs.matvec, constants[0])
    else:  # JAX transposes the product, which it can do to the program's own
        own = [value.array for value in constants[0]]
        products = lambda arrays: jaxpr_as_fun(programs.matvec)(*own, *arrays)
    outputs = lax.custom_linear_solve(
        products,
        [value.array for value in right],
        solver(programs.solve, constants[2]),
        transpose_solve=None if back is None else solver(back, constants[3]),
        symmetric=is_symmetric,
        has_aux=has_more,
    )
    return [Value(y, None, None, origin) for y in jax.tree.leaves(outputs)]
