"""Block formats: every rule against exact fractions, and the cases that other tools got wrong."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.oracle import quantize_blocks_exactly

F: Any = np.float32

MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8")
RULES = ("floor", "ceil", "even", "rceil", "nearest", "max_abs")
POWERS = [Fraction(2) ** e for e in range(-300, 300)]
FLOAT32_MAX = float(np.finfo(np.float32).max)


def block_format(name: str, **changes: Any) -> ps.BlockFormat:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.BlockFormat)
    return replace(fmt, **changes)


def blocks(count: int, size: int, seed: int, *, lowest: int = -149, highest: int = 127) -> Any:
    """Make float32 blocks of all magnitudes: both zeros, ties, subnormals, equal elements."""
    rng = np.random.default_rng(seed)
    exponents = rng.integers(lowest, highest, (count, 1)).astype(float)
    x = rng.uniform(-2, 2, (count, size))
    coarse = rng.random((count, size)) < 0.4
    x = np.where(coarse, np.round(x * 16) / 16, x) * 2.0 ** (
        exponents - rng.integers(0, 6, (count, size))
    )
    x[rng.random((count, size)) < 0.1] = 0.0
    x[rng.random((count, size)) < 0.1] = -0.0
    x[0], x[1] = 0.0, -0.0
    return x.astype(np.float32)


def assert_as_defined(x: Any, spec: Any, assert_same_bits: Any, random_bits: Any = None) -> None:
    """Compare element values, scales and tensor scale with the definition."""
    spec = ps.RoundingSpec.parse(spec)
    q = ps.quantize(x, spec, random_bits=random_bits)
    draws = None if random_bits is None else random_bits.tolist()
    exact = quantize_blocks_exactly(x.tolist(), spec, draws)
    elements = ps.decode(q.codes, spec.format.element)
    assert_same_bits(elements, F(exact.elements), inputs=x, what=f"{spec}, elements")
    scales = F(exact.scales)[:, None]
    assert_same_bits(ps.decode(q.scales, spec.format.scale), scales, what=f"{spec}, scales")
    if exact.tensor_scale is not None:
        assert float(q.tensor_scale) == exact.tensor_scale  # type: ignore[arg-type]
    # The value is the exact product, rounded to float32.
    tensor = Fraction(1 if exact.tensor_scale is None else exact.tensor_scale)
    with np.errstate(invalid="ignore"):
        special = F(exact.elements) * scales
    expected = [
        ps.oracle.round_exact(Fraction(e) * Fraction(s) * tensor, "fp32").value
        if e and math.isfinite(e) and math.isfinite(s)
        else v
        for row, s, values in zip(exact.elements, exact.scales, special, strict=True)
        for e, v in zip(row, values, strict=True)
    ]
    values = ps.dequantize(q)
    assert_same_bits(values, F(expected).reshape(x.shape), inputs=x, what=f"{spec}")
    assert_same_bits(ps.round_to(x, spec, random_bits=random_bits), values)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX)
def test_every_rule_is_as_defined(name: str, rule: str, assert_same_bits: Any) -> None:
    fmt = block_format(f"{name}_{rule}", block_size=8)
    x = blocks(24, 8, seed=len(name + rule))
    assert_as_defined(x, fmt, assert_same_bits)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX)
def test_every_rule_is_as_defined_on_many_blocks(
    name: str, rule: str, assert_same_bits: Any
) -> None:
    for size in (1, 3, 32):
        fmt = block_format(f"{name}_{rule}", block_size=size)
        assert_as_defined(blocks(3000 // size, size, seed=size), fmt, assert_same_bits)


@pytest.mark.parametrize(
    "options",
    ["rtz", "rtp", "rna", "rto", "sr", "sr5:b", "flush_after_rounding", "saturate_infinity"],
)
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "mxint8"])
def test_options_are_those_of_the_elements(
    name: str, options: str, assert_same_bits: Any, draws: Any
) -> None:
    if name == "mxint8" and options == "flush_after_rounding":
        options = "saturate_symmetric"  # fixed point has no subnormals
    x = blocks(12, 32, seed=3, lowest=-20, highest=20)
    random_bits = draws(x.size, 1).reshape(x.shape) if options.startswith("sr") else None
    assert_as_defined(x, f"{name}:{options}", assert_same_bits, random_bits)


@pytest.mark.parametrize(
    ("element", "scale", "rule"),
    [
        ("e2m1", "e4m3", "nearest"),
        ("e2m1", "e4m3", "rceil"),
        ("e4m3", "e5m2", "max_abs"),
        ("binary8p3se", "binary8p1uf", "max_abs"),
        ("binary4p2sf", "binary8p4se", "max_abs"),
        ("q0.3", "bf16", "rceil"),
    ],
)
def test_other_scale_formats(element: str, scale: str, rule: str, assert_same_bits: Any) -> None:
    fmt = ps.BlockFormat(
        name="other",
        element=ps.get_format(element),
        scale=ps.RoundingSpec.parse(scale).format,
        block_size=4,
        scale_rule=ps.ScaleRule(rule),
    )
    x = blocks(60, 4, seed=5, lowest=-30, highest=30)
    if rule == "max_abs":  # the only rule that leaves infinities and NaN to the elements
        x[5, 1], x[6, 2], x[7] = np.inf, -np.inf, np.inf
        x[8, 0] = np.nan
    assert_as_defined(x, fmt, assert_same_bits)


def exponents_by_search(amax: Fraction, largest: Fraction, emax: int, precision: int) -> Any:
    """Find the exponent of each rule's power of two among all of them."""
    lead = bisect_right(POWERS, amax) - 301
    quantum = Fraction(2) ** (lead - precision + 1)
    ratio = amax / largest
    above = bisect_left(POWERS, ratio)
    found = {
        "floor": lead - emax,
        "ceil": bisect_left(POWERS, amax) - 300 - emax,
        "even": bisect_right(POWERS, round(amax / quantum) * quantum) - 301 - emax,
        "rceil": above - 300,
        "nearest": min(above, above - 1, key=lambda k: abs(POWERS[k] - ratio)) - 300,
    }
    return {rule: min(max(e, -127), 127) for rule, e in found.items()}


