"""A tensor core's steps: what is aligned, what is cut off, what is left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.said import (
    Number,
    computed,
    error,
    is_finite,
    near,
    rounded,
    same,
    short,
    stored,
)
from precsim.formats.reals import floor_log2
from precsim.formats.registry import get_format
from precsim.products.specs.core import Core, CoreOperand
from precsim.products.specs.fused_block import FusedBlock, PairInterleaved, Promote, SplitK
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.oracle import (
    Aligned,
    Product,
    align,
    fused_dot_by,
    multiply_scales,
    step_exact,
)
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

MOST = 64
"""Products that are shown."""
_ADDED = (Promote, PairInterleaved, SplitK)
"""Schedules whose result is a sum of chains, in the format of totals."""
_PLACES_CUT = 16
"""Places below the cut-off that are drawn, at most."""


def tensor_core(asked: Asked) -> dict[str, Any]:
    """Describe c + a . b as a machine computes it, step by step."""
    spec = MatmulSpec.parse(read.text(asked, "machine"))
    if not isinstance(spec.order, FusedBlock):
        raise ValueError(  # noqa: TRY004 (a name, not a type)
            f"machine is '{spec}'; allowed are tensor cores, for example h100:fp16"
        )
    _check(spec)
    core = spec.core
    given = [read.numbers(asked, name, MOST) for name in ("a", "b")]
    if len(given[0]) != len(given[1]):
        raise ValueError(
            f"a has {len(given[0])} numbers, b {len(given[1])}; allowed is one length for both"
        )
    sides = zip(given, (core.lhs, core.rhs), strict=True)
    a, b = (
        [round_exact(x, _stored_as(side)).value for x in side_given] for side_given, side in sides
    )
    totals = get_format("fp16" if core.sums.emin == -14 else "fp32")
    first = _first(asked, spec)
    c = round_exact(first, RoundingSpec(format=totals)).value
    told = _Told(core)
    total, scale = fused_dot_by(a, b, c, core, 0, step=told.step, add=told.add)
    value = computed(total if scale is None else multiply_scales(total, scale))
    is_total = scale is not None or isinstance(core.block.schedule, _ADDED)
    fmt: Any = totals if is_total else core.sums
    if spec.output is not None:
        value, fmt = told.round(value, spec.output), spec.output.format
    exact = _exact([*zip(a, b, strict=True), (c, 1.0)])
    stays = zip([*given[0], *given[1], first], [*a, *b, c], strict=True)
    return {
        "spec": str(spec),
        "facts": _facts(core),
        "operands": [_operand(x, y) for x, y in zip(a, b, strict=True)],
        "c": near(c),
        "takes_c": not spec.scales_sums,
        "are_rounded": not all(same(x, y) for x, y in stays),
        "steps": told.steps,
        "scale": None if scale is None else short(scale),
        "result": stored(value, fmt),
        "exact": near(exact),
        "once": rounded(exact, spec.output or RoundingSpec(format=fmt))["short"],
        "errors": error(value, exact, fmt),
    }


def _check(spec: MatmulSpec) -> None:
    """Refuse what is more than the steps of a tensor core and a rounding of their result."""
    has_chance = spec.has_random_operands or (
        spec.output is not None and spec.output.mode is RoundingMode.STOCHASTIC
    )
    if spec.rotation is not None or spec.has_scales or has_chance:
        raise ValueError(
            f"machine is '{spec}'; allowed here are products without rht=, without operands that "
            "are scaled outside a tensor core, and without chance in operands and output"
        )


def _first(asked: Asked, spec: MatmulSpec) -> Number:
    """Return the accumulator's first value: +0 if none is given."""
    if asked.get("c") in (None, ""):
        return 0.0
    if spec.scales_sums:
        raise ValueError(
            f"c is given; allowed for '{spec}' is None, since its sums are multiplied by scales at "
            "the end"
        )
    return read.number(asked, "c")


def _stored_as(side: CoreOperand) -> RoundingSpec:
    """Return how numbers become operands; blocks take float32."""
    return side.rounding if side.blocks is None else RoundingSpec.parse("fp32")


def _exact(pairs: Sequence[tuple[float, float]]) -> Number:
    if all(is_finite(x) and is_finite(y) for x, y in pairs):
        return sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0)) or 0.0
    return computed(sum(x * y for x, y in pairs))


def _operand(x: float, y: float) -> dict[str, str]:
    return {"a": near(x), "b": near(y)}


