"""`precsim show`: one number, or one code, in several formats, with nothing hidden."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from precsim.cli import scaled
from precsim.cli.code import (
    Field,
    decode_exactly,
    derivation,
    encode_exactly,
    fields_of,
    floor_log2,
    parse_code,
    shortened,
)
from precsim.cli.formats import NOTES, facts, kind_of
from precsim.cli.number import CONSTANTS, approximate, exact_decimal, hex_float, parse_number
from precsim.cli.output import Row, print_rows, print_words
from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT64
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.oracle import Flags, round_exact
from precsim.rounding.spec import RoundingSpec

DEFAULT_FORMATS = ("fp32", "fp16", "bf16", "e4m3")
FIELD_STYLES = {
    "sign": "1;31",
    "exponent": "32",
    "trailing significand": "36",
    "integer": "32",
    "fraction": "36",
}
"""Field -> its colour on a terminal, as the numbers of an escape sequence."""

_EPILOG = """\
examples:
  precsim show 0.1                    in fp32, fp16, bf16 and e4m3
  precsim show 1+2**-11 fp16          a tie: it goes to the even neighbour
  precsim show 500 e4m3 e4m3:saturate what becomes of a number that is too large
  precsim show --code 0x3c00 fp16     from bits to value
  precsim show 0.1 mxfp4              a block format: element and scale
  precsim show e4m3                   the facts of a format"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What there is to say about a number in a format.

    Parameters
    ----------
    spec : str
        Format and rule.
    size : str
        Bits and precision of the format, in words.
    fields : tuple of Field
        The code, split; empty for a value without a code.
    code : int, optional
        The code.
    value : float
        What the number became.
    derivation : str
        How the value follows from the fields; empty without a code.
    is_exact : bool
        Whether the number is in the format.
    error : tuple of str
        Absolute, relative and in ulp; empty if there is none.
    below, above : float, optional
        The nearest other values of the format.
    flags : tuple of str, optional
        Exceptions of IEEE 754 that the rounding signals; None where nothing was rounded.
    """

    spec: str
    size: str
    fields: tuple[Field, ...]
    code: int | None
    value: float
    derivation: str
    is_exact: bool
    error: tuple[str, ...]
    below: float | None
    above: float | None
    flags: tuple[str, ...] | None

    @property
    def code_text(self) -> str | None:
        """The code in hexadecimal, with all its digits; None without a code."""
        if self.code is None:
            return None
        return f"0x{self.code:0{-(-sum(len(f.bits) for f in self.fields) // 4)}x}"

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints: exact numbers are strings."""
        names = ("absolute", "relative", "ulp")
        sides = (None if side is None else exact_decimal(side) for side in (self.below, self.above))
        return {
            "format": self.spec,
            "size": self.size,
            "bits": {field.name: field.bits for field in self.fields} or None,
            "code": self.code_text,
            "value": exact_decimal(self.value),
            "hex_float": hex_float(self.value),
            "derivation": self.derivation or None,
            "is_exact": self.is_exact,
            "error": dict(zip(names, self.error, strict=True)) if self.error else None,
            "neighbours": dict(zip(("below", "above"), sides, strict=True)),
            "flags": list(self.flags or ()),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `precsim show`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "words",
        metavar="VALUE FORMAT",
        nargs="*",
        help="VALUE is a decimal (3.14, -1e-3), a hexadecimal float (0x1.8p-3), pi, e, inf, nan, or a "
        "formula (1/3, 2**-24, 1+2**-11); it is taken exactly and rounded once. Each FORMAT may name "
        "a rule, FORMAT[:MODE][:OVERFLOW][:SUBNORMALS], for example e4m3:rtz:saturate "
        f"(default: {' '.join(DEFAULT_FORMATS)}). The name of a format alone prints its facts",
    )
    parser.add_argument(
        "--code",
        metavar="BITS",
        help="show what these bits mean, instead of VALUE: 0x3c00, 0b0011, or fields in quotes "
        "(default formats: those of the defaults with as many bits as are written)",
    )
    parser.add_argument(
        "--random-bits",
        metavar="R",
        type=int,
        default=0,
        help="the random integer of mode sr (default: 0, which truncates)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON; exact numbers are strings")


def run(args: argparse.Namespace) -> int:
    """Print a number in each format, what a code means, or the facts of a format.

    Parameters
    ----------
    args : argparse.Namespace
        `words`, `code`, `random_bits` and `json`.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If the number, the code or a format cannot be read.
    """
    if args.code is not None:
        return _show_code(args)
    if not args.words:
        raise ValueError("the following arguments are required: VALUE (see precsim show --help)")
    given, *formats = args.words
    if not formats and is_format(given):
        return _show_facts(given, is_json=args.json)
    if formats and is_format(given):
        raise ValueError(f"VALUE is {given!r}, a format; allowed are numbers, then formats")
    exact = parse_number(given)
    specs = [RoundingSpec.parse(text) for text in formats or DEFAULT_FORMATS]
    shown = [describe(exact, spec, args.random_bits) for spec in specs]
    if args.json:
        said = str(exact) if isinstance(exact, float) or _is_short(exact) else None
        return _print_json({"given": given.strip(), "exact": said}, shown)
    print_words(_heading(given.strip(), exact))
    _print_sections(shown)
    return 0