@pytest.mark.parametrize(
    ("name", "largest", "emax", "precision"),
    [("mxfp8_e4m3", 448, 8, 4), ("mxfp4", 6, 2, 2), ("mxint8", Fraction(127, 64), 0, 7)],
)
def test_powers_of_two_by_search(name: str, largest: Any, emax: int, precision: int) -> None:
    # All significands at which one of the rules may change its mind, on both sides.
    significand = float(Fraction(largest) / 2**emax)
    near = F([1, 1.5, significand, significand * 0.75, significand * 1.5, 2])
    near = np.concatenate([near, F([2 - 2.0**-precision, 1.25])])
    near = np.concatenate([near, np.nextafter(near, F(9)), np.nextafter(near, near * 0)])
    exponents = F([-149, -140, -127, -126, -120, -119, -118, -1, 0, 5, 119, 120, 126, 127])
    with np.errstate(over="ignore", under="ignore"):
        amax = np.unique((near.astype(float)[:, None] * 2.0**exponents).astype(np.float32))
    amax = amax[(amax > 0) & np.isfinite(amax)]
    wanted = [
        exponents_by_search(Fraction(float(a)), Fraction(largest), emax, precision) for a in amax
    ]
    for rule in RULES[:-1]:
        q = ps.quantize(amax, block_format(f"{name}_{rule}", block_size=1))
        assert (q.scales.astype(int) - 127).tolist() == [w[rule] for w in wanted], rule


