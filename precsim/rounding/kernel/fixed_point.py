"""What the rounding kernel does for fixed point only: saturate, or wrap around."""

from precsim._arrays import Array, namespace
from precsim.formats.carrier import Carrier, compose, is_nan, select, shift_left, shift_right
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import InfinityMode, NanMode, OverflowMode
from precsim.rounding.spec import RoundingSpec


def saturate(result: Array, bits: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Clamp rounded magnitudes to the ends of the format and restore the sign; -0 is 0."""
    u = carrier.uint
    bound = limits(spec, carrier)
    negative = bits >= u(carrier.sign_bit)
    limit = select(negative, u(bound.max_negative), u(bound.max_positive))
    beyond = u(0) if spec.overflow is OverflowMode.SATURATE_ZERO else limit
    clamped = select(result > limit, beyond, result)
    clamped = clamped | select(negative & (clamped != u(0)), u(carrier.sign_bit), u(0))
    return _on_nan(clamped, bits, spec, carrier)


def _on_nan(result: Array, bits: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Put what NaN becomes where the input was NaN."""
    return select(is_nan(bits, carrier), _nan(bits, spec, carrier), result)


def _nan(bits: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Return what NaN becomes; as long as it stays NaN it has the sign of the input."""
    u = carrier.uint
    return {
        NanMode.STAYS: u(carrier.quiet_nan) | (bits & u(carrier.sign_bit)),
        NanMode.ZERO: u(0),
        NanMode.MAX: u(limits(spec, carrier).max_positive),
    }[spec.nans]


def nan_if_undetermined(bits: Array, drop: Array, rest: Array, carrier: Carrier) -> Array:
    """Put NaN where more than a tail follows a coarser pattern: its low bits are not known."""
    unknown = (drop < carrier.signed(0)) & (rest != carrier.uint(0))
    return select(unknown, carrier.uint(carrier.quiet_nan), bits)


def modulo(
    significand: Array, drop: Array, tail: Array | None, spec: RoundingSpec, carrier: Carrier
) -> tuple[Array, Array, Array | None]:
    """Where the last bit is coarser than the format's, shift it there and forget the high bits.

    Wrapping looks only at the number modulo 2**(integer_bits + 1), and so does rounding: sign,
    parity and fraction are those of the reduced number.
    """
    xp = namespace(significand)
    u, i = carrier.uint, carrier.signed
    fmt = spec.format
    assert isinstance(fmt, FixedPointFormat)
    left = xp.maximum(-drop, i(0))
    reduced = shift_left(significand, left, carrier)
    if tail is not None:
        over = left - i(carrier.width)
        entering = select(
            over < i(0), shift_right(tail, -over, carrier), shift_left(tail, over, carrier)
        )
        reduced = reduced | entering
        tail = shift_left(tail, left, carrier)
    # Where nothing was shifted the low bits are all still to come: keep the significand whole.
    reduced = select(left > i(0), reduced & u((1 << fmt.width) - 1), significand)
    return reduced, xp.maximum(drop, i(0)), tail


def wrap(integer: Array, bits: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Read the low `width` bits of a rounded integer, with its sign, as a code of the format."""
    u = carrier.uint
    fmt = spec.format
    assert isinstance(fmt, FixedPointFormat)
    negative = bits >= u(carrier.sign_bit)
    mask = u((1 << fmt.width) - 1)
    code = select(negative, u(0) - integer, integer) & mask
    below_zero = (code >> u(fmt.width - 1) == u(1)) & fmt.is_signed
    magnitude = select(below_zero, (u(0) - code) & mask, code)
    sign = select(below_zero, u(carrier.sign_bit), u(0))
    wrapped = compose(magnitude, carrier.signed(-fmt.fraction_bits), carrier) | sign
    # An infinity has no residue: NaN, or the end of the range on request.
    bound = limits(spec, carrier)
    lowest = bound.max_negative | carrier.sign_bit if fmt.is_signed else 0
    on_infinity = _nan(bits, spec, carrier)
    if spec.infinities is not InfinityMode.PROPAGATE:
        on_infinity = select(negative, u(lowest), u(bound.max_positive))
    input_magnitude = bits & u(carrier.sign_bit - 1)
    wrapped = select(input_magnitude == u(carrier.infinity), on_infinity, wrapped)
    return _on_nan(wrapped, bits, spec, carrier)
