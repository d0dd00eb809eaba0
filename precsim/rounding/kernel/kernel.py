"""The rounding kernel: integer arithmetic on bit patterns, one source for NumPy and JAX.

A real number arrives as a carrier value truncated toward zero (`bits`) and, for results of
arithmetic, the bits that follow the carrier's last bit: first the word `tail`, then the word
`rest`, whose last bits may stand for everything below them. So an exact sum or product is rounded
once, from the exact number. No floating-point operation occurs, hence no flush to zero, no fused
multiply-add, no elided cast.

This kernel defines the bits of every rounded array. Eight shorter ways return the same bits within
limits that they state, and a test proves each:

* `in_place`, which the kernel takes by itself (tests/rounding/kernel/test_kernel.py);
* `by_adding`, float32 additions (tests/rounding/kernel/test_by_adding.py);
* rounding/scaled/float_steps.py, products, quotients (tests/rounding/scaled/test_float_steps.py);
* products/orders/float32.py, multiply-adds (tests/products/orders/test_float32.py);
* products/tensor_core/float32_step.py (tests/products/test_pallas_gpu.py);
* products/tensor_core/float32_blocks.py and unlimited_blocks.py, CPUs' dot products
  (tests/products/tensor_core/test_dot_steps.py);
* arithmetic/portable.py, float32 without subnormals (tests/arithmetic/test_portable.py).
"""

from dataclasses import replace

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim._loops import traced_once
from precsim.formats.carrier import Carrier, as_carrier, decompose, floor_log2, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.kernel import fixed_point, floating_point, in_place
from precsim.rounding.kernel.limits import is_coarse, limits
from precsim.rounding.kernel.outward import is_outward
from precsim.rounding.modes import (
    EvenRule,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)
from precsim.rounding.spec import RoundingSpec


def round_bits(
    bits: Array,
    spec: RoundingSpec,
    carrier: Carrier,
    *,
    tail: Array | None = None,
    rest: Array | None = None,
    random_bits: Array | None = None,
) -> Array:
    """Round carrier patterns (of the carrier's unsigned type) to the values of a format.

    Parameters
    ----------
    bits : array of unsigned int, shape (...)
        Patterns of the carrier.
    spec : RoundingSpec
        Format and rule; static under jit.
    carrier : Carrier
        What the patterns mean.
    tail : array of unsigned int, shape (...), optional
        Bits after the carrier's last bit; zero where the pattern is not finite.
    rest : array of unsigned int, shape (...), optional
        Bits after the tail, nonzero if anything nonzero follows it. All ones stand for ones without
        end: so a number beyond the carrier's largest value is given. Without `rest`, the last bit
        of `tail` also stands for everything below it.
    random_bits : array of unsigned int, broadcastable to (...), optional
        R of mode "sr", in the low bits.

    Returns
    -------
    array of unsigned int, shape (...)
        Patterns of the carrier. Around 25 integer operations per element for round to nearest.
    """
    if spec.subnormals is SubnormalMode.FLUSH_TINY:
        return _without_tiny(bits, spec, carrier, tail, rest, random_bits)
    xp = namespace(bits)
    u, i = carrier.uint, carrier.signed
    bound = limits(spec, carrier)
    magnitude = bits & u(carrier.sign_bit - 1)
    negative = bits >= u(carrier.sign_bit)
    unknown = rest
    if tail is not None and rest is None:
        unknown, rest = tail & u(1), tail & u(0)
    nonzero_bits = magnitude if tail is None or rest is None else magnitude | tail | rest
    if in_place.applies(spec, carrier) and (tail is None or in_place.has_sticky_bit(spec, carrier)):
        if tail is not None and rest is not None:
            magnitude = magnitude | ((tail | rest) != u(0)).astype(carrier.uint_dtype)
        result = in_place.round_magnitude(magnitude, negative, spec, carrier)
        return _finish(result, bits, nonzero_bits, negative, spec, carrier)

    drop = _dropped_bits(magnitude, spec, carrier)
    significand, _ = decompose(magnitude, carrier)
    if spec.overflow is OverflowMode.WRAP:
        if unknown is not None:
            bits = fixed_point.nan_if_undetermined(bits, drop, unknown, carrier)
        significand, drop, tail = fixed_point.modulo(significand, drop, tail, spec, carrier)
    # One guard bit more, so that at least one bit is always cut off and the half way point is a
    # bit.
    guarded = significand << u(1)
    if tail is not None and rest is not None:
        guarded = guarded | (tail >> u(carrier.width - 1))
        tail = (tail << u(1)) | (rest >> u(carrier.width - 1))
    cut = xp.clip(drop + i(1), i(1), i(carrier.precision + 2)).astype(carrier.uint_dtype)
    kept = guarded >> cut
    fraction = guarded & ((u(1) << cut) - u(1))
    if spec.mode is RoundingMode.STOCHASTIC:
        if random_bits is None:
            raise ValueError(
                f"random_bits is missing: mode 'sr' of {spec} needs one integer per element"
            )
        up = _stochastic(
            fraction,
            xp.maximum(drop, i(0)) + i(1),
            tail,
            rest,
            random_bits.astype(carrier.uint_dtype),
            spec,
            carrier,
        )
    else:
        sticky = np.False_ if tail is None or rest is None else (tail | rest) != u(0)
        odd = _is_odd(kept, magnitude, spec, carrier)
        up = _goes_up(spec.mode, fraction, u(1) << (cut - u(1)), sticky, odd, negative)

    if spec.overflow is OverflowMode.WRAP:
        return fixed_point.wrap(kept + up.astype(carrier.uint_dtype), bits, spec, carrier)
    # The carry of `up` walks into the exponent by itself. Where all bits go, the result is 0 or one
    # quantum.
    step = xp.clip(drop, i(0), i(carrier.trailing)).astype(carrier.uint_dtype)
    raised = (magnitude & ~((u(1) << step) - u(1))) + (up.astype(carrier.uint_dtype) << step)
    vanished = drop > i(carrier.trailing)
    result = select(vanished, select(up, u(bound.quantum_min), u(0)), raised)
    return _finish(result, bits, nonzero_bits, negative, spec, carrier)


