"""Matrix products whose elements are exact sums of exact products, rounded once."""

from typing import Any

from precsim._arrays import Array, bitcast, entry, is_jax, namespace
from precsim.arithmetic.elementwise import multiply
from precsim.arithmetic.sums.exact import Summands, exact_sum
from precsim.arithmetic.sums.superaccumulator import (
    Integers,
    layout,
    product,
    range_of,
    significands,
)
from precsim.formats.carrier import (
    Carrier,
    as_carrier,
    is_infinite,
    is_nan,
    is_zero,
    select,
)
from precsim.products.shapes import first_value, with_k_first
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec


def exact_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return c + a @ b, operands rounded already; the exact sum is rounded to the accumulator once.

    Each element has a superaccumulator (`accumulator_bits`), 4 to 40 limbs of 16 bits in a float32
    carrier, and a product costs about 10 operations for each: e4m3 60, fp16 100, bf16 and fp32 400.
    Shapes (..., M, K), (..., K, N) and (..., M, N); temporaries are as many times the result as
    there are limbs.
    """
    carrier = as_carrier(a)[1]
    start = first_value(a, b, c)
    rounded = exact_sum(
        products_of(*with_k_first(a, b), spec),
        bitcast(start, carrier.uint_dtype),
        spec.accumulator,
        carrier,
        starts_from_zero=c is None,
        random_bits=random_bits,
    )
    return bitcast(rounded, carrier.float_dtype)


def products_of(columns: Array, rows: Array, spec: MatmulSpec) -> Summands:
    """Return the products of a spec as summands; K first in both operands."""
    carrier = as_carrier(columns)[1]
    if spec.product is None:
        return _exact_products(columns, rows, spec, carrier)
    return _rounded_products(columns, rows, spec.product, carrier)


def accumulator_bits(spec: MatmulSpec, count: int, carrier: Carrier) -> int:
    """Return the width of the superaccumulator that holds K = `count` products of a spec."""
    place = layout(_product_range(spec, carrier), count, carrier)
    return place.limbs * place.half


def _formats(spec: MatmulSpec) -> list[Any]:
    return [None if part is None else part.format for part in (spec.lhs, spec.rhs)]


def _product_range(spec: MatmulSpec, carrier: Carrier) -> Any:
    if spec.product is not None:
        return range_of(spec.product.format, carrier)
    lhs, rhs = (range_of(fmt, carrier) for fmt in _formats(spec))
    return lhs * rhs


def _exact_products(columns: Array, rows: Array, spec: MatmulSpec, carrier: Carrier) -> Summands:
    """Products of integers, decoded once."""
    where = _product_range(spec, carrier)
    patterns = [bitcast(x, carrier.uint_dtype) for x in (columns, rows)]
    x, y = (
        significands(bits, fmt, carrier) for bits, fmt in zip(patterns, _formats(spec), strict=True)
    )
    infinity, magnitude = carrier.uint(carrier.infinity), carrier.uint(carrier.sign_bit - 1)
    xp = namespace(columns, rows)
    has_special = xp.any((patterns[0] & magnitude) >= infinity)
    has_special = has_special | xp.any((patterns[1] & magnitude) >= infinity)

    def term(k: Any) -> Integers:
        return product(
            Integers(*(entry(part, k) for part in x)),
            Integers(*(entry(part, k) for part in y)),
            carrier,
            where.bits,
        )

    def pattern(k: Any) -> Array:
        return _special_product(entry(patterns[0], k), entry(patterns[1], k), carrier)

    return Summands(
        columns.shape[0],
        term,
        pattern,
        has_special if is_jax(has_special) else bool(has_special),
        where,
    )


def _special_product(x: Array, y: Array, carrier: Carrier) -> Array:
    """Return the pattern of a product that is infinite or NaN, 0 for all others."""
    u = carrier.uint
    infinite = is_infinite(x, carrier) | is_infinite(y, carrier)
    invalid = is_nan(x, carrier) | is_nan(y, carrier)
    invalid = invalid | (infinite & (is_zero(x, carrier) | is_zero(y, carrier)))
    signed = u(carrier.infinity) | ((x ^ y) & u(carrier.sign_bit))
    return select(invalid, u(carrier.quiet_nan), select(infinite, signed, u(0)))


def _rounded_products(
    columns: Array, rows: Array, rounding: RoundingSpec, carrier: Carrier
) -> Summands:
    """Products rounded to a format of their own, which then are the terms."""

    def pattern(k: Any) -> Array:
        return bitcast(multiply(entry(columns, k), entry(rows, k), rounding), carrier.uint_dtype)

    def term(k: Any) -> Integers:
        return significands(pattern(k), rounding.format, carrier)

    # Whether a product overflows is known by looking at all of them only.
    return Summands(columns.shape[0], term, pattern, True, range_of(rounding.format, carrier))
