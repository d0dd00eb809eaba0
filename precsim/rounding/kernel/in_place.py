"""Rounding of a carrier pattern where it stands: add an increment, clear the dropped bits.

The short way of the kernel, for plain carrier values (no tail) and modes without random bits. With
d dropped bits, of which the first is worth half a quantum, every such mode is one addition:

    pattern + increment, low d bits cleared,   increment = 0 (down), 2**d - 1 (up), about 2**(d - 1)
    (nearest)

since a carry out of the significand walks into the exponent by itself. In the normal range d is
constant; below it d grows by one a binade, until nothing but 0 and one quantum is left: there a
comparison decides.
"""

import numpy as np

from precsim._arrays import Array, namespace
from precsim.formats.carrier import Carrier, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.kernel.limits import is_coarse, limits
from precsim.rounding.kernel.outward import is_outward
from precsim.rounding.modes import Direction, EvenRule, OverflowMode, RoundingMode
from precsim.rounding.spec import RoundingSpec


def applies(spec: RoundingSpec, carrier: Carrier) -> bool:
    """Return whether this way covers the spec.

    It covers all but mode sr, wrapping, and exponents below the carrier's.
    """
    if spec.mode is RoundingMode.STOCHASTIC or spec.overflow is OverflowMode.WRAP:
        return False
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return _field_of_quantum(spec, carrier) >= 1
    return fmt.exponent_bits is not None and fmt.emin >= carrier.emin


def has_sticky_bit(spec: RoundingSpec, carrier: Carrier) -> bool:
    """Return whether the carrier's last bit can stand for a tail: it is below the half way bit."""
    fmt = spec.format
    return isinstance(fmt, FloatFormat) and fmt.precision + 2 <= carrier.precision


def _field_of_quantum(spec: RoundingSpec, carrier: Carrier) -> int:
    """Exponent field of the smallest distance between neighbours; below 1: a carrier subnormal."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return carrier.bias - fmt.fraction_bits
    return carrier.bias + fmt.emin - fmt.precision + 1


def round_magnitude(
    magnitude: Array, negative: Array, spec: RoundingSpec, carrier: Carrier
) -> Array:
    """Round finite magnitudes as though there were no largest value.

    About 10 integer operations an element, 5 where the format has the carrier's exponents.
    """
    xp = namespace(magnitude)
    u, t = carrier.uint, carrier.trailing
    fmt = spec.format
    is_fixed = isinstance(fmt, FixedPointFormat)
    first_field = _field_of_quantum(spec, carrier)
    # `kept` counts the significand bits that stay, without the first.
    most = t if isinstance(fmt, FixedPointFormat) else fmt.precision - 1
    coarse = is_coarse(spec) and not is_fixed
    if coarse or first_field + most <= 1:
        kept = u(most)
    elif first_field >= 1:
        field = magnitude >> u(t)
        kept = xp.minimum(xp.maximum(field, u(first_field)) - u(first_field), u(most))
    else:
        field = xp.maximum(magnitude >> u(t), u(1))
        kept = xp.minimum(field + u(-first_field), u(most))
    dropped = u((1 << t) - 1) >> kept
    increment = _increment(magnitude, negative, kept, dropped, spec, carrier)
    rounded = magnitude if increment is None else magnitude + increment
    rounded = rounded & ~dropped
    if not coarse and first_field < 1:
        return rounded
    quantum = limits(spec, carrier).quantum_min
    reaches = magnitude >= _threshold(quantum, negative, spec, carrier)
    return select(reaches, xp.maximum(rounded, u(quantum)), u(0))


def _increment(
    magnitude: Array,
    negative: Array,
    kept: Array,
    dropped: Array,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array | None:
    """Return what to add before the dropped bits are cleared; None for nothing."""
    u = carrier.uint
    direction = spec.mode.direction
    if not spec.mode.is_nearest:
        if direction is Direction.ZERO:
            return None
        outward = is_outward(
            direction, negative, lambda: _is_odd(magnitude, kept, spec, carrier) != u(0)
        )
        return select(outward, dropped, u(0))
    below_half = dropped >> u(1)
    if direction is Direction.ZERO:
        return below_half
    if direction is Direction.AWAY:
        return dropped - below_half
    # One more than the dropped bits below the half carries: so half way goes up.
    tie_goes_up = is_outward(
        direction,
        negative.astype(carrier.uint_dtype),
        lambda: _is_odd(magnitude, kept, spec, carrier),
        invert=lambda flag: flag ^ u(1),
    )
    increment: Array = below_half + tie_goes_up
    # Where nothing is dropped, nothing may be added.
    return increment & dropped if _may_keep_all(spec, carrier) else increment


def _may_keep_all(spec: RoundingSpec, carrier: Carrier) -> bool:
    fmt = spec.format
    return isinstance(fmt, FixedPointFormat) or fmt.precision == carrier.precision


def _is_odd(magnitude: Array, kept: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """1 where the lower neighbour is odd, else 0; only from one quantum on."""
    u, t = carrier.uint, carrier.trailing
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat) or fmt.precision > 1:
        return ((magnitude | u(1 << t)) >> (u(t) - kept)) & u(1)
    if spec.even is EvenRule.SIGNIFICAND:
        return u(1)
    return ((magnitude >> u(t)) + u((fmt.bias - carrier.bias) % 2)) & u(1)


def _threshold(quantum: int, negative: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Smallest magnitude that is rounded to one quantum, not to 0."""
    u = carrier.uint
    first_normal = 1 << carrier.trailing
    half = quantum - first_normal if quantum >= 2 * first_normal else quantum >> 1
    # The code of 0 is even.
    outward = is_outward(spec.mode.direction, negative, lambda: np.False_)
    if spec.mode.is_nearest:
        return select(outward, u(half), u(half + 1))
    return select(outward, u(1), u(quantum))
