"""`precsim show`: one number, or one code, in several formats, with nothing hidden."""

import argparse
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from precsim.cli import modes, scaled
from precsim.cli.format_rows import NOTES, facts, kind_of
from precsim.cli.output import Row, print_rows, print_words
from precsim.cli.scaled import ShownScaled
from precsim.cli.shown import Shown, describe, describe_code, neighbours
from precsim.formats.arguments import shown as quoted
from precsim.formats.fields import Field, fits, parse_code, shortened
from precsim.formats.registry import get_format
from precsim.formats.written import CONSTANTS, hex_float, parse_number
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
  precsim show 0.1                in fp32, fp16, bf16, e4m3
  precsim show 1+2**-11 fp16      a tie goes to even
  precsim show 500 e4m3:saturate  a number too large
  precsim show 1/3 e4m3 --mode all  every rounding mode
  precsim show --code 0x3c00      from bits to value
  precsim show 0.1 mxfp4          element and scale
  precsim show e4m3               facts of a format"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
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
        "--mode",
        help="the rounding mode of all formats that name none, such as rtz; or all: every mode, side "
        "by side (default: rne)",
    )
    parser.add_argument(
        "--random-bits",
        metavar="R",
        help="the random integer of mode sr, of as many bits as the mode takes: 0 to 255 for sr8, to "
        "2**32 - 1 for sr (default: 0, which truncates)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON; exact numbers are strings")


def run(args: argparse.Namespace) -> int:
    """Print a number in each format, what a code means, or the facts of a format."""
    is_rounded = args.code is None and not (len(args.words) == 1 and is_format(args.words[0]))
    if not is_rounded and args.mode is not None:
        raise ValueError("--mode is given, but nothing is rounded; allowed is a VALUE with it")
    if args.code is not None or not (args.words[1:] or args.mode):  # nothing is rounded at random
        _random_bits(args.random_bits, [])
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
    specs = modes.specs_of(formats or DEFAULT_FORMATS, args.mode)
    random_bits = _random_bits(args.random_bits, specs)
    shown = [describe(exact, spec, random_bits) for spec in specs]
    if args.json:
        said = str(exact) if isinstance(exact, float) or _is_short(exact) else None
        return _print_json({"given": given.strip(), "exact": said}, shown)
    print_words(_heading(given.strip(), exact))
    if args.mode == modes.EVERY:
        modes.print_modes(shown)
    else:
        _print_sections(shown)
    return 0


def _random_bits(text: str | None, specs: Sequence[RoundingSpec]) -> int:
    """Return R, which every format of mode sr has to take; 0 if it is not given."""
    if text is None:
        return 0
    if not any(spec.num_random_bits for spec in specs):
        raise ValueError("--random-bits is given, but no FORMAT has mode sr, for example e4m3:sr8")
    for spec in specs:
        most = 2**spec.num_random_bits - 1
        is_integer = re.fullmatch(r"[0-9]{1,20}", text.strip())
        if spec.num_random_bits and not (is_integer and int(text) <= most):
            raise ValueError(
                f"--random-bits is {quoted(text)}; allowed for {spec} are integers from 0 to {most}"
            )
    return int(text)


def _show_code(args: argparse.Namespace) -> int:
    if number := next((word for word in args.words if _is_number(word)), None):
        raise ValueError(
            f"VALUE is {quoted(number)} and --code is {quoted(args.code)}; give one of the two"
        )
    code, widths = parse_code(args.code)
    names = args.words or [n for n in DEFAULT_FORMATS if fits(widths, get_format(n))]
    if not names:
        raise ValueError(f"--code {args.code[:40]} needs a FORMAT, for example fp16")
    shown = [describe_code(code, RoundingSpec.parse(name), widths) for name in names]
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


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


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
    lines.append(neighbours(shown))
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


def _print_sections(shown: Sequence[Shown | ShownScaled]) -> None:
    for each in shown:
        print()
        print_words(f"{each.spec}: {each.size}", first="1")
        print_rows(rows(each) if isinstance(each, Shown) else scaled.rows(each))


def _print_json(about: dict[str, Any], shown: Sequence[Shown | ShownScaled]) -> int:
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
