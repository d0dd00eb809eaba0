"""Codes in exact arithmetic: those of the codec, and derived by arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

import precsim as ps
from precsim.formats.fields import derivation, parse_code
from precsim.formats.oracle import decode_exact, encode_exact
from precsim.formats.registry import list_formats
from precsim.rounding.spec import RoundingSpec

NUMBER_FORMATS = list_formats(kind="float") + list_formats(kind="fixed")


@pytest.mark.parametrize("name", [*NUMBER_FORMATS, "binary8p1ue", "binary6p1se", "float(e=4,p=2)"])
def test_codes_in_exact_arithmetic_are_those_of_the_codec(name: str) -> None:
    fmt = RoundingSpec.parse(name).format
    width = fmt.width
    assert width is not None
    draws = np.random.default_rng(0).integers(0, 2**63, 200, dtype=np.uint64) >> np.uint64(1)
    codes = np.unique(draws & np.uint64((1 << width) - 1))
    for code, value in zip(codes.tolist(), ps.decode(codes, fmt).tolist(), strict=True):
        exact = decode_exact(code, fmt)
        assert np.array_equal(exact, value, equal_nan=True)
        assert derivation(code, fmt)
        assert encode_exact(value, fmt) == ps.encode(value, fmt)


def test_the_derivation_is_arithmetic_that_gives_the_value() -> None:
    """Each finite code of e4m3 and q3.4: what stands left of ``=`` evaluates to the value."""
    for name in ("e4m3", "e4m3fnuz", "q3.4", "e8m0"):
        fmt = ps.get_format(name)
        for code in range(256):
            text = derivation(code, fmt)
            if "NaN" in text or "digits" in text:
                continue
            *formulas, said = text.split(" = ")
            for formula in formulas:
                assert evaluated(formula) == Fraction(said) == decode_exact(code, fmt)


def evaluated(formula: str) -> Fraction:
    """Evaluate powers, products and binary numbers with a point, such as ``1.101b``."""
    total = Fraction(1)
    for factor in formula.split(" * "):
        if factor.endswith("b"):
            whole, _, part = factor[:-1].partition(".")
            total *= Fraction(int(whole + part, 2), 2 ** len(part))
        else:
            total *= Fraction(eval(factor, {}, {"Fraction": Fraction}))
    return total


def test_codes_as_people_write_them() -> None:
    assert parse_code("0x3C00") == (0x3C00, (16,))
    assert parse_code("0 01111 0000000000") == (0x3C00, (1, 5, 10))
    assert parse_code("0b0011_1000") == (0x38, (8,))
    assert parse_code("15360") == (15360, ())
    for text in ("", "3c00", "-1", "0x", "1.5", "007", "0x1g", "٣", "f" * 200):
        with pytest.raises(ValueError, match="--code is"):
            parse_code(text)
