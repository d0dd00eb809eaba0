"""One step of a `FlooredBlock` where no exponent is extreme: `floored_step` in fewer operations.

Products are cut off as in `add_in_one_word`, by shifts of nudged significands. The sum of a step is
``256 * high + low`` units, low a byte; both are floored as they are, in two's complement. What is
left becomes one int32 of 26 bits or more, whose last bit says whether anything nonzero is below it,
or is exact; converting that to float32 rounds it to nearest even (Boldo and Melquiond: odd first).
A power of two then scales the result, which is never subnormal within the range of `QuickSteps`.
"""

from functools import reduce
from typing import Any

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array, bitcast, shift_right_signed
from precsim.formats.carrier import FLOAT32, decompose
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.specs.core import Core, CoreOperand
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import FlooredBlock
from precsim.products.tensor_core.plan import Step
from precsim.products.tensor_core.quick_steps import QuickSteps
from precsim.products.tensor_core.step import (
    OneWordFactor,
    count_negative,
    decode,
    exact_product,
    lift,
    make_factors,
)
from precsim.rounding.spec import RoundingSpec

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_BYTE = 8
_SUM_BITS = 30
"""Bits of the magnitude of a step's sum, at most."""


def floored_steps(spec: MatmulSpec) -> list[QuickSteps]:
    """Return the quick steps of a `FlooredBlock`, if its sums are float32 numbers to nearest."""
    assert isinstance(spec.order, FlooredBlock)
    if spec.accumulator != RoundingSpec(format=get_format("fp32")):
        return []
    lowest = FLOAT32.emin + spec.order.fraction_bits + _BYTE
    return [QuickSteps(lambda columns, rows: _steps(columns, rows, spec), lowest)]


def _steps(columns: Array, rows: Array, spec: MatmulSpec) -> Step:
    block, core = spec.order, _core(spec)
    assert isinstance(block, FlooredBlock)
    x, y = make_factors(decode(columns, core.lhs.element), decode(rows, core.rhs.element), core)
    y = OneWordFactor(*(jnp.moveaxis(part[..., 0, :], 0, -2) for part in y))

    def step(total: Array, n: Any) -> Array:
        parts = [_cut_sum(x, y, n, part, block, core) for part in range(block.parts)]
        of_products = reduce(jnp.maximum, [exponent for _, exponent in parts])
        aligned = (_shifted(part, of_products - exponent) for part, exponent in parts)
        return _add(total, reduce(jnp.add, aligned), of_products, block)

    return step


def _core(spec: MatmulSpec) -> Core:
    """Return the tensor core whose products are cut off in the same way."""
    assert isinstance(spec.order, FlooredBlock)
    assert spec.lhs is not None
    assert spec.rhs is not None
    sums = spec.accumulator.format
    assert isinstance(sums, FloatFormat)
    block = FusedBlock(length=spec.order.length, fraction_bits=spec.order.fraction_bits)
    return Core(_operand(spec.lhs), _operand(spec.rhs), spec.accumulator, sums, block)


def _operand(part: RoundingSpec) -> CoreOperand:
    assert isinstance(part.format, FloatFormat)
    return CoreOperand(part, part.format)


def _cut_sum(
    x: OneWordFactor, y: OneWordFactor, n: Any, part: int, block: FlooredBlock, core: Core
) -> tuple[Array, Array]:
    """Return the sum of every `parts`-th product, cut off toward zero, and the largest exponent."""
    lanes = range(part, block.length, block.parts)
    terms = [exact_product(x, y, n * block.length + lane, core) for lane in lanes]
    largest = reduce(jnp.maximum, [exponent for _, exponent in terms])
    last = largest + _I(core.term_bits + lift(core) - block.fraction_bits)
    word = sum(1 << lane for lane in lanes)
    total = count_negative(x, y, n, block.length, word)
    for significand, exponent in terms:
        total = total + _shifted(significand, last - exponent)
    return total, largest


def _shifted(x: Array, count: Array) -> Array:
    return shift_right_signed(x, count.astype(_U))


def _add(total: Array, dot: Array, of_products: Array, block: FlooredBlock) -> Array:
    """Add the sum of the products, in units of 2**(its exponent - F), to the totals."""
    f = block.fraction_bits
    significand, lsb = decompose(total, FLOAT32)
    of_total = lsb + _I(FLOAT32.trailing)
    largest = jnp.maximum(of_products, of_total)
    distance = largest - of_products
    # The byte below `high`: what the shift dropped, moved up.
    up, down = jnp.maximum(_I(_BYTE) - distance, _I(0)), jnp.maximum(distance - _I(_BYTE), _I(0))
    low = lax.shift_left(_shifted(dot, down), up) & _I(0xFF)
    negative = bitcast(total, _I) >> _I(FLOAT32.width - 1)
    signed = (significand.astype(_I) ^ negative) - negative
    more = f - FLOAT32.trailing
    signed = signed << _I(more) if more > 0 else signed >> _I(-more)
    apart = largest - of_total
    of_c = _shifted(signed, apart)
    if block.parts == 2:
        of_c = jnp.where(apart > _I(f + 1), _I(0), of_c)
    high = _shifted(dot, distance) + of_c
    return _rounded(high, low, largest - _I(f), f)


def _rounded(high: Array, low: Array, unit: Array, f: int) -> Array:
    """Round ``(high + low / 256) * 2**unit``: down at F + 7 bits, then to nearest even."""
    minus = high >> _I(FLOAT32.width - 1)
    # Of a negative number ``-high`` units, or one less where a byte remains.
    size = (high ^ minus) + (minus & (low == _I(0)).astype(_I))
    length = _bit_length(size)
    low = low & lax.shift_left(jnp.full_like(low, -1), jnp.maximum(length - _I(f), _I(0)))
    up = jnp.minimum(_I(_SUM_BITS) - length, _I(_BYTE))
    below = low & (lax.shift_right_logical(jnp.full_like(low, 0xFF), up))
    kept = lax.shift_right_logical(low, _I(_BYTE) - up)
    word = (lax.shift_left(high, up) | kept) | (below != _I(0)).astype(_I)
    bits = bitcast(word.astype(jnp.float32), _I) + ((unit - up) << _I(FLOAT32.trailing))
    result: Array = bitcast(jnp.where(word == _I(0), _I(0), bits), _U)
    return result


def _bit_length(x: Array) -> Array:
    """Return the number of bits of numbers that are not negative; far below 0 for 0.

    Without its second bit a number does not become the next power of two in float32.
    """
    lead = bitcast((x & ~(x >> _I(1))).astype(jnp.float32), _I) >> _I(FLOAT32.trailing)
    length: Array = lead - _I(FLOAT32.bias - 1)
    return length
