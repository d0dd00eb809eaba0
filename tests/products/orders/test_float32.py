"""Float32 steps of the emulated loop, odd rounding too: exact in the range, which is needed."""

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products.emulated import _loop, emulated_matmul
from precsim.products.orders import float32 as steps
from precsim.products.orders.float32 import (
    add_exact_product,
    add_split_product,
    add_to_odd,
    exact_range,
    fast_step,
)
from precsim.products.reference import reference_matmul
from precsim.rounding.kernel import by_adding
from tests.products.conftest import assert_same_bits, reference, single

FAST = ["bf16_bf16_fp32", "bf16_bf16_bf16", "fp32_fp32_fp32", "bf16_bf16_tf32:adder=fp32"]
LENGTH = 4


def fast_only(name: str, *, starts_at_zero: bool = False) -> Callable[..., np.ndarray]:
    """Return the loop over the float32 step, without the range guard."""
    step = fast_step(ps.MatmulSpec.parse(name), starts_at_zero=starts_at_zero)
    assert step is not None
    return jax.jit(partial(_loop, step=step))


guard = jax.jit(exact_range, static_argnums=3)


def fits(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, name: str) -> bool:
    return bool(guard(a, b, c, ps.MatmulSpec.parse(name)))


def integers(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, exponent: int
) -> np.ndarray:
    """Return signed integers of up to this many bits times a power of two.

    They have all sizes; the smallest is among them.
    """
    sizes = 2.0 ** rng.integers(0, bits + 1, shape)
    values = np.floor(rng.uniform(0, 1, shape) * sizes) * rng.choice([-1, 1], shape)
    values.flat[0] = 1
    return single(np.ldexp(values, exponent))


def cancelling(rng: np.random.Generator, name: str, exponents: tuple[int, int]) -> tuple[Any, Any]:
    """3,000 sums of four products that often cancel, with last bits at the given exponents."""
    bits = 24 if name.startswith("fp32") else 8
    a = integers(rng, (3000, 1, LENGTH), bits, exponents[0])
    b = integers(rng, (3000, LENGTH, 1), bits, exponents[1])
    a[1000:, 0, 2] = -a[1000:, 0, 0]
    b[1000:, 2] = b[1000:, 0]
    nudge = np.float32(2.0 ** exponents[0]) * rng.integers(-1, 2, 1000).astype(np.float32)
    narrow = np.abs(a[2000:, 0, 2]) < np.float32(2.0 ** (exponents[0] + bits - 1))
    a[2000:, 0, 2] += np.where(narrow, nudge, 0).astype(np.float32)
    return a, b


@pytest.mark.parametrize(
    ("name", "is_fast"),
    [
        ("fp16_fp16_float(e=8,p=22)", True),
        ("fp16_fp16_float(e=8,p=23)", False),  # one spare bit: sticky bit and half way bit are one
        ("fp16_fp16_fp16[rtn]", False),  # an exact cancellation is -0
        ("q3.8_q3.8_q3.8", True),
        ("q11.1_q11.1_q1.11[wrap]", False),  # the low bits count, however large the sum
        ("q11.1_q11.1_fp32", True),
        ("q12.1_q11.1_fp16", False),  # products of 25 bits
        ("q12.1_q11.1_fp32", True),
        ("q12.1_q11.1_fp16:adder=fp32", False),
        ("fp32_fp32_fp32[rtz]", False),
        ("fp32_fp32_fp32[saturate]", False),
        ("fp32[rtz]_fp32[saturate]_fp32", True),
        ("raw_fp16_fp32", False),
        ("fp16_fp16_fp32:product=fp16", False),
        ("fp16_fp16_fp16:adder=fp32[rtz]", False),
        ("fp16_fp16_fp32[rtn]:adder=fp32", True),
        ("fp16_fp16_e8m0", False),  # its smallest value is a float32 subnormal
    ],
)
def test_which_specs_have_a_fast_step(name: str, is_fast: bool) -> None:
    assert (fast_step(ps.MatmulSpec.parse(name)) is not None) == is_fast


