"""The choices of a rounding: mode, overflow, infinities, NaN, subnormals, parity, random bits."""

import enum


class Direction(enum.Enum):
    """Which of its two neighbours a magnitude goes to."""

    EVEN = enum.auto()
    ODD = enum.auto()
    ZERO = enum.auto()
    AWAY = enum.auto()
    POSITIVE = enum.auto()
    NEGATIVE = enum.auto()


class RoundingMode(enum.StrEnum):
    """Which neighbour a number between two values goes to (IEEE 754-2019, 4.3; P3109, 4.6).

    A mode is a pair: `direction`, and whether only ties go there (`is_nearest`) or all numbers.

    Examples
    --------
    >>> import precsim as ps
    >>> [ps.round_to(2.5, "q7.0", mode=mode).item() for mode in ("rne", "rna", "rtz", "rtp")]
    [2.0, 3.0, 2.0, 3.0]
    >>> ps.RoundingMode("rna").name
    'TIES_TO_AWAY'
    """

    TIES_TO_EVEN = "rne"
    TIES_TO_AWAY = "rna"
    TIES_TO_ZERO = "rnz"
    TIES_TO_ODD = "rno"
    TIES_TO_POSITIVE = "rnp"
    TIES_TO_NEGATIVE = "rnn"
    TOWARD_ZERO = "rtz"
    AWAY_FROM_ZERO = "raz"
    TOWARD_POSITIVE = "rtp"
    TOWARD_NEGATIVE = "rtn"
    TO_ODD = "rto"
    STOCHASTIC = "sr"

    @property
    def is_nearest(self) -> bool:
        """Whether a number goes to the nearest value, and only a tie in the mode's direction."""
        return self.name.startswith("TIES")

    @property
    def direction(self) -> Direction:
        """Where ties go, or every number between two values; mode "sr" has none."""
        return _DIRECTIONS[self]


_DIRECTIONS = {
    RoundingMode.TIES_TO_EVEN: Direction.EVEN,
    RoundingMode.TIES_TO_AWAY: Direction.AWAY,
    RoundingMode.TIES_TO_ZERO: Direction.ZERO,
    RoundingMode.TIES_TO_ODD: Direction.ODD,
    RoundingMode.TIES_TO_POSITIVE: Direction.POSITIVE,
    RoundingMode.TIES_TO_NEGATIVE: Direction.NEGATIVE,
    RoundingMode.TOWARD_ZERO: Direction.ZERO,
    RoundingMode.AWAY_FROM_ZERO: Direction.AWAY,
    RoundingMode.TOWARD_POSITIVE: Direction.POSITIVE,
    RoundingMode.TOWARD_NEGATIVE: Direction.NEGATIVE,
    RoundingMode.TO_ODD: Direction.ODD,
}


class OverflowMode(enum.StrEnum):
    """What a finite number beyond the largest value becomes, after it has been rounded.

    Examples
    --------
    >>> import precsim as ps
    >>> [ps.round_to(1000.0, f"e4m3:{mode}").item() for mode in ("infinity", "saturate")]
    [nan, 448.0]
    >>> ps.round_to(9.0, "q3.4:wrap").item()
    -7.0
    """

    INFINITY = "infinity"
    """IEEE 754: infinity or the largest value, by direction.

    NaN in a format without infinity, the largest value in a format without both.
    """
    INFINITY_OR_MAX = "infinity_or_max"
    """As "infinity" if the format has infinity, else the largest value (P3109 v4.0 SatNone)."""
    SATURATE = "saturate"
    """The largest value of that sign."""
    SATURATE_SYMMETRIC = "saturate_symmetric"
    """As "saturate", but the smallest value is minus the largest.

    SystemC SC_SAT_SYM; fixed point only.
    """
    SATURATE_ZERO = "saturate_zero"
    """Zero (SystemC SC_SAT_ZERO); fixed point only."""
    WRAP = "wrap"
    """The low bits of the two's complement code; fixed point only.

    An operation's result so large that its low bits are not known becomes NaN (that takes operands
    far outside the format: beyond 2**24 times its quantum in float32, 2**53 in float64).
    """


class InfinityMode(enum.StrEnum):
    """What an infinite input becomes.

    Examples
    --------
    >>> import precsim as ps
    >>> modes = ("propagate", "saturate_infinity")
    >>> [ps.round_to(float("inf"), f"e5m2:{mode}").item() for mode in modes]
    [inf, 57344.0]
    """

    PROPAGATE = "propagate"
    """Infinity; NaN in a format without infinity; the largest value in a format without both."""
    PROPAGATE_OR_SATURATE = "propagate_or_saturate"
    """Infinity; in a format without infinity the largest value of that sign.

    P3109 v4.0 SatPropagate and SatNone.
    """
    SATURATE = "saturate_infinity"
    """The largest value of that sign."""


