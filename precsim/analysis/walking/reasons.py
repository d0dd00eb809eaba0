"""Why a number became the value that it became: the rule of a rounding, applied in words."""

import math
from dataclasses import replace
from fractions import Fraction

from precsim.analysis.walking.steps import Rounding
from precsim.formats.fields import fields_of
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.numbers import Format
from precsim.formats.oracle import encode_exact
from precsim.formats.written import approximate, exact_text
from precsim.rounding.modes import EvenRule, RoundingMode, StochasticVariant, SubnormalMode
from precsim.rounding.neighbours import neighbours_exact
from precsim.rounding.oracle import Flags, round_exact, ulp_exact
from precsim.rounding.spec import RoundingSpec

_TIES = {
    RoundingMode.TIES_TO_EVEN: "the even one",
    RoundingMode.TIES_TO_ODD: "the odd one",
    RoundingMode.TIES_TO_AWAY: "the one away from zero",
    RoundingMode.TIES_TO_ZERO: "the one toward zero",
    RoundingMode.TIES_TO_POSITIVE: "the upper one",
    RoundingMode.TIES_TO_NEGATIVE: "the lower one",
}
_DIRECTED = {
    RoundingMode.TOWARD_ZERO: "the one toward zero",
    RoundingMode.AWAY_FROM_ZERO: "the one away from zero",
    RoundingMode.TOWARD_POSITIVE: "the upper one",
    RoundingMode.TOWARD_NEGATIVE: "the lower one",
    RoundingMode.TO_ODD: "the odd one",
}
_FLUSHING = (
    SubnormalMode.FLUSH_AFTER_ROUNDING,
    SubnormalMode.FLUSH_BEFORE_ROUNDING,
    SubnormalMode.FLUSH_TINY,
    SubnormalMode.FLUSH_AS_CHOP,
)


def explain_rounding(
    exact: Fraction | float, spec: RoundingSpec, random_bits: int = 0, flags: Flags = Flags.NONE
) -> Rounding:
    """Round a number, and say why it became what it became.

    Parameters
    ----------
    exact : Fraction or float
        The number; a float only for -0, infinity and NaN.
    spec : RoundingSpec
        Format and rule.
    random_bits : int
        R of mode sr.
    flags : Flags
        The exceptions that the operation signals before it rounds.

    Returns
    -------
    Rounding
        The value is that of `round_exact`.

    Examples
    --------
    >>> explain_rounding(Fraction(9, 16), RoundingSpec.parse("e2m1")).reason
    'nearer to the lower one, 0.125 of the way'
    """
    value, raised = round_exact(exact, spec, random_bits=random_bits)
    below = above = position = None
    is_same = value == exact or (isinstance(exact, float) and math.isnan(exact))
    if not is_same:
        below, above = neighbours_exact(exact, spec)
    if below is not None and above is not None and math.isfinite(below) and math.isfinite(above):
        position = (Fraction(exact) - Fraction(below)) / (Fraction(above) - Fraction(below))
    rounding = Rounding(
        spec=str(spec),
        exact=exact,
        value=value,
        bits=code_bits(value, spec.format),
        below=below,
        above=above,
        below_bits="" if below is None else code_bits(below, spec.format),
        above_bits="" if above is None else code_bits(above, spec.format),
        position=position,
        is_tie=position == Fraction(1, 2),
        reason="",
        flags=tuple(_names(raised | flags)),
    )
    return replace(rounding, reason=_reason(rounding, spec, random_bits, raised, flags))


def code_bits(value: float, fmt: Format) -> str:
    """Return the fields of a value's code; empty where there is none."""
    if fmt.width is None or (math.isnan(value) and not fmt.has_nan):
        return ""
    return " ".join(field.bits for field in fields_of(encode_exact(value, fmt), fmt))


def _names(flags: Flags) -> list[str]:
    return [flag.name.lower().replace("_", " ") for flag in Flags if flag in flags and flag.name]


def _reason(
    rounding: Rounding, spec: RoundingSpec, random_bits: int, raised: Flags, before: Flags
) -> str:
    fmt: Format = spec.format
    value = rounding.value
    if Flags.INVALID in before:
        return "the operation has no result: NaN"
    if Flags.DIVIDE_BY_ZERO in before:
        gives = f"a division by zero gives {exact_text(rounding.exact)}"
        return gives if rounding.is_exact else f"{gives}; {_of_special(rounding, spec)}"
    if isinstance(rounding.exact, float) and not math.isfinite(rounding.exact):
        return _of_special(rounding, spec)
    if Flags.INVALID in raised:
        return f"{fmt.name} has no such value; it becomes {_plain(value)}"
    if Flags.OVERFLOW in raised:
        return _overflow(rounding, spec)
    if value == rounding.exact:
        return "exact"
    if isinstance(fmt, FloatFormat) and spec.subnormals in _FLUSHING and _is_tiny(rounding, fmt):
        return f"below the smallest normal value; {spec.subnormals} makes it {exact_text(value)}"
    if rounding.position is not None:
        return _between(rounding, spec, random_bits)
    if (following := _after_end(rounding, fmt)) is None:
        return f"the nearest value of {fmt.name}"
    sides = sorted((Fraction(value), following))
    position = (Fraction(rounding.exact) - sides[0]) / (sides[1] - sides[0])
    above = value if value > following else None
    placed = replace(rounding, above=above, position=position, is_tie=position == Fraction(1, 2))
    way = _between(placed, spec, random_bits)
    return f"beyond the last value, where the next would be {exact_text(following)}: {way}"


