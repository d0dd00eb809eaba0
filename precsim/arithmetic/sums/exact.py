"""Sums with one rounding: a superaccumulator takes the terms one after the other, exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from precsim._arrays import Array, is_jax, namespace
from precsim._loops import as_varying, repeat
from precsim.arithmetic.exact import finish
from precsim.arithmetic.sums.superaccumulator import (
    CARRY_EVERY,
    Integers,
    Range,
    deposit,
    layout,
    range_of,
    significands,
    spread_carries,
    total,
    widen,
)
from precsim.formats.carrier import Carrier, is_infinite, is_nan
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.spec import RoundingSpec

Flags: TypeAlias = tuple[Array, Array, Array]
"""Of each sum: whether a NaN, a positive and a negative infinity are among its terms."""


@dataclass(frozen=True, slots=True)
class Summands:
    """What is summed exactly."""

    count: int
    term: Callable[[Any], Integers]
    """The k-th term as an integer; 0 where it is not finite."""
    pattern: Callable[[Any], Array]
    """The k-th term as a carrier pattern where it is infinite or NaN; anything finite elsewhere."""
    has_special: Array | bool
    """Whether a term may be infinite or NaN."""
    range: Range


def exact_sum(
    summands: Summands,
    start: Array,
    spec: RoundingSpec,
    carrier: Carrier,
    *,
    starts_from_zero: bool,
    random_bits: Array | None,
) -> Array:
    """Return the patterns of start + the sum of all terms, the exact number rounded once.

    `start` (patterns) has the shape of the result. A sum of zero is +0, in mode rtn -0.
    """
    place = layout(summands.range, summands.count, carrier)
    bits = summands.range.bits
    xp = namespace(start)
    limbs = xp.zeros((place.limbs, *start.shape), carrier.int_dtype)

    def chunk(first: Any, count: int, limbs: Array) -> Array:
        step = lambda k, limbs: deposit(limbs, summands.term(first + k), place, bits)
        return spread_carries(repeat(count, step, limbs), place)

    full, rest = divmod(summands.count, CARRY_EVERY)
    if full:
        limbs = repeat(full, lambda j, limbs: chunk(j * CARRY_EVERY, CARRY_EVERY, limbs), limbs)
    if rest:
        limbs = chunk(full * CARRY_EVERY, rest, limbs)
    if not starts_from_zero:
        anything = range_of(None, carrier)
        limbs, place = widen(limbs, place, anything)
        limbs = deposit(limbs, significands(start, None, carrier), place, anything.bits)
    is_downward = spec.mode is RoundingMode.TOWARD_NEGATIVE
    modulo = None
    if spec.overflow is OverflowMode.WRAP:
        assert isinstance(spec.format, FixedPointFormat)
        modulo = spec.format.integer_bits + 1
    number = total(limbs, place, zero_is_negative=is_downward, modulo=modulo)
    invalid, positive, negative = _specials(summands, start, carrier)
    packed = finish(number, positive | negative, invalid | (positive & negative), negative, carrier)
    if random_bits is not None:
        random_bits = random_bits.reshape(-1)
    # The shape in which every rounding is compiled.
    patterns, tail, after = (x.reshape(-1) for x in (packed.bits, packed.tail, packed.rest))
    rounded = round_bits(patterns, spec, carrier, tail=tail, rest=after, random_bits=random_bits)
    return rounded.reshape(start.shape)


def _specials(summands: Summands, start: Array, carrier: Carrier) -> Flags:
    """Return which sums have a NaN, a positive and a negative infinity among their terms."""
    sign = carrier.uint(carrier.sign_bit)

    def seen(x: Array) -> Flags:
        infinite, is_negative = is_infinite(x, carrier), x >= sign
        return is_nan(x, carrier), infinite & ~is_negative, infinite & is_negative

    def look(k: Any, flags: Flags) -> Flags:
        nan, positive, negative = seen(summands.pattern(k))
        return flags[0] | nan, flags[1] | positive, flags[2] | negative

    def scan(flags: Flags) -> Flags:
        return repeat(summands.count, look, flags)

    flags = seen(start)
    has_special = summands.has_special if summands.count else False
    if not is_jax(has_special):
        return scan(flags) if has_special else flags
    from precsim._calls import choose

    flags = as_varying(scan, flags)
    same: Callable[[Flags], Flags] = lambda flags: flags
    return choose(has_special, scan, same, flags)