class NanMode(enum.StrEnum):
    """What NaN becomes in a format without NaN.

    Examples
    --------
    >>> import precsim as ps
    >>> nan = float("nan")
    >>> modes = "nan_stays", "nan_to_zero", "nan_to_max"
    >>> [ps.round_to(nan, f"e2m1:{mode}").item() for mode in modes]
    [nan, 0.0, 6.0]
    """

    STAYS = "nan_stays"
    """NaN, which the carrier has: it is never lost from sight."""
    ZERO = "nan_to_zero"
    """Zero."""
    NEGATIVE_ZERO = "nan_to_negative_zero"
    """-0, or 0 if the sign bit of NaN is set, as ml_dtypes does (floating point only)."""
    MAX = "nan_to_max"
    """The largest value."""


class SubnormalMode(enum.StrEnum):
    """What happens below the smallest normal value.

    Examples
    --------
    The smallest normal value of fp16 is 2**-14; three quarters of it are a subnormal.

    >>> import precsim as ps
    >>> modes = ("gradual", "flush_after_rounding", "nearest_of_zero_and_min")
    >>> [ps.round_to(0.75 * 2.0**-14, f"fp16:{mode}").item() * 2**14 for mode in modes]
    [0.75, 0.0, 1.0]
    """

    GRADUAL = "gradual"
    """Subnormals, as the format has them."""
    FLUSH_AFTER_ROUNDING = "flush_after_rounding"
    """Round with subnormals, then replace a subnormal result by zero, in every mode.

    A number just below the smallest normal value may become that value. `FLUSH_TINY` differs there.
    """
    NEAREST_OF_ZERO_AND_MIN = "nearest_of_zero_and_min"
    """Round on the grid {0, smallest normal}, where half way is a tie.

    CPFloat; Mary and Mikaitis 2024.
    """
    FLUSH_BEFORE_ROUNDING = "flush_before_rounding"
    """Replace a number below the smallest normal value by zero of its sign before it is rounded.

    Tininess before rounding (IEEE 754-2019, 7.5 a) with abrupt underflow: flush-to-zero of Arm (bit
    FZ of FPCR), in every mode. The first releases of chop (2019) did the same.
    """
    FLUSH_TINY = "flush_tiny"
    """Replace a number by zero of its sign if it is tiny after rounding (IEEE 754-2019, 7.5 b).

    It is tiny if rounding with an unlimited range of exponents gives less than the smallest normal
    value. Flush-to-zero of x86 (bit FTZ of MXCSR), in every mode.
    """
    FLUSH_AS_CHOP = "flush_as_chop"
    """Round with subnormals, then again to 0 or the smallest normal value xmin, by chop's rules.

    In mode rne, xmin/2 and more become xmin (also what the first rounding made xmin/2). In rtp and
    rtn all that the first rounding left on the mode's side of zero becomes xmin or -xmin, the rest
    0; in rtz and sr everything below xmin becomes 0. Other modes, and precisions below 3, are
    refused: chop has none of them. Source: chop (Higham and Pranesh 2019), file chop.m, option
    ``subnormal = 0``.
    """


class EvenRule(enum.StrEnum):
    """What is even or odd in the modes that ask; they differ for precision 1 only.

    Examples
    --------
    >>> import precsim as ps
    >>> [ps.round_to(3.0, f"e8m0:{rule}").item() for rule in ("even_significand", "even_code")]
    [4.0, 2.0]
    """

    SIGNIFICAND = "even_significand"
    """The integer significand: at precision 1 it is 1, so ties go up (E8M0 of ml_dtypes)."""
    CODE = "even_code"
    """The code of the value (P3109 v4.0, 4.7.4), which at precision 1 is the exponent field."""


class StochasticVariant(enum.StrEnum):
    """How N random bits decide: the discarded fraction plus R * 2**-N carries (P3109 v4.0).

    Examples
    --------
    The one random bit is 0. Variant A truncates the fraction 0.75 to one bit, 0.5, which does not
    carry; B and C round it to 1, which does.

    >>> import precsim as ps
    >>> [ps.round_to(1.75, f"q7.0:sr1:{variant}", random_bits=0).item() for variant in "abc"]
    [1.0, 2.0, 2.0]
    """

    A = "a"
    """The fraction is truncated to N bits first."""
    B = "b"
    """The fraction is rounded to N bits first, ties up."""
    C = "c"
    """The fraction is rounded to N bits first, ties to even."""


AMAX_ALGORITHMS = ("max", "most_recent")
"""Which entry of the history of a delayed scale its factor follows from."""
LARGEST_MARGIN = 100
"""Powers of two by which that factor may be smaller, at most."""
