"""`decode_exact` and `encode_exact`: the definition of codes, which the array functions return."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.oracle import decode_exact, encode_exact, round_exact

P3109 = [
    f"binary{k}p{p}{sign}{ends}"
    for k in range(3, 7)
    for sign in "su"
    for ends in "ef"
    for p in range(1, k + (sign == "u"))
]
NARROW = [
    name
    for name in (*ps.list_formats(kind="float"), *ps.list_formats(kind="fixed"))
    if (ps.get_format(name).width or 99) <= 16
]
OTHER = ["float(e=6,p=3)", "float(e=1,p=3)", "q-2.8", "q9.-3", "uq10.-2"]


def same(x: Any, y: Any) -> bool:
    return np.asarray(x, float).tobytes() == np.asarray(y, float).tobytes()


def check_codes(name: str) -> None:
    """Compare all codes with the array functions; of 16 bits every 37th and the ends."""
    width = ps.get_format(name).width or 0
    last = (1 << width) - 1
    codes = sorted({*range(0, last + 1, 37 if width > 10 else 1), last // 2, last // 2 + 1, last})
    values = [decode_exact(code, name) for code in codes]
    expected = ps.decode(np.array(codes), name)
    assert same(values, expected)
    assert [encode_exact(v, name) for v in values] == ps.encode(expected, name).tolist()
    negative = [code - last - 1 for code in codes if code > last // 2]
    assert same([decode_exact(code, name) for code in negative], values[-len(negative) :])


@pytest.mark.parametrize("name", [*NARROW, *OTHER])
def test_the_definition_equals_the_array_functions_for_every_code(name: str) -> None:
    check_codes(name)


def test_the_definition_equals_the_array_functions_for_p3109() -> None:
    for name in P3109:
        check_codes(name)


@pytest.mark.parametrize("name", ["fp64", "fp32", "tf32"])
def test_wide_formats(name: str) -> None:
    rng = np.random.default_rng(5)
    width = ps.get_format(name).width or 0
    for code in [int(c) >> (64 - width) for c in rng.integers(0, 2**64, 300, dtype=np.uint64)]:
        value = decode_exact(code, name)
        assert same(value, ps.decode(np.uint64(code), name))
        assert math.isnan(value) or encode_exact(value, name) == code


@pytest.mark.parametrize("name", ["e4m3", "e2m1", "e8m0", "e5m2fnuz", "binary8p4se", "q3.4"])
def test_what_lies_between_the_values_has_no_code(name: str) -> None:
    for x in (Fraction(1, 3), 1 + 2.0**-40, 1e300, 2.0**-1000, -(2.0**-1000), Decimal("0.1")):
        with pytest.raises(ValueError, match=f"is not in {name}; round it first"):
            encode_exact(x, name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (-0.0, "q3.4"),
        (-0.0, "e5m2fnuz"),
        (0.0, "e8m0"),
        (-1.0, "e8m0"),
        (math.inf, "e4m3"),
        (math.nan, "e2m1"),
        (math.nan, "q3.4"),
        (-math.inf, "binary8p4ue"),
        (8.0, "q3.4"),
    ],
)
def test_what_a_format_lacks_has_no_code(value: float, name: str) -> None:
    for refuse in (encode_exact, ps.encode):
        with pytest.raises(ValueError, match=f"is not in {name}; round it first"):
            refuse(value, name)


def test_bad_codes_and_formats_are_named() -> None:
    with pytest.raises(ValueError, match=r"^code is 256; allowed are integers from -128 to 255$"):
        decode_exact(256, "e4m3")
    with pytest.raises(ValueError, match=r"^code is 1\.0; allowed are integers from"):
        decode_exact(1.0, "e4m3")  # type: ignore[arg-type]
    for refuse in (decode_exact, encode_exact):
        with pytest.raises(ValueError, match="unlimited exponent range, hence no codes"):
            refuse(1, "float(e=inf,p=4)")
        with pytest.raises(ValueError, match=r"^fmt is mxfp4, a block format"):
            refuse(1, "mxfp4")
    with pytest.raises(ValueError, match=r"q5000\.-4990 has values beyond float64, here"):
        decode_exact(1, "q5000.-4990")
    assert decode_exact(0, "q5000.-4990") == 0


NUMBERS: list[Any] = [0.75, Fraction(3, 4), Decimal("0.75"), np.float16(0.75), np.array(0.75)]
NUMBERS += [np.float32(0.75), np.longdouble("0.75")]


@pytest.mark.parametrize("x", NUMBERS, ids=lambda x: type(x).__name__)
def test_numbers_of_every_type_are_taken_exactly(x: Any) -> None:
    assert encode_exact(x, "e4m3") == 0x34
    assert round_exact(x, "e4m3").value == 0.75
    assert ps.oracle.compute_exact("multiply", x, x, spec="fp16").value == 0.5625
    assert ps.oracle.fused_dot_exact([x], [x], x, "h100:fp16") == 1.3125
    assert ps.oracle.ulp_exact(x, "e4m3") == 0.0625


def test_integers_of_every_type_are_taken_exactly() -> None:
    huge = 2**70 + 2**18
    for x in (huge, Decimal(huge), Fraction(huge)):
        assert round_exact(x, "fp64:rtp").value == 2.0**70 + 2**18
    integers: list[Any] = [np.int8(-8), np.uint64(8), np.array(8), True, np.True_]
    for x in integers:
        assert round_exact(x, "fp64").value == int(x)


def test_digits_that_a_float_has_not_count() -> None:
    """Half way between two values of fp64, but for the last digit."""
    above = Decimal(f"{2**53 + 1}.{'0' * 40}1")
    assert round_exact(above, "fp64").value == 2.0**53 + 2
    long: Any = np.longdouble(1) + np.finfo(np.longdouble).eps
    assert round_exact(long, "fp64:rtp").value > 1 or np.longdouble is np.float64


def test_signs_and_specials_of_every_type() -> None:
    zeros: list[Any] = [-0.0, Decimal("-0"), np.float32(-0.0), np.longdouble("-0.0")]
    for zero in zeros:
        assert same(round_exact(zero, "fp16").value, -0.0)
    kinds: list[Any] = [float, Decimal, np.float32, np.longdouble]
    for kind in kinds:
        assert round_exact(kind("-inf"), "fp16").value == -math.inf
        assert math.isnan(round_exact(kind("nan"), "fp16").value)


@pytest.mark.parametrize("x", ["x", "0.5", None, 1j, [1.0], np.array([1.0]), np.complex64(1)])
def test_what_is_no_number_is_named(x: Any) -> None:
    """`round_exact("x")` gave Python's own message about "<"; `compute_exact` took "0.5"."""
    for call, argument in (
        (lambda: round_exact(x, "fp16"), "x"),
        (lambda: encode_exact(x, "fp16"), "value"),
        (lambda: ps.oracle.ulp_exact(x, "fp16"), "x"),
        (lambda: ps.oracle.compute_exact("add", 1.0, x, spec="fp16"), "operand 2"),
        (lambda: ps.oracle.fused_dot_exact([1.0, x], [1.0, 1.0], 0.0, "h100:fp16"), "a"),
    ):
        with pytest.raises(TypeError, match=f"^{argument} is .*; allowed are real numbers: int"):
            call()


def test_fused_dot_names_its_arguments() -> None:
    """Operands of two lengths gave Python's own message about `zip`."""
    fused = ps.oracle.fused_dot_exact
    with pytest.raises(ValueError, match=r"^a has 3 numbers, b 2; allowed is one length for both$"):
        fused([1.0] * 3, [1.0] * 2, 0.0, "h100:fp16")
    with pytest.raises(TypeError, match=r"^b is 1\.0; allowed are sequences of numbers$"):
        fused([1.0], 1.0, 0.0, "h100:fp16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^c has Fraction\(1, 3\); allowed are numbers that are"):
        fused([1.0], [1.0], Fraction(1, 3), "h100:fp16")
    with pytest.raises(ValueError, match=r"^a has 100.*; allowed are numbers that are floats"):
        fused([10**400], [1.0], 0.0, "h100:fp16")
    with pytest.raises(ValueError, match=r"^random_bits is 0\.5; allowed are integers from 0 to"):
        fused([1.0], [1.0], 0.0, "h100:fp16", random_bits=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^random_bits is '3'; allowed are integers$"):
        round_exact(1.0, "fp16", random_bits="3")  # type: ignore[arg-type]
