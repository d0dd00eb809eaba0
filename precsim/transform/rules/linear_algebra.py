"""Linear algebra and reductions: a textbook algorithm, of which every operation is rounded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim.arithmetic.sums.order import Sequential
from precsim.transform import jaxprs, textbook
from precsim.transform.interpreter import evaluate_function
from precsim.transform.operation import Operation, rule
from precsim.transform.rules.functions import computed
from precsim.transform.rules.movement import moved
from precsim.transform.treatment import How
from precsim.transform.values import Value, is_float, is_inexact


def step_by_step(op: Operation, algorithm: Callable[..., Any]) -> list[Value]:
    """Interpret an algorithm in place of the program's operation, with the derivative of its steps.

    Where the policy rounds nothing, the program's own operation runs.
    """
    spec = op.spec
    if not any(is_inexact(atom.aval) for atom in op.eqn.outvars):
        op.record(How.EXEMPT)
        return op.as_it_is()
    if op.rounds_nothing(spec) and not op.is_exact_everywhere:
        op.record(How.AS_IS)
        return op.as_it_is()
    op.record(How.STEPS, spec)
    if not all(value.array.size for value in op.operands):
        return op.as_it_is()  # which rounds nothing
    operands = [
        Value(op.brought(n, spec), spec.format, None, value.origin)
        if is_float(value.array)
        else value
        for n, value in enumerate(op.operands)
    ]
    flat = lambda *arrays: jax.tree.leaves(algorithm(*arrays))
    results = evaluate_function(flat, operands, replace(op.inside(), records=None))
    return [
        op.result(value.array, value.format, n=n)._replace(origin=value.origin)
        if is_float(value.array)
        else value
        for n, value in enumerate(results)
    ]


def is_chain(op: Operation) -> bool:
    """Return whether the policy combines one number after the other, and not neighbours first."""
    return isinstance(op.policy.reduction_order, Sequential)


@rule("cholesky")
def factor_of_cholesky(op: Operation) -> list[Value]:
    """Factor a symmetric matrix by columns: a root, quotients, then products to subtract."""
    return step_by_step(op, textbook.cholesky)


@rule("lu")
def factors(op: Operation) -> list[Value]:
    """Eliminate by rows with partial pivoting: quotients, then products to subtract."""
    return step_by_step(op, textbook.lu)


@rule("triangular_solve")
def substituted(op: Operation) -> list[Value]:
    """Substitute, one unknown after the other: products to subtract, then a quotient."""
    return step_by_step(op, partial(textbook.triangular_solve, **op.params))


@rule("qr", "geqrf", "householder_product", "ormqr")
def reflected(op: Operation) -> list[Value]:
    """Reflect by Householder's vectors, as LAPACK does without blocks and without scaling."""
    if op.params.get("pivoting"):
        return computed(op)
    options = {"qr": ("full_matrices",), "ormqr": ("left", "transpose")}.get(op.name, ())
    given = {name: op.params[name] for name in options}
    return step_by_step(op, partial(getattr(textbook, op.name), **given))


@rule("reduce_prod", "cumprod")
def multiplied(op: Operation) -> list[Value]:
    """Multiply over axes, or cumulatively, in the order that the policy has for sums."""
    chain, params = is_chain(op), op.params
    multiply: Any = lambda a, b: [a[0] * b[0]]

    def over_axes(x: Array) -> Array:
        rows = textbook.rows_over(x, params["axes"])
        if not rows.shape[0]:
            return jnp.ones(rows.shape[1:], x.dtype)
        return textbook.reduced(multiply, [rows], is_chain=chain)[0]

    def cumulative(x: Array) -> Array:
        axis, reverse = params["axis"], params["reverse"]
        if not chain:
            return textbook.prefixes(jnp.multiply, x, axis=axis, reverse=reverse)
        rows = jnp.moveaxis(x, axis, 0)
        step = lambda total, row: (total * row, total * row)
        _, rows = lax.scan(step, jnp.ones_like(rows[0]), rows, reverse=reverse)
        return jnp.moveaxis(rows, 0, axis)

    return step_by_step(op, over_axes if op.name == "reduce_prod" else cumulative)


def _combining(op: Operation) -> textbook.Combine:
    """Return the program's own function of two numbers, for rows of them."""
    program, consts = op.params["jaxpr"], op.params.get("consts")
    if consts is None:
        consts = getattr(program, "consts", ())

    def of_two(*numbers: Any) -> list[Array]:
        return jax.core.eval_jaxpr(jaxprs.opened(program), consts, *numbers)

    def combine(x: Sequence[Array], y: Sequence[Array]) -> list[Array]:
        shape = x[0].shape
        found = jax.vmap(of_two)(*(each.reshape(-1) for each in (*x, *y)))
        return [each.reshape(shape) for each in found]

    return combine


@rule("reduce", "reduce_window")
def combined(op: Operation) -> list[Value]:
    """Combine numbers, or those of windows, by the program's own function, in the sums' order.

    The first operand of the last call is the starting value; the padding of windows is that too.
    """
    combine, chain, count = _combining(op), is_chain(op), len(op.operands) // 2
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    axes = op.params.get("dimensions", ())

    def rows_of(x: Array, start: Array) -> Array:
        if op.name == "reduce_window":
            return textbook.windows(x, start, **{name: op.params[name] for name in names})
        return textbook.rows_over(x, axes)

    def algorithm(*operands: Array) -> list[Array]:
        given, starts = operands[:count], operands[count:]
        rows = [rows_of(x, start) for x, start in zip(given, starts, strict=True)]
        shape = rows[0].shape[1:]
        first: list[Array] = [jnp.broadcast_to(start, shape) for start in starts]
        if not rows[0].shape[0]:
            return first
        return combine(first, textbook.reduced(combine, rows, is_chain=chain))

    return step_by_step(op, algorithm)


@rule("scatter")
def set_or_applied(op: Operation) -> list[Value]:
    """Set numbers, which moves them; or apply the program's own function to those there."""
    program = jaxprs.applied_by(op.eqn)
    if program is None:
        return moved(op)
    function = jax.vmap(lambda x: jax.core.eval_jaxpr(program.jaxpr, program.consts, x, x)[0])
    return step_by_step(op, partial(textbook.applied, function, params=op.params))
