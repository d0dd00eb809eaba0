"""Projection to the formats of IEEE P3109, against the Interim Report v4.0 (June 2026).

The definition is written here from the text (RoundToPrecision, CodeIsEven and RoundAway in 4.7.4,
Saturate in 4.7.5), on float64 arrays: each of its operations is exact, since it only scales by
powers of two, takes the integer part of a number, subtracts that part, and compares.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.kernel.kernel import round_array
from tests.p3109 import Parameters, formats_of

Compare = Callable[..., None]
MODES = ("rne", "rna", "rtp", "rtn", "rtz", "rto")
SATURATIONS = ("satfinite", "satpropagate", "satnone")


def from_name(name: str) -> Parameters:
    return next(fmt for fmt in formats_of(*range(3, 17)) if fmt.name == name)


def round_to_precision(x: np.ndarray, fmt: Parameters, mode: str, n: int = 0, r: Any = 0) -> Any:
    """Round finite X to P bits and no exponent below 1 - B, without an upper end; R has N bits."""
    floor_log2 = np.frexp(x)[1] - 1
    q = np.maximum(floor_log2, 1 - fmt.bias) - fmt.P + 1
    s = np.ldexp(np.abs(x), -q)
    floor_s = np.floor(s)
    nu = s - floor_s
    code_is_even = floor_s % 2 == 0
    if fmt.P == 1:
        code_is_even = (floor_s == 0) | ((q + fmt.bias) % 2 == 0)
    size = 2.0**n
    round_away = {
        "rtz": lambda: nu < 0,
        "rtp": lambda: (nu > 0) & (x > 0),
        "rtn": lambda: (nu > 0) & (x < 0),
        "rna": lambda: nu >= 0.5,
        "rne": lambda: (nu > 0.5) | ((nu == 0.5) & ~code_is_even),
        "rto": lambda: (nu > 0) & code_is_even,
        "a": lambda: np.floor(nu * size) + r >= size,
        "b": lambda: np.floor(nu * 2 * size) + (2 * r + 1) >= 2 * size,
        "c": lambda: np.rint(nu * size) + r >= size,
    }[mode]()
    return np.copysign(np.ldexp(floor_s + round_away, q), x)


def saturate(x: np.ndarray, fmt: Parameters, mode: str, saturation: str) -> Any:
    """Saturate(Sat, Mode, X, Signedness, Domain): the first case that fits, in their order."""
    low, high, inf = fmt.smallest, fmt.largest, math.inf
    below, above = x < low, x > high
    beyond = math.nan if saturation == "july draft" else high
    plus = inf if fmt.extended else beyond
    minus = -plus if fmt.signed else low
    unless_unsigned = minus if fmt.signed else math.nan
    cases: list[tuple[Any, Any]] = [(np.isnan(x), math.nan), ((low <= x) & (x <= high), x)]
    match saturation:
        case "satfinite":
            cases += [(below, low), (above, high)]
        case "satpropagate":
            cases += [(x == inf, plus), (x == -inf, minus), (below, low), (above, high)]
        case "satnone" | "july draft":
            cases += [(x == inf, plus), (x == -inf, unless_unsigned)]
            cases += [(below & (mode in ("rtz", "rtp")), low)]
            cases += [(above & (mode in ("rtz", "rtn")), high)]
            cases += [(above & (mode == "rto" and fmt.extended and not fmt.signed), high)]
            cases += [(below, unless_unsigned), (above, plus)]
    return np.select([condition for condition, _ in cases], [result for _, result in cases])


def project(
    x: np.ndarray, fmt: Parameters, mode: str, saturation: str, n: int = 0, r: Any = 0
) -> Any:
    """Round, then saturate; there is one zero."""
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        rounded = np.where(np.isfinite(wide), round_to_precision(wide, fmt, mode, n, r), wide)
    return saturate(rounded, fmt, mode, saturation) + 0.0


def magnitudes(fmt: Parameters, step: int = 1) -> Any:
    """Every sixteenth of each gap between neighbours, up to the third value beyond the largest.

    With a `step`, of every so-manieth gap, and of the last eight.
    """
    end = 2 ** (fmt.K - fmt.signed) + 2
    codes = np.union1d(np.arange(0, end, step), np.arange(max(0, end - 8), end))
    exponent, trailing = np.divmod(codes, 2 ** (fmt.P - 1))
    quantum = np.maximum(exponent, 1) - fmt.bias - fmt.P + 1
    integers = trailing + (exponent > 0) * 2 ** (fmt.P - 1)
    return np.ldexp(integers[:, None] + np.arange(16) / 16, quantum[:, None]).reshape(-1)


def inputs(fmt: Parameters, dtype: Any, *, neighbours: bool, step: int = 1) -> np.ndarray:
    """Both signs, far beyond, infinities and NaN; on request each point's carrier neighbours."""
    with np.errstate(over="ignore", under="ignore"):
        points = np.append(magnitudes(fmt, step), [fmt.largest * 9, 3e38, 1e-45]).astype(dtype)
        points = points[np.isfinite(points)]
        if neighbours:
            sides = [np.nextafter(points, dtype(side)) for side in (-np.inf, np.inf)]
            points = np.concatenate([points, *sides])
    return np.concatenate([points, -points, np.array([np.inf, -np.inf, np.nan], dtype)])


