"""How many operations on floating-point numbers a step of a program is, and in which formats."""

import math
from typing import Any, NamedTuple

import numpy as np

from precsim.analysis.cost.program import Step
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec
from precsim.transform import jaxprs
from precsim.transform.rules.products import roles
from precsim.transform.values import Origin, is_inexact

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
_FP32 = RoundingSpec.parse("fp32")

_READS_ALL = ("reduce_sum", "reduce_prod", "cumsum", "cumprod", "cumlogsumexp")
"""Reductions: one operation for each element of the first operand."""
_ADDS_ROWS = ("scatter-add", "scatter_add", "scatter_mul")
"""One operation for each element of the last operand, the rows that are added."""
_FREE = frozenset([*jaxprs.MOVES, "convert_element_type", "reduce_precision", "scatter"]) | {
    *("reduce_window_max", "reduce_window_min", "cummax", "cummin", "argsort", "top_k"),
    *("neg", "abs", "sign", "real", "imag", "conj", "nextafter"),
}
"""What moves or chooses numbers, or changes their sign or format."""


class Product(NamedTuple):
    """A matrix product or a convolution under a policy."""

    role: str
    """Which one it is: "forward", "dgrad" or "wgrad"."""
    spec: MatmulSpec
    sides: tuple[str, str]
    """Which operand of the spec each operand of the step is: "lhs" or "rhs"."""


def product_of(step: Step) -> Product | None:
    """Return what the policy makes of a product; None for another step, or for integers."""
    if step.op.name not in PRODUCTS or not all(map(is_inexact, step.operands[:2])):
        return None
    spec, _, _, swaps = roles(step.op)
    role = "forward"
    if step.op.context.is_backward:
        has_weights = any(x.origin is Origin.WEIGHTS for x in step.operands[:2])
        role = "dgrad" if has_weights else "wgrad"
    is_swapped = swaps and step.op.name == "dot_general"
    return Product(role, spec, ("rhs", "lhs") if is_swapped else ("lhs", "rhs"))


def format_of_product(spec: MatmulSpec) -> Any:
    """Return the format in which a product leaves its results."""
    if spec.output is not None:
        return spec.output.format
    return (_FP32 if spec.has_scales else spec.accumulator).format


def contracted(step: Step, n: int) -> int:
    """Return how many elements of an operand of a product each result sums over."""
    shape, params = _shape(step, n), step.op.params
    if step.op.name == "dot_general":
        return math.prod(shape[d] for d in params["dimension_numbers"][0][n])
    if step.op.name == "ragged_dot_general":
        return math.prod(shape[d] for d in _ragged(step).dot_dimension_numbers[0][n])
    kernel = _shape(step, 1)
    filters: int = kernel[params["dimension_numbers"].rhs_spec[0]]
    return math.prod(kernel) // max(filters, 1)


def multiply_adds(step: Step) -> int:
    """Return the multiplications of a product; those with the zeros of a padding are left out."""
    if step.op.name == "conv_general_dilated":
        count = _of_convolution(step)
    elif step.op.name == "dot_general":
        count = math.prod(step.op.eqn.outvars[0].aval.shape) * contracted(step, 0)
    else:
        numbers, right = _ragged(step), _shape(step, 1)
        inside = {*numbers.dot_dimension_numbers[0][1], *numbers.rhs_group_dimensions}
        results = math.prod(size for d, size in enumerate(right) if d not in inside)
        count = math.prod(_shape(step, 0)) * results
    return count * step.op.context.times


def _ragged(step: Step) -> Any:
    return step.op.params["ragged_dot_dimension_numbers"]


def _of_convolution(step: Step) -> int:
    params, (image, kernel) = step.op.params, (_shape(step, 0), _shape(step, 1))
    result = step.op.eqn.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    places = zip(
        (result[d] for d in numbers.out_spec[2:]),
        (kernel[d] for d in numbers.rhs_spec[2:]),
        (image[d] for d in numbers.lhs_spec[2:]),
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    window = math.prod(_meetings(*place) for place in places)
    others: int = math.prod(result[d] for d in numbers.out_spec[:2]) * kernel[numbers.rhs_spec[1]]
    return window * others


def _meetings(
    result: int, kernel: int, image: int, stride: int, padding: Any, gap: int, spread: int
) -> int:
    """Return how often an element of a kernel meets one of an image, along one axis."""
    at = np.arange(result)[:, None] * stride + np.arange(kernel) * spread - padding[0]
    return int(np.count_nonzero((at >= 0) & (at <= (image - 1) * gap) & (at % gap == 0)))


def other_operations(step: Step) -> int:
    """Return the operations of a step other than a product: additions, roots, exponentials."""
    eqn, name = step.op.eqn, step.op.name
    if name in _FREE or not all(map(is_inexact, step.results)):
        return 0
    if name in _READS_ALL:
        counted = [_shape(step, 0)]
    elif name in _ADDS_ROWS:
        counted = [_shape(step, -1)]
    elif name == "reduce_window_sum":
        counted = [(*eqn.outvars[0].aval.shape, *step.op.params["window_dimensions"])]
    else:
        counted = [atom.aval.shape for atom in eqn.outvars]
    return sum(map(math.prod, counted)) * step.op.context.times


def _shape(step: Step, n: int) -> tuple[int, ...]:
    """Return the shape in which a step reads an operand."""
    shape: tuple[int, ...] = step.op.eqn.invars[n].aval.shape
    return shape
