"""What `precsim show` says about block and affine formats, whose elements share a scale."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from precsim.cli.output import Row
from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fields import fields_of, shortened
from precsim.formats.oracle import encode_exact
from precsim.formats.registry import AnyFormat, Format
from precsim.formats.tile import TileFormat
from precsim.formats.written import approximate, exact_decimal
from precsim.rounding.oracle import round_exact
from precsim.rounding.scaled.oracle import quantize_blocks_exactly, quantize_group_exactly
from precsim.rounding.spec import RoundingSpec

_LARGEST = Fraction(2) ** 127
"""Scales are computed in float32's range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownScaled:
    """A number in a block or affine format, alone where a scale is shared.

    Parameters
    ----------
    spec : str
        Format and rule.
    size : str
        The format, in words.
    parts : tuple of (str, str, str)
        Name, bits and value of what is stored.
    formula : str
        How the value follows from the parts.
    value : float
        What the number became; NaN if it was NaN or infinite.
    is_exact : bool
        Whether that is the number itself.
    error : tuple of str
        Absolute and relative; empty if there is none.
    """

    spec: str
    size: str
    parts: tuple[tuple[str, str, str], ...]
    formula: str
    value: float
    is_exact: bool
    error: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints: exact numbers are strings."""
        return {
            "format": self.spec,
            "size": self.size,
            "parts": {name: {"bits": bits, "value": value} for name, bits, value in self.parts},
            "value": exact_decimal(self.value),
            "derivation": self.formula,
            "is_exact": self.is_exact,
            "error": dict(zip(("absolute", "relative"), self.error, strict=False)) or None,
        }


def rows(shown: ShownScaled) -> list[Row]:
    """Return the lines of a section."""
    error = "none" if shown.is_exact else "not finite"
    if shown.error:
        error = "{} absolute, {} relative".format(*shown.error)
    parts = [(name, f"{bits} = {value}" if bits else value) for name, bits, value in shown.parts]
    return [*parts, ("derived", shown.formula), ("value", shortened(shown.value)), ("error", error)]


def describe(exact: Fraction | float, spec: RoundingSpec, random_bits: int) -> ShownScaled:
    """Return what becomes of a number that is alone where a scale is shared.

    Parameters
    ----------
    exact : Fraction or float
        The number.
    spec : RoundingSpec
        A block or affine format, and the rule of its elements.
    random_bits : int
        R of mode "sr".

    Returns
    -------
    ShownScaled
        The stored parts, the value and the error.

    Raises
    ------
    ValueError
        If the number is beyond the range of float32.

    Examples
    --------
    >>> describe(Fraction(1, 10), RoundingSpec.parse("mxfp4"), 0).formula
    'element * scale = 6 * 2**-6 = 0.09375'
    """
    is_finite = isinstance(exact, Fraction) or math.isfinite(exact)
    if is_finite and not 1 / _LARGEST <= abs(Fraction(exact)) <= _LARGEST and exact:
        raise ValueError(f"the number is outside float32's normal range, where {spec} has scales")
    match spec.format:
        case BlockFormat():
            find = _in_block
        case TileFormat() | DynamicFormat():
            raise ValueError(
                f"spec is '{spec}'; allowed here are single numbers, blocks and affine integers"
            )
        case _:
            find = _in_group
    parts, formula, value = find(exact, spec, random_bits)
    error = () if not is_finite else _error(value, Fraction(exact))
    return ShownScaled(
        spec=str(spec),
        size=_size(spec.format),
        parts=parts,
        formula=f"{formula} = {shortened(float(value))}",
        value=float(value),
        is_exact=value == exact or (math.isnan(value) and math.isnan(exact)),
        error=error,
    )


_Found = tuple[tuple[tuple[str, str, str], ...], str, Fraction | float]


def _in_block(exact: Fraction | float, spec: RoundingSpec, random_bits: int) -> _Found:
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    if fmt.scale_rule.has_tensor_scale:  # whose rules are float32 operations
        exact = round_exact(exact, "fp32").value
    blocks = quantize_blocks_exactly([[exact]], spec, [[random_bits]])  # type: ignore[list-item]
    stored = {
        "element": (blocks.elements[0][0], fmt.element),
        "scale": (blocks.scales[0], fmt.scale),
    }
    if blocks.tensor_scale is not None:
        stored["tensor scale"] = (blocks.tensor_scale, fmt.tensor_scale)
    parts = tuple((name, _bits(value, of), _plain(value)) for name, (value, of) in stored.items())
    values = [value for value, _ in stored.values()]
    is_finite = all(map(math.isfinite, values))
    product = math.prod(map(Fraction, values)) if is_finite else math.prod(values)
    formula = f"{' * '.join(stored)} = {' * '.join(_plain(v) for v in values)}"
    return parts, formula, product


def _in_group(exact: Fraction | float, spec: RoundingSpec, random_bits: int) -> _Found:
    if isinstance(exact, float) and not math.isfinite(exact):
        raise ValueError(
            f"the number is {exact}; allowed for {spec}, an affine format, are finite ones"
        )
    group = quantize_group_exactly([exact], spec, [random_bits])  # type: ignore[list-item]
    code, zero = group.codes[0], group.zero_point
    parts = (
        ("code", "", str(code)),
        ("scale", "", shortened(group.scale)),
        ("zero point", "", str(zero)),
    )
    formula = f"scale * (code - zero point) = scale * ({code} - {zero})".replace("- -", "+ ")
    return parts, formula, Fraction(group.scale) * (code - zero)


def explanation(fmt: AnyFormat) -> str:
    """Say in words what a block or affine format stores.

    Examples
    --------
    >>> import precsim as ps
    >>> print(explanation(ps.get_format("int8")))
    A value is scale * (code - zero point). The scale fits the data: all elements of a tensor share
    it. precsim show 0.1 int8 shows a number that is alone in its tensor.
    """
    if isinstance(fmt, BlockFormat):
        factors = "element * scale" + (" * tensor scale" if fmt.tensor_scale else "")
        return (
            f"A value is {factors}. {_neighbours(fmt)} in an array share one scale, which "
            f"follows from their largest magnitude by the rule {fmt.scale_rule.value}. precsim show "
            f"0.1 {fmt} shows a number that is alone in its block; "
            f"{parts(fmt)}. docs/explanation/block-formats.md compares the rules."
        )
    if isinstance(fmt, TileFormat):
        return (
            "A value is element * scale, with a float32 scale that brings the largest magnitude of a "
            f"tile to the largest element. quantize and the operands of matrix products take {fmt}."
        )
    if isinstance(fmt, DynamicFormat):
        return (
            "A value is table[code] * scale, with the largest magnitude of a block as its scale. The "
            f"table has 256 values up to 1, seven decades of them. quantize and round_to take {fmt}, and "
            "so do states of optimizers."
        )
    assert isinstance(fmt, AffineFormat)
    shared = {"tensor": "all elements of a tensor", "channel": "the elements of a channel"}
    sharing = shared.get(fmt.granularity.value, f"{fmt.block_size} neighbours")
    return (
        f"A value is scale * (code - zero point). The scale fits the data: {sharing} share it. "
        f"precsim show 0.1 {fmt} shows a number that is alone in its {_sharer(fmt)}."
    )


def _neighbours(fmt: BlockFormat) -> str:
    if fmt.across == 1:
        return f"{fmt.block_size} neighbours"
    return f"The elements of {fmt.across} x {fmt.block_size} neighbours"


def parts(fmt: AnyFormat) -> str:
    """Say how the parts of a format are shown."""
    if isinstance(fmt, BlockFormat):
        return f"its parts are in {fmt.element} and {fmt.scale}, which show takes too"
    return f"{fmt} stores integers, with a scale beside them"


def _size(fmt: AnyFormat) -> str:
    assert isinstance(fmt, (BlockFormat, AffineFormat))
    kind = "block" if isinstance(fmt, BlockFormat) else "affine"
    return (
        f"{kind} format, {fmt.bits_per_element:g} bits per element; one number alone in its "
        f"{_sharer(fmt)}"
    )


def _sharer(fmt: BlockFormat | AffineFormat) -> str:
    """Return what shares one scale: block, tensor or channel."""
    return "block" if isinstance(fmt, BlockFormat) else fmt.granularity.value


def _bits(value: float, fmt: Format) -> str:
    if math.isnan(value) and not fmt.has_nan:
        return "none"
    return " ".join(field.bits for field in fields_of(encode_exact(value, fmt), fmt))


def _plain(value: float) -> str:
    """Write a value in decimal; a power of two with many digits as such."""
    text = exact_decimal(value)
    if len(text) > 6 and math.isfinite(value) and math.frexp(value)[0] == 0.5:
        return f"2**{math.frexp(value)[1] - 1}"
    return text if len(text) <= 40 else shortened(value)


def _error(value: Fraction | float, exact: Fraction) -> tuple[str, ...]:
    if isinstance(value, float) and not math.isfinite(value):
        return ()
    error = abs(Fraction(value) - exact)
    return (approximate(error), approximate(error / abs(exact))) if error else ()
