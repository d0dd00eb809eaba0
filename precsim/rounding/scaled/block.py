"""Scales and elements of block formats, on bit patterns.

Arrays have the shape (..., blocks, block_size). Magnitudes compare as their patterns do, so the
largest one needs no arithmetic. An exact quotient, of amax and a constant or of an element and its
scale, is rounded once; where a rule is an order of float32 operations (`nvfp4`), each of them is.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from precsim._arrays import Array, namespace
from precsim._loops import computed_once
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.carrier import Carrier, floor_log2, select
from precsim.formats.codec import code_dtype, decode_bits, encode_bits
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import InfinityMode, OverflowMode, RoundingMode
from precsim.rounding.scaled import float_steps, nvfp4
from precsim.rounding.scaled.float_steps import constant, rounded
from precsim.rounding.spec import RoundingSpec


class Blocks(NamedTuple):
    """Codes of the elements and of the scales; the pattern of the array's scale, if any."""

    codes: Array
    scales: Array
    tensor_scale: Array | None


class Rounded(NamedTuple):
    """Patterns of the elements and of the scales; that of the array's scale, if any."""

    elements: Array
    scales: Array
    tensor_scale: Array | None


class Exact(NamedTuple):
    """Patterns truncated toward zero and what follows them, as `round_bits` takes both."""

    bits: Array
    tail: Array | None = None
    rest: Array | None = None

    @property
    def to_odd(self) -> Array:
        """The patterns, the last bit also set when anything nonzero follows."""
        if self.tail is None or self.rest is None:
            return self.bits
        dtype = self.bits.dtype
        follows: Array = ((self.tail | self.rest) != dtype.type(0)).astype(dtype)
        return self.bits | follows


class Quotients(NamedTuple):
    """Elements divided by their scales, not yet rounded; patterns of the scales; lost blocks.

    Quotients that one rounding cannot tell apart may be others.
    """

    exact: Exact
    scales: Array
    tensor_scale: Array | None
    is_lost: Array


def quantize_blocks(
    bits: Array, random_bits: Array | None, spec: RoundingSpec, carrier: Carrier
) -> Blocks:
    """Choose the scales of blocks and round their elements; as codes."""
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    found = round_blocks(bits, random_bits, spec, carrier)
    return Blocks(
        encode_bits(found.elements, fmt.element, carrier).astype(code_dtype(fmt.element)),
        encode_bits(found.scales, fmt.scale, carrier).astype(code_dtype(fmt.scale)),
        found.tensor_scale,
    )


def round_blocks(
    bits: Array, random_bits: Array | None, spec: RoundingSpec, carrier: Carrier
) -> Rounded:
    """Choose the scales of blocks and round their elements."""
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    quotients = divide_by_scales(bits, spec, carrier)
    elements = round_bits(
        quotients.exact.bits,
        replace(spec, format=fmt.element),
        carrier,
        tail=quotients.exact.tail,
        rest=quotients.exact.rest,
        random_bits=random_bits,
    )
    scale = select(quotients.is_lost, carrier.uint(carrier.quiet_nan), quotients.scales)
    return Rounded(elements, scale, quotients.tensor_scale)


def divide_by_scales(bits: Array, spec: RoundingSpec, carrier: Carrier) -> Quotients:
    """Choose the scales of blocks and divide their elements by them."""
    u = carrier.uint
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    keeps_specials = fmt.scale_rule is ScaleRule.MAX_ABS
    bits, is_lost = set_specials_apart(bits, spec, carrier, keeps_elements=keeps_specials)
    magnitude = bits & u(carrier.sign_bit - 1)
    # Only the rule that looks at the finite elements has others left here.
    is_special = magnitude >= u(carrier.infinity)
    amax = select(is_special, u(0), magnitude).max(axis=-1, initial=carrier.uint_dtype(0))
    tensor_scale = None
    if fmt.scale_rule.has_tensor_scale:
        chosen = nvfp4.quotients(bits, amax, fmt)
        scale, tensor_scale = chosen.scale, chosen.tensor_scale
        exact = Exact(chosen.elements)
    else:
        scale = computed_once(_exact_scale(amax, fmt, carrier))
        exact = _quotient(bits, scale[..., None], spec, carrier)
    if keeps_specials:
        exact = Exact(
            select(is_special, bits, exact.bits),
            *(None if x is None else select(is_special, u(0), x) for x in exact[1:]),
        )
    return Quotients(exact, scale, tensor_scale, is_lost)


