"""Operations that move, choose or compare numbers: exact in every format."""

from typing import Any

from precsim.transform import jaxprs
from precsim.transform.operation import Operation, rule
from precsim.transform.treatment import How
from precsim.transform.values import (
    Value,
    common_format,
    common_origin,
    format_of,
    has_all_of,
    is_float,
    negated_format,
    widened,
)

MOVES = (
    *jaxprs.MOVES,
    "stack",
    "unstack",
    "tile",
    "top_k",
    "approx_top_k",
    "cummax",
    "cummin",
    "reduce_window_max",
    "reduce_window_min",
    "select_and_gather_add",
    "scatter-max",
    "scatter-min",
    "device_put",
    "sharding_constraint",
    "mesh_cast",
    "reshard",
    "layout_constraint",
    "all_gather",
    "all_gather_invariant",
    "all_gather_reduced",
    "all_to_all",
    "ppermute",
    "pmax",
    "pmin",
    "pbroadcast",
    "pvary",
    "pcast",
    "nonbatchable",
    "nontraceable",
    "nondifferentiable_backward",
    "select_if_vmap",
    "maybe_set",
    "unvmap_max",
    "empty",
    "empty2",
    "copy_to_host_async",
)
"""Of JAX; from "nonbatchable" to "unvmap_max" of Equinox."""


_FILLING = ("empty", "empty2", "gather")
"""Their results may have other numbers than the operands: `gather` fills what lies outside."""


@rule(*MOVES)
def moved(op: Operation) -> list[Value]:
    """Run the operation; its results have the operands' numbers."""
    floats = [value for value in op.operands if is_float(value.array)]
    op.record(How.MOVED)
    fmt, origin = common_format(floats), _origin(op, floats)
    constants = {value.constant for value in floats}
    is_constant = len(constants) == 1 and op.name not in _FILLING
    constant = constants.pop() if is_constant else None
    return [
        Value(y, fmt, constant, origin) if is_float(y) else Value(y, origin=origin)
        for y in op.bind(*op.arrays)
    ]


def _origin(op: Operation, floats: list[Value]) -> Any:
    """Return the operand's own origin, where there is one operand: it is only moved."""
    if len(floats) == 1:
        return floats[0].origin
    return common_origin(op.operands, is_backward=op.context.is_backward)


@rule("neg", "abs", "sign", "real", "imag", "conj", "floor", "ceil", "round")
def exact(op: Operation) -> list[Value]:
    """Run an operation whose result a format has, or has nearly: the next use rounds that."""
    (value,) = op.operands
    op.record(How.MOVED)
    results = op.bind(value.array)
    fmt = negated_format(value.format)
    if op.name in ("floor", "ceil", "round") and fmt is not None and fmt.emax < fmt.precision - 1:
        fmt = None  # the next integer may lie beyond the largest value
    constant = None
    if value.constant is not None and op.name in ("neg", "abs"):
        constant = -value.constant if op.name == "neg" else abs(value.constant)
    return [Value(results[0], fmt, constant, value.origin)]


@rule("bitcast_convert_type")
def reread(op: Operation) -> list[Value]:
    """Take bits as numbers, which may be any."""
    op.record(How.MOVED)
    return op.as_it_is()


@rule(
    "argmax", "argmin", "eq", "ne", "lt", "le", "gt", "ge", "eq_to", "lt_to", "le_to", "is_finite"
)
def compared(op: Operation) -> list[Value]:
    """Compare numbers as they are."""
    op.record(How.MOVED)
    return op.as_it_is()


@rule("convert_element_type", "reduce_precision")
def converted(op: Operation) -> list[Value]:
    """Convert between dtypes; to a narrower float by one rounding of precsim's own.

    XLA may leave out a conversion to a narrower dtype and back (xla #41605); this one it cannot.
    """
    (value,) = op.operands
    x, dtype = value.array, op.eqn.outvars[0].aval.dtype
    if not is_float(x) or not is_float(op.eqn.outvars[0].aval):
        op.record(How.MOVED)
        (y,) = op.as_it_is()
        return [
            y._replace(origin=value.origin, constant=value.constant if is_float(y.array) else None)
        ]
    if op.name == "reduce_precision" or op.rounds_nothing(op.spec):
        op.record(How.AS_IS)
        known = value.format if op.name == "convert_element_type" else None
        if known is not None and not has_all_of(format_of(dtype), known):
            known = None
        return [y._replace(format=known, origin=value.origin) for y in op.as_it_is()]
    op.record(How.CAST, format_of(dtype))
    known = value.format if value.format is not None else format_of(x.dtype)
    y = op.result(widened(x), known, cotangent=op.spec)
    return [y._replace(origin=value.origin, constant=value.constant)]