def _of_special(rounding: Rounding, spec: RoundingSpec) -> str:
    """Say what becomes of an infinity or NaN, and which rule makes it that."""
    given, value, name = exact_text(rounding.exact), rounding.value, spec.format.name
    if rounding.is_exact:
        return f"{exact_text(rounding.exact)} stays"
    if math.isnan(rounding.exact) and math.isnan(value):
        return f"{name} has no NaN, so that it stands outside the format"
    became = f"{given} is not in {name} and becomes {_plain(value)}"
    if math.isfinite(value) and math.isinf(rounding.exact):
        return f"{became}, the end of the range ({spec.overflow})"
    return became


def _is_tiny(rounding: Rounding, fmt: FloatFormat) -> bool:
    return abs(Fraction(rounding.exact)) < Fraction(fmt.min_normal)


def _after_end(rounding: Rounding, fmt: Format) -> Fraction | None:
    """Return where a value would follow the last one; None for a number that is not between."""
    if isinstance(fmt, FixedPointFormat):
        end = Fraction(fmt.min_value if rounding.exact < 0 else fmt.max_value)
        gap = Fraction(fmt.resolution)
    else:
        end = Fraction(-fmt.max_finite if rounding.exact < 0 else fmt.max_finite)
        gap = Fraction(ulp_exact(end, fmt))
    following = end - gap if rounding.exact < 0 else end + gap
    is_between = min(end, following) < rounding.exact < max(end, following)
    return following if rounding.value == end and is_between else None


def _plain(value: float) -> str:
    """Write a value; NaN without a sign."""
    return "NaN" if math.isnan(value) else exact_text(value)


def _overflow(rounding: Rounding, spec: RoundingSpec) -> str:
    fmt: Format = spec.format
    is_negative = rounding.exact < 0
    if isinstance(fmt, FixedPointFormat):
        largest = fmt.min_value if is_negative else fmt.max_value
    else:
        largest = -fmt.max_finite if is_negative else fmt.max_finite
    became = f"makes it {_plain(rounding.value)}"
    if rounding.value == largest:
        became = "takes the end"
    rule = spec.overflow if spec.mode.is_nearest else f"{spec.mode}, {spec.overflow},"
    end = exact_text(largest)
    return f"beyond the range, which ends at {end}, also after rounding; {rule} {became}"


def _between(rounding: Rounding, spec: RoundingSpec, random_bits: int) -> str:
    """Say which of the two neighbours was taken, and by which rule."""
    side = "the upper one" if rounding.value == rounding.above else "the lower one"
    assert rounding.position is not None
    way = f"{approximate(rounding.position)} of the way"
    if spec.mode is RoundingMode.STOCHASTIC:
        return _random(rounding, spec, random_bits, side)
    if spec.mode.is_nearest:
        if not rounding.is_tie:
            return f"nearer to {side}, {way}"
        rule = _TIES[spec.mode]
        which = _parity(spec) if spec.mode in _PARITIES else ""
        return f"half way, a tie: {spec.mode} takes {rule}{which}"
    which = _parity(spec) if spec.mode in _PARITIES else ""
    return f"{way}; {spec.mode} takes {_DIRECTED[spec.mode]}{which}"


_PARITIES = {
    RoundingMode.TIES_TO_EVEN: "even",
    RoundingMode.TIES_TO_ODD: "odd",
    RoundingMode.TO_ODD: "odd",
}


def _parity(spec: RoundingSpec) -> str:
    """Say what even or odd means here."""
    bit = 0 if _PARITIES[spec.mode] == "even" else 1
    if isinstance(spec.format, FixedPointFormat) or spec.format.precision > 1:
        return f", whose last bit is {bit}"
    return f" by its {'code' if spec.even is EvenRule.CODE else 'significand'}"


def _random(rounding: Rounding, spec: RoundingSpec, random_bits: int, side: str) -> str:
    """Say how the random bits decided, in units of 2**-N of the gap."""
    assert rounding.position is not None
    scale = 1 << spec.num_random_bits
    is_negative = rounding.exact < 0
    part = (1 - rounding.position if is_negative else rounding.position) * scale
    match spec.stochastic_variant:
        case StochasticVariant.A:
            counted = math.floor(part)
        case StochasticVariant.B:
            counted = math.floor(part + Fraction(1, 2))
        case StochasticVariant.C:
            counted = round(part)
    draw = random_bits % scale
    relation = "at least" if counted + draw >= scale else "less than"
    return (
        f"{counted} of {scale} parts of the way from zero; with the random integer {draw} that is "
        f"{counted + draw}, {relation} {scale}: it takes {side}"
    )
