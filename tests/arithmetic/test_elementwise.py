"""Every operation, format and mode against exact rationals, on hard cases, in every library."""

import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import Carrier, select, shift_left, shift_right
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.kernel import wide
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    CARRIERS,
    DETERMINISTIC,
    EXACT,
    OPERATIONS,
    Floats,
    assert_same_bits,
    expected_in,
    patterns,
    rounded,
)

FORMATS = [
    "fp32", "fp64", "fp16", "bf16", "tf32", "e4m3", "e5m2", "q3.4", "q3.4:wrap",
    "float(e=inf,p=7)", "fp16:flush_after_rounding:saturate",
]  # fmt: skip
MORE_FORMATS = [
    "e4m3fnuz", "ieee_e4m3", "e5m2fnuz:saturate", "e2m1", "e8m0", "uq0.8", "uq3.4:wrap", "q3.20:wrap",
    "q9.-3", "bf16:nearest_of_zero_and_min", "float(e=inf,p=24)", "float(e=inf,p=53)",
    "fp16:saturate:saturate_infinity", "float(e=10,p=30)",
]  # fmt: skip
FLOAT32_EDGES = [
    0.0, -0.0, 1.0, -1.0, 1.5, 3.0, math.inf, -math.inf, math.nan,
    2.0**-149, -(2.0**-149), 2.0**-126 - 2.0**-149, 2.0**-126, 2.0**128 - 2.0**104, -(2.0**127),
]  # fmt: skip
FLOAT64_EDGES = [5e-324, -5e-324, 2.0**-1022, math.nextafter(math.inf, 0), -(2.0**1023), 1 / 3]

Case = tuple[float, ...]


def is_float32(case: Case) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(np.array(case, np.float32), case, equal_nan=True))


def scaled(significand: float, exponent: int) -> float:
    try:
        return math.ldexp(significand, exponent)
    except OverflowError:
        return math.inf


