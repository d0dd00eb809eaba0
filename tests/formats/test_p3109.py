"""The formats of IEEE P3109, against the definition of the Interim Report v4.0, in fractions."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT64
from tests.p3109 import Parameters, formats_of


def decoded(code: int, fmt: Parameters) -> Fraction | float:
    """Decode one code point (4.7.2): NaN and infinities first, then the sign, then the fields."""
    K, P = fmt.K, fmt.P
    bias = 1 << (K - P - 1 if fmt.signed else K - P)
    if code == (1 << (K - 1) if fmt.signed else (1 << K) - 1):
        return math.nan
    if fmt.signed and code > 1 << (K - 1):
        return -decoded(code - (1 << (K - 1)), fmt)
    if fmt.extended and code == ((1 << (K - 1)) - 1 if fmt.signed else (1 << K) - 2):
        return math.inf
    exponent, trailing = divmod(code, 1 << (P - 1))
    fraction = Fraction(trailing, 1 << (P - 1))
    if exponent == 0:
        return fraction * Fraction(2) ** (1 - bias)
    return (1 + fraction) * Fraction(2) ** (exponent - bias)


def as_float64(value: Fraction | float) -> float | None:
    """The same number as a Python float, None if there is no such float."""
    if isinstance(value, float):
        return value
    if abs(value) >= Fraction(2) ** 1024:
        return None
    return float(value) if Fraction(float(value)) == value else None


def bits(x: Any) -> Any:
    """Return the patterns of float64 numbers, the same one for every NaN."""
    x = np.asarray(x, np.float64)
    return np.where(np.isnan(x), np.nan, x).view(np.uint64)


@pytest.mark.parametrize("width", [3, 4, 5, 6, 7, 8])
def test_every_code_of_every_format_up_to_8_bits(width: int) -> None:
    """Values, and the codes back; all fit into float32."""
    codes = np.arange(1 << width, dtype=np.uint8)
    for fmt in formats_of(width):
        expected = [as_float64(decoded(code, fmt)) for code in codes.tolist()]
        assert None not in expected
        values = ps.decode(codes, fmt.name)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(bits(values), bits(expected), err_msg=fmt.name)
        for carrier in (np.float32, np.float64):
            encoded = ps.encode(values.astype(carrier), fmt.name)
            np.testing.assert_array_equal(encoded, codes, err_msg=fmt.name)


def test_the_report_has_120_formats_of_up_to_8_bits_with_13296_codes() -> None:
    formats = [fmt for width in range(3, 9) for fmt in formats_of(width)]
    assert len(formats) == len({fmt.name for fmt in formats}) == 120
    assert sum(2**fmt.K for fmt in formats) == 13296


@pytest.mark.parametrize("width", range(9, 17))
def test_wider_formats_or_their_refusal(width: int) -> None:
    """The ends and 40 other codes; formats with numbers beyond float64 say so."""
    rng = np.random.default_rng(width)
    for fmt in formats_of(width):
        size = 1 << width
        special = [*range(3), size // 2, size - 1]
        ends = {code + d for code in special for d in (-2, -1, 0, 1) if 0 <= code + d < size}
        codes = np.array(sorted(ends | set(rng.integers(0, size, 40).tolist())), np.uint16)
        last = size // (1 + fmt.signed) - 1 - fmt.extended - (not fmt.signed)
        largest = decoded(last, fmt)
        described = ps.get_format(fmt.name)
        assert isinstance(described, ps.FloatFormat)
        significand, exponent = described.magnitude(last)
        assert significand * Fraction(2) ** exponent == largest
        if None in (as_float64(largest), as_float64(decoded(1, fmt))):
            check_refused(described)
            continue
        expected = [as_float64(decoded(code, fmt)) for code in codes.tolist()]
        assert described.max_finite == as_float64(largest)
        assert described.min_subnormal == as_float64(decoded(1, fmt))
        values = ps.decode(codes, fmt.name)
        np.testing.assert_array_equal(bits(values), bits(expected), err_msg=fmt.name)
        np.testing.assert_array_equal(ps.encode(values, fmt.name), codes, err_msg=fmt.name)


def check_refused(fmt: ps.FloatFormat) -> None:
    with pytest.raises(ValueError, match=rf"^{fmt.name} has values beyond float64, here \d+ \* 2"):
        _ = fmt.max_finite
    with pytest.raises(ValueError, match=f"^{fmt.name} has no codes, or values that neither"):
        ps.decode([1], fmt)
    for refuse in (ps.encode, ps.round_to, ps.ulp):
        with pytest.raises(ValueError, match=f"a float64 carrier cannot hold {fmt.name}"):
            refuse(1.0, fmt)
    with pytest.raises(ValueError, match=f"{fmt.name} has values beyond float64"):
        ps.oracle.round_exact(1e300, fmt)


def test_334_of_the_384_wider_formats_fit_float64() -> None:
    """By hand: up to 11 exponent bits: min(K - 1, 11) precisions if signed, min(K, 11) if not."""
    formats = [ps.get_format(fmt.name) for width in range(9, 17) for fmt in formats_of(width)]
    assert len(formats) == 384
    assert sum(fmt.fits(FLOAT64) for fmt in formats) == 334


@pytest.mark.parametrize("name", ["binary8p4se", "binary8p1uf", "binary5p5ue"])
def test_jit_gives_the_same_bits(name: str) -> None:
    codes = np.arange(1 << int(name[6]), dtype=np.uint8)
    values = jax.jit(lambda c: ps.decode(c, name))(codes)
    np.testing.assert_array_equal(bits(values), bits(ps.decode(codes, name)))
    np.testing.assert_array_equal(jax.jit(lambda v: ps.encode(v, name))(values), codes)


# Names.


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("Binary8p4se", "binary8p4se"),  # as the report spells it
        ("p3109_k8p4se", "binary8p4se"),
        ("P3109_K8P4SE", "binary8p4se"),
        ("p3109_k4p2sf", "binary4p2sf"),
        ("p3109_k8p1uf", "binary8p1uf"),
    ],
)
def test_other_spellings(alias: str, name: str) -> None:
    assert ps.get_format(alias) == ps.get_format(name)
    assert ps.get_format(alias).name == name
    assert str(ps.RoundingSpec.parse(f"{alias}:rtz")) == f"{name}:rtz"


@pytest.mark.parametrize(
    "name",
    ["binary2p1se", "binary17p4se", "binary8p0se", "binary8p8se", "binary8p9ue", "p3109_k4p4sf"],
)
def test_names_out_of_range_say_what_is_allowed(name: str) -> None:
    allowed = r"with K from 3 to 16 and P from 1 to K - 1 if signed, to K if unsigned"
    with pytest.raises(ValueError, match=f"^format '{name}' is out of range: .* {allowed}$"):
        ps.get_format(name)


def test_unsigned_formats_of_k_equal_to_p() -> None:
    """From the value table of Binary10p10ue: bias 1, one exponent bit, normals from 1 on."""
    fmt = ps.get_format("binary10p10ue")
    assert isinstance(fmt, ps.FloatFormat)
    assert (fmt.exponent_bits, fmt.bias, fmt.width) == (1, 1, 10)
    values = ps.decode([0x001, 0x002, 0x1FF, 0x200, 0x201, 0x3FD, 0x3FE, 0x3FF], fmt).tolist()
    half = [2.0**-9, 2.0**-8, 511 * 2.0**-9, 1.0, 1 + 2.0**-9, 2 - 3 * 2.0**-9, math.inf]
    assert values[:-1] == half
    assert math.isnan(values[-1])


@pytest.mark.parametrize("name", ["binary8p4", "binary8p4es", "binary8", "p3109_8p4se"])
def test_misspelled_names_are_unknown(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{name}'; .*binary8p4se"):
        ps.get_format(name)


def test_binary16_is_still_that_of_ieee_754() -> None:
    assert ps.get_format("binary16") is ps.get_format("fp16")
    assert ps.get_format("binary16p11se") != ps.get_format("fp16")


def test_the_report_s_minimum_is_registered() -> None:
    """4.5: F8 = {Binary8p4se, Binary8p3se}, F4 = {Binary4p2sf}."""
    assert {"binary8p4se", "binary8p3se", "binary4p2sf"} <= set(ps.list_formats(kind="float"))


def test_one_zero_and_one_nan() -> None:
    with pytest.raises(ValueError, match=r"-0\.0 is not in binary8p4se"):
        ps.encode(-0.0, "binary8p4se")
    assert ps.encode([np.nan, -np.nan], "binary8p4se").tolist() == [0x80, 0x80]
    assert ps.encode([np.nan, -np.nan], "binary8p4ue").tolist() == [0xFF, 0xFF]
    assert not np.signbit(ps.decode(0x80, "binary8p4se"))


def test_finite_formats_have_no_infinity_to_encode() -> None:
    for name in ("binary8p4sf", "binary8p4uf"):
        with pytest.raises(ValueError, match=f"inf is not in {name}"):
            ps.encode(np.inf, name)
    with pytest.raises(ValueError, match="-inf is not in binary8p4ue"):
        ps.encode(-np.inf, "binary8p4ue")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exponent_bits": None}, "specials 'p3109_finite' need codes, hence exponent_bits"),
        ({"has_negative_zero": True}, "use the code of -0 for NaN: the format has no -0"),
        ({"exponent_bits": 1, "precision": 1, "is_signed": False}, "no code is left for finite"),
    ],
    ids=str,
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    common: dict[str, Any] = {
        "name": "x",
        "precision": 4,
        "exponent_bits": 4,
        "specials": "p3109_finite",
    }
    with pytest.raises(ValueError, match=message):
        ps.FloatFormat(**common | fields)
