"""What there is to say about formats: the rows of their tables, and the entries of their JSON."""

from collections.abc import Sequence
from typing import Any

from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.catalogue import FORMATS
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat, Specials
from precsim.formats.registry import AnyFormat
from precsim.formats.scaled import BLOCK_FORMATS
from precsim.formats.tile import TileFormat

KINDS = ("float", "fixed", "block", "affine")

_SPECIALS = {
    Specials.IEEE: "inf, NaN",
    Specials.FN: "NaN, no inf",
    Specials.FNUZ: "NaN, no inf, no -0",
    Specials.NONE: "none",
    Specials.P3109_FINITE: "NaN, no inf, no -0",
    Specials.P3109_EXTENDED: "inf, NaN, no -0",
}


FLOAT_COLUMNS = (
    "name",
    "bits",
    "s/e/p",
    "bias",
    "max",
    "min normal",
    "min subnormal",
    "u",
    "specials",
    "aliases",
    "source",
)
FIXED_COLUMNS = ("name", "bits", "s/i/f", "min", "max", "step", "source")
BLOCK_COLUMNS = (
    "name",
    "element",
    "block size",
    "scale",
    "tensor scale",
    "bits per element",
    "max",
    "rule",
    "aliases",
    "source",
)
AFFINE_COLUMNS = (
    "name",
    "bits",
    "codes",
    "symmetric",
    "scale of each",
    "bits per element",
    "source",
)
TILE_COLUMNS = ("name", "element", "scale", "bits per element", "source")
DYNAMIC_COLUMNS = ("name", "values", "scale of each", "bits per element", "source")
TEXT_COLUMNS = ("specials", "rule", "aliases", "source")

COLUMNS = {
    "float": FLOAT_COLUMNS,
    "fixed": FIXED_COLUMNS,
    "block": BLOCK_COLUMNS,
    "affine": AFFINE_COLUMNS,
    "tile": TILE_COLUMNS,
    "dynamic": DYNAMIC_COLUMNS,
}
"""Kind -> the columns of its table."""

NOTES = {
    "float": "s/e/p: bits of sign and exponent, precision p (it counts the implicit bit). "
    "u = 2^-p: unit roundoff. Also float(e=W,p=P) for any other IEEE-like format, and "
    "binary{K}p{P}{s|u}{e|f} for any format of IEEE P3109.",
    "fixed": "s/i/f: bits of sign, integer part, fraction. Also qI.F and uqI.F of any size.",
    "block": "rule: how the scale follows from the largest magnitude. Another one: mxfp4_rceil.",
    "affine": "x ~ scale * (code - zero point). Also [u]intBITS[_symmetric][_channel|_blockSIZE].",
}


def kind_of(fmt: AnyFormat) -> str:
    """Return which of `KINDS` a format is.

    Examples
    --------
    >>> import precsim as ps
    >>> kind_of(ps.get_format("mxfp4"))
    'block'
    """
    match fmt:
        case BlockFormat():
            return "block"
        case AffineFormat():
            return "affine"
        case TileFormat():
            return "tile"
        case DynamicFormat():
            return "dynamic"
        case FixedPointFormat():
            return "fixed"
        case _:
            return "float"


def row_of(fmt: AnyFormat) -> tuple[str, ...]:
    """Return the cells of a format, in the order of the columns of its kind.

    Examples
    --------
    >>> import precsim as ps
    >>> row_of(ps.get_format("fp16"))[:8]
    ('fp16', '16', '1/5/11', '15', '65504', '2^-14', '2^-24', '2^-11')
    >>> row_of(ps.get_format("q3.12"))[:6]
    ('q3.12', '16', '1/3/12', '-8', '7.999755859375', '2^-12')
    >>> row_of(ps.get_format("mxfp4"))[:8]
    ('mxfp4', 'e2m1', '32', 'e8m0', 'none', '4.25', '6 * scale', 'floor')
    >>> row_of(ps.get_format("int8"))[:6]
    ('int8', '8', '-128 to 127', 'no', 'tensor', '8')
    """
    match fmt:
        case BlockFormat():
            return _block_row(fmt)
        case AffineFormat():
            return _affine_row(fmt)
        case TileFormat():
            return fmt.name, str(fmt.element), fmt.options, f"{fmt.bits_per_element:g}", fmt.source
        case DynamicFormat():
            values = f"{len(fmt.table)}, {fmt.table[0]:g} to {fmt.table[-1]:g}"
            block = f"block of {fmt.block_size}"
            return fmt.name, values, block, f"{fmt.bits_per_element:g}", fmt.source
        case FixedPointFormat():
            return _fixed_row(fmt)
        case _:
            return _float_row(fmt, FORMATS.get(fmt, ()))