def _show_code(args: argparse.Namespace) -> int:
    code, width = parse_code(args.code)
    names = args.words or [n for n in DEFAULT_FORMATS if get_format(n).width == width]
    if not names:
        raise ValueError(f"--code {args.code[:40]} needs a FORMAT, for example fp16")
    shown = [describe_code(code, RoundingSpec.parse(name)) for name in names]
    if args.json:
        return _print_json({"given": args.code.strip(), "exact": None}, shown)
    print_words(f"code {args.code.strip()[:60]}")
    _print_sections(shown)
    return 0


def _show_facts(name: str, *, is_json: bool) -> int:
    fmt = get_format(name)
    if is_json:
        print(json.dumps(dict(facts(fmt)), indent=2))
        return 0
    print_rows(list(facts(fmt)), indent=0, label=18)
    print()
    kind = kind_of(fmt)
    print_words(NOTES[kind] if kind in ("float", "fixed") else scaled.explanation(fmt))
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


def describe(
    exact: Fraction | float, spec: RoundingSpec, random_bits: int = 0
) -> "Shown | scaled.ShownScaled":
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
    Shown or ShownScaled
        Of a block or affine format, the number in a block of its own.

    Raises
    ------
    ValueError
        If float64 cannot hold the format, or the number, in a format of unlimited range.

    Examples
    --------
    >>> shown = describe(Fraction(500), RoundingSpec.parse("e4m3:saturate"))
    >>> shown.value, shown.error
    (448.0, ('52', '0.104', '1.625'))
    >>> shown.derivation
    '(-1)**0 * 2**(15-7) * 1.110b = 448'
    """
    fmt = spec.format
    if isinstance(fmt, (BlockFormat, AffineFormat)):
        return scaled.describe(exact, spec, random_bits)
    _refuse_unlimited(exact, fmt)
    value, flags = round_exact(exact, spec, random_bits=random_bits)
    if isinstance(exact, float) and math.isnan(exact) and math.isnan(value) and _has_two_nans(fmt):
        value = math.copysign(value, exact)
    code = None if fmt.width is None or not _has(value, fmt) else encode_exactly(value, fmt)
    raised = (flag.name.lower().replace("_", " ") for flag in Flags if flag in flags and flag.name)
    return _shown(spec, code, value, exact, tuple(raised))


def describe_code(code: int, spec: RoundingSpec) -> Shown:
    """Return all that there is to say about a code.

    Parameters
    ----------
    code : int
        Bits.
    spec : RoundingSpec
        Its format.

    Returns
    -------
    Shown
        What `describe` says about the value of the code, with this code.

    Raises
    ------
    ValueError
        If the format has no such code.

    Examples
    --------
    >>> describe_code(0x3C00, RoundingSpec.parse("fp16")).value
    1.0
    """
    fmt = spec.format
    if kind_of(fmt) in ("block", "affine"):
        raise ValueError(
            f"--code is given for {fmt}; allowed are formats of single numbers ({scaled.parts(fmt)})"
        )
    if fmt.width is None or not fmt.fits(FLOAT64):
        raise ValueError(f"format {fmt} has no codes, or values that float64 has not")
    if code >> fmt.width:
        raise ValueError(
            f"--code has more bits than {fmt}; allowed are 0 to {(1 << fmt.width) - 1:#x}"
        )
    exact = decode_exactly(code, fmt)
    return _shown(spec, code, float(exact), exact, None)


def _shown(
    spec: RoundingSpec,
    code: int | None,
    value: float,
    exact: Fraction | float,
    flags: tuple[str, ...] | None,
) -> Shown:
    fmt: Format = spec.format
    below, above = _neighbours(exact, spec)
    return Shown(
        spec=str(spec),
        size=_size(fmt),
        fields=() if code is None else fields_of(code, fmt),
        code=code,
        value=value,
        derivation="" if code is None else derivation(code, fmt),
        is_exact=_same(value, exact) and _has(value, fmt),
        error=_error(value, exact, fmt),
        below=below,
        above=above,
        flags=flags,
    )


def rows(shown: Shown) -> list[Row]:
    """Return the lines of a section: a label, and words with the colour of their field."""
    bits = [(field.bits, FIELD_STYLES[field.name]) for field in shown.fields]
    lines: list[Row] = [("bits", bits + _names(shown.fields) if bits else "none for this value")]
    if shown.code is not None:
        lines += [("code", str(shown.code_text)), ("derived", shown.derivation)]
    lines += [("value", shortened(shown.value)), ("hex float", hex_float(shown.value))]
    if shown.flags is not None:
        error = "none" if shown.is_exact else "not finite"
        if shown.error:
            error = "{} absolute, {} relative, {} ulp".format(*shown.error)
        lines += [("exact", "yes" if shown.is_exact else "no"), ("error", error)]
    below, above = (_short(side) for side in (shown.below, shown.above))
    lines.append(("neighbours", f"{below} below, {above} above"))
    if shown.flags is not None:
        lines.append(("flags", ", ".join(shown.flags) or "none"))
    return lines


def _names(fields: Sequence[Field]) -> list[tuple[str, str]]:
    """Return the words "(sign, exponent, trailing significand)", in the colours of the fields."""
    words = []
    for k, field in enumerate(fields):
        text = f"{'' if k else '('}{field.name}{')' if k == len(fields) - 1 else ','}"
        words += [(word, FIELD_STYLES[field.name]) for word in text.split()]
    return words


def _print_sections(shown: Sequence["Shown | scaled.ShownScaled"]) -> None:
    for each in shown:
        print()
        print_words(f"{each.spec}: {each.size}", first="1")
        print_rows(rows(each) if isinstance(each, Shown) else scaled.rows(each))


def _print_json(about: dict[str, Any], shown: Sequence["Shown | scaled.ShownScaled"]) -> int:
    print(json.dumps(about | {"formats": [each.as_dict() for each in shown]}, indent=2))
    return 0


def _heading(given: str, exact: Fraction | float) -> str:
    if len(given) > 60:
        return f"{given[:40]}... ({len(given)} characters)"
    if given.lower().lstrip("+-") in CONSTANTS:
        return f"{given} = {float(exact)!r}..., taken to 100 digits"
    is_said = isinstance(exact, float) or exact.denominator == 1 or not _is_short(exact)
    return given if is_said or str(exact) == given else f"{given} = {exact}"


def _is_short(exact: Fraction) -> bool:
    return exact.numerator.bit_length() + exact.denominator.bit_length() <= 190


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


def _has(value: float, fmt: Format) -> bool:
    """Return whether a result is in the format; NaN may stand outside."""
    return not math.isnan(value) or fmt.has_nan


def _has_two_nans(fmt: Format) -> bool:
    """Return whether a format keeps the sign of NaN."""
    return fmt.is_signed and fmt.has_nan and not getattr(fmt, "nan_replaces_negative_zero", False)


def _same(value: float, exact: Fraction | float) -> bool:
    return value == exact or (math.isnan(value) and isinstance(exact, float) and math.isnan(exact))


def _error(value: float, exact: Fraction | float, fmt: Format) -> tuple[str, ...]:
    """Return the absolute and relative error, and that in ulp; nothing if one is not finite."""
    if not math.isfinite(value) or (isinstance(exact, float) and not math.isfinite(exact)):
        return ()
    exact = Fraction(exact)
    error = abs(Fraction(value) - exact)
    if not error:
        return ()
    relative = approximate(error / abs(exact)) if exact else "infinite"
    return approximate(error), relative, approximate(error / _ulp(abs(exact), fmt))


def _ulp(magnitude: Fraction, fmt: Format) -> Fraction:
    """Return what `ulp` returns, in exact arithmetic."""
    if isinstance(fmt, FixedPointFormat):
        return Fraction(2) ** -fmt.fraction_bits
    if fmt.exponent_bits is None:
        return Fraction(2) ** (floor_log2(magnitude) - fmt.precision + 1)
    exponent = min(floor_log2(magnitude), fmt.emax) if magnitude else fmt.emin - 1
    if exponent < fmt.emin and not fmt.has_subnormals:
        return Fraction(2) ** fmt.emin
    return Fraction(2) ** (max(exponent, fmt.emin) - fmt.precision + 1)


def _neighbours(exact: Fraction | float, spec: RoundingSpec) -> tuple[float | None, float | None]:
    """Return the nearest other values of the format on both sides; None where there is none."""
    fmt = spec.format
    if isinstance(exact, float) and not math.isfinite(exact):
        return None, None
    exact = Fraction(exact)
    # Less than any gap beside the number, so that a value of the format is not its own neighbour.
    nudge = abs(exact) / 2**60
    if not exact:
        if not isinstance(fmt, FixedPointFormat) and fmt.exponent_bits is None:
            return None, None
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
        found.append(value if is_beside else None)
    return found[0], found[1]


def _lowest_unsigned(fmt: Format) -> float:
    """Return the least value of an unsigned format, minus infinity for a signed one."""
    if fmt.is_signed:
        return -math.inf
    return 0.0 if isinstance(fmt, FixedPointFormat) or fmt.has_zero else fmt.min_normal


def _short(value: float | None) -> str:
    """Write a value exactly, in hexadecimal if its decimal digits are many."""
    text = "none" if value is None else exact_decimal(value)
    return text if value is None or len(text) <= 40 else hex_float(value)