def _facts(core: Core) -> list[list[str]]:
    block, accumulator = core.block, core.accumulator
    mode = "toward zero" if accumulator.mode is RoundingMode.TOWARD_ZERO else str(accumulator.mode)
    return [
        ["products of a step", str(block.length)],
        ["fraction bits kept", str(block.fraction_bits)],
        ["accumulator", f"{core.sums.name}, {core.sums.precision} bits, rounded {mode}"],
    ]


@dataclass
class _Told:
    """Does the work of a tensor core, and tells it."""

    core: Core
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, total: float, products: Sequence[Product], core: Core, draw: int) -> float:
        """Compute a step by its definition, and tell its terms."""
        value = computed(step_exact(total, products, core, draw))
        found = align(total, products, core)
        texts = [_text(products[k : k + core.block.group]) for k in self._starts(products)]
        said: dict[str, Any] = {"kind": "step", "result": short(value)}
        if isinstance(found, Aligned):
            said |= _rows(found, [*texts, f"accumulator {near(total)}"], value)
        self.steps.append(said)
        return value

    def _starts(self, products: Sequence[Product]) -> range:
        return range(0, len(products), self.core.block.group)

    def add(self, fmt: str, x: float, y: float) -> float:
        """Add two chains with one rounding, and tell it."""
        exact = _exact([(x, 1.0), (y, 1.0)])
        value = computed(round_exact(exact, fmt).value + 0.0)
        self.steps.append(
            {"kind": "add", "left": short(x), "right": short(y), "in": fmt, "result": short(value)}
        )
        return value

    def round(self, x: float, output: RoundingSpec) -> float:
        """Round the result to the output, and tell it."""
        value = computed(round_exact(x, output).value)
        self.steps.append(
            {"kind": "output", "left": short(x), "in": str(output), "result": short(value)}
        )
        return value


def _text(products: Sequence[Product]) -> str:
    first = products[0]
    text = f"{near(first.x)} * {near(first.y)}"
    return text if len(products) == 1 else f"{len(products)} products from {text}"


def _rows(found: Aligned, texts: Sequence[str], value: float) -> dict[str, Any]:
    """Draw the terms as rows of bits, from the highest place to the last one that is set."""
    sizes = [abs(Fraction(term.value)) for term in found.terms]
    kept = sum(found.kept) * Fraction(2) ** found.unit
    result = Fraction(value) if math.isfinite(value) else Fraction(0)
    ends = [size for size in (*sizes, abs(kept), abs(result)) if size]
    high = max(map(floor_log2, ends))
    last = min(map(_last_place, ends))
    low = max(min(last, found.unit), found.unit - _PLACES_CUT)
    unit = Fraction(2) ** found.unit
    rows: list[dict[str, Any]] = []
    for text, term, part, size in zip(texts, found.terms, found.kept, sizes, strict=True):
        lost = Fraction(term.value) - part * unit
        row = {
            "text": text,
            "value": near(term.value),
            "bits": _bits(Fraction(term.value), high, low),
            "lost": "0" if not lost else near(lost),
            "goes_on": bool(size and _last_place(size) < low),
            "count": 1,
        }
        if rows and rows[-1] | {"count": 1} == row:
            rows[-1]["count"] += 1
        else:
            rows.append(row)
    return {
        "rows": rows,
        "places": [_place(e, found, high) for e in range(high, low - 1, -1)],
        "kept": high - found.unit + 1,
        "largest": f"2^{found.largest}",
        "unit": f"2^{found.unit}",
        "total": {"value": near(kept), "bits": _bits(kept, high, low)},
        "rounded": {"value": short(value), "bits": _bits_of(value, high, low)},
        "lost": near(sum((Fraction(t.value) for t in found.terms), Fraction(0)) - kept),
    }


def _place(exponent: int, found: Aligned, high: int) -> str:
    """Return the label of a place: the ends, the last one that is kept."""
    return f"2^{exponent}" if exponent in (high, found.unit) else ""


def _last_place(size: Fraction) -> int:
    """Return the exponent of the last place that is set."""
    return (size.numerator & -size.numerator).bit_length() - size.denominator.bit_length()


def _bits_of(value: float, high: int, low: int) -> str:
    return _bits(Fraction(value), high, low) if math.isfinite(value) else ""


def _bits(value: Fraction, high: int, low: int) -> str:
    """Write the bits from one place to another after a sign, blank where none is needed."""
    size = math.floor(abs(value) / Fraction(2) ** low)
    digits = f"{size:0{high - low + 1}b}" if size else " " * (high - low + 1)
    shown = digits.lstrip("0")
    inner = shown.rstrip("0")
    return ("-" if value < 0 else " ") + inner.ljust(len(shown)).rjust(len(digits))