def facts(fmt: AnyFormat) -> list[tuple[str, str]]:
    """Return the row of one format, as pairs of column and cell.

    Parameters
    ----------
    fmt : FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
        The format.

    Returns
    -------
    list of tuple of str
        Pairs (column, cell) that are not empty.

    Raises
    ------
    ValueError
        If the format has an unlimited range, so that there is no row for it.

    Examples
    --------
    >>> import precsim as ps
    >>> facts(ps.get_format("int4_symmetric_block32"))[1:4]
    [('bits', '4'), ('codes', '-7 to 7'), ('symmetric', 'yes')]
    >>> facts(ps.get_format("int4_symmetric_block32"))[4:6]
    [('scale of each', 'block of 32'), ('bits per element', '5')]
    """
    pairs = zip(COLUMNS[kind_of(fmt)], row_of(fmt), strict=True)
    return [(column, cell) for column, cell in pairs if cell]


def entry(fmt: AnyFormat) -> dict[str, Any]:
    """Return what `precsim formats --json` says about a format; its numbers are numbers.

    Parameters
    ----------
    fmt : FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
        The format.

    Returns
    -------
    dict
        Names as in the fields and properties of the format's class.

    Examples
    --------
    >>> import precsim as ps
    >>> found = entry(ps.get_format("fp16"))
    >>> found["precision"], found["max_finite"], found["aliases"][:2]
    (11, 65504.0, ['binary16', 'float16'])
    """
    said: dict[str, Any] = {"kind": kind_of(fmt)}
    said |= {name: str(getattr(fmt, name)) for name in ("name", "source")}
    said["aliases"] = list((FORMATS | BLOCK_FORMATS).get(fmt, ()))  # type: ignore[arg-type]
    for name in _ENTRY:
        value = getattr(fmt, name, None)
        if value is not None:
            said[name] = value if isinstance(value, (bool, int, float)) else str(value)
    return said


_ENTRY = (
    *("width", "bits", "is_signed", "exponent_bits", "precision", "bias", "emin", "emax"),
    *("max_finite", "min_normal", "min_subnormal", "unit_roundoff", "specials", "has_infinity"),
    *("has_nan", "has_zero", "has_negative_zero", "has_subnormals"),
    *("integer_bits", "fraction_bits", "resolution", "min_value", "max_value"),
    *("element", "scale", "tensor_scale", "block_size", "across", "scale_rule", "bits_per_element"),
    *("min_code", "max_code", "is_symmetric", "granularity"),
)
"""Fields and properties of all kinds of formats; each has its own among them."""


def _float_row(fmt: FloatFormat, aliases: Sequence[str]) -> tuple[str, ...]:
    least = fmt.emin - fmt.precision + 1
    return (
        fmt.name,
        str(fmt.width),
        f"{int(fmt.is_signed)}/{fmt.exponent_bits}/{fmt.precision}",
        str(fmt.bias),
        f"{fmt.max_finite:.6g}",
        f"2^{fmt.emin}",
        f"2^{least}" if fmt.has_subnormals else "none",
        f"2^{-fmt.precision}",
        _SPECIALS[fmt.specials] + ("" if fmt.has_zero else ", no 0"),
        ", ".join(aliases),
        fmt.source,
    )


def _fixed_row(fmt: FixedPointFormat) -> tuple[str, ...]:
    return (
        fmt.name,
        str(fmt.width),
        f"{int(fmt.is_signed)}/{fmt.integer_bits}/{fmt.fraction_bits}",
        f"{fmt.min_value:.17g}",
        f"{fmt.max_value:.17g}",
        f"2^{-fmt.fraction_bits}",
        fmt.source,
    )


def _block_row(fmt: BlockFormat) -> tuple[str, ...]:
    element = fmt.element
    largest = element.max_value if isinstance(element, FixedPointFormat) else element.max_finite
    return (
        fmt.name,
        element.name,
        str(fmt.block_size) if fmt.across == 1 else f"{fmt.across}x{fmt.block_size}",
        fmt.scale.name,
        "none" if fmt.tensor_scale is None else fmt.tensor_scale.name,
        f"{fmt.bits_per_element:g}",
        f"{largest:.17g} * scale",
        fmt.scale_rule.value,
        ", ".join(BLOCK_FORMATS.get(fmt, ())),
        fmt.source,
    )


def _affine_row(fmt: AffineFormat) -> tuple[str, ...]:
    size = "" if fmt.block_size is None else f" of {fmt.block_size}"
    return (
        fmt.name,
        str(fmt.bits),
        f"{fmt.min_code} to {fmt.max_code}",
        "yes" if fmt.is_symmetric else "no",
        fmt.granularity.value + size,
        f"{fmt.bits_per_element:g}",
        fmt.source,
    )
