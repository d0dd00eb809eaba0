"""The named block formats, and how formats with scales are told from formats of single numbers."""

import re
from dataclasses import replace
from typing import TypeAlias

from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.catalogue import FORMATS
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.tile import TileFormat

ScaledFormat: TypeAlias = BlockFormat | AffineFormat | TileFormat | DynamicFormat

_MX = "OCP Microscaling Formats (MX) Specification, version 1.0"
_FLOATS = {fmt.name: fmt for fmt in FORMATS}
_MXINT8 = FixedPointFormat(name="q1.6", integer_bits=1, fraction_bits=6, source=_MX)


def _mx(name: str, element: str) -> BlockFormat:
    return BlockFormat(
        name=name,
        element=_FLOATS.get(element, _MXINT8),
        scale=_FLOATS["e8m0"],
        block_size=32,
        source=_MX,
    )


BLOCK_FORMATS: dict[BlockFormat, tuple[str, ...]] = {
    _mx("mxfp8_e4m3", "e4m3"): ("mxfp8",),
    _mx("mxfp8_e5m2", "e5m2"): (),
    _mx("mxfp6_e3m2", "e3m2"): (),
    _mx("mxfp6_e2m3", "e2m3"): (),
    _mx("mxfp4", "e2m1"): ("mxfp4_e2m1",),
    _mx("mxint8", "q1.6"): (),
    BlockFormat(
        name="nvfp4",
        element=_FLOATS["e2m1"],
        scale=_FLOATS["e4m3"],
        block_size=16,
        tensor_scale=_FLOATS["fp32"],
        scale_rule=ScaleRule.TRANSFORMER_ENGINE,
        source="NVIDIA, Pretraining Large Language Models with NVFP4 (arXiv 2509.25149), 2",
    ): (),
}
"""Format -> its aliases. In this order `precsim formats` prints them."""

AFFINE_NAMES = ("int8", "uint8", "int4", "uint4", "int8_symmetric", "int4_symmetric_block32")
"""The affine formats that `precsim formats` prints; others are spelled out."""


_VARIANT = re.compile(
    rf"(.+?)(?:_([1-9]\d{{,8}})x([1-9]\d{{,8}}))?(?:_({'|'.join(ScaleRule)}))?", re.ASCII
)


def block_variant(name: str, known: dict[str, object]) -> BlockFormat | None:
    """Return the format ``BLOCKFORMAT[_AxB][_RULE]``, None if `name` is not of that form.

    Blocks are `across` = A vectors by `block_size` = B elements of each.
    """
    match = _VARIANT.fullmatch(name)
    base = known.get(match[1]) if match else None
    if match is None or not isinstance(base, BlockFormat):
        return None
    _, across, size, rule = match.groups()
    changes: dict[str, object] = {"scale_rule": rule} if rule else {}
    if across:
        changes |= {"across": int(across), "block_size": int(size)}
    return replace(base, name=name, **changes)  # type: ignore[arg-type]


def scaled_format(fmt: object) -> ScaledFormat | None:
    """Return a format whose elements share scales as it is, None for a format of numbers."""
    return fmt if isinstance(fmt, ScaledFormat) else None


def refuse_scaled(fmt: object, what: str) -> None:
    """Refuse block and affine formats where single numbers are rounded, encoded or decoded."""
    if scaled_format(fmt) is not None:
        kind = "an affine" if isinstance(fmt, AffineFormat) else "a block"
        kind = "a scaled" if isinstance(fmt, TileFormat | DynamicFormat) else kind
        raise ValueError(
            f"{what} is {fmt}, {kind} format, whose elements share scales; allowed are formats of single "
            "numbers (quantize, dequantize and round_to take block and affine formats)"
        )
