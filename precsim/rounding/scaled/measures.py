"""Range events and ulps of block, affine and tile formats, whose elements share scales."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from precsim._arrays import Array, ArrayLike, absolute, bitcast, count_true, namespace
from precsim._loops import traced_once
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32, Carrier, as_carrier, is_infinite, select
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.events import Events, from_patterns, is_beyond
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import affine, block, grouping, tile
from precsim.rounding.scaled.float_steps import constant
from precsim.rounding.scaled.scale import Scale, factors_of
from precsim.rounding.spec import RoundingSpec
from precsim.rounding.ulp import ulp_bits


def classify_scaled(before: Array, after: Array, spec: RoundingSpec, axis: int) -> Events:
    """Return, for each kind of event, a flat boolean array: which elements it happened to.

    The range is that of the elements: an input is beyond it if its quotient by the scale of its
    group is. `after` is ``round_to(before, spec, axis=axis)``, `axis` is negative.
    """
    before, carrier = as_carrier(before, "before")
    fmt = scaled_format(spec.format)
    assert fmt is not None
    groups, results = (
        grouping.to_groups(bitcast(x, carrier.uint_dtype), fmt, axis) for x in (before, after)
    )
    beyond, smallest = _ENDS[type(fmt)](groups, spec, carrier)
    beyond = beyond | is_infinite(groups, carrier)
    events = from_patterns(groups, results, beyond, smallest, spec, carrier)
    # The last block of a row is filled up with zeros, which are no elements of the array.
    masks = (grouping.from_groups(m, fmt, axis, before.shape).reshape(-1) for m in events[1:])
    return Events(True, *masks)


@traced_once("spec")
def count_operand(x: Array, scale: Scale | None, spec: RoundingSpec) -> Array:
    """Count the events of a float32 operand of a product, int32 of shape (7,), as `count` does.

    `x` has the shape (..., vectors, K): rows of the left operand, columns of the right one. Scales
    follow from it as they do in the product, unless that of the whole operand is given. Elements
    count: one that is 0 has underflowed, whatever its scale is.
    """
    fmt, axis = scaled_format(spec.format), -1
    assert fmt is not None
    if isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.CHANNEL:
        x, axis = x.reshape(-1, x.shape[-1]), -2
    groups = grouping.to_groups(bitcast(x, FLOAT32.uint_dtype), fmt, axis)
    elements, beyond, smallest = _elements(groups, scale, spec)
    beyond = beyond | is_infinite(groups, FLOAT32)
    events = from_patterns(groups, elements, beyond, smallest, spec, FLOAT32)
    masks = (grouping.from_groups(mask, fmt, axis, x.shape) for mask in events[1:])
    return count_true(True, *(mask.reshape(-1) for mask in masks))


def _elements(groups: Array, scale: Scale | None, spec: RoundingSpec) -> tuple[Array, Array, Array]:
    """Return rounded elements, which are beyond the range, and the smallest normal one.

    Elements are patterns, NaN where they are lost; those of integers are 0 where the code is.
    """
    u, fmt = FLOAT32.uint, spec.format
    if isinstance(fmt, AffineFormat):
        steps = affine.round_to_steps(groups, None, spec, FLOAT32)
        least, most = affine.code_range(fmt)
        beyond = (steps.codes < np.int32(least)) | (steps.codes > np.int32(most))
        codes = namespace(groups).clip(steps.codes, np.int32(least), np.int32(most))
        elements = absolute(codes - steps.zero_points[..., None]).astype(groups.dtype)
        lost, smallest = steps.is_lost, u(0)
    else:
        assert isinstance(fmt, TileFormat | BlockFormat)
        element = replace(spec, format=fmt.element)
        if isinstance(fmt, TileFormat):
            factors = None if scale is None else factors_of(scale)
            products = tile.multiply_by_factors(groups, spec, FLOAT32, factors)
            exact, lost = products.bits, products.is_lost
            elements = round_bits(exact, element, FLOAT32)
        else:
            quotients = block.divide_by_scales(groups, spec, FLOAT32)
            exact, tail, rest = quotients.exact
            elements = round_bits(exact, element, FLOAT32, tail=tail, rest=rest)
            exact, lost = quotients.exact.to_odd, quotients.is_lost
        beyond = is_beyond(exact, element, FLOAT32)
        is_fixed = isinstance(element.format, FixedPointFormat)
        smallest = u(0 if is_fixed else limits(element, FLOAT32).min_normal)
    return select(lost[..., None], u(FLOAT32.quiet_nan), elements), beyond, smallest


def scaled_ulp(x: ArrayLike, fmt: ScaledFormat, axis: int) -> Array:
    """Return the distance between neighbouring values around each element, given its block's scale.

    For a block or tile format this is the ulp of the element times the scale, for an affine format
    the scale. NaN where `x` is infinite or NaN, or shares a scale with such an element.
    """
    x, carrier = as_carrier(x)
    if not fmt.fits(carrier):
        raise ValueError(f"a {carrier.name} carrier cannot hold {fmt} (give values as float32)")
    u = carrier.uint
    spec = RoundingSpec(format=fmt)
    groups = grouping.to_groups(bitcast(x, carrier.uint_dtype), fmt, axis)
    if isinstance(fmt, BlockFormat):
        quotients = block.divide_by_scales(groups, spec, carrier)
        unit = ulp_bits(quotients.exact.bits, fmt.element, carrier)
        unit = block.times_scales(
            unit, quotients.scales[..., None], quotients.tensor_scale, carrier
        )
        is_lost = quotients.is_lost
    elif isinstance(fmt, TileFormat):
        products = tile.multiply_by_factors(groups, spec, carrier)
        unit = ulp_bits(products.bits, fmt.element, carrier)
        unit = tile.times_scales(unit, products.scales[..., None], carrier)
        is_lost = products.is_lost
    elif isinstance(fmt, DynamicFormat):
        raise ValueError(  # noqa: TRY004 (the string of a format has no type)
            f"format is {fmt}, a table, which has no ulp; allowed are other formats"
        )
    else:
        steps = affine.round_to_steps(groups, None, spec, carrier)
        unit, is_lost = steps.scales[..., None] | (groups & u(0)), steps.is_lost
    unit = select(is_lost[..., None], u(carrier.quiet_nan), unit)
    is_special = (groups & u(carrier.sign_bit - 1)) >= u(carrier.infinity)
    unit = select(is_special, u(carrier.quiet_nan), unit)
    return bitcast(grouping.from_groups(unit, fmt, axis, x.shape), carrier.float_dtype)


def _block_ends(groups: Array, spec: RoundingSpec, carrier: Carrier) -> tuple[Array, Array]:
    """Return which elements are beyond the range, and the smallest normal value of each block."""
    u = carrier.uint
    assert isinstance(spec.format, BlockFormat)
    element = replace(spec, format=spec.format.element)
    quotients = block.divide_by_scales(groups, spec, carrier)
    # Rounded to odd, a quotient is on the right side of every end of the range.
    beyond = is_beyond(quotients.exact.to_odd, element, carrier)
    if isinstance(element.format, FixedPointFormat):
        return beyond, u(0)
    scale = quotients.scales[..., None]
    smallest = select(scale == scale, u(limits(element, carrier).min_normal), u(0))  # noqa: PLR0124
    return beyond, block.times_scales(smallest, scale, quotients.tensor_scale, carrier)


def _affine_ends(groups: Array, spec: RoundingSpec, carrier: Carrier) -> tuple[Array, Array]:
    """Return which elements were clamped; integers have no subnormals."""
    fmt = spec.format
    assert isinstance(fmt, AffineFormat)
    if spec.mode is RoundingMode.STOCHASTIC:
        # From the next integer on, whatever the draw.
        spec = replace(spec, mode=RoundingMode.TOWARD_ZERO, num_random_bits=0)
    codes = affine.round_to_steps(groups, None, spec, carrier).codes
    least, most = affine.code_range(fmt)
    return (codes < codes.dtype.type(least)) | (codes > codes.dtype.type(most)), carrier.uint(0)


def _tile_ends(groups: Array, spec: RoundingSpec, carrier: Carrier) -> tuple[Array, Array]:
    """Return which elements are beyond the range, and the smallest normal value of each tile."""
    assert isinstance(spec.format, TileFormat)
    element = replace(spec, format=spec.format.element)
    products = tile.multiply_by_factors(groups, spec, carrier)
    scale = products.scales[..., None]
    smallest = constant(scale, limits(element, carrier).min_normal, carrier)
    smallest = tile.times_scales(smallest, scale, carrier)
    return is_beyond(products.bits, element, carrier), smallest


def _dynamic_ends(groups: Array, spec: RoundingSpec, carrier: Carrier) -> tuple[Array, Any]:
    """Return which elements have a sign that the table lacks; tables have no subnormals."""
    assert isinstance(spec.format, DynamicFormat)
    is_negative = groups > carrier.uint(carrier.sign_bit)
    return is_negative & (not spec.format.is_signed), carrier.uint(0)


_ENDS: dict[type, Callable[..., tuple[Array, Any]]] = {
    BlockFormat: _block_ends,
    AffineFormat: _affine_ends,
    TileFormat: _tile_ends,
    DynamicFormat: _dynamic_ends,
}