@pytest.mark.parametrize("mbits", [3, 1])
def test_scales_of_torchaos_integer_recipes(mbits: int) -> None:
    """`to_mx` in torchao/prototype/mx_formats/mx_tensor.py, for normal amax."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0x00800000, 0x7F7FFFFF, 10_000).astype(np.int64)
    near = (rng.integers(1, 254, 2000) << 23) + rng.integers(-2, 3, 2000) - (1 << (22 - mbits))
    bits = np.concatenate([bits, near[near >= 0x00800000]])
    name, emax = {3: ("mxfp8_e4m3", 8), 1: ("mxfp4", 2)}[mbits]
    field = bits >> 23
    expected = {
        "floor": field - emax,
        "ceil": field + ((bits & 0x7FFFFF) > 0) - emax,
        "even": ((bits + (1 << (22 - mbits))) >> 23) - emax,
    }
    x = bits.astype(np.uint32).view(np.float32)
    for rule, biased in expected.items():
        q = ps.quantize(x, block_format(f"{name}_{rule}", block_size=1))
        assert np.array_equal(q.scales, np.clip(biased, 0, 254)), rule


@pytest.mark.parametrize("largest", [448, 57344, 28, 7.5, 6])
def test_rounding_up_agrees_with_cublas_at_every_significand(largest: float) -> None:
    """cuBLAS (1D Block Quantization) divides in float32, which never hides a block too large."""
    names = {448: MX[0], 57344: MX[1], 28: MX[2], 7.5: MX[3], 6: MX[4]}
    x = np.arange(0x3F800000, 0x40000000, 67, dtype=np.uint32)
    around = F([largest]).view(np.uint32) & 0x7FFFFF | 0x3F800000
    x = np.concatenate([x, around + np.uint32(1), around, around - np.uint32(1)]).view(np.float32)
    ratio = (x / F(largest)).view(np.uint32)
    expected = (ratio >> 23) + ((ratio & 0x7FFFFF) > 0)
    q = ps.quantize(x, block_format(f"{names[largest]}_rceil", block_size=1))
    assert np.array_equal(q.scales, expected)


def test_rounding_up_differs_from_cublas_at_one_subnormal_ratio() -> None:
    amax = np.nextafter(F(448 * 2.0**-127), F(1))
    assert (amax / F(448)).view(np.uint32) == 0x00400000  # 2**-127: rounded down
    assert ps.quantize([amax], "mxfp8_rceil").scales.tolist() == [1]
    assert ps.quantize(F([448 * 2.0**-127]), "mxfp8_rceil").scales.tolist() == [0]


def test_957_becomes_896_under_the_ocp_rule() -> None:
    """microsoft/microxcaling#4: amax in (448, 512) * scale saturates."""
    x = F([957, -959.5632, 832, 57.7898])
    assert ps.round_to(x, "mxfp8_e4m3").tolist() == [896, -896, 832, 56]
    for rule in ("ceil", "rceil"):
        assert ps.round_to(x, f"mxfp8_{rule}").tolist() == [960, -960, 832, 56]
    # 959.5632 rounds to 960, not to 1024, so this rule does not help; it would from 992 on.
    assert ps.round_to(x, "mxfp8_even").tolist() == [896, -896, 832, 56]
    assert ps.round_to([992.0, 991.0], "mxfp8_even").tolist() == [1024.0, 960.0]
    assert ps.quantize(x, "mxfp8").scales.tolist() == [127 + 1]


def test_floor_is_not_floor_of_amax_over_six() -> None:
    """vllm#43557: floor(log2(amax / 6)) is one too low for amax in [4, 6) * 2**e."""
    for amax in (4.0, 5.0, 5.9):
        assert ps.quantize([amax, 1.0], "mxfp4").scales.tolist() == [127]
        assert math.floor(math.log2(amax / 6)) == -1
    assert ps.round_to([5.0, 1.0], "mxfp4").tolist() == [4.0, 1.0]


def test_emax_is_subtracted() -> None:
    """vllm#53110: without it the elements would use one binade."""
    assert ps.quantize([1.0], "mxfp4").scales.tolist() == [127 - 2]
    assert ps.quantize([1.0], "mxfp8_e5m2").scales.tolist() == [127 - 15]
    assert ps.quantize([1.0], "mxint8").scales.tolist() == [127]


def saturated(x: Any, name: str) -> Any:
    """Tell which blocks have an element beyond the largest one times the scale."""
    fmt = block_format(name)
    q = ps.quantize(x, fmt)
    largest = ps.decode(q.scales, fmt.scale)[..., 0].astype(float) * float(
        getattr(fmt.element, "max_finite", 127 / 64)
    )
    return np.abs(x).max(axis=-1) > largest


