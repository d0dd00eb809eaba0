"""The definition of quantization with scales, group by group, in exact rational arithmetic.

Read this to learn what a scale rule does. `round_exact` is the only rounding; everything else is a
fraction.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import floor_log2
from precsim.formats.tile import TileFormat
from precsim.rounding.modes import InfinityMode, OverflowMode, RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

Block = Sequence[float]

_HIGHEST = float.fromhex("0x1.fffffep127")
"""The largest float32."""


class ExactBlocks(NamedTuple):
    """What each block consists of; a value is ``element * scale * tensor_scale``."""

    elements: list[list[float]]
    scales: list[float]
    tensor_scale: float | None


class ExactTile(NamedTuple):
    """What a tile consists of; a value is ``element * scale``."""

    elements: list[float]
    scale: float


class ExactGroup(NamedTuple):
    """What a group of an affine format consists of; a value is ``scale * (code - zero_point)``."""

    codes: list[int]
    scale: float
    zero_point: int


def quantize_blocks_exactly(
    blocks: Sequence[Block], spec: RoundingSpec, random_bits: Sequence[Sequence[int]] | None = None
) -> ExactBlocks:
    """Quantize the blocks of an array.

    Parameters
    ----------
    blocks : sequence of sequence of float
        All blocks of the array, of any size; float32 values for the rules of NVFP4.
    spec : RoundingSpec
        A block format, and the rule of its elements.
    random_bits : sequence of sequence of int, optional
        R of mode "sr" for each element.

    Returns
    -------
    ExactBlocks
        Values of elements and scales (not codes).

    Examples
    --------
    >>> quantize_blocks_exactly([[957.0, 1.0]], RoundingSpec.parse("mxfp8_e4m3"))
    ExactBlocks(elements=[[448.0, 0.5]], scales=[2.0], tensor_scale=None)
    """
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    draws = random_bits or [[0] * len(block) for block in blocks]
    quotients, scales, tensor_scale = block_quotients(blocks, spec)
    element = replace(spec, format=fmt.element)
    elements = [
        [round_exact(q, element, random_bits=r).value for q, r in zip(row, draw, strict=True)]
        for row, draw in zip(quotients, draws, strict=True)
    ]
    return ExactBlocks(elements, scales, tensor_scale)


def block_quotients(
    blocks: Sequence[Block], spec: RoundingSpec
) -> tuple[Sequence[Sequence[float | Fraction]], list[float], float | None]:
    """Return what is rounded to elements, the scales of the blocks, and that of the array.

    Examples
    --------
    >>> block_quotients([[957.0, 1.0]], RoundingSpec.parse("mxfp8_e4m3"))
    ([[Fraction(957, 2), Fraction(1, 2)]], [2.0], None)
    """
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    known = [_without_specials(block, spec) for block in blocks]
    usable = [block or [0.0] * len(given) for block, given in zip(known, blocks, strict=True)]
    amax = [
        max((abs(Fraction(x)) for x in b if math.isfinite(x)), default=Fraction(0)) for b in usable
    ]
    tensor_scale = None
    if fmt.scale_rule.has_tensor_scale:
        rule = {
            ScaleRule.TORCHAO: _torchao,
            ScaleRule.TRANSFORMER_ENGINE: _transformer_engine,
            ScaleRule.FOUR_OVER_SIX: _four_over_six,
        }[fmt.scale_rule]
        scales, tensor_scale, quotients = rule(usable, amax, fmt)
    else:
        scales = [_scale(a, fmt) for a in amax]
        quotients = [
            [_divided(x, scale) for x in block] for block, scale in zip(usable, scales, strict=True)
        ]
    scales = [math.nan if block is None else s for block, s in zip(known, scales, strict=True)]
    return quotients, scales, tensor_scale


def _without_specials(block: Block, spec: RoundingSpec) -> list[float] | None:
    """Return a block that can be quantized; None if a NaN or an infinity spoils it."""
    fmt = spec.format
    assert isinstance(fmt, BlockFormat)
    if fmt.scale_rule is ScaleRule.MAX_ABS:
        spoils = not fmt.element.has_nan and any(map(math.isnan, block))
        return None if spoils else list(block)
    has_infinity = getattr(fmt.element, "has_infinity", False)
    if spec.infinities is InfinityMode.SATURATE or (
        spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE and not has_infinity
    ):
        largest = float.fromhex("0x1.fffffep127")  # of float32, the carrier
        block = [math.copysign(largest, x) if math.isinf(x) else x for x in block]
    return list(block) if all(map(math.isfinite, block)) else None


def _largest(fmt: BlockFormat) -> Fraction:
    element = fmt.element
    return Fraction(
        element.max_value if isinstance(element, FixedPointFormat) else element.max_finite
    )


def _scale(amax: Fraction, fmt: BlockFormat) -> float:
    """Return the scale of a block."""
    power = Fraction(2) ** fmt.emax
    match fmt.scale_rule:
        case ScaleRule.FLOOR:
            return _to_scale(amax / power, RoundingMode.TOWARD_ZERO, fmt)
        case ScaleRule.CEIL:
            return _to_scale(amax / power, RoundingMode.TOWARD_POSITIVE, fmt)
        case ScaleRule.EVEN:
            rounded = _to_precision(amax, fmt.element_precision)
            return _to_scale(rounded / power, RoundingMode.TOWARD_ZERO, fmt)
        case ScaleRule.RCEIL:
            return _to_scale(amax / _largest(fmt), RoundingMode.TOWARD_POSITIVE, fmt)
        case ScaleRule.NEAREST:
            return _to_scale(amax / _largest(fmt), RoundingMode.TIES_TO_EVEN, fmt)
        case ScaleRule.MAX_ABS:
            return _to_scale(amax, RoundingMode.TIES_TO_EVEN, fmt)
        case _:
            raise AssertionError("the rules of NVFP4 have functions of their own")


def _to_scale(ratio: Fraction, mode: RoundingMode, fmt: BlockFormat) -> float:
    saturating = RoundingSpec(format=fmt.scale, mode=mode, overflow=OverflowMode.SATURATE)
    return round_exact(ratio, saturating).value


def _to_precision(x: Fraction, precision: int) -> Fraction:
    """Round to nearest, ties to even, without bounds of the exponent."""
    if not x:
        return x
    quantum = Fraction(2) ** (floor_log2(x) - precision + 1)
    return round(x / quantum) * quantum


def _divided(x: float, scale: float) -> float | Fraction:
    """Return the exact quotient; infinity, NaN and zeros stay, and over 0 all is 0."""
    if not math.isfinite(x) or x == 0:
        return x
    if scale == 0:
        return math.copysign(0.0, x)
    return Fraction(x) / Fraction(scale)


def _fl(x: Fraction) -> float:
    """Round to float32."""
    return round_exact(x, "fp32").value


def _torchao(
    blocks: list[list[float]], amax: list[Fraction], fmt: BlockFormat
) -> tuple[list[float], float, list[list[float | Fraction]]]:
    """Round each operation to float32: pytorch/ao, prototype/mx_formats/nvfp4_tensor.py."""
    largest, scale_max, scale_min = (
        _largest(fmt),
        Fraction(fmt.scale.max_finite),
        fmt.scale.min_normal,
    )
    tensor = _fl(max(amax, default=Fraction(0)) / (largest * scale_max)) or 1.0
    scales: list[float] = []
    quotients: list[list[float | Fraction]] = []
    for a, block in zip(amax, blocks, strict=True):
        ratio = _fl(Fraction(_fl(a / largest)) / Fraction(tensor))
        scale = _to_scale(Fraction(max(ratio, scale_min)), RoundingMode.TIES_TO_EVEN, fmt)
        inverse = _fl(1 / Fraction(tensor))
        if math.isfinite(inverse):
            inverse = _fl(Fraction(inverse) / Fraction(scale))
        scales.append(scale)
        quotients.append([_clamped(_times(x, inverse), float(largest)) for x in block])
    return scales, tensor, quotients


def _transformer_engine(
    blocks: list[list[float]], amax: list[Fraction], fmt: BlockFormat
) -> tuple[list[float], float, list[list[float | Fraction]]]:
    """Round each operation to float32: TransformerEngine, custom_recipes/reference_nvfp4.py."""
    largest, scale_max = _largest(fmt), Fraction(fmt.scale.max_finite)
    total = max(amax, default=Fraction(0))
    encode = min(_fl(largest * scale_max / total), _HIGHEST) if total else _HIGHEST
    tensor = _fl(1 / Fraction(encode))
    multiplier = _fl(Fraction(encode) * Fraction(_fl(1 / largest)))
    scales: list[float] = []
    quotients: list[list[float | Fraction]] = []
    for a, block in zip(amax, blocks, strict=True):
        ratio = min(_fl(a * Fraction(multiplier)), _HIGHEST)
        scale = _to_scale(Fraction(ratio), RoundingMode.TIES_TO_EVEN, fmt)
        scales.append(scale)
        quotients.append(_times_reciprocal(block, scale, tensor, float(largest)))
    return scales, tensor, quotients


def _times_reciprocal(
    block: list[float], scale: float, tensor: float, largest: float
) -> list[float | Fraction]:
    product = _fl(Fraction(scale) * Fraction(tensor))
    inverse = min(_fl(1 / Fraction(product)), _HIGHEST) if product else _HIGHEST
    row = [_clamped(_times(x, inverse), largest) for x in block]
    return [q if q else 0.0 for q in row]  # no -0


def _four_over_six(
    blocks: list[list[float]], amax: list[Fraction], fmt: BlockFormat
) -> tuple[list[float], float, list[list[float | Fraction]]]:
    """Round each operation to float32: fouroversix, quantize/pytorch/reference.py.

    The order in which that library adds the squared errors is not stated; see `_squared_error`.
    """
    total = max(amax, default=Fraction(0))
    encode = min(_fl(6 * 256 / total), _HIGHEST) if total else _HIGHEST
    tensor = _fl(1 / Fraction(encode))
    scales: list[float] = []
    quotients: list[list[float | Fraction]] = []
    for a, block in zip(amax, blocks, strict=True):
        ratio = min(_fl(Fraction(_fl(a / 6)) * Fraction(encode)), _HIGHEST)
        best: tuple[float, float, list[float | Fraction]] | None = None
        for wider in (ratio, min(_fl(Fraction(ratio) * Fraction(3, 2)), _HIGHEST)):
            scale = _to_scale(Fraction(wider), RoundingMode.TIES_TO_EVEN, fmt)
            row = _times_reciprocal(block, scale, tensor, 6.0)
            error = _squared_error(block, row, Fraction(scale) * Fraction(tensor), fmt)
            if best is None or error < best[0]:
                best = error, scale, row
        assert best is not None
        scales.append(best[1])
        quotients.append(best[2])
    return scales, tensor, quotients


def _squared_error(
    block: list[float], row: list[float | Fraction], scale: Fraction, fmt: BlockFormat
) -> float:
    """Add the squared errors of elements rounded to nearest: halves of the block, then of sums."""
    nearest = RoundingSpec(format=fmt.element, overflow=OverflowMode.SATURATE)

    def saturated(x: Fraction) -> float:
        return _clamped(_fl(x), _HIGHEST)

    values = [Fraction(round_exact(Fraction(q), nearest).value) * scale for q in row]
    errors = [saturated(v - Fraction(x)) for v, x in zip(values, block, strict=True)]
    sums = [saturated(Fraction(error) ** 2) for error in errors]
    while len(sums) > 1:
        half = (len(sums) + 1) // 2
        rest = [*sums[half:], 0.0][:half]
        sums = [
            saturated(Fraction(x) + Fraction(y)) for x, y in zip(sums[:half], rest, strict=True)
        ]
    return sums[0] if sums else 0.0


def _times(x: float, y: float) -> float:
    """Multiply in float32; zeros stay what they are, also times infinity."""
    if x == 0:
        return x
    return math.copysign(math.inf, x) if math.isinf(y) else _fl(Fraction(x) * Fraction(y))


def _clamped(x: float, largest: float) -> float:
    return math.copysign(min(abs(x), largest), x)


def quantize_group_exactly(
    group: Block,
    spec: RoundingSpec,
    random_bits: Sequence[int] | None = None,
    *,
    carrier: str = "fp32",
) -> ExactGroup:
    """Quantize the elements that share a scale in an affine format.

    Parameters
    ----------
    group : sequence of float
        Finite elements.
    spec : RoundingSpec
        An affine format, and the rule of its elements.
    random_bits : sequence of int, optional
        R of mode "sr" for each element.
    carrier : str
        "fp32" or "fp64", the format of the scale.

    Returns
    -------
    ExactGroup
        Codes, scale and zero point.

    Examples
    --------
    >>> quantize_group_exactly([-1.0, 0.0, 2.0], RoundingSpec.parse("uint8"))
    ExactGroup(codes=[0, 85, 255], scale=0.0117647061124444, zero_point=85)
    """
    fmt = spec.format
    assert isinstance(fmt, AffineFormat)
    rounding = RoundingSpec.parse(carrier)
    exact = [Fraction(x) for x in group]
    low, high = min([*exact, Fraction(0)]), max([*exact, Fraction(0)])
    half = 1 << (fmt.bits - 1)
    if fmt.is_symmetric:
        width, steps = max(high, -low), half - 1
    else:
        # Rounded to the carrier's precision; half of it never leaves the range.
        width, steps = 2 * Fraction(round_exact((high - low) / 2, rounding).value), 2 * half - 1
    assert isinstance(rounding.format, FloatFormat)
    least = rounding.format.min_normal
    scale = max(round_exact(width / steps, rounding).value, least)
    zero = half if fmt.is_symmetric else min(round(-low / Fraction(scale)), 2 * half - 1)
    integer = replace(
        spec, format=FixedPointFormat(name="integers", integer_bits=40, fraction_bits=0)
    )
    codes = []
    for k, x in enumerate(exact):
        draw = 0 if random_bits is None else random_bits[k]
        step = int(round_exact(x / Fraction(scale), integer, random_bits=draw).value)
        codes.append(min(max(step + zero, int(fmt.is_symmetric)), 2 * half - 1))
    shift = half if fmt.is_signed else 0
    return ExactGroup([c - shift for c in codes], scale, zero - shift)


def quantize_tile_exactly(
    tile: Block, spec: RoundingSpec, random_bits: Sequence[int] | None = None
) -> ExactTile:
    """Quantize the elements that share a scale in a tile format.

    Parameters
    ----------
    tile : sequence of float
        Finite float32 elements.
    spec : RoundingSpec
        A tile format, and the rule of its elements.
    random_bits : sequence of int, optional
        R of mode "sr" for each element.

    Returns
    -------
    ExactTile
        Values of the elements, and their scale.

    Examples
    --------
    >>> quantize_tile_exactly([-1.0, 0.3, 2.0], RoundingSpec.parse("e4m3:scale=tensor"))
    ExactTile(elements=[-224.0, 64.0, 448.0], scale=0.0044642859138548374)
    """
    fmt = spec.format
    assert isinstance(fmt, TileFormat)
    amax = max((abs(Fraction(x)) for x in tile), default=Fraction(0))
    factor = min(_fl(Fraction(fmt.element.max_finite) / amax), _HIGHEST) if amax else 1.0
    if fmt.is_power_of_two:
        factor = 2.0 ** floor_log2(Fraction(factor))
    element = replace(spec, format=fmt.element)
    rounded = []
    for k, x in enumerate(tile):
        draw = 0 if random_bits is None else random_bits[k]
        rounded.append(round_exact(_times(x, factor), element, random_bits=draw).value)
    return ExactTile(rounded, _fl(1 / Fraction(factor)))
