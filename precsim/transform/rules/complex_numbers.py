"""Complex numbers: the real arithmetic that they stand for, or the platform's, rounded by parts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.rounding.spec import RoundingSpec
from precsim.transform import jaxprs
from precsim.transform.interpreter import evaluate_function
from precsim.transform.operation import COMPLEX_RULES, RULES, Operation, complex_rule
from precsim.transform.rounded import Place, nearest_value, with_rounded_cotangent
from precsim.transform.rules.movement import MOVES, moved
from precsim.transform.rules.products import leaves
from precsim.transform.treatment import How
from precsim.transform.values import (
    Value,
    common_origin,
    is_float,
    is_inexact,
    real_dtype,
    rounds_nothing,
)

for _name in (*MOVES, "real", "imag", "conj", "complex", "neg"):
    COMPLEX_RULES[_name] = moved
for _name in ("eq", "ne", "is_finite"):
    COMPLEX_RULES[_name] = RULES[_name]

Bind = Callable[..., Array]

_REAL: dict[str, Callable[..., tuple[Array, Array]]] = {
    "add": lambda f, a, b, c, d: (f(a, c), f(b, d)),
    "mul": lambda f, a, b, c, d: (f(a, c) - f(b, d), f(a, d) + f(b, c)),
    "reduce_sum": lambda f, a, b: (f(a), f(b)),
}
_REAL |= {"sub": _REAL["add"], "add_any": _REAL["add"], "dot_general": _REAL["mul"]}
_REAL |= {"cumsum": _REAL["reduce_sum"]}
"""By the program's own operation on real arrays; a + bi is the first operand, c + di the second."""


@complex_rule(*_REAL)
def by_real_arithmetic(op: Operation) -> list[Value]:
    """Interpret the sums and products of real numbers that the operation stands for."""
    if _is_left(op):
        op.record(How.AS_IS)
        return op.as_it_is()
    kind = {"dot_general": How.PRODUCT, "reduce_sum": How.SUM, "cumsum": How.SUM}
    op.record(kind.get(op.name, How.ROUNDED), f"{_spec(op)}, real arithmetic")

    own = real_dtype(op.eqn.outvars[0].aval.dtype)

    def bind(*arrays: Array) -> Array:
        params = dict(op.params)
        if "preferred_element_type" in params:
            params["preferred_element_type"] = own
        y: Array = op.eqn.primitive.bind(*arrays, **params)
        return y

    def function(*parts: Array) -> tuple[Array, Array]:
        return _REAL[op.name](bind, *parts)

    parts = [
        Value(part, value.format, None, value.origin)
        for value in op.operands
        for x in [value.array if is_inexact(value.array) else value.array.astype(own)]
        for part in (jnp.real(x), jnp.imag(x))
    ]
    real, imaginary = evaluate_function(function, parts, replace(op.inside(), records=None))
    known = real.format if real.format == imaginary.format else None
    return [Value(jax.lax.complex(real.array, imaginary.array), known, None, real.origin)]


@complex_rule(
    *("div", "abs", "sign", "sqrt", "rsqrt", "cbrt", "square", "pow", "integer_pow", "exp", "exp2"),
    *("expm1", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan"),
    *(
        "asinh",
        "acosh",
        "atanh",
        "atan2",
        "logistic",
        "cumprod",
        "reduce_prod",
        "reduce_window_sum",
    ),
    *("scatter-add", "scatter-sub", "scatter-mul", "conv_general_dilated", "psum"),
    *("convert_element_type", "reduce_precision", "fft", "cholesky", "lu", "triangular_solve"),
    *("qr", "geqrf", "householder_product", "ormqr", "geqp3", "eig", "eigh", "svd", "schur"),
    *("hessenberg", "tridiagonal", "tridiagonal_solve"),
)
def computed_by_parts(op: Operation) -> list[Value]:
    """Let the platform compute from rounded parts, then round the parts."""
    spec = op.spec
    if _is_left(op):
        is_converted = not any(map(is_inexact, op.arrays))  # integers: the next use rounds them
        op.record(How.MOVED if is_converted else How.AS_IS)
        return op.as_it_is()
    op.record(How.COMPUTED, f"{spec}, by parts")
    operands = [_rounded(op, v.array, spec, f"operand {n}") for n, v in enumerate(op.operands)]
    origin = common_origin(op.operands, is_backward=op.context.is_backward)
    results = [_rounded(op, y, spec, f"result {n}") for n, y in enumerate(op.bind(*operands))]
    return [Value(y, spec.format, None, origin) for y in results]


@complex_rule("scatter")
def set_or_computed(op: Operation) -> list[Value]:
    """Set numbers, which moves them; or let the platform apply the program's own function."""
    return moved(op) if jaxprs.applied_by(op.eqn) is None else computed_by_parts(op)


def _spec(op: Operation) -> Any:
    if op.name == "dot_general":
        return op.policy.forward
    return op.policy.reductions if op.name in ("reduce_sum", "cumsum") else op.spec


def _is_left(op: Operation) -> bool:
    """Return whether the policy rounds nothing here."""
    if op.name == "dot_general":
        return leaves(op)
    dtypes = [real_dtype(v.array.dtype) for v in op.operands if is_inexact(v.array)]
    return all(rounds_nothing(_spec(op), dtype) for dtype in dtypes)


def _rounded(op: Operation, x: Array, spec: RoundingSpec, name: str) -> Array:
    """Return an array whose numbers, or whose real and imaginary parts, are rounded."""

    def part(x: Array, name: str) -> Array:
        place = Place(op.context.key, f"{op.context.path}/{name}")
        return with_rounded_cotangent(nearest_value(x, spec, place), spec, place)

    if is_float(x):
        return part(x, name)
    if not is_inexact(x):
        return x
    return jax.lax.complex(part(jnp.real(x), f"{name} real"), part(jnp.imag(x), f"{name} imag"))
