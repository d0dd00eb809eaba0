"""NVFP4: scales and quotients in the order of float32 operations of three libraries.

All choose a float32 scale of the whole array and an E4M3 scale of each block, and multiply the
elements by a rounded reciprocal. They round different intermediate results, so their bits differ.
Sources: pytorch/ao torchao/prototype/mx_formats/nvfp4_tensor.py (nvfp4_quantize);
NVIDIA/TransformerEngine transformer_engine/pytorch/custom_recipes/reference_nvfp4.py
(_quantize_blockwise_reference); mit-han-lab/fouroversix
src/fouroversix/quantize/pytorch/reference.py (compute_nv_scale_factors, select_fouroversix).
"""

from typing import NamedTuple

import numpy as np

from precsim._arrays import Array, namespace
from precsim._loops import computed_once
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.carrier import FLOAT32 as F32
from precsim.formats.carrier import is_zero, select
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.scaled import float_steps
from precsim.rounding.scaled.float_steps import SATURATE, constant, divide, multiply, rounded
from precsim.rounding.spec import RoundingSpec

_ONE = F32.pattern(1, 0)
_LARGEST = F32.infinity - 1
_LARGEST_SIXTH = 256.0
"""The largest scale of amax / 6 under "four_over_six": 1.5 times it is an E4M3 number too."""


class Quotients(NamedTuple):
    """Patterns of the block scales, the tensor scale, and the elements before their rounding."""

    scale: Array
    tensor_scale: Array
    elements: Array


def quotients(bits: Array, amax: Array, fmt: BlockFormat) -> Quotients:
    """Apply a format's rule to patterns (..., blocks, block_size) and their amax (..., blocks).

    Notes
    -----
    Where a library divides 0 by 0 or multiplies 0 by infinity, the result here is 0: torchao takes
    1 for a tensor scale of 0, and a zero element stays 0.
    """
    rule = {
        ScaleRule.TORCHAO: _torchao,
        ScaleRule.TRANSFORMER_ENGINE: _transformer_engine,
        ScaleRule.FOUR_OVER_SIX: _four_over_six,
    }[fmt.scale_rule]
    return rule(bits, computed_once(amax), amax.max(initial=F32.uint_dtype(0)), fmt)


def _torchao(bits: Array, amax: Array, tensor_amax: Array, fmt: BlockFormat) -> Quotients:
    u = F32.uint
    element_max, scale_max = _largest_values(fmt)
    tensor_scale = _divide_by(tensor_amax, element_max * scale_max)
    tensor_scale = computed_once(select(tensor_scale == u(0), u(_ONE), tensor_scale))
    ratio = divide(_divide_by(amax, element_max), tensor_scale | (amax & u(0)), F32)
    ratio = namespace(amax).maximum(ratio, u(_pattern(fmt.scale.min_normal)))
    scale = computed_once(_to_scale(ratio, fmt))
    inverse = computed_once(divide(constant(tensor_scale, _ONE, F32), tensor_scale, F32))
    is_infinite = inverse == u(F32.infinity)
    inverse = computed_once(divide(inverse | (scale & u(0)), scale, F32))
    is_infinite = is_infinite | (inverse == u(F32.infinity))
    elements = computed_once(multiply(bits, inverse[..., None], F32))
    beyond = (bits & u(F32.sign_bit)) | u(F32.infinity)
    elements = select(is_infinite[..., None] & ~is_zero(bits, F32), beyond, elements)
    return Quotients(scale, tensor_scale, _clamp(elements, element_max))


def _transformer_engine(
    bits: Array, amax: Array, tensor_amax: Array, fmt: BlockFormat
) -> Quotients:
    element_max, scale_max = _largest_values(fmt)
    encode, decode = _tensor_scales(tensor_amax, element_max * scale_max)
    reciprocal = constant(encode, _pattern(1 / element_max), F32)
    multiplier = computed_once(multiply(encode, reciprocal, F32))
    multiplier = multiplier | (amax & F32.uint(0))
    is_coarse = float_steps.is_coarse(RoundingSpec(format=fmt.scale), F32)
    ratio = (float_steps.coarse_product if is_coarse else _saturated_product)(amax, multiplier)
    scale = computed_once(_to_scale(ratio, fmt))
    return Quotients(scale, decode, _times_reciprocal(bits, scale, decode, element_max))


