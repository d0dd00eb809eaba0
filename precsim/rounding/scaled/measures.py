"""Range events and ulps of block, affine and tile formats, whose elements share scales."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from precsim._arrays import Array, ArrayLike, bitcast
from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import Carrier, as_carrier, is_infinite, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.events import Events, from_patterns, is_beyond
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import affine, block, grouping, tile
from precsim.rounding.scaled.float_steps import constant
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
    exact = quotients.exact
    # Rounded to odd, a quotient is on the right side of every end of the range.
    sticky = ((exact.tail | exact.rest) != u(0)).astype(carrier.uint_dtype)
    beyond = is_beyond(exact.bits | sticky, element, carrier)
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


_ENDS: dict[type, Callable[..., tuple[Array, Any]]] = {
    BlockFormat: _block_ends,
    AffineFormat: _affine_ends,
    TileFormat: _tile_ends,
}
