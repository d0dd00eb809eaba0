"""Bits of elements and scales in memory."""

from fractions import Fraction

import pytest

import precsim as ps
from precsim.formats.storage import element_bits, has_one_scale, in_bytes, scale_bits


@pytest.mark.parametrize(
    ("name", "element", "scales", "has_one"),
    [
        ("fp32", 32, 0, False),
        ("e4m3", 8, 0, False),
        ("q3.12", 16, 0, False),
        ("mxfp4", 4.25, 0, False),
        ("nvfp4", 4.5, 32, False),
        ("int8", 8, 3 * 40, True),
        ("int8_symmetric_channel", 8, 3 * 32, False),
        ("int4_symmetric_block32", 5, 0, False),
        ("e4m3:scale=tensor", 8, 3 * 32, True),
        ("e4m3:scale=row", 8, 3 * 32, False),
        ("e4m3:scale=1x128", 8.25, 0, False),
    ],
)
def test_bits(name: str, element: float, scales: int, has_one: bool) -> None:
    fmt = ps.RoundingSpec.parse(name).format
    assert element_bits(fmt) == element
    assert scale_bits(fmt, 3) == scales
    assert has_one_scale(fmt) == has_one


def test_bytes_are_whole_and_a_format_needs_a_width() -> None:
    assert [in_bytes(bits) for bits in (0, 1, 8, Fraction(33, 4))] == [0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"format is .*, whose exponents have no limit"):
        element_bits(ps.FloatFormat(name="wide", precision=8, exponent_bits=None))
