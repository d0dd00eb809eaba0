"""NVFP4: scales and quotients in the order of float32 operations of two libraries.

Both choose a float32 scale of the whole array and an E4M3 scale of each block, and both multiply
the elements by a rounded reciprocal. They round different intermediate results, so their bits
differ. Sources: pytorch/ao torchao/prototype/mx_formats/nvfp4_tensor.py (nvfp4_quantize);
NVIDIA/TransformerEngine transformer_engine/pytorch/custom_recipes/reference_nvfp4.py
(_quantize_blockwise_reference).
"""

from typing import NamedTuple

import numpy as np

from precsim._arrays import Array, namespace
from precsim._loops import computed_once
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.carrier import FLOAT32 as F32
from precsim.formats.carrier import is_zero, select
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.scaled.float_steps import SATURATE, constant, divide, multiply
from precsim.rounding.spec import RoundingSpec

_ONE = F32.pattern(1, 0)
_LARGEST = F32.infinity - 1


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
    rule = _torchao if fmt.scale_rule is ScaleRule.TORCHAO else _transformer_engine
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
    u = F32.uint
    element_max, scale_max = _largest_values(fmt)
    largest = u(_LARGEST)
    is_zero = tensor_amax == u(0)
    encode = divide(
        constant(tensor_amax, _pattern(element_max * scale_max), F32),
        select(is_zero, u(_ONE), tensor_amax),
        F32,
        SATURATE,
    )
    encode = computed_once(select(is_zero, largest, encode))
    decode = computed_once(divide(constant(encode, _ONE, F32), encode, F32))
    reciprocal = constant(encode, _pattern(1 / element_max), F32)
    multiplier = computed_once(multiply(encode, reciprocal, F32))
    ratio = computed_once(multiply(amax, multiplier | (amax & u(0)), F32, SATURATE))
    scale = computed_once(_to_scale(ratio, fmt))
    product = computed_once(multiply(scale, decode | (scale & u(0)), F32))
    is_zero = product == u(0)
    divisor = select(is_zero, u(_ONE), product)
    inverse = divide(constant(divisor, _ONE, F32), divisor, F32, SATURATE)
    inverse = computed_once(select(is_zero, largest, inverse))
    elements = _clamp(computed_once(multiply(bits, inverse[..., None], F32)), element_max)
    # The code of -0 is not used: the library's comparisons take it for 0.
    elements = select(elements == u(F32.sign_bit), u(0), elements)
    return Quotients(scale, decode, elements)


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
