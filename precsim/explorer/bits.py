"""One number in one format, one code, and every rule of rounding."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from precsim.analysis.walking.reasons import explain_rounding
from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.said import Number, coded, rounded, short, shown
from precsim.formats.fields import check_fields, derivation, fields_of, parse_code
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.oracle import decode_exact
from precsim.formats.written import exact_text
from precsim.rounding.modes import RoundingMode
from precsim.rounding.neighbours import neighbours_exact
from precsim.rounding.oracle import round_exact, ulp_exact
from precsim.rounding.spec import RoundingSpec


def number(asked: Asked) -> dict[str, Any]:
    """Say what a number becomes in a format, under a rule."""
    spec, exact = _spec(asked), read.number(asked)
    said = rounded(exact, spec, read.whole(asked, "random_bits", 0, 0, 2**32 - 1))
    said["why"] = why(exact, spec)
    return {"given": exact_text(exact), **said, **_around(said, exact, spec)}


def why(exact: Number, spec: RoundingSpec) -> str:
    """Say why a number becomes what it becomes."""
    return explain_rounding(exact, spec).reason


def code(asked: Asked) -> dict[str, Any]:
    """Say what a code means in a format."""
    spec = _spec(asked)
    fmt: Format = spec.format
    given = read.text(asked, "code")
    try:
        pattern, widths = parse_code(given)
        check_fields(widths, fmt)
    except ValueError as error:  # named as the command's option
        raise ValueError(str(error).removeprefix("--")) from None
    if pattern >> (fmt.width or 0):
        raise ValueError(f"code has more bits than {fmt}; allowed are {fmt.width}")
    said = coded(pattern, fmt)
    value = decode_exact(pattern, fmt)
    return {"given": None, **said, "flags": [], **_around(said, value, spec)}


def _spec(asked: Asked) -> RoundingSpec:
    read.number_format(asked)
    return read.spec(asked)


def _around(said: dict[str, Any], exact: Number, spec: RoundingSpec) -> dict[str, Any]:
    """Say how a value follows, what its neighbours are, and what its format has."""
    fmt: Format = spec.format
    sides = neighbours_exact(exact, spec)
    pattern = None if said["code"] is None else int(said["code"], 16)
    value = None if pattern is None else decode_exact(pattern, fmt)
    return {
        "spec": str(spec),
        "name": str(fmt),
        "size": size(fmt),
        "shown": said["short"] if value is None else shown(value),
        "means": {} if pattern is None else _meanings(pattern, fmt),
        "derivation": "" if pattern is None else derivation(pattern, fmt),
        "neighbours": [None if side is None else shown(side) for side in sides],
        "ulp": shown(ulp_exact(exact, fmt)),
        "facts": facts(fmt),
    }


def _meanings(pattern: int, fmt: Format) -> dict[str, str]:
    """Say what each field of a code stands for; nothing where none stands for itself.

    Examples
    --------
    >>> from precsim.formats.registry import get_format
    >>> _meanings(0xBC, get_format("e4m3"))
    {'sign': '-', 'exponent': '2^0', 'trailing significand': '1.100'}
    """
    if isinstance(fmt, FixedPointFormat) or not math.isfinite(decode_exact(pattern, fmt)):
        return {}
    bits = {field.name: field.bits for field in fields_of(pattern, fmt)}
    exponent, trailing = bits["exponent"], bits.get("trailing significand", "")
    whole, last = fmt.magnitude(int(exponent + trailing, 2))
    lead = whole >> (fmt.precision - 1)
    said = {
        "sign": "-" if bits.get("sign") == "1" else "+",
        "exponent": f"2^{last + fmt.precision - 1}",
        "trailing significand": f"{lead}.{trailing}",
    }
    return {name: text for name, text in said.items() if name in bits}


def size(fmt: Format) -> str:
    """Say how large a format is."""
    if isinstance(fmt, FixedPointFormat):
        return f"{fmt.width} bits, {fmt.fraction_bits} of them after the point"
    return f"{fmt.width} bits, precision {fmt.precision}, bias {fmt.bias}"


def facts(fmt: Format) -> list[list[str]]:
    """Return the facts of a format, each a name and a text."""
    if isinstance(fmt, FixedPointFormat):
        ends = [["smallest value", short(fmt.min_value)], ["largest value", short(fmt.max_value)]]
        return [*ends, ["step", short(fmt.resolution)]]
    known = [
        ["largest value", short(fmt.max_finite)],
        ["smallest normal", short(fmt.min_normal)],
        ["smallest positive", short(fmt.min_subnormal)],
        ["unit roundoff", f"2^-{fmt.precision}"],
        ["exponents", f"{fmt.emin} to {fmt.emax}"],
    ]
    words = {"infinity": fmt.has_infinity, "NaN": fmt.has_nan, "-0": fmt.has_negative_zero}
    return [*known, ["besides numbers", ", ".join(w for w, has in words.items() if has) or "none"]]


def roundings(asked: Asked) -> dict[str, Any]:
    """Say what a number becomes under every mode, overflow rule and subnormal rule."""
    spec, exact = _spec(asked), read.number(asked)
    return {"given": exact_text(exact), "spec": str(spec), "rows": list(outcomes(exact, spec))}


def outcomes(exact: Number, spec: RoundingSpec) -> Iterator[dict[str, Any]]:
    """Yield what a number becomes under each rule that the format has.

    Examples
    --------
    >>> rows = outcomes(Fraction(5, 2), RoundingSpec.parse("q7.0"))
    >>> [(row["name"], row["value"]) for row in rows][:3]
    [('rne', '2'), ('rna', '3'), ('rnz', '2')]
    """
    for part, kind in read.RULE.items():
        for member in kind:
            try:
                changed = read.with_rule(spec, {part: member})
            except ValueError:  # the format has no such rule
                continue
            row = {
                "part": part,
                "name": str(member),
                "label": member.name.lower().replace("_", " "),
                "is_chosen": getattr(spec, part) is member,
                **rounded(exact, changed),
                "why": why(exact, changed),
            }
            if member is RoundingMode.STOCHASTIC:
                row |= _by_chance(exact, changed)
            yield row


def _by_chance(exact: Number, spec: RoundingSpec) -> dict[str, Any]:
    """Say what else a stochastic rounding gives, and for how many of its random integers."""
    count = 1 << spec.num_random_bits
    first = round_exact(exact, spec).value
    last = round_exact(exact, spec, random_bits=count - 1).value
    if first == last or math.isnan(first):
        return {"also": None}
    low, high = 0, count - 1  # `low` gives the first value, `high` the last one
    while high - low > 1:
        middle = (low + high) // 2
        if round_exact(exact, spec, random_bits=middle).value == first:
            low = middle
        else:
            high = middle
    share = Fraction(100 * (count - high), count)
    chance = f"{float(share):.4g} %: {count - high} of {count} random integers"
    return {"also": {**rounded(exact, spec, count - 1), "chance": chance}}
