"""Wrong arguments: each error names the argument, what was given and what is allowed."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

ONE = np.ones(3, np.float32)
ONES = jnp.ones(3, jnp.float32)

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # Dtypes
    (lambda: ps.add(ONE.astype(np.int32), ONE, "fp16"), TypeError, "x has dtype int32; allowed"),
    (lambda: ps.multiply(ONE, np.int8(1), "fp16"), TypeError, "y has dtype int8; allowed"),
    (lambda: ps.fma(ONE, ONE, np.ones(3, bool), "fp16"), TypeError, "z has dtype bool; allowed"),
    (lambda: ps.sqrt(ONE.astype(complex), "fp16"), TypeError, "x has dtype complex128; allowed"),
    (lambda: ps.sqrt(jax.random.key(0), "bf16"), TypeError, "x has dtype key<fry>; allowed"),
    (lambda: ps.accumulate(np.arange(3), "fp16"), TypeError, "x has dtype int64; allowed"),
    (lambda: ps.add("one", "two", "fp16"), TypeError, "x has dtype <U3; allowed"),
    (lambda: ps.add(None, 1.0, "fp16"), TypeError, "x has dtype object; allowed"),  # type: ignore[call-overload]
    # Mixed dtypes
    (lambda: ps.add(ONE, np.ones(3), "fp16"), TypeError, "x float32, y float64; allowed is one"),
    (lambda: ps.add(np.ones(3), ONES, "fp16"), TypeError, "x float64, y float32; allowed is one"),
    (lambda: ps.fma(ONE, 1.0, np.float64(1), "fp16"), TypeError, "y float32, z float64; allowed"),
    # Numbers that the carrier beside them does not have
    (lambda: ps.add(ONE, 0.1, "fp16"), TypeError, "has 0.1, which is not exact in float32"),
    (lambda: ps.add(0.1, ONES, "fp16"), TypeError, "has 0.1, which is not exact in float32"),
    (lambda: ps.add(ONE, [1.0, 2.0, 0.3], "fp16"), TypeError, "not exact in float32"),
    (lambda: ps.add(ONE, 1e300, "fp16"), TypeError, "not exact in float32"),
    (lambda: ps.add(ONE, 1e-300, "fp16"), TypeError, "not exact in float32"),
    (
        lambda: ps.add(ONE, 2**24 + 1, "fp16"),
        TypeError,
        "y has 16777217, which is not exact in float32",
    ),
    (lambda: ps.add(np.ones(3), 2**53 + 1, "fp16"), TypeError, "not exact in float64"),
    (lambda: ps.add(np.ones(3), Fraction(1, 3), "fp16"), TypeError, "not exact in float64"),
    (lambda: ps.add(np.ones(3), Decimal("0.1"), "fp16"), TypeError, "not exact in float64"),
    (lambda: ps.add(2**53 + 1, 1, "fp16"), TypeError, "x has 9007199254740993, which"),
    # Lists
    (lambda: ps.sqrt([[1.0], [1.0, 2.0]], "fp16"), ValueError, "x is a list of rows of different"),
    (
        lambda: jax.jit(lambda x: ps.add([x, x], ONE, "fp16"))(1.0),
        TypeError,
        "x is a list of values that JAX traces; allowed is one array",
    ),
    # Random bits
    (
        lambda: ps.add(ONE, ONE, "fp16:sr", random_bits=jax.random.key(0)),
        TypeError,
        "random_bits is a PRNG key; allowed are integers",
    ),
    (lambda: ps.add(ONE, ONE, "fp16:sr"), ValueError, "random_bits is missing.*one integer per"),
    (lambda: ps.add(ONES, ONE, "fp16:sr8"), ValueError, "random_bits is missing.*fp16:sr8"),
    (lambda: jax.jit(lambda x: ps.sqrt(x, "e4m3:sr"))(ONES), ValueError, "random_bits is missing"),
    (lambda: ps.accumulate(ONE, "fp16:sr"), ValueError, "random_bits is missing.*of x"),
    (
        lambda: ps.add(ONE, ONE, "fp16:sr", random_bits=np.zeros(2, int)),
        ValueError,
        r"random_bits has shape \(2,\); allowed are shapes that broadcast to \(3,\)",
    ),
    (
        lambda: ps.add(ONE, ONE, "fp16:sr", random_bits=ONE),
        TypeError,
        "random_bits has dtype float32; allowed are integers",
    ),
    (
        lambda: ps.accumulate(ONE, "fp16:sr", random_bits=[1, 2]),
        ValueError,
        r"random_bits has shape \(2,\); allowed is the shape of x, \(3,\)",
    ),
    (
        lambda: ps.accumulate(ONE, "fp16:sr", random_bits=[0.5, 1.5, 2.5]),
        TypeError,
        "random_bits has dtype float64; allowed are integers",
    ),
    # Specs
    (
        lambda: ps.add(ONE, ONE, "fp64"),
        ValueError,
        r"float32 carrier cannot hold fp64.*\(use float64",
    ),
    (lambda: ps.accumulate(ONE, "float(e=9,p=8)"), ValueError, "float32 carrier cannot hold"),
    (lambda: ps.add(ONE, ONE, "fp61"), ValueError, "did you mean"),
    (lambda: ps.add(ONE, ONE, "fp16:wrap"), ValueError, "overflow is 'wrap' for fp16; allowed are"),
    # Shapes
    (
        lambda: ps.add(ONE, ONE[:2], "fp16"),
        ValueError,
        r"shapes are x \(3,\), y \(2,\); allowed are shapes that broadcast",
    ),
    (lambda: ps.add(ONES, ONE[:2], "fp16"), ValueError, r"\(3,\).*\(2,\)"),
    # Order and axis
    (
        lambda: ps.accumulate(ONE, "fp16", order="pairwize"),
        ValueError,
        "order is 'pairwize'; allowed are 'sequential', 'pairwise', 'kahan', 'two_sum', 'exact', 'blockedN'; did you mean 'pairwise'",
    ),
    (
        lambda: ps.accumulate(ONE, "fp16", order="blocked"),
        ValueError,
        "order is 'blocked'; allowed",
    ),
    (lambda: ps.accumulate(ONE, "fp16", order=None), ValueError, "order is None; allowed"),  # type: ignore[call-overload]
    (
        lambda: ps.accumulate(ONE, "fp16", axis=1),
        ValueError,
        "axis is 1; allowed are integers from -1 to 0",
    ),
    (
        lambda: ps.accumulate(ONE, "fp16", axis=-2),
        ValueError,
        "axis is -2; allowed are integers from -1 to 0",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=map(str, range(len(CASES))))
def test_error_names_argument_given_and_allowed(
    case: tuple[Callable[[], Any], type[Exception], str],
) -> None:
    call, error, message = case
    with pytest.raises(error, match=message):
        call()


def test_no_error_depends_on_values() -> None:
    worst = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -1e-45], np.float32)
    for text in ("e2m1", "q3.4:wrap", "e8m0", "uq0.8", "fp16:saturate"):
        for result in (
            ps.divide(worst, worst[::-1], text),
            ps.sqrt(worst, text),
            ps.accumulate(worst, text),
        ):
            assert isinstance(result, np.ndarray)


def test_exact_numbers_of_any_type_are_welcome() -> None:
    for number in (2, 2.0, Fraction(2), Decimal(2), True + True, np.float32(2)):
        np.testing.assert_array_equal(ps.multiply(ONE, number, "fp16"), 2 * ONE)
    assert np.isnan(ps.multiply(ONE, float("nan"), "fp16")).all()
    np.testing.assert_array_equal(ps.multiply(ONE, -np.inf, "fp16"), -np.inf * ONE)


def test_jax_random_bits_leave_a_float64_array_in_numpy() -> None:
    """Formerly JAX without x64 rounded the operands to float32 first."""
    x, y = np.array([1 + 2.0**-40]), np.array([-1.0])
    draws = jnp.array([7], jnp.uint32)
    got = ps.add(x, y, "fp32:sr", random_bits=draws)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float64
    assert got.item() == 2.0**-40
    total = ps.accumulate(np.concatenate([x, y]), "fp64:sr", random_bits=jnp.array([1, 2]))
    assert total.dtype == np.float64
    assert total.item() == 2.0**-40


def test_random_bits_of_32_bits_as_python_integers() -> None:
    """Formerly an OverflowError beside JAX arrays."""
    for x in (ONE, ONES):
        up = ps.add(x, 2.0**-20, "fp16:sr", random_bits=2**32 - 1)
        np.testing.assert_array_equal(up, ONE + np.float32(2.0**-10))
        up = ps.add(x, 2.0**-20, "fp16:sr", random_bits=[2**32 - 1] * 3)
        np.testing.assert_array_equal(up, ONE + np.float32(2.0**-10))
