"""Sums in a stated order against a scalar loop with the oracle."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic.sums.order import PAIRWISE, SEQUENTIAL
from precsim.formats.floating import FloatFormat
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import Floats, assert_same_bits, exact_add, rounded

ORDERS = ("sequential", "pairwise")


def loop(values: Sequence[float], text: str, order: str, draws: Sequence[int] = ()) -> float:
    """Add one number after the other, or neighbours level by level; an odd last one waits."""
    spec = RoundingSpec.parse(text)
    remaining = iter(draws)

    def plus(x: float, y: float) -> float:
        return rounded(exact_add(x, y), spec, next(remaining, 0))

    level = list(values)
    if order == "sequential" or len(level) < 2:
        total = 0.0
        for value in level:
            total = plus(total, value)
        return total
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [plus(a, b) for a, b in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0]


def draws_of(rng: np.random.Generator, size: int) -> Floats:
    draws: Floats = rng.integers(0, 1 << 32, size, dtype=np.uint32)
    return draws


SPECS = [
    "fp16",
    "bf16:rtn",
    "e4m3:saturate",
    "fp32",
    "q3.4",
    "q3.4:wrap:rtz",
    "fp16:sr",
    "e5m2:sr3:b",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", SPECS)
def test_equals_the_scalar_loop(text: str, order: str) -> None:
    rng = np.random.default_rng(3)
    for size in (1, 2, 3, 8, 29):
        x = (rng.standard_normal(size) * 2.0 ** rng.integers(-8, 3, size)).astype(np.float32)
        draws = draws_of(rng, size)
        expected = loop(x.tolist(), text, order, draws.tolist())
        got = ps.accumulate(x, text, order=order, random_bits=draws)
        assert isinstance(got, np.ndarray)
        assert_same_bits(got, np.float32(expected), note=f"{text} {order} {size}")


@pytest.mark.parametrize("order", ORDERS)
def test_float64_carrier_equals_the_scalar_loop(order: str) -> None:
    x = np.random.default_rng(4).standard_normal(21)
    for text in ("fp64", "fp32:rtp", "fp16"):
        got = ps.accumulate(x, text, order=order)
        assert_same_bits(got, np.float64(loop(x.tolist(), text, order)), note=text)
    assert ps.accumulate(x.tolist(), "fp64", order=order).dtype == np.float64


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "order"), [("fp16", "sequential"), ("e5m2:sr3", "sequential"), ("bf16:sr", "pairwise")]
)
def test_jit_and_vmap_give_the_same_bits(text: str, order: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    draws = draws_of(rng, x.size).reshape(x.shape)

    def total(values: Any, bits: Any) -> Any:
        return ps.accumulate(values, text, order=order, random_bits=bits)

    expected = np.array([total(a, b) for a, b in zip(x, draws, strict=True)], np.float32)
    assert_same_bits(jax.jit(jax.vmap(total))(x, draws), expected)
    rows = partial(ps.accumulate, spec=text, axis=1, order=order)
    assert_same_bits(jax.jit(rows)(x, random_bits=draws), expected)
    assert_same_bits(rows(x, random_bits=draws), expected)


def test_eager_jax_gives_a_jax_array_of_the_same_bits() -> None:
    x = np.random.default_rng(6).standard_normal(12).astype(np.float32)
    for order in ORDERS:
        got = ps.accumulate(jnp.asarray(x[:4]), "bf16", order=order)
        assert isinstance(got, jax.Array)
        assert_same_bits(got, ps.accumulate(x[:4], "bf16", order=order))


def test_axis() -> None:
    x = np.random.default_rng(7).standard_normal((3, 4, 5)).astype(np.float32)
    draws = draws_of(np.random.default_rng(8), x.size).reshape(x.shape)
    for order in ORDERS:
        total = partial(ps.accumulate, spec="e4m3:sr", order=order)
        for axis in (0, 1, 2):
            expected = np.apply_along_axis(
                lambda k: total(x.reshape(-1)[k], random_bits=draws.reshape(-1)[k]),  # noqa: B023
                axis,
                np.arange(x.size).reshape(x.shape),
            ).astype(np.float32)
            assert_same_bits(total(x, axis=axis, random_bits=draws), expected)
            assert_same_bits(total(x, axis=axis - 3, random_bits=draws), expected)
        flat = total(x.reshape(-1), random_bits=draws.reshape(-1))
        assert_same_bits(total(x, random_bits=draws), flat)


def test_orders_are_named_by_string_or_object() -> None:
    x = np.array([2048.0, 1.0, 1.0, 1.0], np.float32)
    assert ps.accumulate(x, "fp16", order=SEQUENTIAL) == 2048
    assert ps.accumulate(x, "fp16", order=PAIRWISE) == 2050
    assert ps.accumulate(x, "fp16") == ps.accumulate(x, "fp16", order="sequential")


@pytest.mark.parametrize("order", ORDERS)
def test_empty_sum_is_zero(order: str) -> None:
    """Formerly an IndexError for JAX arrays."""
    for x in (np.zeros(0, np.float32), jnp.zeros(0), np.zeros((0, 3), np.float32)):
        got = ps.accumulate(x, "fp16", order=order)
        assert_same_bits(got, np.float32(0))
        assert isinstance(got, type(x))
    for x in (np.zeros((3, 0), np.float32), jnp.zeros((3, 0))):
        assert_same_bits(ps.accumulate(x, "fp16", axis=1, order=order), np.zeros(3, np.float32))
        assert ps.accumulate(x, "fp16", axis=0, order=order).shape == (0,)


@pytest.mark.parametrize("order", ORDERS)
def test_sum_of_one_element_is_that_element_rounded(order: str) -> None:
    for shape in ((), (1,), (1, 1)):
        got = ps.accumulate(np.full(shape, 1 / 3, np.float32), "e4m3", order=order)
        assert_same_bits(got, np.float32(0.34375))
    assert_same_bits(
        ps.accumulate(np.array([-0.0], np.float32), "fp16", order=order), np.float32(0)
    )


def test_result_is_an_array_in_both_orders() -> None:
    """Formerly a NumPy scalar in pairwise order."""
    for order in ORDERS:
        for size in (1, 2, 5):
            got = ps.accumulate(np.ones(size, np.float32), "fp16", order=order)
            assert type(got) is np.ndarray


def test_inputs_are_not_rounded() -> None:
    """4097 is no fp16 value, but 4097 - 4096 is 1."""
    x = np.array([-4096.0, 4097.0], np.float32)
    assert ps.accumulate(x, "fp16") == 1
    assert ps.accumulate(x, "fp16", order="pairwise") == 1
    assert ps.accumulate(ps.round_to(x, "fp16"), "fp16") == 0


@cache
def sum_of_ten_thousand(text: str) -> Any:
    """One compilation for all tests that sum this many."""
    return jax.jit(partial(ps.accumulate, spec=text))


STALLS = {"fp16": (2048, 256), "bf16": (256, 32), "e4m3": (16, 2), "e5m2": (8, 1)}
"""Where sums of 1 and of 0.1 stop."""


@pytest.mark.parametrize("text", STALLS)
def test_sequential_sums_stall(text: str) -> None:
    """Ones stop at 2**p, where 1 is half an ulp and a tie to even.

    Tenths stop where 0.1 is at most half an ulp, be they rounded to the format first or not.
    """
    ones, tenths = STALLS[text]
    fmt = ps.get_format(text)
    assert isinstance(fmt, FloatFormat)
    assert ones == 2**fmt.precision
    total = sum_of_ten_thousand(text)
    assert total(np.ones(10_000, np.float32)) == ones
    x = np.full(10_000, 0.1, np.float32)
    assert total(x) == tenths
    assert total(np.asarray(ps.round_to(x, text))) == tenths


def test_pairwise_sums_of_tenths() -> None:
    """fp16 and bf16 come out at 1000; the sums of e4m3 leave its range, e5m2 has no bits left."""
    x = np.full(10_000, 0.1, np.float32)
    expected = {"fp16": 1000, "bf16": 1000, "e4m3": math.nan, "e4m3:saturate": 448, "e5m2": 896}
    for text, result in expected.items():
        for values in (x, np.asarray(ps.round_to(x, text))):
            assert_same_bits(
                ps.accumulate(values, text, order="pairwise"), np.float32(result), note=text
            )


def test_pairwise_counts_ones_exactly() -> None:
    for text in ("fp16", "bf16", "e5m2"):
        assert ps.accumulate(np.ones(4096, np.float32), text, order="pairwise") == 4096


@pytest.mark.parametrize("text", ["fp16", "bf16", "e5m2", "tf32"])
def test_error_bounds(text: str) -> None:
    """The bound is gamma(n - 1) * sum(abs(x)), pairwise gamma(ceil(log2(n))) (Higham 2002, 4.2)."""
    fmt = ps.get_format(text)
    u = Fraction(fmt.unit_roundoff) if isinstance(fmt, FloatFormat) else Fraction(0)
    rng = np.random.default_rng(9)
    for size in (2, 5, 13):
        x = np.asarray(ps.round_to(rng.uniform(-1, 2, (300, size)).astype(np.float32), text))
        for order, depth in (("sequential", size - 1), ("pairwise", (size - 1).bit_length())):
            gamma = depth * u / (1 - depth * u)
            if gamma < 0:  # nothing is promised for this many additions
                continue
            sums = ps.accumulate(x, text, axis=1, order=order)
            worst = Fraction(0)
            for row, total in zip(x.tolist(), sums.tolist(), strict=True):
                error = abs(Fraction(total) - sum(map(Fraction, row)))
                size_of_terms = sum(abs(Fraction(v)) for v in row)
                assert error <= gamma * size_of_terms
                worst = max(worst, error / size_of_terms)
            assert worst > u / 8  # a bound of some use


def test_long_sequential_sums_are_fast_and_exact_in_fp32() -> None:
    """A hundred thousand additions, against the processor's float32."""
    x = np.random.default_rng(10).standard_normal(100_000).astype(np.float32)
    expected = np.cumsum(x, dtype=np.float32)[-1]
    assert_same_bits(jax.jit(partial(ps.accumulate, spec="fp32"))(x), expected)


SLOW_ORDERS = [pytest.param(o, marks=pytest.mark.slow) for o in ("blocked4", "kahan", "two_sum")]


@pytest.mark.parametrize("order", [*ORDERS, "exact", *SLOW_ORDERS])
def test_outside_of_jit_no_sum_is_compiled_twice(order: str, compilations: Any) -> None:
    """Defect: every call made a new loop, which XLA compiled anew."""
    x = jnp.linspace(1, 2, 9)
    expected = ps.accumulate(np.asarray(x), "bf16", order=order)
    compilations(lambda: ps.accumulate(x, "bf16", order=order))
    assert compilations(lambda: ps.accumulate(x, "bf16", order=order)) == 0
    assert_same_bits(ps.accumulate(x, "bf16", order=order), expected)