def dequantize_blocks(blocks: Blocks, fmt: BlockFormat, carrier: Carrier) -> Array:
    """Return the patterns of element * scale (* tensor scale), the exact product rounded once.

    Scales broadcast to the codes.
    """
    element = decode_bits(blocks.codes.astype(carrier.uint_dtype), fmt.element, carrier)
    scale = decode_bits(blocks.scales.astype(carrier.uint_dtype), fmt.scale, carrier)
    return values_of(Rounded(element, scale, blocks.tensor_scale), fmt, carrier)


def values_of(blocks: Rounded, fmt: BlockFormat, carrier: Carrier) -> Array:
    """Return the patterns of element * scale (* tensor scale); scales broadcast to the elements."""
    u = carrier.uint
    element, scale = blocks.elements, blocks.scales
    if fmt.scale.precision == 1 and blocks.tensor_scale is None:
        exponent = float_steps.exponent_of(scale, carrier)
        value = float_steps.times_power_of_two(element, exponent, carrier)
    elif blocks.tensor_scale is None and float_steps.has_plain_products(
        fmt.element, fmt.scale, carrier
    ):
        value = float_steps.plain_product(element, scale)
    else:
        value = times_scales(element, scale, blocks.tensor_scale, carrier)
    is_special = (element & u(carrier.sign_bit - 1)) >= u(carrier.infinity)
    value = select(is_special, element, value)
    is_nan = (scale > u(carrier.infinity)) | (is_special & (scale == u(0)))
    return select(is_nan, u(carrier.quiet_nan), value)


def times_scales(
    element: Array, scale: Array, tensor_scale: Array | None, carrier: Carrier
) -> Array:
    """Return the pattern of element * scale (* tensor scale), the exact product rounded once."""
    if tensor_scale is None:
        return float_steps.multiply(element, scale, carrier)
    product = wide.multiply(wide.unpack(element, carrier), wide.unpack(scale, carrier), carrier)
    # Two factors of at most 16 bits fill no more than one word, so this product is exact too.
    product = wide.multiply(product, wide.unpack(tensor_scale, carrier), carrier)
    return rounded(product, carrier)


def set_specials_apart(
    bits: Array, spec: RoundingSpec, carrier: Carrier, *, keeps_elements: bool = False
) -> tuple[Array, Array]:
    """Return patterns, those of lost blocks 0, and which blocks are lost to NaN or infinity.

    An infinity that saturates counts as the largest finite number of the carrier. On
    `keeps_elements`, infinity and NaN are left to the rounding of the elements, if these have a
    NaN.
    """
    u = carrier.uint
    magnitude = bits & u(carrier.sign_bit - 1)
    is_infinite, is_nan = magnitude == u(carrier.infinity), magnitude > u(carrier.infinity)
    fmt = scaled_format(spec.format)
    assert fmt is not None
    has_infinity = isinstance(fmt.element, FloatFormat) and fmt.element.has_infinity
    if keeps_elements:
        is_special = is_nan & (not fmt.element.has_nan)
    elif spec.infinities is InfinityMode.SATURATE or (
        spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE and not has_infinity
    ):
        bits = select(is_infinite, bits - u(1), bits)
        is_special = is_nan
    else:
        is_special = is_infinite | is_nan
    is_lost = namespace(is_special).any(is_special, axis=-1)
    return select(is_lost[..., None], u(0), bits), is_lost