@pytest.mark.long
@pytest.mark.parametrize("name", FAST)
def test_fast_step_is_exact_up_to_both_ends_of_the_range(name: str) -> None:
    """Sums of last bits at 2**-126, the smallest that counts, and products as large as allowed."""
    rng = np.random.default_rng(0)
    spec = ps.MatmulSpec.parse(name)
    bits = 24 if name.startswith("fp32") else 8
    loops = [fast_only(name, starts_at_zero=is_zero) for is_zero in (False, True)]
    highest = 127 - 2 - LENGTH.bit_length()
    if spec.accumulator.format != ps.get_format("fp32"):
        highest -= 127 - by_adding.limit(spec.accumulator)
    for low in ((-63, -63), (-126, 0), (-26, -100), (61 - bits, highest - 61 - bits)):
        a, b = cancelling(rng, name, low)
        assert fits(a, b, None, name), low
        expected = reference_matmul(a, b, None, spec)
        for loop in loops:
            assert_same_bits(loop(a, b, None), expected, f"{name} {low}")


@pytest.mark.long
@pytest.mark.parametrize("name", [*FAST, "fp16_fp16_bf16:adder=fp32", "fp16_fp16_e5m2:adder=fp32"])
def test_negative_zeros_of_c_stay_and_others_do_not_come(name: str) -> None:
    """The shorter rounding is for totals from +0 on.

    With c = -0 there are totals of -0, and e5m2 makes its own.
    """
    signs = single([[-1, -1, -1, -1, -1], [-1, 1, -1, 1, -1], [-(2.0**-14)] * 5])
    columns = single([[0, 0, 0, 0, 0], [1, 1, -1, -1, 0], [2.0**-14] + [0] * 4]).T
    spec = ps.MatmulSpec.parse(name)
    for c in (None, single(np.full((3, 3), -0.0))):
        expected = reference_matmul(signs, columns, c, spec)
        assert_same_bits(emulated_matmul(signs, columns, c, spec), expected, name)
        negative = np.signbit(expected) & (expected == 0)
        assert negative.any() == (c is not None or "e5m2" in name)


@pytest.mark.long
@pytest.mark.parametrize(
    "length",
    [3, 4, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 5, 6, 7, 8))],
)
def test_every_length_of_the_unrolled_loop(length: int) -> None:
    """Four products at once, and what remains of them."""
    rng = np.random.default_rng(length)
    a, b = (single(rng.integers(-99, 100, shape)) for shape in ((5, length), (length, 6)))
    for c in (None, single(np.full((5, 6), -0.0))):
        spec = ps.MatmulSpec.parse("bf16_bf16_fp32")
        assert_same_bits(
            emulated_matmul(a, b, c, spec), reference_matmul(a, b, c, spec), str(length)
        )


def test_range_ends_where_stated() -> None:
    """One power of two beyond either end, the condition is false."""
    name = "bf16_bf16_fp32"
    ones = np.ones((2, LENGTH), np.float32)

    def scaled(exponent: int) -> np.ndarray:
        return ones * np.float32(2.0**exponent)

    # Exponents of (a, b): 2**e has its last bit at e and lies below 2**(e + 1).
    highest = 127 - 2 - LENGTH.bit_length()
    for low, high in ((-63, 60), (-126, 127), (0, 60)):
        inside_low, inside_high = (low, -126 - low), (min(high, highest - 1), highest - high - 2)
        assert fits(scaled(inside_low[0]), scaled(inside_low[1]).T, None, name)
        assert not fits(scaled(inside_low[0]), scaled(inside_low[1] - 1).T, None, name)
        if high == 60:
            assert fits(scaled(inside_high[0]), scaled(inside_high[1]).T, None, name)
            assert not fits(scaled(inside_high[0] + 1), scaled(inside_high[1]).T, None, name)
    for c, expected in ((-126, True), (-127, False), (highest - 1, True), (highest, False)):
        assert fits(ones, ones.T, scaled(c)[:, :2], name) is expected


