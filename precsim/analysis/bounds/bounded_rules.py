"""Bounds of single operations: what their operands' errors become, plus what rounding adds."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.wide import bind_wide
from precsim.analysis.bounds.bounded_values import (
    Bounded,
    Walk,
    bounded,
    differs_anywhere,
    exact,
    in_float64,
    spoiled,
)
from precsim.analysis.bounds.error_propagation import STEPS, distance, elementwise
from precsim.analysis.bounds.local_errors import (
    operand_specs,
    product_units,
    result_spec,
    sizes_of_products,
    stored,
    sum_unit,
)
from precsim.analysis.bounds.units import EXACT, Unit, unit_of
from precsim.arithmetic.sums.order import SEQUENTIAL, Order
from precsim.rounding.spec import RoundingSpec
from precsim.transform.interpreter import apply
from precsim.transform.operation import RULES as EMULATED
from precsim.transform.operation import Operation
from precsim.transform.rounded import Place, nearest_value
from precsim.transform.rules.elementwise import rounded_once
from precsim.transform.values import format_of, is_float, widened

_DOUBLE = 2.0**-45
"""Covers the error of functions in float64."""
_FUNCTION = Unit(4 * 2.0**-24, 0.0)
"""The error that is expected of a platform's float32 functions."""

Rule = Callable[[Operation, list[Bounded], Walk], list[Bounded]]


def _added(
    op: Operation, walk: Walk, y: Array, true: Array, unit: Unit, over: Array | None = None
) -> Any:
    """Return what an operation adds: as theory says, or as measured where that is more.

    `true` is the exact result of its operands, in float64; `over` the sum of magnitudes to which
    the unit's relative part refers, by default the result.
    """
    y = in_float64(y)
    measured = distance(y, true) + _DOUBLE * jnp.where(jnp.isinf(true), 0, jnp.abs(true))
    size = jnp.abs(y) if over is None else over
    theory = jnp.where(jnp.isinf(size), 0, unit.relative * size) + unit.absolute
    return walk.added(op, jnp.maximum(measured, theory))


def _brought(op: Operation, given: list[Bounded], spec: RoundingSpec, walk: Walk) -> list[Bounded]:
    """Return operands in the format of an operation, which is a rounding of its own."""
    if op.rounds_nothing(spec):
        return given
    found = []
    for n, each in enumerate(given):
        if each.is_real:
            x = op.brought(n, spec)
            error = walk.added(op, distance(in_float64(x), in_float64(each.array)))
            found.append(Bounded(each.value._replace(array=x), each.bound + error))
        else:
            found.append(each)
    return found


def _bind(op: Operation, arrays: list[Any]) -> list[Any]:
    """Return the results of an operation in float64."""
    return bind_wide(op.eqn, arrays, np.float64)


def _wide(given: list[Bounded]) -> list[Array]:
    return [in_float64(each.array) for each in given]


