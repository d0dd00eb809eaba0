"""What the rounding kernel does for floating point only: underflow, overflow, specials, the sign.

Nearly all of it is known from the spec alone and decided while tracing; what depends on the sign
costs a `where` only if the two signs differ.
"""

from typing import NamedTuple

import numpy as np

from precsim._arrays import Array, namespace
from precsim.formats.carrier import Carrier, select
from precsim.formats.floating import FloatFormat, Specials
from precsim.rounding.kernel.limits import first_of_chop, limits
from precsim.rounding.kernel.outward import is_outward
from precsim.rounding.modes import InfinityMode, NanMode, OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec


class _BySign(NamedTuple):
    """Magnitudes for positive and for negative numbers."""

    positive: int
    negative: int

    def pattern(self, negative: Array, carrier: Carrier) -> Array:
        if self.positive == self.negative:
            return carrier.uint(self.positive)
        return select(negative, carrier.uint(self.negative), carrier.uint(self.positive))


def finish(
    result: Array,
    bits: Array,
    nonzero_bits: Array,
    negative: Array,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array:
    """Turn rounded magnitudes into values of the format.

    `bits` is the unrounded pattern, `nonzero_bits` is zero where the exact number is zero.
    """
    u = carrier.uint
    magnitude = bits & u(carrier.sign_bit - 1)
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    bound = limits(spec, carrier)
    nan, infinity = u(carrier.quiet_nan), u(carrier.infinity)
    match spec.subnormals:
        case SubnormalMode.FLUSH_AFTER_ROUNDING:
            result = select(result < u(bound.min_normal), u(0), result)
        case SubnormalMode.FLUSH_BEFORE_ROUNDING:
            result = select(magnitude < u(bound.min_normal), u(0), result)
        case SubnormalMode.FLUSH_AS_CHOP:
            first = _BySign(
                *(carrier.pattern(*first_of_chop(spec, negative=s)) for s in (False, True))
            )
            reaches = result >= first.pattern(negative, carrier)
            raised = namespace(result).maximum(result, u(bound.min_normal))
            result = select(reaches, raised, u(0))
        case _:
            pass  # the grid has what the format has
    on_infinity = _on_infinity(fmt, spec, carrier)
    infinities = _BySign(carrier.infinity, carrier.infinity)
    is_bounded = fmt.exponent_bits is not None
    overflowed = _on_overflow(fmt, spec, carrier) if is_bounded else infinities
    if not (overflowed == infinities and _ends_at(fmt, carrier)):
        too_large = result > u(bound.max_positive)
        result = select(too_large, overflowed.pattern(negative, carrier), result)
    if on_infinity != overflowed:
        on_infinity_pattern = on_infinity.pattern(negative, carrier)
        result = select(magnitude == infinity, on_infinity_pattern, result)
    if not fmt.has_zero:
        keeps = spec.overflow is OverflowMode.SATURATE or not fmt.has_nan
        on_zero = u(bound.min_normal) if keeps else nan
        tiny = select(nonzero_bits == u(0), on_zero, u(bound.min_normal))
        result = select(result < u(bound.min_normal), tiny, result)
    if not fmt.is_signed:
        below = u(_on_negative(fmt, spec, carrier))
        # A negative number that rounds to zero is zero; the smallest value of E8M0 is not.
        is_below = negative & (result != u(0)) & (magnitude != infinity)
        result = select(is_below, below, result)
    # A NaN pattern is larger than the largest value: overflow may have made it NaN already.
    if not (
        fmt.is_signed and overflowed == on_infinity == _BySign(carrier.quiet_nan, carrier.quiet_nan)
    ):
        result = select(magnitude > infinity, nan, result)
    if fmt.is_signed:
        sign = bits & u(carrier.sign_bit)
        if not fmt.has_negative_zero:
            sign = select((result == u(0)) | (result == nan), u(0), sign)
        result = result | sign
    if spec.nans is not NanMode.STAYS:
        on_nan = {
            NanMode.ZERO: u(0),
            NanMode.NEGATIVE_ZERO: ~bits & u(carrier.sign_bit),
            NanMode.MAX: u(bound.max_positive),
        }[spec.nans]
        result = select(magnitude > infinity, on_nan, result)
    return result


def _ends_at(fmt: FloatFormat, carrier: Carrier) -> bool:
    """Return whether the carrier's infinity is next to the largest value: rounding gets there."""
    if fmt.exponent_bits is None:
        return True
    return fmt.emax == carrier.bias and fmt.specials is Specials.IEEE


def _beyond(fmt: FloatFormat, carrier: Carrier, largest: int) -> int:
    """Return what stands for infinity in the format."""
    return carrier.infinity if fmt.has_infinity else carrier.quiet_nan if fmt.has_nan else largest


def _on_overflow(fmt: FloatFormat, spec: RoundingSpec, carrier: Carrier) -> _BySign:
    """Return what finite numbers beyond the largest become (IEEE 754-2019, 7.4; P3109, 4.7.5).

    P3109 means the Interim Report v4.0.
    """
    largest = limits(spec, carrier).max_positive
    beyond = _beyond(fmt, carrier, largest)
    if spec.overflow is OverflowMode.INFINITY_OR_MAX and not fmt.has_infinity:
        beyond = largest
    if spec.overflow is OverflowMode.SATURATE:
        beyond = largest
    if spec.mode.is_nearest or spec.mode is RoundingMode.STOCHASTIC:
        return _BySign(beyond, beyond)
    # To odd: whichever of the largest value and infinity has the odd code.
    is_odd = np.bool_(fmt._max_code % 2 == 1 or not fmt.has_infinity)
    outward = [is_outward(spec.mode.direction, s, lambda: is_odd) for s in (np.False_, np.True_)]
    return _BySign(*(beyond if out else largest for out in outward))


def _on_infinity(fmt: FloatFormat, spec: RoundingSpec, carrier: Carrier) -> _BySign:
    """Return what infinite inputs become."""
    bound = limits(spec, carrier)
    positive = _beyond(fmt, carrier, bound.max_positive)
    if spec.infinities is InfinityMode.SATURATE or (
        spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE and not fmt.has_infinity
    ):
        positive = bound.max_positive
    if fmt.is_signed:
        return _BySign(positive, positive)
    saturates = spec.infinities is InfinityMode.SATURATE or (
        spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE
        and spec.overflow is OverflowMode.SATURATE
    )
    lowest = 0 if fmt.has_zero else bound.min_normal
    return _BySign(positive, lowest if saturates or not fmt.has_nan else carrier.quiet_nan)


def _on_negative(fmt: FloatFormat, spec: RoundingSpec, carrier: Carrier) -> int:
    """Return what finite negative numbers become in an unsigned format."""
    goes_up = spec.mode in (RoundingMode.TOWARD_ZERO, RoundingMode.TOWARD_POSITIVE) and fmt.has_zero
    if goes_up or spec.overflow is OverflowMode.SATURATE or not fmt.has_nan:
        return 0 if fmt.has_zero else limits(spec, carrier).min_normal
    return carrier.quiet_nan
