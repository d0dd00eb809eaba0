"""Products whose sums of a step need two words: of numbers, or of block formats."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, bitcast, entry, namespace
from precsim._loops import Fold
from precsim.arithmetic.elementwise import multiply
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32, floor_log2, is_nan, select
from precsim.formats.codec import decode_bits
from precsim.products.specs.core import Core, CoreOperand
from precsim.products.tensor_core.plan import FILL, Arranged, Plan, in_order
from precsim.products.tensor_core.step import NAN, NO_EXPONENT, decode
from precsim.products.tensor_core.two_word_step import add_in_two_words
from precsim.rounding.scaled.quantized import quantize_array
from precsim.rounding.threefry import bits_at

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_ONE = FLOAT32.pattern(1, 0)


class TwoWordFactor(NamedTuple):
    """An operand, K first; a term takes `group` significands and one entry of the others."""

    significand: Array
    """int32, signed."""
    exponent: Array
    scale: Array | None
    """int32: what a group's sum is multiplied by; None without groups."""
    bits: Array
    """float32 patterns, which say where NaN and infinities are."""


def in_two_words(
    a: Array, b: Array, first: Array, core: Core, where: Plan, seeds: Array | None
) -> Arranged:
    """Arrange a product for steps of two words; first totals as patterns.

    Operands are in their formats, but those of block formats are not yet quantized. About 35
    operations per term (a product, or a group of them with 2 operations each), 150 per step. A
    stochastic accumulator takes the bits of Threefry at (seed, index of the step's first product in
    the order of the schedule).
    """
    x, alpha_x = _factor(a, core.lhs, core, where, axis=-1)
    y, alpha_y = _factor(b, core.rhs, core, where, axis=-2)
    alpha = alpha_y if alpha_x is None else alpha_x
    if alpha_x is not None and alpha_y is not None:
        alpha = multiply(alpha_x, alpha_y, "fp32")
    # A step without products is none: it could cut bits off the accumulator.
    is_step = (where.places.reshape(-1, core.block.length) != FILL).any(axis=1)
    return Arranged(
        first,
        x,
        y,
        partial(_step, core=core, is_step=is_step, seeds=seeds),
        lambda x, y, k: (entry(x.bits, k), entry(y.bits, k)),
        None,
        partial(_scaled, alpha=alpha),
    )


def _scaled(total: Array, alpha: Array | None) -> Array:
    """Multiply totals (patterns) by the scales of whole arrays, with one rounding to float32."""
    if alpha is None:
        return total
    bits = bitcast(multiply(bitcast(total, FLOAT32.float_dtype), alpha, "fp32"), _U)
    return namespace(bits).where(is_nan(bits, FLOAT32), _U(NAN), bits)


def _factor(
    array: Array, operand: CoreOperand, core: Core, where: Plan, axis: int
) -> tuple[TwoWordFactor, Array | None]:
    """Return an operand, K first in the order of the steps, and the scale of the whole array."""
    group = core.block.group
    if operand.blocks is None:
        bits = in_order(_to_front(bitcast(array, _U), axis), where.places)
        decoded = decode(bits, operand.element)
        return TwoWordFactor(decoded.significand, decoded.exponent, None, bits), None
    q = quantize_array(array, None, operand.rounding, axis)
    codes, scales = _to_front(q.codes, axis), _to_front(q.scales, axis)
    fill = -codes.shape[0] % group
    codes = namespace(codes).pad(codes, [(0, fill), *[(0, 0)] * (codes.ndim - 1)])
    factor = _block_factor(codes, scales, operand, operand.blocks, group)
    return _factor_in_order(factor, where, group), q.tensor_scale


def _block_factor(
    codes: Array, scales: Array, operand: CoreOperand, blocks: BlockFormat, group: int
) -> TwoWordFactor:
    """Return codes and the scales of their blocks, both K first, as a factor."""
    xp = namespace(codes, scales)
    element = operand.element
    bits = decode_bits(codes.astype(_U), element, FLOAT32)
    scale_bits = decode_bits(scales.astype(_U), blocks.scale, FLOAT32)
    significand, exponent, _ = decode(bits, element)
    is_nan = scale_bits > _U(FLOAT32.infinity)
    if blocks.scale.precision == 1:
        # No zero; and 2**-127 is a subnormal of float32.
        multiplier = xp.ones_like(scale_bits).astype(_I)
        power = floor_log2(scale_bits, FLOAT32)
    else:
        multiplier, power, _ = decode(scale_bits, blocks.scale)
    power = select(is_nan, _I(0), power)
    # From one entry per block to one entry per term.
    terms_per_block, terms = blocks.block_size // group, codes.shape[0] // group
    multiplier, power, is_nan = (
        xp.repeat(part, terms_per_block, axis=0)[:terms] for part in (multiplier, power, is_nan)
    )
    if group == 1:
        exponent = xp.maximum(exponent + power, _I(NO_EXPONENT))
        return TwoWordFactor(significand, exponent, None, select(is_nan, _U(NAN), bits))
    up = xp.maximum(exponent - _I(element.emin), _I(0))
    finite = select(is_nan, _U(NAN), _U(_ONE))
    return TwoWordFactor(significand << up, power, multiplier, finite)


def _to_front(x: Array, axis: int) -> Array:
    """Bring K to the front and leave an axis of length 1 for the other operand's dimension."""
    moved = namespace(x).moveaxis(x, axis, 0)
    return moved[..., None] if axis == -1 else moved[..., None, :]


def _factor_in_order(factor: TwoWordFactor, where: Plan, group: int) -> TwoWordFactor:
    """Bring a factor into the order of the steps, by whole groups; zeros have no exponent."""
    firsts = where.places.reshape(-1, group)[:, 0]
    places = np.where(firsts == FILL, FILL, firsts // group)
    by_group = factor.significand.reshape(-1, group, *factor.significand.shape[1:])
    significand = in_order(by_group, places)
    return TwoWordFactor(
        significand.reshape(-1, *significand.shape[2:]),
        in_order(factor.exponent, places, NO_EXPONENT),
        None if factor.scale is None else in_order(factor.scale, places),
        in_order(factor.bits, places),
    )


def _step(
    x: TwoWordFactor,
    y: TwoWordFactor,
    total: Array,
    n: Any,
    fold: Fold,
    *,
    core: Core,
    is_step: np.ndarray,
    seeds: Array | None,
) -> Array:
    """Return the totals after step n."""
    xp = namespace(total)
    term = partial(_term, x, y, n * core.terms, group=core.block.group, fold=fold)
    noise = None if seeds is None else bits_at(seeds, n * core.block.length)
    result = add_in_two_words(total, term, core, fold, random_bits=noise)
    return result if is_step.all() else xp.where(xp.asarray(is_step)[n], result, total)


def _term(
    x: TwoWordFactor, y: TwoWordFactor, first: Any, lane: Any, *, group: int, fold: Fold
) -> tuple[Array, Array]:
    """Return one term: a product, or the exact sum of a group of products times its scales."""
    k = first + lane
    exponent = entry(x.exponent, k) + entry(y.exponent, k)
    if group == 1:
        return entry(x.significand, k) * entry(y.significand, k), exponent
    start = k * group

    def product(g: Any) -> Array:
        return entry(x.significand, start + g) * entry(y.significand, start + g)

    total = fold(group - 1, lambda g, total: total + product(g + 1), product(0))
    assert x.scale is not None
    assert y.scale is not None
    significand = total * (entry(x.scale, k) * entry(y.scale, k))
    return significand, namespace(total).where(significand == _I(0), _I(NO_EXPONENT), exponent)