def check(fmt: Parameters, compare: Compare, *, step: int = 1, oracle_step: int = 997) -> None:
    """Compare kernel and oracle with the definition in all projections.

    In float64 with one saturation: what overflow becomes does not depend on the carrier.
    """
    rng = np.random.default_rng(fmt.K * 100 + fmt.P)
    for dtype in (np.float32, np.float64):
        x = inputs(fmt, dtype, neighbours=True, step=step)
        grid = inputs(fmt, dtype, neighbours=False, step=3 * step)
        for k, saturation in enumerate(SATURATIONS[2 if dtype is np.float64 else 0 :]):
            for mode in MODES:
                spec = ps.RoundingSpec.parse(f"{fmt.name}:{mode}:{saturation}")
                expected = project(x, fmt, mode, saturation)
                compare(round_array(x, None, spec), expected.astype(dtype), inputs=x, what=spec)
                for i in range(int(rng.integers(oracle_step)), x.size, oracle_step):
                    exact = ps.oracle.round_exact(float(x[i]), spec).value
                    compare(np.array([exact]), expected[i : i + 1], inputs=x[i : i + 1], what=spec)
            for v, variant in enumerate("abc"):
                n = (1, 2, 3)[(k + v) % 3]
                r = np.arange(2**n)
                spec = ps.RoundingSpec.parse(f"{fmt.name}:sr{n}:{variant}:{saturation}")
                shape = (grid.size, r.size)
                given = np.broadcast_to(grid[:, None], shape)
                expected = project(given, fmt, variant, saturation, n, r)
                actual = round_array(given, np.broadcast_to(r, shape), spec)
                compare(actual, expected.astype(dtype), inputs=given, what=spec)
                for i in range(int(rng.integers(97)), grid.size, oracle_step // 2):
                    j = i % r.size
                    exact = ps.oracle.round_exact(float(grid[i]), spec, random_bits=j).value
                    compare(np.array(exact), expected[i, j], what=f"{spec}, oracle")


@pytest.mark.long
@pytest.mark.parametrize("width", [3, 4, 5, 6])
def test_every_format_up_to_6_bits(width: int, assert_same_bits: Compare) -> None:
    """64 formats, 6 modes, 3 stochastic variants with all strings, 3 saturations, 2 carriers."""
    for fmt in formats_of(width):
        check(fmt, assert_same_bits)


@pytest.mark.parametrize(
    "name",
    ["binary7p2se", "binary7p1sf", "binary7p7uf", "binary8p1ue", "binary8p3se", "binary8p4ue"],
)
def test_sampled_formats_of_7_and_8_bits(name: str, assert_same_bits: Compare) -> None:
    check(from_name(name), assert_same_bits, step=5)


@pytest.mark.slow
@pytest.mark.parametrize("width", [7, 8])
def test_every_format_of_7_and_8_bits(width: int, assert_same_bits: Compare) -> None:
    for fmt in formats_of(width):
        check(fmt, assert_same_bits)


def test_formats_whose_smallest_normal_is_subnormal_in_float64(assert_same_bits: Compare) -> None:
    """The carrier's last exponents: 2**-1023 is the smallest normal value of binary16p5se."""
    fmt = from_name("binary16p5se")
    rng = np.random.default_rng(3)
    patterns = rng.integers(0, 1 << 63, 50, dtype=np.uint64)
    low = rng.integers(0, 1 << 54, 200, dtype=np.uint64)
    x = np.concatenate([patterns, low]).view(np.float64)
    for mode in MODES:
        spec = ps.RoundingSpec.parse(f"{fmt.name}:{mode}")
        expected = [ps.oracle.round_exact(v, spec).value for v in x.tolist()]
        assert_same_bits(round_array(x, None, spec), np.array(expected), inputs=x, what=spec)


COMPILED = [
    ("binary8p4se", "rne", "satnone"),
    ("binary8p4se", "rto", "satnone"),
    ("binary8p3se", "rtp", "satpropagate"),
    ("binary8p1uf", "rne", "satnone"),
    ("binary6p1se", "rto", "satpropagate"),
    ("binary8p4ue", "rtn", "satnone"),
    ("binary8p4ue", "rto", "satnone"),
    ("binary4p2sf", "rna", "satfinite"),
    ("binary5p5uf", "rtz", "satnone"),
    ("binary7p3sf", "c", "satnone"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jit_of_many_projections_at_once(dtype: Any, assert_same_bits: Compare) -> None:
    """One compilation; float64 with 64-bit types of JAX."""
    compiled = COMPILED if dtype is np.float32 else COMPILED[::3]
    specs = [f"{name}:{'sr3:c' if m == 'c' else m}:{s}" for name, m, s in compiled]
    x = inputs(from_name("binary8p3se"), dtype, neighbours=True)
    with jax.enable_x64(dtype is np.float64):
        results = jax.jit(lambda x: [ps.round_to(x, s, random_bits=5) for s in specs])(x)
    for (name, mode, saturation), result in zip(compiled, results, strict=True):
        expected = project(x, from_name(name), mode, saturation, 3, 5)
        assert_same_bits(result, expected.astype(dtype), inputs=x, what=(name, mode, saturation))


# Named cases. Largest values: 8p4se 224 (then 240), 8p4ue 53248 (then 57344, 61440), 4p2sf 3, 4p2uf
# 8.
INF, NAN = math.inf, math.nan
CASES = [
    (231.0, "binary8p4se", 224.0, "nearer to 224 than to 240"),
    (232.0, "binary8p4se", 224.0, "the tie goes to the even code 7e"),
    (233.0, "binary8p4se", INF, "SatNone is the default"),
    (233.0, "binary8p4se:satfinite", 224.0, "SatFinite"),
    (INF, "binary8p4se:satfinite", 224.0, "SatFinite takes infinities too"),
    (1e9, "binary8p4se:satpropagate", 224.0, "SatPropagate takes numbers only"),
    (-INF, "binary8p4se:satpropagate", -INF, "SatPropagate keeps infinities"),
    (225.0, "binary8p4se:rto", INF, "between codes 7e and 7f: the odd one is infinity"),
    (-1e9, "binary8p4se:rto", -INF, "to odd, signed, extended"),
    (
        1e9,
        "binary8p4ue:rto",
        53248.0,
        "to odd, unsigned, extended: the largest value's code is odd",
    ),
    (INF, "binary8p4ue:rto", INF, "infinite inputs do not depend on the mode"),
    (1e9, "binary5p5ue:rto", 1.8125, "to odd, K = P: the largest value's code, 1d, is odd"),
    (1e9, "binary5p5uf:rto", 1.875, "to odd, finite"),
    (3.9, "binary4p2sf", 3.0, "SatNone of a finite format: the largest value"),
    (-INF, "binary4p2sf", -3.0, "SatNone of a finite format, infinite input"),
    (INF, "binary4p2uf", 8.0, "SatNone of a finite format, infinite input"),
    (-0.01, "binary4p2uf", 0.0, "unsigned: rounds to zero"),
    (-0.3, "binary4p2uf", NAN, "unsigned, SatNone"),
    (-0.3, "binary4p2uf:rtz", 0.0, "unsigned, toward zero"),
    (-0.3, "binary4p2uf:rtp", 0.0, "unsigned, toward positive"),
    (-0.3, "binary4p2uf:rtn", NAN, "unsigned, toward negative"),
    (-0.3, "binary4p2uf:satpropagate", 0.0, "unsigned, SatPropagate"),
    (-INF, "binary4p2ue", NAN, "unsigned, SatNone"),
    (-INF, "binary4p2ue:rtp", NAN, "infinite inputs do not depend on the mode"),
    (-INF, "binary4p2ue:satpropagate", 0.0, "unsigned, SatPropagate"),
    (-0.0, "binary8p4se", 0.0, "one zero"),
    (-1e-9, "binary8p4se", 0.0, "one zero"),
    (NAN, "binary8p4se:satfinite", NAN, "NaN is NaN"),
]


@pytest.mark.parametrize(("x", "spec", "result", "why"), CASES)
def test_named_cases(x: float, spec: str, result: float, why: str) -> None:
    for value in (ps.round_to(x, spec).item(), ps.oracle.round_exact(x, spec).value):
        assert np.array_equal(value, result, equal_nan=True), why
        assert math.isnan(result) or math.copysign(1, value) == math.copysign(1, result), why


@pytest.mark.parametrize("width", [3, 4, 5])
def test_overflow_of_finite_formats_to_nan(width: int, assert_same_bits: Compare) -> None:
    """The other reading of SatNone: in a finite format overflow is NaN, not the largest value.

    v4.0 (June 2026) takes overflow in a finite format to the largest value; a draft of July 2026
    (and gfloat, pychop) takes it to NaN. precsim's ``satnone``, its default, is v4.0; plain
    ``infinity:propagate`` gives NaN, for nearest too. Directed modes that point inward end at the
    largest value in both, and extended formats do not differ.
    """
    for fmt in formats_of(width):
        x = inputs(fmt, np.float32, neighbours=True)
        for mode in ("rne", "rna", "rtp", "rtn", "rtz"):
            result = ps.round_to(x, f"{fmt.name}:{mode}:infinity:propagate")
            expected = project(x, fmt, mode, "july draft")
            assert_same_bits(result, expected.astype(np.float32), inputs=x, what=(fmt, mode))
    assert math.isnan(ps.round_to(3.6, "binary4p2sf:infinity:propagate"))
    assert ps.round_to(3.6, "binary4p2sf") == ps.round_to(3.6, "binary4p2sf:satnone") == 3.0
