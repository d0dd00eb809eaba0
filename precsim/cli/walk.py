"""`precsim walk`: an expression step by step, with each rounding explained."""

import argparse
from fractions import Fraction

from precsim.analysis.walking.steps import Alignment, Rounding, Step, Walk
from precsim.analysis.walking.walk import walk
from precsim.cli.output import Row, columns, naming_options, print_rows, print_words
from precsim.cli.show import FIELD_STYLES
from precsim.formats.fields import fields_of
from precsim.formats.written import approximate, exact_text
from precsim.rounding.spec import RoundingSpec

_EPILOG = """\
examples:
  precsim walk '0.1 + 0.2'                        in fp32
  precsim walk '0.1 + 0.2' --format fp16          a tie
  precsim walk '(1 + 2**-11) * 3' --format e4m3 --mode rtz
  precsim walk 'kahan([2048, 1, 1])' --format fp16
  precsim walk 'dot([2**12, 1], [2**12, 0.75])' --format h100:fp16
  precsim walk 'dot([1, 2], [0.1, 3], bf16_bf16_fp32, c=7)'"""

_KEPT, _CUT, _TAKEN = "36", "1;31", "1"
"""Colours of the bits that are kept and cut off; of the number that is taken, and of titles."""
_INDENT = 14
"""Characters before the content of a row."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "words",
        metavar="EXPRESSION",
        nargs="*",
        help="numbers (0.1, 0x1.8p-3, 2**-24, pi, inf), + - * /, parentheses, sqrt(x), fma(x, y, z), "
        "sum([x, y, ...]), pairwise([...]), kahan([...]), two_sum([...]), blockedN([...]), "
        "exact([...]), dot([...], [...] [, PRODUCT] [, c=NUMBER])",
    )
    parser.add_argument(
        "--format",
        default="fp32",
        metavar="FORMAT",
        help="the format of every result, FORMAT[:MODE][:OVERFLOW][:SUBNORMALS]; or a product such "
        "as h100:fp16, which dot computes (default: fp32)",
    )
    parser.add_argument("--mode", help="the rounding mode, such as rtz (default: the format's)")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help="of the random bits of mode sr (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON; exact numbers are strings")


def run(args: argparse.Namespace) -> int:
    """Print the steps of an expression."""
    if not args.words:
        raise ValueError(
            "the following arguments are required: EXPRESSION (see precsim walk --help)"
        )
    with naming_options({"mode": "--mode"}):
        found = walk(" ".join(args.words), args.format, mode=args.mode, seed=args.seed)
    if args.json:
        print(found.to_json())
        return 0
    print_words(f"{_shortened(found.expression)} in {found.spec}")
    _print_inputs(found)
    was_short = False
    for step in found.steps:
        if step.operation != "input":
            is_short = step.alignment is None and step.rounding.is_exact
            if not (is_short and was_short):
                print()
            _print_step(step)
            was_short = is_short
    _print_result(found)
    return 0


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:150]}... ({len(text)} characters)"


def _print_inputs(found: Walk) -> None:
    """Print the numbers that are rounded at once; then those that are values of their format."""
    inputs = [step for step in found.steps if step.operation == "input"]
    for step in inputs:
        if not step.rounding.is_exact:
            print()
            label = step.name if step.name == step.formula else f"{step.name} = {step.formula}"
            print_words(f"{_shortened(label)} is rounded to {step.rounding.spec}", first=_TAKEN)
            print_rows(_rows(step.rounding))
    exact: dict[str, list[str]] = {}
    for step in inputs:
        if step.rounding.is_exact:
            exact.setdefault(step.rounding.spec, []).append(_shortened(step.name))
    if exact:
        print()
    for spec, names in exact.items():
        print_words(f"Exact in {spec}: {', '.join(names)}")


def _print_step(step: Step) -> None:
    rounding, value = step.rounding, exact_text(step.rounding.value)
    head = f"{step.name} = {_shortened(step.formula)}"
    if step.alignment is None and rounding.is_exact:
        numbers = "" if step.formula == step.numbers else f" = {step.numbers}"
        print_words(f"{head}{numbers} = {value}, {rounding.reason}", first=_TAKEN)
        return
    print_words(head, first=_TAKEN)
    if step.alignment is not None:
        print_rows(_alignment_rows(step.alignment))
    elif step.formula != step.numbers:
        print_rows([("numbers", step.numbers)])
    print_rows(_rows(rounding))


def _rows(rounding: Rounding) -> list[Row]:
    """Return the lines of a rounding: the exact number, its neighbours, which one and why."""
    shown = [
        ("lower", rounding.below, rounding.below_bits),
        ("upper", rounding.above, rounding.above_bits),
    ]
    if rounding.value not in (rounding.below, rounding.above):
        shown.append(("becomes", rounding.value, rounding.bits))
    rows: list[Row] = [("exact", exact_text(rounding.exact))]
    found = [(label, value, bits) for label, value, bits in shown if value is not None]
    width = max(len(exact_text(value)) for _, value, _ in found)
    room = columns() - _INDENT - 3 - max(len(bits) for _, _, bits in found)
    for label, value, bits in found:
        is_taken = value == rounding.value
        text = (exact_text(value), _TAKEN if is_taken or label == "becomes" else "")
        label_shown = f"{label} <-" if is_taken and label != "becomes" else label
        words = _bit_words(bits, rounding.spec)
        if not words or width > room:
            rows += [(label_shown, [text]), *([("", words)] if words else [])]
        else:
            gap = [("", "")] * (2 + width - len(text[0]))
            rows.append((label_shown, [text, *gap, *words]))
    rows.append(("because", rounding.reason))
    if rounding.flags not in ((), ("inexact",)):
        rows.append(("flags", ", ".join(rounding.flags)))
    return rows


def _bit_words(bits: str, spec: str) -> list[tuple[str, str]]:
    """Return the fields of a code, each in its colour."""
    if not bits:
        return []
    fields = fields_of(0, RoundingSpec.parse(spec).format)
    return [
        (word, FIELD_STYLES[field.name]) for word, field in zip(bits.split(), fields, strict=True)
    ]


def _alignment_rows(alignment: Alignment) -> list[Row]:
    """Return each term, and under it the bits that are kept, a bar, and those that are cut off."""
    total = sum(term.kept for term in alignment.terms)
    digits = max(abs(n).bit_length() for n in (*(t.kept for t in alignment.terms), total))
    digits = max(digits, alignment.largest - alignment.unit + 1)
    room = max(columns() - _INDENT - digits - 4, 4)
    how = "rounded down" if alignment.rounds_down else "cut off"
    cut = f"bits below 2**{alignment.unit} are {how}"
    rows: list[Row] = [("aligned", f"to the largest exponent, {alignment.largest}; {cut}")]
    for number, term in enumerate(alignment.terms, 1):
        rows.append((f"term {number}", f"{term.text} = {exact_text(term.value)}"))
        # Of a negative number that is rounded down, what is left is more than the number.
        is_more = term.value < 0 < term.lost
        lost = Fraction(0) if is_more else term.lost / Fraction(2) ** alignment.unit
        rows.append(("", _bits(term.kept, lost, alignment.unit, digits, room)))
    rows.append(("sum", f"{total} * 2**{alignment.unit}"))
    rows.append(("", _bits(total, Fraction(0), alignment.unit, digits, room)))
    return rows


def _bits(kept: int, lost: Fraction, unit: int, digits: int, room: int) -> list[tuple[str, str]]:
    """Return a term in binary; `kept` and `lost` count in units of 2**unit."""
    sign = "-" if kept < 0 or lost < 0 else "+"
    text = f"{abs(kept):0{digits}b}"
    if -digits < unit < 0:
        text = f"{text[:unit]}.{text[unit:]}"
    words = [(f"{sign}{text}|", _KEPT)]
    if lost:
        places = (lost.denominator - 1).bit_length()
        cut = f"{int(abs(lost) * 2**places):0{places}b}"
        text = cut if len(cut) <= room else f"{cut[: room - 3]}..."
        words.append((text, _CUT))
    return words


def _print_result(found: Walk) -> None:
    print()
    print_words("result", first=_TAKEN)
    rows: list[Row] = [("value", exact_text(found.value))]
    last = found.steps[-1].rounding
    if last.bits and repr(last.value) == repr(found.value):  # not for zeros of two signs
        rows.append(("bits", _bit_words(last.bits, last.spec)))
    rows.append(("unrounded", found.exact_text))
    rows.append(("error", _error(found)))
    print_rows(rows)


def _error(found: Walk) -> str:
    if found.ulps is None:
        is_same = exact_text(found.value) == found.exact_text
        has_value = bool(found.steps[-1].rounding.bits)  # not NaN where the format has none
        return "none" if is_same and has_value else "not finite"
    if not found.ulps:
        return "none"
    error = Fraction(found.value) - Fraction(found.exact)
    parts = [f"{approximate(error)} absolute", f"{approximate(found.ulps)} ulp"]
    if found.exact:
        parts.insert(1, f"{approximate(abs(error / Fraction(found.exact)))} relative")
    return ", ".join(parts)