def test_range_ignores_zeros_infinities_and_nan_and_counts_subnormals() -> None:
    special = single([[0, -0.0, np.inf, np.nan]] * 2)
    ones = np.ones((2, LENGTH), np.float32)
    assert fits(special, special.T, None, "bf16_bf16_fp32")
    for subnormal in (2.0**-149, 2.0**-127):
        x = np.float32(subnormal) * ones
        assert not fits(x, ones.T, None, "bf16_bf16_fp32")
        assert not fits(ones, x.T, None, "bf16_bf16_fp32")


def test_range_is_known_at_trace_time_for_narrow_formats() -> None:
    known = ("fp16_fp16_fp32", "e5m2_e4m3_fp16", "q3.8_q3.8_q3.8", "q3.12_q3.4_fp32")
    for name in (*known, "bf16_bf16_fp32", "fp16_tf32_fp32"):
        spec = ps.MatmulSpec.parse(name)
        guards: list[Any] = []
        jax.eval_shape(
            lambda a, s=spec, g=guards: g.append(exact_range(a, a.T, None, s)), np.ones((2, 300))
        )
        assert (guards[0] is True) == (name in known)


@pytest.mark.parametrize("name", ["bf16_bf16_fp32", "fp32_fp32_fp32"])
def test_guard_is_needed_below(name: str) -> None:
    """Just outside the range the float32 step alone gives wrong results: XLA flushes subnormals."""
    rng = np.random.default_rng(1)
    a, b = cancelling(rng, name, (-64, -64))
    expected = reference_matmul(a, b, None, ps.MatmulSpec.parse(name))
    assert not fits(a, b, None, name)
    assert np.count_nonzero(np.asarray(fast_only(name)(a, b, None)) != expected) > 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", ["rne", "raz", "rtp", "rto:saturate", "raz:saturate", "rtp:saturate"]
)
@pytest.mark.parametrize("accumulator", ["bf16", "tf32", "float(e=8,p=2)", "float(e=8,p=22)"])
def test_sums_may_grow_by_rounding_at_the_upper_end(accumulator: str, mode: str) -> None:
    """Rounding away from zero multiplies partial sums by up to 1 + 2**(1 - p) a step."""
    rng = np.random.default_rng(0)
    length = 300
    spec = ps.MatmulSpec.parse(f"bf16_bf16_{accumulator}[{mode}]")
    highest = 127 - 2 - length.bit_length()
    if by_adding.applies(spec.accumulator):
        highest -= 127 - by_adding.limit(spec.accumulator)
    a = integers(rng, (4, length), 8, highest - 60 - 8)
    b = np.abs(integers(rng, (length, 5), 8, 60 - 8))
    a[1:] = np.abs(a[1:])
    assert fits(a, b, None, str(spec))
    assert_same_bits(ps.matmul(a, b, spec), reference_matmul(a, b, None, spec))


def test_guard_is_needed_above() -> None:
    """The leading bits of the largest number round to infinity, although the product is finite."""
    a, b = single([[np.finfo(np.float32).max]]), single([[0.5]])
    name = "fp32_fp32_fp32"
    assert not fits(a, b, None, name)
    expected = a / 2
    assert_same_bits(reference(a, b, name), expected)
    assert np.asarray(fast_only(name)(a, b, None)) != expected