def _without_tiny(
    bits: Array,
    spec: RoundingSpec,
    carrier: Carrier,
    tail: Array | None,
    rest: Array | None,
    random_bits: Array | None,
) -> Array:
    """Round with subnormals; zero where 4 x is rounded to less than 4 smallest normal values.

    From half the smallest normal value on, 4 x is a normal number: it is rounded as x would be in
    an unlimited range. Smaller numbers are tiny in any case. (Twice a number has a code of another
    parity.)
    """
    u = carrier.uint
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    gradual = replace(spec, subnormals=SubnormalMode.GRADUAL)
    result = round_bits(bits, gradual, carrier, tail=tail, rest=rest, random_bits=random_bits)
    if fmt.exponent_bits is None or not fmt.has_zero:
        return result
    # Signed, and with a few exponents more: some formats end below 4 smallest normal values.
    exponent_bits = max(fmt.exponent_bits, 3)
    wide = replace(gradual, format=replace(fmt, exponent_bits=exponent_bits, is_signed=True))
    sign, mask = bits & u(carrier.sign_bit), u(carrier.sign_bit - 1)
    magnitude = bits & mask
    four = _doubled(*_doubled(magnitude, tail, rest, carrier), carrier)
    rounded = round_bits(
        four[0] | sign, wide, carrier, tail=four[1], rest=four[2], random_bits=random_bits
    )
    is_tiny = (magnitude < u(limits(gradual, carrier).min_normal)) & (
        (rounded & mask) < u(carrier.pattern(1, fmt.emin + 2))
    )
    return select(is_tiny, sign if fmt.has_negative_zero else sign & u(0), result)


def _doubled(
    magnitude: Array, tail: Array | None, rest: Array | None, carrier: Carrier
) -> tuple[Array, Array | None, Array | None]:
    """Return twice a magnitude and what follows it, whose last bit stays sticky."""
    u, last = carrier.uint, carrier.uint(carrier.width - 1)
    binade = u(1 << carrier.trailing)
    is_normal = magnitude >= binade
    double = magnitude << u(1)
    after, further = tail, rest
    if tail is not None:
        double = double | (tail >> last)
        follows = tail & u(1) if rest is None else rest >> last
        after = select(is_normal, tail, (tail << u(1)) | follows)
    if rest is not None:
        further = select(is_normal, rest, (rest << u(1)) | (rest & u(1)))
    return select(is_normal, magnitude + binade, double), after, further


@traced_once("spec")
def round_array(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    """Apply the kernel to an array of carrier values."""
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype).reshape(-1)
    if random_bits is not None:
        random_bits = random_bits.reshape(-1)
    rounded = round_bits(bits, spec, carrier, random_bits=random_bits)
    return bitcast(rounded, carrier.float_dtype).reshape(x.shape)