def _exact_scale(amax: Array, fmt: BlockFormat, carrier: Carrier) -> Array:
    """Return the scale of a rule that rounds an exact quotient."""
    divisor, spec = _scale_rounding(fmt, carrier)
    if fmt.scale_rule is ScaleRule.FLOOR and fmt.scale.precision == 1 and not fmt.scale.has_zero:
        exponent = floor_log2(amax, carrier) - carrier.signed(fmt.emax)
        ends = (carrier.signed(end) for end in (fmt.scale.emin, fmt.scale.emax))
        return float_steps.power_of_two(namespace(amax).clip(exponent, *ends), carrier)
    quotient = wide.divide(
        wide.unpack(amax, carrier), wide.unpack(constant(amax, divisor, carrier), carrier), carrier
    )
    exact = wide.pack(quotient, carrier)
    if fmt.scale_rule is not ScaleRule.EVEN:
        return round_bits(exact.bits, spec, carrier, tail=exact.tail, rest=exact.rest)
    unlimited = FloatFormat(name="", precision=fmt.element_precision, exponent_bits=None)
    nearest = RoundingSpec(format=unlimited)
    bits = round_bits(exact.bits, nearest, carrier, tail=exact.tail, rest=exact.rest)
    return round_bits(bits, spec, carrier)


@lru_cache(maxsize=256)
def _scale_rounding(fmt: BlockFormat, carrier: Carrier) -> tuple[int, RoundingSpec]:
    """Return what amax is divided by, as a pattern, and how the quotient becomes a scale."""
    largest, power = largest_element(fmt.element, carrier), carrier.pattern(1, fmt.emax)
    divisor, mode = {
        ScaleRule.FLOOR: (power, RoundingMode.TOWARD_ZERO),
        ScaleRule.CEIL: (power, RoundingMode.TOWARD_POSITIVE),
        ScaleRule.EVEN: (power, RoundingMode.TOWARD_ZERO),
        ScaleRule.RCEIL: (largest, RoundingMode.TOWARD_POSITIVE),
        ScaleRule.NEAREST: (largest, RoundingMode.TIES_TO_EVEN),
        ScaleRule.MAX_ABS: (carrier.pattern(1, 0), RoundingMode.TIES_TO_EVEN),
    }[fmt.scale_rule]
    return divisor, RoundingSpec(
        format=fmt.scale,
        mode=mode,
        overflow=OverflowMode.SATURATE,
        infinities=InfinityMode.SATURATE,
    )


def largest_element(element: FloatFormat | FixedPointFormat, carrier: Carrier) -> int:
    """Return the pattern of the largest element value."""
    return limits(RoundingSpec(format=element), carrier).max_positive


def _quotient(bits: Array, scale: Array, spec: RoundingSpec, carrier: Carrier) -> Exact:
    """Divide elements by their scale, exactly; where the scale is 0 they become 0."""
    u, fmt = carrier.uint, spec.format
    assert isinstance(fmt, BlockFormat)
    is_coarse = float_steps.is_coarse(replace(spec, format=fmt.element), carrier)
    is_power = fmt.scale.precision == 1
    if is_coarse and is_power and not fmt.scale.has_zero:
        return Exact(float_steps.coarse_shift(bits, -float_steps.exponent_of(scale, carrier)))
    is_zero = scale == u(0)
    bits = select(is_zero, bits & u(carrier.sign_bit), bits)
    scale = select(is_zero, u(carrier.pattern(1, 0)), scale)
    if is_coarse and spec.mode is not RoundingMode.STOCHASTIC:
        return Exact(float_steps.coarse_quotient(bits, scale))
    dividend, divisor = wide.unpack(bits, carrier), wide.unpack(scale, carrier)
    if is_power:  # the quotient has the same significand
        exponent = dividend.exponent - divisor.exponent
        return Exact(*wide.pack(dividend._replace(exponent=exponent), carrier))
    return Exact(*wide.pack(wide.divide(dividend, divisor, carrier), carrier))