def _four_over_six(bits: Array, amax: Array, tensor_amax: Array, fmt: BlockFormat) -> Quotients:
    """Take the scale of amax / 4 instead of amax / 6 where that has less error."""
    element_max, _ = _largest_values(fmt)
    encode, decode = _tensor_scales(tensor_amax, element_max * _LARGEST_SIXTH)
    sixth = _divide_by(amax, element_max)
    ratio = computed_once(multiply(sixth, encode | (amax & F32.uint(0)), F32, SATURATE))
    wider = multiply(ratio, constant(ratio, _pattern(1.5), F32), F32, SATURATE)
    scale = computed_once(_to_scale(namespace(bits).stack([ratio, wider]), fmt))
    elements = computed_once(_times_reciprocal(bits, scale, decode, element_max))
    error = _squared_error(bits, Quotients(scale, decode, elements), fmt)
    is_four = error[1] < error[0]
    return Quotients(
        select(is_four, scale[1], scale[0]),
        decode,
        select(is_four[..., None], elements[1], elements[0]),
    )


def _saturated_product(x: Array, y: Array) -> Array:
    return multiply(x, y, F32, SATURATE)


def _tensor_scales(tensor_amax: Array, largest: float) -> tuple[Array, Array]:
    """Return largest / amax, the largest float32 if that is infinite, and its reciprocal."""
    u = F32.uint
    is_zero = tensor_amax == u(0)
    encode = divide(
        constant(tensor_amax, _pattern(largest), F32),
        select(is_zero, u(_ONE), tensor_amax),
        F32,
        SATURATE,
    )
    encode = computed_once(select(is_zero, u(_LARGEST), encode))
    return encode, computed_once(divide(constant(encode, _ONE, F32), encode, F32))


def _times_reciprocal(bits: Array, scale: Array, decode: Array, element_max: float) -> Array:
    """Return the elements times fl(1 / fl(scale * decode)), clamped."""
    u = F32.uint
    product = computed_once(multiply(scale, decode | (scale & u(0)), F32))
    is_zero = product == u(0)
    divisor = select(is_zero, u(_ONE), product)
    inverse = divide(constant(divisor, _ONE, F32), divisor, F32, SATURATE)
    inverse = computed_once(select(is_zero, u(_LARGEST), inverse))
    elements = _clamp(computed_once(multiply(bits, inverse[..., None], F32)), element_max)
    # The code of -0 is not used: the libraries' comparisons take it for 0.
    return select(elements == u(F32.sign_bit), u(0), elements)


def _squared_error(bits: Array, found: Quotients, fmt: BlockFormat) -> Array:
    """Return the sum of the squared errors of blocks whose elements are rounded to nearest.

    Each error, square, and sum is rounded to float32; halves of the block are added, then halves of
    the sums.
    """
    xp, u = namespace(bits), F32.uint
    nearest = RoundingSpec(format=fmt.element, overflow=SATURATE)
    scales = wide.multiply(
        wide.unpack(found.scale, F32),
        wide.unpack(found.tensor_scale | (found.scale & u(0)), F32),
        F32,
    )
    scales = wide.Wide(*(part[..., None] for part in scales))
    elements = wide.unpack(round_bits(found.elements, nearest, F32), F32)
    value = wide.multiply(elements, scales, F32)
    sums = _sum(value, wide.unpack(bits ^ u(F32.sign_bit), F32))
    sums = computed_once(multiply(sums, sums, F32, SATURATE))
    while (size := sums.shape[-1]) > 1:
        half = (size + 1) // 2
        rest = xp.pad(sums[..., half:], [(0, 0)] * (sums.ndim - 1) + [(0, 2 * half - size)])
        sums = computed_once(_sum(wide.unpack(sums[..., :half], F32), wide.unpack(rest, F32)))
    return sums[..., 0]


def _sum(x: wide.Wide, y: wide.Wide) -> Array:
    return rounded(wide.add(x, y, F32, zero_is_negative=False), F32, SATURATE)


def _largest_values(fmt: BlockFormat) -> tuple[float, float]:
    return fmt.element.max_finite, fmt.scale.max_finite  # type: ignore[union-attr]


def _pattern(value: float) -> int:
    """Return the pattern of a constant, rounded to float32 as the libraries have it."""
    return int(np.float32(value).view(np.uint32))


def _divide_by(x: Array, value: float) -> Array:
    return divide(x, constant(x, _pattern(value), F32), F32)


def _to_scale(ratio: Array, fmt: BlockFormat) -> Array:
    return round_bits(ratio, RoundingSpec(format=fmt.scale, overflow=SATURATE), F32)


def _clamp(bits: Array, largest: float) -> Array:
    u = F32.uint
    magnitude = namespace(bits).minimum(bits & u(F32.sign_bit - 1), u(_pattern(largest)))
    return magnitude | (bits & u(F32.sign_bit))
