"""What one operation adds to an error: u times its result, or the bound of its sum's order."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from precsim.analysis.bounds.order_bounds import order_bound
from precsim.analysis.bounds.step_bounds import least_sizes, step_unit
from precsim.analysis.bounds.units import EXACT, Unit, bound_of_sum, unit_of
from precsim.arithmetic.sums.order import SEQUENTIAL, Exact, Kahan, Order, TwoSum
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.operation import Operation
from precsim.transform.rules.products import leaves, roles
from precsim.transform.values import format_of, has_all_of


class Likelihood(NamedTuple):
    """With which probability bounds of sums shall hold, for how many at once."""

    confidence: float | None = None
    num_results: int = 1


def platform_spec(dtype: Any) -> RoundingSpec:
    """Return the rounding of a platform's own operations; its small numbers may count as 0."""
    fmt = format_of(dtype)
    if isinstance(fmt, FloatFormat) and fmt.has_subnormals and fmt.precision > 1:
        return RoundingSpec(format=fmt, subnormals=SubnormalMode.FLUSH_AFTER_ROUNDING)
    return RoundingSpec(format=fmt)


def result_spec(op: Operation, spec: RoundingSpec) -> RoundingSpec:
    """Return how the result of an operation is rounded: by a spec, or by the platform."""
    if op.rounds_nothing(spec) and not op.is_exact_everywhere:
        return platform_spec(op.eqn.outvars[0].aval.dtype)
    return spec


def stored(op: Operation, unit: Unit, spec: RoundingSpec) -> Unit:
    """Return the error of a rounding, and of bringing its result into the dtype of the program."""
    own = format_of(op.eqn.outvars[0].aval.dtype)
    return unit if has_all_of(own, spec.format) else unit.plus(unit_of(RoundingSpec(format=own)))


def sum_unit(order: Order, n: int, spec: RoundingSpec, likelihood: Likelihood) -> Unit:
    """Return the error of a sum of n numbers: relative to the sum of their magnitudes."""
    one = unit_of(spec)
    absolute = n * one.absolute
    if isinstance(spec.format, FixedPointFormat):
        return Unit(0.0, absolute)
    if isinstance(order, (Kahan, TwoSum)) and not spec.mode.is_nearest:
        order = (
            SEQUENTIAL  # no worse than without compensation is not proved, but 2 n roundings are
        )
        n = 4 * n
    is_random = spec.mode.is_nearest or spec.mode is RoundingMode.STOCHASTIC
    confidence = likelihood.confidence if is_random else None
    try:
        bound = order_bound(
            order, n, spec, confidence=confidence, num_results=likelihood.num_results
        )
    except ValueError:  # n u is too large for any bound
        return Unit(np.inf, absolute)
    return Unit(bound, absolute)


def product_units(op: Operation, n: int, likelihood: Likelihood) -> tuple[Unit, Unit]:
    """Return the errors of a product of n terms: over their magnitudes, and over the result."""
    spec = None if leaves(op) else roles(op)[0]
    dtype = op.eqn.outvars[0].aval.dtype
    if spec is None:
        return sum_unit(SEQUENTIAL, n, platform_spec(dtype), likelihood), EXACT
    unit = _accumulated(spec, n, likelihood)
    if spec.product is not None:
        one = unit_of(spec.product)
        unit = Unit(unit.relative + one.relative * (1 + unit.relative), unit.absolute)
        unit = unit._replace(absolute=unit.absolute + n * one.absolute)
    last = spec.output or spec.accumulator
    return unit, stored(op, unit_of(spec.output), last)


def sizes_of_products(op: Operation, sizes: list[Any]) -> list[Any]:
    """Return magnitudes of operands as the errors of their products refer to them."""
    if leaves(op):
        return sizes
    spec, _, _, swaps = roles(op)
    least = least_sizes(spec)
    return [
        jnp.where(size == 0, 0.0, jnp.maximum(size, smallest))
        for size, smallest in zip(sizes, least[::-1] if swaps else least, strict=True)
    ]


def _accumulated(spec: MatmulSpec, n: int, likelihood: Likelihood) -> Unit:
    """Return the error of the sums of a product."""
    accumulator = spec.accumulator
    if spec.has_register:
        return EXACT
    if isinstance(spec.order, FusedBlock | StepBlock):
        return step_unit(spec, n)
    if spec.adder is None or isinstance(spec.order, Exact):
        return sum_unit(spec.order, n, accumulator, likelihood)
    both = unit_of(accumulator).plus(unit_of(spec.adder))
    return Unit(bound_of_sum(4 * n, both.relative), n * both.absolute)


def operand_specs(op: Operation) -> list[RoundingSpec | None]:
    """Return how the operands of a product are rounded; None where that is not one by one."""
    if leaves(op):
        return [None, None]
    spec, _, _, swaps = roles(op)
    parts = [spec.rhs, spec.lhs] if swaps else [spec.lhs, spec.rhs]
    return [None if part is None or scaled_format(part.format) else part for part in parts]
