"""`precsim show`: one number in several formats, with nothing hidden."""

import argparse
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from rich.text import Text

from precsim.cli.formats import facts
from precsim.cli.number import approximate, exact_decimal, hex_float, parse_number
from precsim.cli.output import PlainConsole
from precsim.formats.carrier import FLOAT64
from precsim.formats.codec import encode
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.oracle import Flags, round_exact
from precsim.rounding.spec import RoundingSpec
from precsim.rounding.ulp import ulp

DEFAULT_FORMATS = ("fp32", "fp16", "bf16", "e4m3")
FIELD_STYLES = {
    "sign": "bold red",
    "exponent": "green",
    "significand": "cyan",
    "integer": "green",
    "fraction": "cyan",
}


class Field(NamedTuple):
    """A named part of a code."""

    name: str
    bits: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `precsim show`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    """
    parser.add_argument(
        "value",
        metavar="VALUE",
        help="decimal (3.14, -1e-3), hexadecimal float (0x1.8p-3), fraction (1/3), inf or nan; "
        "it is taken exactly and rounded once. The name of a format alone prints its facts",
    )
    parser.add_argument(
        "formats",
        metavar="FORMAT",
        nargs="*",
        default=list(DEFAULT_FORMATS),
        help="format and rule, FORMAT[:MODE][:OVERFLOW][:SUBNORMALS], for example e4m3:rtz:saturate "
        f"(default: {' '.join(DEFAULT_FORMATS)})",
    )
    parser.add_argument(
        "--random-bits",
        metavar="R",
        type=int,
        default=0,
        help="the random integer of mode sr (default: 0, which truncates)",
    )


def run(args: argparse.Namespace) -> int:
    """Print a number in each format, or the facts of a format.

    Parameters
    ----------
    args : argparse.Namespace
        `value`, `formats` and `random_bits`.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If the number or a format cannot be read.
    """
    if args.formats == list(DEFAULT_FORMATS) and is_format(args.value):
        for label, content in facts(get_format(args.value)):
            print(f"{label:<18}{content}")
        return 0
    exact = parse_number(args.value)
    specs = [RoundingSpec.parse(text) for text in args.formats]
    sections = [describe(exact, spec, args.random_bits) for spec in specs]
    console = PlainConsole(highlight=False, wraps=False)
    console.print(_heading(args.value.strip(), exact))
    for section in sections:
        console.print()
        console.print(section)
    return 0


def is_format(text: str) -> bool:
    """Return whether a text names a format.

    Parameters
    ----------
    text : str
        What stands in the place of a number.

    Returns
    -------
    bool
        False also for a name that is close to one.

    Examples
    --------
    >>> is_format("mxfp4"), is_format("1/3")
    (True, False)
    """
    try:
        get_format(text)
    except ValueError:
        return False
    return True


def describe(exact: Fraction | float, spec: RoundingSpec, random_bits: int = 0) -> Text:
    """Return all that there is to say about a number in a format.

    Parameters
    ----------
    exact : Fraction or float
        The number; a float only for -0, infinity and NaN.
    spec : RoundingSpec
        Format and rule.
    random_bits : int
        R of mode "sr".

    Returns
    -------
    rich.text.Text
        Lines, the bits coloured by field.

    Raises
    ------
    ValueError
        If float64 cannot hold the format, or the number, in a format of unlimited range.

    Examples
    --------
    >>> print(describe(Fraction(500), RoundingSpec.parse("e4m3:saturate")).plain)
    e4m3:saturate: 8 bits, precision 4
      bits        0 1111 110  (sign, exponent, significand)
      code        0x7e
      value       448
      hex float   0x1.cp+8
      exact       no
      error       52 absolute, 0.104 relative, 1.625 ulp
      neighbours  448 below, none above
      flags       inexact, overflow
    """
    fmt = spec.format
    refuse_scaled(fmt, "format")
    _refuse_unlimited(exact, fmt)
    value, flags = round_exact(exact, spec, random_bits=random_bits)
    fields = _fields(value, fmt)
    text = Text(f"{spec}: {_size(fmt)}\n", style="")
    text.stylize("bold", 0, len(str(spec)))
    text.append_text(_line("bits", _bits(fields, fmt)))
    if fields:
        code = int("".join(f.bits for f in fields), 2)
        digits = -(-sum(len(f.bits) for f in fields) // 4)
        text.append_text(_line("code", f"0x{code:0{digits}x}"))
    text.append_text(_line("value", exact_decimal(value)))
    text.append_text(_line("hex float", hex_float(value)))
    is_exact = _same(value, exact) and _has(value, fmt)
    text.append_text(_line("exact", "yes" if is_exact else "no"))
    text.append_text(_line("error", _error(value, exact, fmt)))
    text.append_text(_line("neighbours", _neighbours(exact, spec)))
    raised = [flag.name.lower().replace("_", " ") for flag in Flags if flag in flags and flag.name]
    text.append_text(_line("flags", ", ".join(raised) or "none"))
    text.right_crop(1)
    return text


def _heading(given: str, exact: Fraction | float) -> str:
    if isinstance(exact, float) or exact.denominator == 1 or str(exact) == given:
        return given
    return f"{given} = {exact}" if len(str(exact)) <= 60 else given


def _line(label: str, content: str | Text) -> Text:
    return Text(f"  {label:<12}").append_text(Text("") + content).append("\n")


def _size(fmt: Format) -> str:
    if isinstance(fmt, FixedPointFormat):
        return f"{fmt.width} bits, step {exact_decimal(fmt.resolution)}"
    if fmt.width is None:
        return f"unlimited exponent range, precision {fmt.precision}"
    return f"{fmt.width} bits, precision {fmt.precision}"


def _refuse_unlimited(exact: Fraction | float, fmt: Format) -> None:
    """Refuse what float64 cannot hold, since the result is returned in it."""
    if not fmt.fits(FLOAT64):
        raise ValueError(f"format {fmt} has values that float64 has not; show cannot take it")
    is_limited = isinstance(fmt, FixedPointFormat) or fmt.exponent_bits is not None
    if is_limited or isinstance(exact, float) or exact == 0:
        return
    if not Fraction(2) ** -1022 <= abs(exact) <= Fraction(2) ** 1023:
        raise ValueError(
            f"the number is outside float64's normal range; for {fmt} it has to be inside"
        )


def _fields(value: float, fmt: Format) -> list[Field]:
    """Split the code of a value; none without a width, or for a NaN that the format lacks."""
    if fmt.width is None or not _has(value, fmt):
        return []
    bits = f"{int(encode(np.float64(value), fmt)):0{fmt.width}b}"
    if isinstance(fmt, FixedPointFormat):
        sizes = {"sign": fmt.is_signed, "integer": max(fmt.integer_bits, 0)}
        sizes["fraction"] = fmt.width - sum(sizes.values())
    else:
        sizes = {"sign": fmt.is_signed, "exponent": fmt.exponent_bits or 0}
        sizes["significand"] = fmt.precision - 1
    fields, start = [], 0
    for name, size in sizes.items():
        if size:
            fields.append(Field(name, bits[start : start + size]))
        start += size
    return fields


def _has(value: float, fmt: Format) -> bool:
    """Return whether a result is in the format; NaN may stand outside."""
    return not math.isnan(value) or (not isinstance(fmt, FixedPointFormat) and fmt.has_nan)


def _same(value: float, exact: Fraction | float) -> bool:
    return value == exact or (math.isnan(value) and isinstance(exact, float) and math.isnan(exact))


def _bits(fields: list[Field], fmt: Format) -> Text:
    if not fields:
        why = "unlimited exponent range" if fmt.width is None else "the format has no NaN"
        return Text(f"none ({why})")
    separator = Text(" ")
    bits = separator.join(Text(f.bits, style=FIELD_STYLES[f.name]) for f in fields)
    names = Text(", ").join(Text(f.name, style=FIELD_STYLES[f.name]) for f in fields)
    return bits + "  (" + names + ")"


def _error(value: float, exact: Fraction | float, fmt: Format) -> str:
    if not math.isfinite(value) or not (isinstance(exact, Fraction) or math.isfinite(exact)):
        return "none" if _same(value, exact) else "not finite"
    exact = Fraction(exact)
    error = abs(Fraction(value) - exact)
    if not error:
        return "none"
    # Truncated to float64 the number stays in its binade, so its ulp is the right one.
    unit = Fraction(float(ulp(round_exact(exact, "fp64:rtz").value, fmt)))
    relative = approximate(error / abs(exact)) if exact else "infinite"
    in_ulps = approximate(error / unit)
    return f"{approximate(error)} absolute, {relative} relative, {in_ulps} ulp"


def _neighbours(exact: Fraction | float, spec: RoundingSpec) -> str:
    """Name the nearest other values of the format on both sides."""
    fmt = spec.format
    if isinstance(exact, float) and not math.isfinite(exact):
        return "none"
    exact = Fraction(exact)
    # Less than any gap beside the number, so that a value of the format is not its own neighbour.
    nudge = abs(exact) / 2**60
    if not exact:
        if not isinstance(fmt, FixedPointFormat) and fmt.exponent_bits is None:
            return "none"
        least = fmt.resolution if isinstance(fmt, FixedPointFormat) else fmt.min_subnormal
        nudge = Fraction(least) / 2
    subnormals = SubnormalMode.GRADUAL
    if spec.subnormals is not SubnormalMode.GRADUAL:
        subnormals = SubnormalMode.NEAREST_OF_ZERO_AND_MIN
    is_value = round_exact(exact, RoundingSpec(format=fmt, subnormals=subnormals)).value == exact
    found = []
    for side, mode in ((-1, RoundingMode.TOWARD_NEGATIVE), (1, RoundingMode.TOWARD_POSITIVE)):
        start = exact + side * nudge if is_value else exact
        directed = RoundingSpec(format=fmt, mode=mode, subnormals=subnormals)
        value, lowest = round_exact(start, directed).value, _lowest_unsigned(fmt)
        value = lowest if math.isnan(value) else max(value, lowest)
        is_beside = value >= start if side == 1 else value <= start
        found.append(_short(value) if is_beside else "none")
    return f"{found[0]} below, {found[1]} above"


def _lowest_unsigned(fmt: Format) -> float:
    """Return the least value of an unsigned format, minus infinity for a signed one."""
    if fmt.is_signed:
        return -math.inf
    return 0.0 if isinstance(fmt, FixedPointFormat) or fmt.has_zero else fmt.min_normal


def _short(value: float) -> str:
    """Write a value exactly, in hexadecimal if its decimal digits are many."""
    text = exact_decimal(value)
    return text if len(text) <= 40 else hex_float(value)