def exponents(spec: RoundingSpec) -> list[tuple[int, int]]:
    """Exponents at which something ends (subnormals, the range), each with that of its quantum."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        last, high = -fmt.fraction_bits, fmt.integer_bits
        return [(e, last) for e in (last - 1, last, last + 1, 0, high - 1, high, high + 1, 17)]
    p = fmt.precision
    if fmt.exponent_bits is None:
        return [(e, e - p + 1) for e in (-150, -126, 0, 125, 127)]
    low, high = fmt.emin, fmt.emax
    chosen = (low - p, low - p + 1, low - 2, low - 1, low, 0, high - 1, high, high + 1)
    return [(e, max(e, low) - p + 1) for e in chosen]


def hard_cases(operation: str, spec: RoundingSpec, rng: np.random.Generator) -> list[Case]:
    """Exact results half way between two neighbours and just beside, at each of these exponents."""
    cases: list[Case] = []

    def odd(bits: int) -> int:
        return int(rng.integers(1 << (bits - 1), 1 << bits)) | 1 if bits > 0 else 1

    for (e, quantum), k in itertools.product(exponents(spec), range(4)):
        if operation == "sqrt":  # the root of a carrier value has a small exponent
            e, quantum = max(-60, min(60, e)), quantum - e + max(-60, min(60, e))  # noqa: PLW2901
        bits = max(e - quantum + 1, 0)
        # tie * 2**(quantum - 1) is half way between two values of exponent e.
        tie = [(2 << bits) - 1, (1 << bits) | 1, odd(bits + 1), odd(bits + 1)][k]
        sign = (-1) ** k
        value, half = scaled(sign * (tie - 1), quantum - 1), scaled(sign, quantum - 1)
        match operation:
            case "add" | "subtract":
                y = [half, math.nextafter(half, 0), half * (1 + 2.0**-20), -half][k]
                y = y if operation == "add" else -y
                beside = value + (k - 1) * half
                cases += [(value, y), (value, -beside if operation == "add" else beside)]
            case "multiply" | "fma":
                x = scaled(odd((bits + 1) // 2), e // 2)
                y = scaled(sign * odd(bits + 1 - (bits + 1) // 2), quantum - 1 - e // 2)
                if operation == "multiply":
                    cases += [(x, y), (x, y * (1 + 2.0**-16)), (scaled(tie, quantum), 0.5)]
                else:
                    tiny = [0.0, scaled(sign, e - 60), -scaled(sign, e - 40), 2.0**-149][k]
                    cases += [(x, y, tiny), (x, y, -x * y), (value, 1.0, half * (1 - tiny))]
            case "divide":
                b = odd(max(0, 23 - bits))
                x = scaled(sign * tie * b, quantum - 1 - e // 2)
                y = scaled(b, -(e // 2))
                cases += [(x, y), (math.nextafter(x, 0), y), (value, -3.0)]
            case "reciprocal":  # a tie only below the quantum: others are never dyadic
                x, near = scaled(sign, 1 - quantum), scaled(float(np.float32(1 / tie)), 1 - quantum)
                cases += [(x,), (math.nextafter(x, 0),), (near,), (scaled(3.0, -e),)]
            case "sqrt":
                square, root = scaled(tie * tie, 2 * quantum - 2), abs(value)
                cases += [(square,), (root * root,), (math.nextafter(square, 0),), (root,)]
    return [case for case in cases if all(map(math.isfinite, case))]


@cache
def cases_of(operation: str, name: str) -> list[Case]:
    """Cases in float32 first, then those that only float64 can hold."""
    rng = np.random.default_rng((FORMATS + MORE_FORMATS).index(name))
    arity = OPERATIONS[operation][1]
    hard = hard_cases(operation, RoundingSpec.parse(name), rng)
    hard = [hard[k] for k in rng.permutation(len(hard))[:70]]
    edges = list(itertools.product(FLOAT32_EDGES, repeat=min(arity, 2)))
    wide = list(itertools.product(FLOAT64_EDGES, [*FLOAT64_EDGES, 3.0], repeat=1))
    if arity == 3:
        edges = [(x, y, FLOAT32_EDGES[(k * 7) % 15]) for k, (x, y) in enumerate(edges)]
        wide = [(x, y, -x * y if k % 2 else FLOAT64_EDGES[k % 6]) for k, (x, y) in enumerate(wide)]
    general = [edges[k] for k in rng.permutation(len(edges))[:20]]
    general += [wide[k][:arity] for k in rng.permutation(len(wide))[:6]]
    return sorted(hard + general, key=is_float32, reverse=True)


def columns(cases: list[Case], dtype: Any) -> list[Floats]:
    return [np.array(column, dtype) for column in zip(*cases, strict=True)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_equals_rounded_exact_result(operation: str, name: str) -> None:
    function, _ = OPERATIONS[operation]
    cases = cases_of(operation, name)
    narrow = [case for case in cases if is_float32(case)]
    assert len(narrow) >= 20
    exact = [EXACT[operation](*case) for case in cases]
    # Only these two know the carrier's limits; otherwise one answer serves both carriers.
    depends_on_carrier = "wrap" in name or "inf" in name
    for mode in DETERMINISTIC:
        spec = ps.RoundingSpec.parse(f"{name}:{mode}")
        shared = [] if depends_on_carrier else [rounded(x, spec) for x in exact]
        for carrier in CARRIERS.values():
            if not spec.format.fits(carrier):
                continue
            chosen = cases if carrier.width == 64 else narrow
            expected = shared[: len(chosen)]
            if depends_on_carrier:
                expected = [expected_in(x, spec, carrier) for x in exact[: len(chosen)]]
            operands = columns(chosen, carrier.float_dtype)
            got = function(*operands, spec)
            with np.errstate(over="ignore"):
                reference = np.array(expected).astype(carrier.float_dtype)
            assert_same_bits(got, reference, *operands, note=f"{spec} {carrier.name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_FORMATS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_equals_rounded_exact_result_in_more_formats(operation: str, name: str) -> None:
    test_equals_rounded_exact_result(operation, name)


RANDOM_SPECS = ["fp32:rtn", "fp16", "e4m3:raz:saturate", "tf32:sr9:c", "q3.12:rtp", "bf16:sr:b"]


def check_random_patterns(operation: str, dtype: Any, spec: RoundingSpec, size: int) -> None:
    function, arity = OPERATIONS[operation]
    rng = np.random.default_rng(size)
    operands = [patterns(rng, size, dtype) for _ in range(arity)]
    if arity > 1:  # half of them of like size: else most sums equal the larger operand
        near = rng.integers(-30, 30, size)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            operands[-1] = np.where(near < 0, np.ldexp(operands[0], near), operands[-1])
    if arity == 3:
        operands[1] = np.where(near < 0, rng.standard_normal(size), operands[1]).astype(dtype)
    draws = rng.integers(0, 1 << 32, size, dtype=np.uint32)
    got = function(*operands, spec, random_bits=draws)
    expected = [
        rounded(EXACT[operation](*map(float, case)), spec, int(draw))
        for draw, *case in zip(draws, *operands, strict=True)
    ]
    with np.errstate(over="ignore"):
        reference = np.array(expected).astype(dtype)
    assert_same_bits(got, reference, *operands, note=spec)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_random_patterns(operation: str, dtype: Any) -> None:
    offset = list(OPERATIONS).index(operation) + (dtype is np.float64)
    for k in (0, 3):
        spec = RoundingSpec.parse(RANDOM_SPECS[(offset + k) % len(RANDOM_SPECS)])
        check_random_patterns(operation, dtype, spec, 150)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_many_random_patterns(operation: str, dtype: Any) -> None:
    for text in RANDOM_SPECS + ["fp64"] * (dtype is np.float64):
        check_random_patterns(operation, dtype, RoundingSpec.parse(text), 5000)


PARITY_SPECS = [
    "fp32", "bf16:rtn", "e4m3:sr", "q3.4:wrap", "fp16:rto", "e5m2:rtz:saturate",
    "tf32:flush_after_rounding", "fp64:rtp", "float(e=inf,p=7):rna", "fp64:sr", "q3.12:raz",
    "fp16:nearest_of_zero_and_min",
]  # fmt: skip
"""Every branch of the kernel is in one of them."""


def parity_data(operation: str, dtype: Any) -> tuple[list[Floats], Floats]:
    rng = np.random.default_rng(5)
    cases = list(itertools.chain.from_iterable(cases_of(operation, name) for name in FORMATS))
    cases = [case for case in cases if dtype is np.float64 or is_float32(case)][:1152]
    operands = [
        np.concatenate([column, patterns(rng, 1280 - len(cases), dtype)])
        for column in columns(cases, dtype)
    ]
    return operands, rng.integers(0, 1 << 32, 1280, dtype=np.uint32)


def check_parity(operation: str, dtype: Any, text: str, ways: str) -> None:
    function, _ = OPERATIONS[operation]
    operands, draws = parity_data(operation, dtype)
    spec = RoundingSpec.parse(text)
    run = partial(_run, function, spec)
    expected = run(draws, *operands)
    assert isinstance(expected, np.ndarray)
    with jax.enable_x64(dtype is np.float64):
        moved = [jnp.asarray(x) for x in (draws, *operands)]
        rows = [x.reshape(10, 128) for x in moved]
        results = {
            "eager": lambda: run(*moved),
            "jit": lambda: jax.jit(run)(*moved),
            "vmap": lambda: jax.vmap(run)(*rows),
            "jit(vmap)": lambda: jax.jit(jax.vmap(run, in_axes=1, out_axes=1))(*rows),
        }
        for way in ways.split():
            got = results[way]()
            assert isinstance(got, jax.Array)
            unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
            # NaN included: the same bits.
            same = np.asarray(got).reshape(-1).view(unsigned) == expected.view(unsigned)
            assert same.all(), f"{way} {text}: {[x[np.argmin(same)] for x in operands]}"


def _run(function: Callable[..., Any], spec: RoundingSpec, draws: Any, *operands: Any) -> Any:
    return function(*operands, spec, random_bits=draws)


@pytest.mark.long
@pytest.mark.parametrize(
    ("operation", "dtype", "text", "ways"),
    [
        ("add", np.float32, "e4m3:sr", "eager jit(vmap)"),
        ("subtract", np.float32, "q3.4:wrap", "eager jit(vmap)"),
        ("multiply", np.float32, "fp16:nearest_of_zero_and_min", "eager jit(vmap)"),
        ("divide", np.float32, "bf16:rtn", "eager jit(vmap)"),
        ("reciprocal", np.float32, "fp16:rtp", "jit(vmap)"),
        ("sqrt", np.float32, "tf32:flush_after_rounding", "eager jit(vmap)"),
        ("fma", np.float32, "fp32", "eager jit vmap"),
        ("add", np.float64, "fp64", "jit(vmap)"),
        ("subtract", np.float64, "float(e=inf,p=7):rna", "eager"),
        ("multiply", np.float64, "e5m2:rtz:saturate", "eager"),
        ("divide", np.float64, "fp64:rtp", "eager"),
        ("sqrt", np.float64, "q3.12:raz", "jit(vmap)"),
        ("fma", np.float64, "fp64:sr", "jit(vmap)"),
    ],
)
def test_numpy_eager_jit_and_vmap_give_the_same_bits(
    operation: str, dtype: Any, text: str, ways: str
) -> None:
    check_parity(operation, dtype, text, ways)


@pytest.mark.slow
@pytest.mark.parametrize("text", PARITY_SPECS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_under_every_kind_of_spec(operation: str, text: str) -> None:
    if "fp64" not in text:
        check_parity(operation, np.float32, text, "eager vmap")
    check_parity(operation, np.float64, text, "jit")


def test_operands_broadcast_and_numbers_take_the_dtype_beside_them() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    y = np.array([0.5, 0.25, 3.0, 7.0], np.float32)
    for result in (ps.add(x, y, "fp16"), ps.add(jnp.asarray(x), y, "fp16")):
        assert result.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(result), x + y)
    np.testing.assert_array_equal(ps.fma(2.0, y, 1, "fp16"), 2 * y + 1)
    assert ps.fma(2.0, y, 1, "fp16").dtype == np.float32
    assert ps.divide(1.0, 4, "fp16").dtype == np.float64
    assert ps.divide(1.0, [4, 8], "fp16").tolist() == [0.25, 0.125]


def test_result_is_an_array_of_the_operands_library_and_shape() -> None:
    for shape in ((), (0,), (3,), (2, 0, 3)):
        x = np.ones(shape, np.float32)
        for operation, arity in OPERATIONS.values():
            result = operation(*[x] * arity, "fp16")
            assert isinstance(result, np.ndarray)
            assert (result.shape, result.dtype) == (shape, np.float32)
        assert isinstance(ps.multiply(jnp.asarray(x), x, "fp16"), jax.Array)


def check_all_formats(operation: str) -> None:
    for name in FORMATS:
        test_equals_rounded_exact_result(operation, name)


def test_without_the_sticky_bit_these_tests_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meta-test: numbers shifted out must not be forgotten."""

    def without_jam(hi: Any, lo: Any, count: Any, carrier: Carrier) -> tuple[Any, Any]:
        width = carrier.int_dtype(carrier.width)
        from_hi = select(
            count < width,
            shift_left(hi, width - count, carrier),
            shift_right(hi, count - width, carrier),
        )
        kept = select(count < width, shift_right(lo, count, carrier), carrier.uint(0))
        return shift_right(hi, count, carrier), from_hi | kept

    test_equals_rounded_exact_result("add", "fp32")
    x, quarter = np.array([1 + 2.0**-10, 0.25], np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(wide, "shift_right_jam", without_jam)
        # Without a loss nothing changes ...
        assert ps.add(x, quarter, "fp32") == x + quarter
        # ... but a tie with something below it becomes a tie.
        for operation in ("add", "subtract", "multiply", "divide", "fma"):
            with pytest.raises(AssertionError, match="differ"):
                check_all_formats(operation)
    test_equals_rounded_exact_result("add", "fp32")
