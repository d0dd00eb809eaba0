"""Scales, zero points and codes of affine formats, on bit patterns.

Arrays have the shape (..., groups, group_size). Codes are counted from 0 inside and shifted at the
end if they are signed, so that signedness changes no value.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, absolute, namespace
from precsim._loops import computed_once
from precsim.formats.affine import LARGEST_WIDTH, AffineFormat
from precsim.formats.carrier import Carrier, compose, select
from precsim.formats.codec import encode_bits
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.block import set_specials_apart
from precsim.rounding.scaled.float_steps import (
    coarse_quotient,
    constant,
    divide,
    is_coarse,
    rounded,
)
from precsim.rounding.spec import RoundingSpec


class Groups(NamedTuple):
    """Codes, and for each group the pattern of its scale and its zero point (int32)."""

    codes: Array
    scales: Array
    zero_points: Array


class Steps(NamedTuple):
    """Codes counted from 0, not yet clamped; scales, zero points (int32), groups that are lost."""

    codes: Array
    scales: Array
    zero_points: Array
    is_lost: Array


def quantize_groups(
    bits: Array, random_bits: Array | None, spec: RoundingSpec, carrier: Carrier
) -> Groups:
    """Choose scales and zero points and round to codes."""
    fmt = spec.format
    assert isinstance(fmt, AffineFormat)
    steps = round_to_steps(bits, random_bits, spec, carrier)
    codes = namespace(bits).clip(steps.codes, *(np.int32(end) for end in code_range(fmt)))
    shift = np.int32(1 << (fmt.bits - 1) if fmt.is_signed else 0)
    return Groups(
        (codes - shift).astype(affine_code_dtype(fmt)),
        select(steps.is_lost, carrier.uint(carrier.quiet_nan), steps.scales),
        steps.zero_points - shift,
    )


def code_range(fmt: AffineFormat) -> tuple[int, int]:
    """Return the smallest and the largest code, counted from 0."""
    return int(fmt.is_symmetric), (1 << fmt.bits) - 1


def round_to_steps(
    bits: Array, random_bits: Array | None, spec: RoundingSpec, carrier: Carrier
) -> Steps:
    """Choose scales and zero points and round to integers, as many as there are."""
    xp = namespace(bits)
    u = carrier.uint
    fmt = spec.format
    assert isinstance(fmt, AffineFormat)
    bits, is_lost = set_specials_apart(bits, spec, carrier)
    magnitude, negative = bits & u(carrier.sign_bit - 1), bits >= u(carrier.sign_bit)
    highest = select(negative, u(0), magnitude).max(axis=-1, initial=carrier.uint_dtype(0))
    lowest = select(negative, magnitude, u(0)).max(axis=-1, initial=carrier.uint_dtype(0))
    half = 1 << (fmt.bits - 1)
    if fmt.is_symmetric:
        largest = xp.maximum(highest, lowest)
        divisor = constant(largest, carrier.pattern(half - 1, 0), carrier)
        scale = computed_once(_usable(divide(largest, divisor, carrier), carrier))
        zero = (scale & u(0)).astype(np.int32) + np.int32(half)
    else:
        width = _sum(computed_once(highest), computed_once(lowest), carrier)
        scale = computed_once(_scale(width, 2 * half - 1, carrier))
        unsigned = FixedPointFormat(
            name="", integer_bits=fmt.bits, fraction_bits=0, is_signed=False
        )
        zero = integer_quotient(lowest, scale, RoundingSpec(format=unsigned), None, carrier)
        zero = computed_once(zero)
    element = replace(spec, format=fmt.element)
    steps = computed_once(integer_quotient(bits, scale[..., None], element, random_bits, carrier))
    return Steps(steps + zero[..., None], scale, zero, is_lost)


def dequantize_groups(groups: Groups, carrier: Carrier) -> Array:
    """Return the patterns of scale * (code - zero point), the exact product rounded once.

    Scales and zero points broadcast to the codes.
    """
    u = carrier.uint
    steps = groups.codes.astype(np.int32) - groups.zero_points
    bits = compose(absolute(steps).astype(carrier.uint_dtype), 0, carrier)
    bits = bits | select(steps < np.int32(0), u(carrier.sign_bit), u(0))
    scale = groups.scales
    product = wide.multiply(wide.unpack(bits, carrier), wide.unpack(scale, carrier), carrier)
    return select(scale > u(carrier.infinity), u(carrier.quiet_nan), rounded(product, carrier))


def affine_code_dtype(fmt: AffineFormat) -> Any:
    """Return the smallest integer type for the codes of a format."""
    narrow = fmt.bits <= LARGEST_WIDTH // 2
    if fmt.is_signed:
        return np.int8 if narrow else np.int16
    return np.uint8 if narrow else np.uint16


def _sum(x: Array, y: Array, carrier: Carrier) -> wide.Wide:
    """Add two magnitudes, rounded once to the carrier's precision; twice its range is at hand."""
    exact = wide.add(
        wide.unpack(x, carrier), wide.unpack(y, carrier), carrier, zero_is_negative=False
    )
    half = wide.unpack(rounded(_times_power_of_two(exact, -1, carrier), carrier), carrier)
    return _times_power_of_two(half, 1, carrier)


def _scale(width: wide.Wide, steps: int, carrier: Carrier) -> Array:
    """Divide the width of a range by the number of its steps; no scale is subnormal or 0."""
    divisor = wide.unpack(constant(width.hi, carrier.pattern(steps, 0), carrier), carrier)
    return _usable(rounded(wide.divide(width, divisor, carrier), carrier), carrier)


def _usable(scale: Array, carrier: Carrier) -> Array:
    least = carrier.uint(carrier.pattern(1, carrier.emin))
    return namespace(scale).maximum(scale, least)


def _times_power_of_two(x: wide.Wide, exponent: int, carrier: Carrier) -> wide.Wide:
    return x._replace(exponent=x.exponent + carrier.signed(exponent))


def integer_quotient(
    bits: Array, scale: Array, spec: RoundingSpec, random_bits: Array | None, carrier: Carrier
) -> Array:
    """Divide exactly, round once to an integer of a fixed-point format; int32."""
    fmt = spec.format
    assert isinstance(fmt, FixedPointFormat)
    if is_coarse(spec, carrier) and spec.mode is not RoundingMode.STOCHASTIC:
        # The last of 24 bits stands for all that follows, below the half way bit of 16-bit codes.
        integers = round_bits(coarse_quotient(bits, scale), spec, carrier)
    else:
        quotient = wide.divide(wide.unpack(bits, carrier), wide.unpack(scale, carrier), carrier)
        exact, tail, rest = wide.pack(quotient, carrier)
        integers = round_bits(exact, spec, carrier, tail=tail, rest=rest, random_bits=random_bits)
    codes = encode_bits(integers, fmt, carrier).astype(np.int32)
    if not fmt.is_signed:
        return codes
    sign = np.int32(1 << (fmt.width - 1))
    return (codes ^ sign) - sign