@pytest.mark.parametrize("name", MX)
def test_rounding_up_never_saturates_and_the_others_do(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
    assert not saturated(x, f"{name}_rceil").any()
    assert not saturated(blocks(500, 32, seed=1, highest=100), f"{name}_rceil").any()
    share = {rule: saturated(x, f"{name}_{rule}").mean() for rule in ("floor", "nearest")}
    assert share["nearest"] > 0.2
    significand = getattr(block_format(name).element, "max_finite", 127 / 64)
    assert (share["floor"] > 0) == (significand / 2 ** block_format(name).emax < 1.99)


def test_rounding_to_nearest_saturates_many_blocks() -> None:
    """Of 1,000 E4M3 blocks of 32 normal numbers; Pushkinist/rMLX#463 rounds logarithms (46 %)."""
    x = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
    assert 0.5 < saturated(x, "mxfp8_nearest").mean() < 0.75
    assert 0.02 < saturated(x, "mxfp8_floor").mean() < 0.3


def test_scales_end_at_2_to_the_127() -> None:
    tiny, huge = F([2.0**-149, 0]), F([FLOAT32_MAX, 1])
    for rule in RULES:
        assert ps.quantize(tiny, f"mxfp4_{rule}").scales.tolist() == [0]
    assert ps.quantize(huge, "mxint8").scales.tolist() == [254]
    assert ps.quantize(huge, "mxint8_ceil").scales.tolist() == [254]  # not 2**128
    assert ps.round_to(huge, "mxint8_ceil").tolist() == [127 / 64 * 2.0**127, 0]
    # 2**-127 is subnormal in float32: 6 * 2**-127 and 0.5 * 2**-127 are still exact.
    small = F([6 * 2.0**-127, -0.5 * 2.0**-127])
    assert ps.round_to(small, "mxfp4").tolist() == small.tolist()
    assert ps.quantize(small, "mxfp4").scales.tolist() == [0]
    # An amax that rounds up to 2**128 is beyond float32, not beyond the format.
    assert ps.round_to(huge, "mxfp8_rceil").tolist() == [math.inf, 0]
    assert ps.round_to(huge.astype(float), "mxfp8_rceil").tolist() == [2.0**128, 0]
    # Beyond the largest scale the elements saturate.
    assert ps.round_to([1e300, -1e300, 1.0], "mxfp4").tolist() == [6 * 2.0**127, -6 * 2.0**127, 0]


def test_blocks_of_zeros() -> None:
    zeros = F([0.0, -0.0])
    for rule in RULES:
        q = ps.quantize(zeros, f"mxfp4_{rule}")
        assert (q.codes.tolist(), q.scales.tolist()) == ([0, 8], [0])
        assert np.signbit(ps.dequantize(q)).tolist() == [False, True]


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp4", "mxint8", "nvfp4"])
@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_lose_their_block_only(name: str, special: float) -> None:
    fmt = block_format(name)
    x = np.ones((3, 2 * fmt.block_size), np.float32)
    x[1, 3] = special
    q = ps.quantize(x, fmt)
    nan = ps.encode(F(np.nan), fmt.scale)
    assert q.scales[1, 0] == nan
    assert (q.scales == nan).sum() == 1
    values = ps.dequantize(q)
    assert np.isnan(values[1, : fmt.block_size]).all()
    clean = ps.round_to(np.ones_like(x), fmt)
    assert np.array_equal(np.delete(values, 1, 0), np.delete(clean, 1, 0))
    assert np.array_equal(values[1, fmt.block_size :], clean[1, fmt.block_size :])
    if name.startswith("mx"):
        assert nan == 0xFF


def test_infinity_may_saturate_instead() -> None:
    x = F([math.inf, -math.inf, 1.0])
    assert ps.round_to(x, "mxfp8:saturate_infinity").tolist() == [
        448 * 2.0**119,
        -448 * 2.0**119,
        0,
    ]
    assert np.isnan(ps.round_to(F([np.inf, np.nan]), "mxfp8:saturate_infinity")).all()


def test_elements_beyond_the_largest_may_be_infinite() -> None:
    x = F([65000.0, 1.0])
    assert ps.round_to(x, "mxfp8_e5m2").tolist() == [57344.0, 1.0]
    assert ps.round_to(x, "mxfp8_e5m2:infinity").tolist() == [math.inf, 1.0]
    assert np.isnan(ps.round_to(F([511.0, 1.0]), "mxfp8:infinity")[0])


def test_int8_elements_are_twos_complement_or_symmetric() -> None:
    x = F([-1.999, 1.999])
    assert ps.round_to(x, "mxint8").tolist() == [-2.0, 127 / 64]
    assert ps.quantize(x, "mxint8").codes.tolist() == [0x80, 0x7F]
    assert ps.round_to(x, "mxint8:saturate_symmetric").tolist() == [-127 / 64, 127 / 64]
    assert ps.round_to(x, "mxint8:wrap").tolist() == [-2.0, -2.0]


@pytest.mark.parametrize("name", MX[:5])
def test_codes_are_those_of_ml_dtypes(name: str) -> None:
    fmt = block_format(name)
    dtype = {
        "e4m3": ml_dtypes.float8_e4m3fn,
        "e5m2": ml_dtypes.float8_e5m2,
        "e3m2": ml_dtypes.float6_e3m2fn,
        "e2m3": ml_dtypes.float6_e2m3fn,
        "e2m1": ml_dtypes.float4_e2m1fn,
    }[str(fmt.element)]
    x = blocks(50, 32, seed=9, lowest=-100, highest=120)
    q = ps.quantize(x, fmt)
    scale = q.scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    values = q.codes.view(dtype).astype(np.float32) * np.repeat(scale, 32, axis=-1)
    assert np.array_equal(ps.dequantize(q), values)


def test_float64_is_divided_exactly_too() -> None:
    # One element is just above a tie of E4M3, by less than float32 can tell.
    x = np.array([1.0, 1.0625 + 2.0**-50, 1.0625])
    assert ps.round_to(x, "mxfp8").tolist() == [1.0, 1.125, 1.0]
    assert ps.round_to(x.astype(np.float32), "mxfp8").tolist() == [1.0, 1.0, 1.0]