def _finish(
    result: Array,
    bits: Array,
    nonzero_bits: Array,
    negative: Array,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array:
    if isinstance(spec.format, FixedPointFormat):
        return fixed_point.saturate(result, bits, spec, carrier)
    return floating_point.finish(result, bits, nonzero_bits, negative, spec, carrier)


def _dropped_bits(magnitude: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Count the carrier bits below the format's quantum (negative where the quantum is finer)."""
    xp = namespace(magnitude)
    i = carrier.signed
    fmt = spec.format
    field = (magnitude >> carrier.uint(carrier.trailing)).astype(carrier.int_dtype)
    # Exponent of the implicit bit; all carrier subnormals share the one of the smallest normal.
    exponent = xp.maximum(field, i(1)) - i(carrier.bias)
    lsb = exponent - i(carrier.trailing)
    if isinstance(fmt, FixedPointFormat):
        return i(-fmt.fraction_bits) - lsb
    coarse = is_coarse(spec)
    if fmt.exponent_bits is None or fmt.emin < carrier.emin + coarse:
        exponent = floor_log2(magnitude, carrier)
        if fmt.exponent_bits is None:
            return exponent - i(fmt.precision - 1) - lsb
    if coarse:
        return select(exponent < i(fmt.emin), i(fmt.emin), exponent - i(fmt.precision - 1)) - lsb
    return xp.maximum(exponent, i(fmt.emin)) - i(fmt.precision - 1) - lsb


def _is_odd(kept: Array, magnitude: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Return whether the lower neighbour is odd."""
    u, fmt = carrier.uint, spec.format
    odd = (kept & u(1)) == u(1)
    if isinstance(fmt, FixedPointFormat) or fmt.precision > 1 or spec.even is EvenRule.SIGNIFICAND:
        return odd
    # With one significand bit the code is the exponent field; code 0 is even, as is `kept` = 0.
    exponent = floor_log2(magnitude, carrier)
    return odd & (((exponent + carrier.signed(fmt.bias)) & carrier.signed(1)) == 1)


def _goes_up(
    mode: RoundingMode,
    fraction: Array,
    half: Array,
    sticky: Array | np.bool,
    odd: Array,
    negative: Array,
) -> Array:
    """Decide, from the cut-off bits, whether the magnitude goes to the upper neighbour."""
    outward: Array = is_outward(mode.direction, negative, lambda: odd)
    if mode.is_nearest:
        tie = (fraction == half) & ~sticky
        up: Array = (fraction >= half) & ~(tie & ~outward)
        return up
    is_cut: Array = (fraction != fraction.dtype.type(0)) | sticky
    return is_cut & outward


def _stochastic(
    fraction: Array,
    cut: Array,
    tail: Array | None,
    rest: Array | None,
    random_bits: Array,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array:
    """P3109 v4.0: the discarded fraction, as an N-bit integer, plus R carries out of N bits."""
    xp = namespace(fraction)
    u, i = carrier.uint, carrier.signed
    n = spec.num_random_bits
    last = i(carrier.width - 1)
    right = xp.clip(cut - i(n), i(0), last).astype(carrier.uint_dtype)
    left = xp.clip(i(n) - cut, i(0), last).astype(carrier.uint_dtype)
    truncated = (fraction >> right) << left
    below = fraction & ((u(1) << right) - u(1))
    next_bit = select(right > u(0), (fraction >> (xp.maximum(right, u(1)) - u(1))) & u(1), u(0))
    more = below & ~(next_bit << (xp.maximum(right, u(1)) - u(1)))
    if tail is not None and rest is not None:
        # The first `left` bits of the tail belong to the integer; a shift by the full width gives
        # 0.
        into = select(
            left > u(0), tail >> (u(carrier.width - 1) - xp.maximum(left, u(1)) + u(1)), u(0)
        )
        truncated = truncated | into
        remaining = tail << left
        has_left = cut <= i(n)
        next_bit = select(has_left, remaining >> u(carrier.width - 1), next_bit)
        more = select(has_left, remaining << u(1), more | tail) | (rest << u(1))
    mask = u((1 << n) - 1)
    draw = random_bits & mask
    carries = draw > mask - truncated
    if rest is not None:
        carries = carries | (rest == ~u(0))
    match spec.stochastic_variant:
        case StochasticVariant.A:
            return carries
        case StochasticVariant.B:
            rounds_up = next_bit == u(1)
        case StochasticVariant.C:
            rounds_up = (next_bit == u(1)) & ((more != u(0)) | ((truncated & u(1)) == u(1)))
    return carries | (rounds_up & (draw == mask - truncated))
