"""The corners of one step, each found by a change of a kernel that no other fast test noticed."""

import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, single

INF = np.inf


def check(name: str, a: list[float], b: list[float], c: float = 0.0) -> float:
    """Compare one sum with the exact oracle, every bit, and return it."""
    got = ps.matmul(single([a]), single(b)[:, None], name, c=single(c), backend="reference")
    exact = single([[ps.oracle.fused_dot_exact(a, b, c, name)]])
    assert_same_bits(got, exact, (name, a, b, c), any_nan=True)
    return float(np.asarray(got).item())


def test_subnormal_operand_has_the_smallest_exponent() -> None:
    """The alignment takes 2**-24 as one of exponent -14, which cuts 2**-45 off the accumulator."""
    assert check("h100:fp16", [2.0**-24], [1.0], 2.0**-30 + 2.0**-45) == 2.0**-24 + 2.0**-30


@pytest.mark.parametrize("name", ["h100:fp16:acc=fp16", "fp16_fp16_fp16:fused64x25@-21"])
def test_subnormal_accumulator_has_the_smallest_exponent(name: str) -> None:
    """2**-40 is cut off beside a subnormal fp16 accumulator, and what is left is a tie."""
    products = [2.0**-12, 2.0**-24], [2.0**-13, 2.0**-16]
    assert check(name, *products, 2.0**-23) == 2.0**-23


@pytest.mark.parametrize("fraction_bits", [24, 25])
def test_last_product_with_room_for_a_nudge(fraction_bits: int) -> None:
    """Products of two 5-bit significands and a nudge have 31 bits with F = 24.

    With F = 25 they would have 32.
    """
    name = f"float(e=8,p=5)_float(e=8,p=5)_fp32[rtz]:fused16x{fraction_bits}"
    largest = 2 - 2.0**-4
    for sign in (1, -1):
        check(name, [sign * largest] * 16, [largest] * 16, 3.0)


def test_sum_of_largest_products_needs_two_words() -> None:
    """32 products of bf16 and an accumulator just below 2 reach 2**32 units.

    One word has not enough bits for that.
    """
    largest = 2 - 2.0**-7
    for sign in (1, -1):
        total = check(
            "bf16_bf16_fp32[rtz]:fused32x25", [sign * largest] * 32, [largest] * 32, sign * 1.99
        )
        assert abs(total) > 128


def test_steps_of_more_than_32_products() -> None:
    """Their signs take two words."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        a, b = (ps.round_to(single(rng.standard_normal(48)), "e4m3").tolist() for _ in "ab")
        check("e4m3_e4m3_fp32[rtz]:fused48x13", a, b, 100.0)


@pytest.mark.parametrize("mode", ["tne", "rtz", "rtp", "rtn"])
def test_sums_below_the_smallest_number(mode: str) -> None:
    """All that is left decides the rounding, however far below; what becomes zero is +0."""
    name = f"bf16_bf16_fp32[{mode}]:fused20x25" if mode != "tne" else "bf16_bf16_fp32:fused20x25"
    largest = 2 - 2.0**-7
    for exponent in (*range(-160, -140), -200, -250):
        for count in (1, 20):
            for sign in (1, -1):
                a = [sign * largest * 2.0 ** (exponent // 2)] * count
                check(name, a, [largest * 2.0 ** (exponent - exponent // 2)] * count)


def test_twenty_tiny_products_round_up_to_the_smallest_number() -> None:
    tiny = [(2 - 2.0**-7) * 2.0**-78] * 20
    assert check("bf16_bf16_fp32:fused20x25", tiny, tiny) == 2.0**-149


@pytest.mark.parametrize("sticky", ["", "+sticky"])
@pytest.mark.parametrize("c", [0.0, 2.0**-24, 65504.0, -65504.0])
def test_half_accumulator_that_truncates(c: float, sticky: str) -> None:
    """Overflow is infinite in this mode too, and subnormal results keep the places of fp16 only."""
    name = f"fp16_fp16_fp16[rtz]:fused4x12{sticky}"
    for value in (2.0**-12 + 2.0**-20, 31.0, 32.0, 250.0):
        for sign in (1.0, -1.0):
            check(name, [value], [sign * value], c)
            check(name, [value], [sign * 2.0**-12], c)
    assert check(name, [256.0], [256.0]) == INF


@pytest.mark.parametrize("length", [16, 32])
def test_zero_accumulator_has_an_exponent_of_its_own(length: int) -> None:
    """With 32 products a step in two words."""
    a, b = [1.5 * 2.0**-75] * 16, [1.25 * 2.0**-75] * 16
    name = f"bf16_bf16_fp32[rtz]:fused{length}x25"
    assert check(f"{name}@-133", a, b) == 15 * 2.0**-149
    assert check(f"{name}@-126", a, b) == 12 * 2.0**-149


def test_infinities() -> None:
    """Of both signs within a step: NaN; of one sign, the accumulator's too: infinite."""
    assert np.isnan(check("h100:bf16", [INF, -INF], [1.0, 1.0]))
    assert np.isnan(check("h100:bf16", [INF], [1.0], -INF))
    assert np.isnan(check("h100:bf16", [0.0], [INF]))
    assert np.isnan(check("h100:bf16", [INF], [0.0]))
    for sign in (1, -1):
        assert check("h100:bf16", [INF, 1.0], [sign, 1.0], sign * INF) == sign * INF
        assert check("h100:bf16", [1.0], [1.0], sign * INF) == sign * INF
