"""Steps of CPUs' dot-product units in float32, where nothing is subnormal and nothing overflows.

`QuickSteps` states that condition. Products have at most 24 bits, so that
they are exact, and contracting a product and a sum changes nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import jax.numpy as jnp

from precsim._arrays import Array, bitcast, entry
from precsim._calls import kept_apart
from precsim.formats.carrier import FLOAT32
from precsim.formats.storage import significand_bits
from precsim.products.orders.float32 import add_to_odd
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import DescendingBlock, DotBlock, EvenOddBlock
from precsim.products.tensor_core.plan import Step
from precsim.products.tensor_core.quick_steps import QuickSteps
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

Plus: TypeAlias = Callable[[Array, Array], Array]
_U, _FLOAT = FLOAT32.uint_dtype, FLOAT32.float_dtype
_UNROLLED = 8
"""Products of the steps that a loop unrolls."""
_PLUS: dict[RoundingMode, Plus] = {
    RoundingMode.TIES_TO_EVEN: lambda x, y: x + y,
    RoundingMode.TO_ODD: add_to_odd,
}


def float32_steps(spec: MatmulSpec) -> list[QuickSteps]:
    """Return the steps of a block in float32, if there are such."""
    make = _maker(spec)
    return [] if make is None else [of_numbers(make, spec.order, lowest=FLOAT32.emin)]


def of_numbers(
    make: Callable[[Array, Array], Step], block: Any, *, lowest: int | None
) -> QuickSteps:
    """Return the steps that `make` makes of two operands, float32 numbers with K first."""

    def steps(columns: Array, rows: Array) -> Step:
        return make(bitcast(columns, _FLOAT), bitcast(rows, _FLOAT))

    unroll = max(1, _UNROLLED // block.length)
    return QuickSteps(steps, lowest, is_for_all=lowest is not None, unroll=unroll)


def _maker(spec: MatmulSpec) -> Callable[[Array, Array], Step] | None:
    rounding, parts = spec.accumulator, (spec.lhs, spec.rhs)
    plain = replace(RoundingSpec.parse("fp32"), mode=rounding.mode, subnormals=rounding.subnormals)
    bits = [significand_bits(part.format) for part in parts if part is not None]
    if rounding != plain or rounding.mode not in _PLUS or len(bits) < 2 or sum(bits) > 24:
        return None
    block, plus = spec.order, _PLUS[rounding.mode]
    is_fused = spec.product is None and rounding.mode is RoundingMode.TIES_TO_EVEN
    match block:
        case DescendingBlock() if is_fused:
            return lambda x, y: _descending(x, y, block.length)
        case EvenOddBlock() if is_fused:
            return lambda x, y: _even_odd(x, y, block.length)
        case DotBlock() if is_fused or spec.product == rounding:
            return lambda x, y: _dot(x, y, plus)
        case _:
            return None


def _descending(x: Array, y: Array, length: int) -> Step:
    def step(total: Array, n: Any) -> Array:
        value = bitcast(total, _FLOAT)
        for lane in reversed(range(length)):
            value = value + entry(x, n * length + lane) * entry(y, n * length + lane)
        return bitcast(value, _U)

    return step


def _even_odd(x: Array, y: Array, length: int) -> Step:
    def step(total: Array, n: Any) -> Array:
        value = bitcast(total, _FLOAT)
        # XLA would simplify 0 + x to x, which is wrong for x = -0.
        zero = kept_apart(jnp.zeros((), _FLOAT))
        chains = [zero, zero]
        for lane in range(length):
            at = n * length + lane
            chains[lane % 2] = chains[lane % 2] + entry(x, at) * entry(y, at)
        return bitcast(value + (chains[0] + chains[1]), _U)

    return step


def _dot(x: Array, y: Array, plus: Plus) -> Step:
    def step(total: Array, n: Any) -> Array:
        first, second = (entry(x, at) * entry(y, at) for at in (2 * n, 2 * n + 1))
        return bitcast(plus(bitcast(total, _FLOAT), plus(first, second)), _U)

    return step