def triples(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operands (total, x, y) of all sizes; in half of them the product nearly cancels the total."""
    rng = np.random.default_rng(0)
    significands = rng.integers(1 << 23, 1 << 24, (2, count)) * rng.choice([-1, 1], (2, count))
    x, y = np.ldexp(significands, rng.integers(-40, 1, (2, count))).astype(np.float32)
    product = x.astype(np.float64) * y
    total = np.ldexp(rng.uniform(-1, 1, count), rng.integers(-40, 50, count)).astype(np.float32)
    half = count // 2
    near = -product[:half].astype(np.float32)
    total[:half] = (near.view(np.uint32) + rng.integers(0, 3, half).astype(np.uint32)).view(
        np.float32
    )
    # In a quarter the exact sum is that close to a tie: 2**24 + odd - j**2 * 2**-46.
    quarter = count // 4
    ties = slice(half, half + quarter)
    j = rng.integers(-9, 10, quarter) * 2.0**-23
    x[ties], y[ties] = 1 + j, 1 - j
    total[ties] = (1 << 24) + 2 * rng.integers(0, 1 << 22, quarter)
    return total, x, y


def test_add_split_product_is_a_fused_multiply_add() -> None:
    total, x, y = triples(1_000_000)
    got = jax.jit(add_split_product)(total, x, y)
    assert_same_bits(got, ps.fma(jnp.asarray(x), jnp.asarray(y), jnp.asarray(total), "fp32"))


def test_steps_treat_special_values_as_a_fused_multiply_add_does() -> None:
    """All triples of zeros, infinities, NaN and some numbers; every NaN counts as the same."""
    values = [0.0, -0.0, 1.0, -1.0, 3.0, 2.0**60, np.inf, -np.inf, np.nan]
    total, x, y = single(list(itertools.product(values, repeat=3))).T
    expected = ps.fma(x, y, total, "fp32")
    for step in (add_split_product, add_exact_product):
        assert_same_bits(jax.jit(step)(total, x, y), expected, step.__name__, any_nan=True)
    odd = jax.jit(lambda total, x, y: add_to_odd(total, x * y))(total, x, y)
    assert_same_bits(odd, ps.fma(x, y, total, "fp32:rto"), any_nan=True)


def test_add_to_odd_rounds_the_exact_sum_to_odd() -> None:
    total, x, y = triples(200_000)
    with np.errstate(over="ignore"):
        product = (x * y).astype(np.float32)
    expected = ps.add(jnp.asarray(total), jnp.asarray(product), "fp32:rto")
    assert_same_bits(jax.jit(add_to_odd)(total, product), expected)


@pytest.mark.long
def test_steps_do_not_change_when_compiled() -> None:
    """Compiled or step by step: contracting x * y + z to one operation changes no bit."""
    total, x, y = triples(100_000)
    short = [(v.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32) for v in (x, y)]

    def odd(total: Any, x: Any, y: Any) -> Any:
        return add_to_odd(total, x * y)

    for step, operands in (
        (add_exact_product, short),
        (odd, short),
        (add_split_product, [x, y]),
    ):
        compiled = jax.jit(step)(total, *operands)
        with jax.disable_jit():
            eager = step(*map(jnp.asarray, (total, *operands)))
        assert_same_bits(compiled, eager, step.__name__)


def odd_needed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2050 + (1 - 2**-20): float32 rounds the sum to a tie of fp16."""
    return single([[1 - 2**-10]]), single([[1 + 2**-10]]), single([[2050]])


@pytest.mark.parametrize("mutant", [lambda x, y: x + y, None])
def test_odd_rounding_is_needed(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[..., Any] | None
) -> None:
    """The designed case above goes wrong if a plain float32 sum takes the place of the odd one."""
    a, b, c = odd_needed()
    spec = ps.MatmulSpec.parse("fp16_fp16_fp16")
    if mutant is not None:
        monkeypatch.setattr(steps, "add_to_odd", mutant)
    uncompiled = inspect.unwrap(emulated_matmul)
    got = jax.jit(lambda a, b, c: uncompiled(a, b, c, spec))(a, b, c)
    expected = reference_matmul(a, b, c, spec)
    assert expected.item() == 2050
    assert np.asarray(got).item() == (2050 if mutant is None else 2052)


def test_final_odd_sum_of_the_split_product_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """2**24 + 3 - 2**-46 lies just below a tie; a plain sum of the error terms ends at the tie."""
    x, y = single([[1 + 2**-23]]), single([[1 - 2**-23]])
    total = single([[2**24 + 2]])
    assert reference(x, y, "fp32_fp32_fp32", total).item() == 2**24 + 2
    assert jax.jit(add_split_product)(total, x, y).item() == 2**24 + 2
    monkeypatch.setattr(steps, "add_to_odd", lambda x, y: x + y)

    def mutant(total: Any, x: Any, y: Any) -> Any:
        return add_split_product(total, x, y)

    assert jax.jit(mutant)(total, x, y).item() == 2**24 + 4