def computed(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound arithmetic and functions of numbers."""
    (value,) = apply(op)
    given = _brought(op, walk.counting(op, given), op.spec, walk)
    x, b = _wide(given), [each.bound for each in given]
    inherited = elementwise(op.name, x, b, op.params)
    (true,) = _bind(op, x)
    spec = result_spec(op, op.spec)
    unit = stored(op, unit_of(spec), spec)
    if EMULATED.get(op.name) is not rounded_once:
        unit = unit.plus(_FUNCTION)
    return [bounded(value, inherited + _added(op, walk, value.array, true, unit))]


def summed(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound sums, by the bound of their order."""
    (value,) = apply(op)
    spec = op.policy.reductions
    given = _brought(op, given, spec, walk)
    last = result_spec(op, spec)
    order: Order = op.policy.reduction_order if last is spec else SEQUENTIAL
    n = _number_of_terms(op)
    x = _wide(given)
    unit = EXACT if n == 1 else sum_unit(order, n, last, walk.of_sums(op))
    (true,), (over,), (inherited,) = (
        _bind(op, arrays)
        for arrays in (
            x,
            [jnp.abs(each) if real else each for each, real in _reals(x)],
            [each.bound if each.is_real else each.array for each in given],
        )
    )
    error = _added(op, walk, value.array, true, stored(op, unit, last), over)
    return [spoiled(bounded(value, inherited + error), differs_anywhere(given))]


def _reals(arrays: list[Array]) -> list[tuple[Array, bool]]:
    return [(x, is_float(x)) for x in arrays]


def _size(shape: tuple[int, ...], axes: Any) -> int:
    return math.prod(shape[axis] for axis in axes)


def _number_of_terms(op: Operation) -> int:
    """Return how many numbers a sum adds at most."""
    shape: tuple[int, ...] = op.eqn.invars[0].aval.shape
    if op.name == "reduce_sum":
        return max(1, _size(shape, op.params["axes"]))
    if op.name == "cumsum":
        return max(1, _size(shape, [op.params["axis"]]))
    if op.name == "reduce_window_sum":
        return int(math.prod(op.params["window_dimensions"]))
    return 1 + int(math.prod(op.eqn.invars[2].aval.shape))  # a scatter: all may meet in one place


def multiplied(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound products and convolutions, by the bound of their sums' order."""
    (value,) = apply(op)
    ranges, given = given[2:], given[:2]
    x, b = _wide(given), [each.bound for each in given]
    policy = op.policy
    for n, spec in enumerate(operand_specs(op)):
        if spec is not None and policy.tensor_scaling == "none":
            place = Place(op.context.key, f"{op.context.path}/operand {n}")
            rounded = in_float64(nearest_value(widened(given[n].array), spec, place))
            b[n] = b[n] + walk.added(op, distance(rounded, x[n]))
            x[n] = rounded
    others = [each.array for each in ranges]
    sizes = [jnp.abs(each) for each in x]

    def times(left: Any, right: Any) -> Any:
        return _bind(op, [left, right, *others])[0]

    unit, last = product_units(op, _products_per_sum(op), walk.of_sums(op))
    over = times(*sizes_of_products(op, sizes))
    inherited = _times(times, sizes[0], b[1]) + _times(times, b[0], sizes[1] + b[1])
    error = _added(op, walk, value.array, times(*x), unit, over)
    extra = walk.added(op, last.relative * jnp.abs(in_float64(value.array)) + last.absolute)
    return [spoiled(bounded(value, inherited + error + extra), differs_anywhere(ranges))]


def _times(times: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Return a product of numbers from 0 on, where 0 times infinity is 0."""
    finite = [jnp.where(jnp.isinf(x), 0, x) for x in (left, right)]
    beyond = [jnp.isinf(x).astype(jnp.float64) for x in (left, right)]
    some = [(x > 0).astype(jnp.float64) for x in (left, right)]
    is_infinite = times(beyond[0], some[1]) + times(some[0], beyond[1]) > 0
    return jnp.where(is_infinite, jnp.inf, times(*finite))


def _products_per_sum(op: Operation) -> int:
    """Return how many products each sum has."""
    left: tuple[int, ...] = op.eqn.invars[0].aval.shape
    right: tuple[int, ...] = op.eqn.invars[1].aval.shape
    if op.name == "dot_general":
        (contracted, _), _ = op.params["dimension_numbers"]
        return max(1, _size(left, contracted))
    if op.name == "ragged_dot_general":
        numbers = op.params["ragged_dot_dimension_numbers"]
        return max(1, _size(left, numbers.dot_dimension_numbers[0][0]))
    outputs: int = right[op.params["dimension_numbers"].rhs_spec[0]]
    return max(1, math.prod(right) // max(1, outputs))


def moved(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Move bounds as the numbers; largest ones are taken alike."""
    values = apply(op)
    arrays = [each.bound if each.is_real else each.array for each in given]
    bounds = _bind(op, arrays)
    is_unsure = differs_anywhere(given)
    return [
        spoiled(bounded(v, b), is_unsure) if is_float(v.array) else spoiled(exact(v), is_unsure)
        for v, b in zip(values, bounds, strict=True)
    ]


def extremal(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound maxima and minima: no error is larger than the largest of the operands'."""
    (value,) = apply(op)
    if op.name in ("reduce_max", "reduce_min"):
        return [bounded(value, jnp.max(given[0].bound, axis=op.params["axes"], initial=0))]
    if op.name in ("cummax", "cummin", "sort"):  # one operand
        axis = op.params.get("axis", op.params.get("dimension"))
        return [bounded(value, jnp.max(given[0].bound, axis=axis, keepdims=True, initial=0))]
    bound = given[0].bound
    for each in given[1:]:
        bound = jnp.maximum(bound, each.bound)
    return [bounded(value, bound)]


def chosen(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound a choice; where the exact one may be another, by the distance of the cases."""
    (value,) = apply(op)
    which, *cases = given
    (taken,) = op.bind(which.array, *[each.bound for each in cases])
    if not is_float(value.array):
        others = jnp.stack([(each.array != value.array) | each.bound for each in cases])
    else:
        y = in_float64(value.array)
        others = jnp.stack(
            [distance(x, y) + each.bound for x, each in zip(_wide(cases), cases, strict=True)]
        )
    return [bounded(value, jnp.where(which.bound, jnp.max(others, axis=0), taken))]


def compared(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Say where the exact program may find another answer."""
    (value,) = apply(op)
    if op.name == "is_finite":
        return [bounded(value, jnp.isinf(given[0].bound))]
    room = sum(each.bound for each in given)
    x, y = _wide(given)
    return [bounded(value, (room > 0) & (distance(x, y) <= room))]


def found(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Say where the largest or smallest element may be another one."""
    (value,) = apply(op)
    sign, axes = (1 if op.name == "argmax" else -1), op.params["axes"]
    x, bound = sign * in_float64(given[0].array), given[0].bound
    surely = jnp.max(x - bound, axis=axes, keepdims=True)
    rivals = jnp.sum(x + bound >= surely, axis=axes)
    has_errors = jnp.any(bound > 0, axis=axes)
    return [bounded(value, has_errors & (rivals > 1))]


def jumped(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound functions that jump: by their values at both ends."""
    (value,) = apply(op)
    (each,) = given
    if op.name in ("neg", "abs"):
        return [bounded(value, each.bound)]
    x = in_float64(each.array)
    (low,), (high,) = (_bind(op, [end]) for end in (x - each.bound, x + each.bound))
    return [bounded(value, distance(high, low))]


def converted(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Bound a conversion between dtypes."""
    (value,) = apply(op)
    (each,) = given
    x = in_float64(each.array)
    if is_float(value.array) and each.is_real:
        unit = unit_of(RoundingSpec(format=format_of(value.array.dtype)))
        error = distance(in_float64(value.array), x)
        size = jnp.where(error > 0, unit.relative * jnp.abs(x) + unit.absolute, 0)
        return [bounded(value, each.bound + walk.added(op, jnp.maximum(error, size)))]
    if is_float(value.array):
        return [spoiled(exact(value), each.bound)]
    if each.is_real:
        low, high = (_bind(op, [x + sign * each.bound])[0] for sign in (-1, 1))
        return [bounded(value, (each.bound > 0) & ((low != high) | (each.array == 0)))]
    return [bounded(value, each.bound)]


def of_integers(op: Operation, given: list[Bounded]) -> list[Bounded]:
    """Say which integers and Booleans may differ: elementwise, or all if any may."""
    values = op.as_it_is()
    shapes = {each.array.shape for each in given} | {value.array.shape for value in values}
    if given and len(shapes) == 1 and op.name not in _ACROSS:
        flags: Any = given[0].bound
        for each in given[1:]:
            flags = flags | each.bound
        return [bounded(value, flags) for value in values]
    flag = differs_anywhere(given)
    return [bounded(value, flag) for value in values]


_ACROSS = ("rev", "transpose", "cumsum", "cummax", "cummin", "cumprod", "sort", "gather", "scatter")

_ELEMENTWISE = (
    *("add", "add_any", "sub", "mul", "square", "div", "sqrt", "cbrt", "integer_pow", "pow"),
    *("exp", "exp2", "expm1", "log", "log1p", "rsqrt", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "logistic"),
    "one_minus_square",
)
_MOVED = (
    *("reshape", "transpose", "broadcast_in_dim", "slice", "dynamic_slice", "concatenate", "pad"),
    *("dynamic_update_slice", "gather", "scatter", "squeeze", "expand_dims", "rev", "copy", "tile"),
    *("copy_p", "name", "optimization_barrier", "split", "stack", "unstack", "reduce_window_max"),
    "stop_gradient",
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, computed),
    **dict.fromkeys(("reduce_sum", "cumsum", "reduce_window_sum", "scatter-add"), summed),
    **dict.fromkeys(("dot_general", "conv_general_dilated", "ragged_dot_general"), multiplied),
    **dict.fromkeys(_MOVED, moved),
    **dict.fromkeys(
        ("max", "min", "clamp", "reduce_max", "reduce_min", "cummax", "cummin"), extremal
    ),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "is_finite"), compared),
    **dict.fromkeys(("neg", "abs", *STEPS), jumped),
    **dict.fromkeys(("argmax", "argmin"), found),
    **dict.fromkeys(("convert_element_type", "reduce_precision"), converted),
    "select_n": chosen,
}
"""By the name of the primitive."""
