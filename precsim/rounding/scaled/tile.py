"""Scales and elements of tile formats, in the float32 operations of TransformerEngine.

Arrays are patterns of the shape (..., tiles, tile_size). With max the largest element value and
amax the largest magnitude of a tile:

* factor = fl(max / amax); the largest float32 if that is infinite; 1 if amax is 0, infinite or NaN;
  for scales that are powers of two, the power of two at or below the factor;
* element = the format's rounding of fl(x * factor), saturating by default;
* scale = fl(1 / factor), by which elements are multiplied again.

torchao computes the same, except that it takes at least 1e-12 as amax and divides in float64, which
changes no bit. Source: NVIDIA/TransformerEngine, common/recipe/recipe_common.cuh
(compute_scale_from_amax); pytorch/ao, float8/float8_utils.py.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from precsim._arrays import Array, namespace
from precsim._loops import computed_once, repeat
from precsim.formats.carrier import Carrier, select
from precsim.formats.tile import TileFormat
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import float_steps
from precsim.rounding.scaled.block import largest_element, set_specials_apart
from precsim.rounding.scaled.float_steps import power_of_two, times_power_of_two
from precsim.rounding.spec import RoundingSpec


class Tiles(NamedTuple):
    """Patterns of the elements, and of one scale per tile."""

    elements: Array
    scales: Array


class Products(NamedTuple):
    """Patterns of ``fl(x * factor)``, not yet rounded, and of the scales; lost tiles."""

    bits: Array
    scales: Array
    is_lost: Array


def round_tiles(
    bits: Array,
    random_bits: Array | None,
    spec: RoundingSpec,
    carrier: Carrier,
    factors: Array | None = None,
) -> Tiles:
    """Choose the factors of tiles, unless they are given, and round the elements."""
    assert isinstance(spec.format, TileFormat)
    products = multiply_by_factors(bits, spec, carrier, factors)
    element = replace(spec, format=spec.format.element)
    elements = round_bits(products.bits, element, carrier, random_bits=random_bits)
    scales = select(products.is_lost, carrier.uint(carrier.quiet_nan), products.scales)
    return Tiles(elements, scales)


def multiply_by_factors(
    bits: Array, spec: RoundingSpec, carrier: Carrier, factors: Array | None = None
) -> Products:
    """Choose the factors of tiles, unless they are given, and multiply the elements with them."""
    u = carrier.uint
    fmt = spec.format
    assert isinstance(fmt, TileFormat)
    # Elements that have a NaN keep it; others cannot, so that their tile is lost.
    keeps = fmt.element.has_nan
    bits, is_lost = set_specials_apart(bits, spec, carrier, keeps_elements=keeps)
    magnitude = bits & u(carrier.sign_bit - 1)
    if chooses := factors is None:
        amax = magnitude.max(axis=-1, initial=carrier.uint_dtype(0))
        factors, scales = map(computed_once, factors_of(amax, fmt, carrier))
    else:
        scales = float_steps.divide(_one(factors, carrier), factors, carrier)
    is_special = magnitude >= u(carrier.infinity)
    finite = select(is_special, u(0), bits)
    element = replace(spec, format=fmt.element)
    # Products with chosen factors are at most about the largest element value.
    is_coarse = chooses and float_steps.is_coarse(element, carrier)
    is_coarse = is_coarse and (spec.mode.is_nearest or spec.mode is RoundingMode.STOCHASTIC)
    if chooses and fmt.is_power_of_two:
        shift = (
            float_steps.coarse_shift if is_coarse else partial(times_power_of_two, carrier=carrier)
        )
        products = shift(finite, float_steps.exponent_of(factors, carrier)[..., None])
    elif is_coarse:
        products = float_steps.coarse_product(finite, factors[..., None])
    else:
        products = float_steps.multiply(finite, factors[..., None], carrier)
    products = computed_once(products)
    return Products(select(is_special, bits, products), scales, is_lost)


def factors_of(amax: Array, fmt: TileFormat, carrier: Carrier) -> tuple[Array, Array]:
    """Return what elements are multiplied with before they are rounded, and scales; patterns."""
    u, i = carrier.uint, carrier.signed
    is_usable = (amax != u(0)) & (amax < u(carrier.infinity))
    largest = largest_element(fmt.element, carrier)
    if fmt.is_power_of_two:
        # Patterns grow with the values: the difference of two exponents, and a borrow of fractions.
        room = i(largest) - amax.astype(carrier.int_dtype)
        exponent = namespace(amax).minimum(room >> i(carrier.trailing), i(carrier.bias))
        exponent = select(is_usable, exponent, i(0))
        return power_of_two(exponent, carrier), power_of_two(-exponent, carrier)
    one = _one(amax, carrier)

    def divide(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        dividend, divisor, _before = state
        quotient = float_steps.divide(dividend, divisor, carrier, float_steps.SATURATE)
        return one, quotient, divisor

    # Twice in a loop, which is compiled once: max / amax, then 1 divided by that.
    dividend = float_steps.constant(amax, largest, carrier)
    _, scales, factors = repeat(2, divide, (dividend, select(is_usable, amax, dividend), one))
    return factors, scales


def _one(like: Array, carrier: Carrier) -> Array:
    return float_steps.constant(like, carrier.pattern(1, 0), carrier)


def times_scales(elements: Array, scales: Array, carrier: Carrier) -> Array:
    """Return the patterns of element * scale, the exact product rounded once; NaN stays NaN."""
    u = carrier.uint
    magnitude = elements & u(carrier.sign_bit - 1)
    is_special = magnitude >= u(carrier.infinity)
    finite = select(is_special, u(0), elements)
    product = float_steps.multiply(finite, scales, carrier)
    product = select(is_special, elements, product)
    return select(scales > u(carrier.infinity), u(carrier.quiet_nan), product)
