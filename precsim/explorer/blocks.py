"""A block of numbers that share a scale: what is stored, and what each number becomes."""

import math
from fractions import Fraction
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.said import Axis, Number, is_finite, magnitude, near, percent, short, stored
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.written import approximate
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.scaled.oracle import quantize_blocks_exactly

MOST = 128
"""Numbers that are shown."""
_LARGEST = Fraction(2) ** 127
"""Scales are computed in the range of float32."""
_RULES = {
    ScaleRule.FLOOR: "the largest power of two that is not above it, over that of the elements",
    ScaleRule.CEIL: "the smallest power of two that is not below it, over that of the elements",
    ScaleRule.EVEN: "its power of two after it is rounded to the elements' precision",
    ScaleRule.RCEIL: "it over the largest element, rounded up to a power of two",
    ScaleRule.NEAREST: "it over the largest element, rounded to the format of scales",
    ScaleRule.MAX_ABS: "itself, rounded to the format of scales",
}


def block(asked: Asked) -> dict[str, Any]:
    """Describe numbers that are stored in a block format."""
    spec = read.spec(asked)
    fmt = spec.format
    if not isinstance(fmt, BlockFormat):
        raise ValueError(  # noqa: TRY004 (a name, not a type)
            f"format is {fmt}; allowed here are block formats, for example mxfp4"
        )
    if spec.mode is RoundingMode.STOCHASTIC:
        raise ValueError("mode is 'sr'; allowed here are the modes without chance")
    given = [_checked(x, fmt) for x in read.numbers(asked, "values", MOST)]
    # The rules of a scale for the whole tensor are operations of float32.
    taken = (
        [round_exact(x, "fp32").value for x in given] if fmt.scale_rule.has_tensor_scale else given
    )
    size = fmt.block_size
    parts = [taken[k : k + size] for k in range(0, len(taken), size)]
    found = quantize_blocks_exactly(parts, spec)  # type: ignore[arg-type]
    tensor = found.tensor_scale
    rows = []
    for k, exact in enumerate(given):
        element, scale = found.elements[k // size][k % size], found.scales[k // size]
        rows.append(_row(exact, element, scale, tensor, fmt))
    zero = _draw(rows, given)
    return {
        "spec": str(spec),
        "element": str(fmt.element),
        "block_size": size,
        "bits_per_element": f"{fmt.bits_per_element:g}",
        "rule": _RULES.get(fmt.scale_rule, f"by the rule {fmt.scale_rule.value}, in float32"),
        "scale_format": str(fmt.scale),
        "blocks": [
            {
                "scale": stored(scale, fmt.scale),
                "largest": near(max(map(magnitude, part))),
                "first": k * size,
            }
            for k, (scale, part) in enumerate(zip(found.scales, parts, strict=True))
        ],
        "tensor_scale": None if tensor is None else short(tensor),
        "rows": rows,
        "zero": zero,
        "lost": percent(sum(row["is_lost"] for row in rows), len(rows)),
    }


def _checked(x: Number, fmt: BlockFormat) -> Number:
    """Refuse what no scale is made for."""
    if not is_finite(x):
        raise ValueError(f"values has {x}; allowed here are finite numbers")
    if x and not 1 / _LARGEST <= abs(Fraction(x)) <= _LARGEST:
        raise ValueError(
            f"values has a number outside float32's normal range, where {fmt} has scales"
        )
    return x


def _row(
    exact: Number, element: float, scale: float, tensor: float | None, fmt: BlockFormat
) -> dict[str, Any]:
    factors = [element, scale] if tensor is None else [element, scale, tensor]
    value = math.prod(map(Fraction, factors))
    error = value - Fraction(exact)
    relative = approximate(abs(error / Fraction(exact))) if exact else "0"
    sign = "" if not error else "+" if error > 0 else "-"
    return {
        "given": near(exact),
        "element": stored(element, fmt.element),
        "value": near(value),
        "number": value,
        "error": sign + approximate(abs(error)),
        "relative": relative,
        "is_lost": bool(exact and not value),
    }


def _draw(rows: list[dict[str, Any]], given: list[Number]) -> float:
    """Add to each row the places of the number and of its value; return the place of zero."""
    values = [Fraction(x) for x in given]
    most = max(map(abs, [*values, *(row["number"] for row in rows)])) or Fraction(1)
    axis = Axis(-most, most)
    for row, exact in zip(rows, values, strict=True):
        value = row.pop("number")
        row |= {"at": axis.place(exact), "to": axis.place(value)}
    return axis.place(Fraction(0))
