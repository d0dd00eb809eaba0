"""Fixed-point accumulators that saturate or wrap, in every order, equal the scalar definitions."""

from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits
from tests.products.orders.test_stochastic_accumulator import ORDERS, definition

OVERFLOWS = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")
K = 21


def data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of q3.4, whose sums of products leave it often, at both ends."""
    rng = np.random.default_rng(seed)
    a, b, c = (
        np.asarray(ps.round_to((3 * rng.standard_normal(s)).astype(np.float32), "q3.4"))
        for s in ((3, K), (K, 4), (3, 4))
    )
    return a, b, c


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("order", ORDERS)
def test_definition(order: str, overflow: str) -> None:
    for mode in ("rne", "rtn"):
        rounding = ps.RoundingSpec.parse(f"q3.4:{overflow}:{mode}")
        spec = ps.MatmulSpec.parse(f"q3.4_q3.4_q3.4[{overflow}:{mode}]:{order}")

        def fl(x: Fraction, k: int, i: int, rounding: Any = rounding) -> Fraction:
            return Fraction(ps.oracle.round_exact(x, rounding).value)

        a, b, c = data(1)
        got = ps.matmul(a, b, spec, c=c, backend="reference")
        for i, j in np.ndindex(3, 4):
            products = [
                Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[i], b[:, j], strict=True)
            ]
            want = definition(products, Fraction(float(c[i, j])), order, fl)
            assert got[i, j] == float(want), (mode, i, j)
        largest = 8 if overflow != "saturate_symmetric" else 7.9375
        assert np.abs(got).max() <= largest


@pytest.mark.long
@pytest.mark.parametrize("options", ["wrap]:pairwise", "saturate]:blocked4", "wrap]:exact"])
def test_jit_has_the_bits_of_numpy(options: str) -> None:
    a, b, c = data(2)
    spec = f"q3.4_q3.4_q3.4[{options}"
    got = jax.jit(lambda a, b, c: ps.matmul(a, b, spec, c=c))(a, b, c)
    assert_same_bits(got, ps.matmul(a, b, spec, c=c, backend="reference"))


def test_wrapped_sums_do_not_depend_on_the_order() -> None:
    """Addition modulo 2**4 is associative: if products are exact, every order gives one result."""
    a, b, c = data(3)
    integers = [np.round(x) for x in (a, b, c)]
    results = [
        ps.matmul(
            integers[0],
            integers[1],
            f"raw_raw_q3.4[wrap]:{order}",
            c=integers[2],
            backend="reference",
        )
        for order in ("sequential", "pairwise", "blocked4", "exact")
    ]
    for result in results[1:]:
        assert_same_bits(result, results[0])
    exact = integers[0].astype(int) @ integers[1].astype(int) + integers[2].astype(int)
    assert_same_bits(results[0], ((exact + 8) % 16 - 8).astype(np.float32))
    # Saturation is not: what is lost depends on when the end of the range is met.
    saturated = {
        np.asarray(
            ps.matmul(integers[0], integers[1], f"raw_raw_q3.4:{order}", backend="reference")
        ).tobytes()
        for order in ("sequential", "pairwise", "exact")
    }
    assert len(saturated) == 3


def test_exact_wrapping_has_no_unknown_bits() -> None:
    """Sums far beyond the carrier's precision, whose low bits only the exact order knows."""
    a = np.array([[2.0**30, 2.0**-4, -(2.0**20)]], np.float32)
    b = np.array([[2.0**31], [1.0], [2.0**9]], np.float32)
    found = {
        order: ps.matmul(a, b, f"raw_raw_q3.4[wrap]:{order}", backend="reference").item()
        for order in ("exact", "sequential")
    }
    assert found["exact"] == 2.0**-4
    assert found["sequential"] == 2.0**-4
    c = np.float32(2.0**100)
    a[0, 1] = 1.5 * 2.0**-5
    got = ps.matmul(a, b, "raw_raw_q3.4[wrap:rtp]:exact", c=c, backend="reference")
    assert got.item() == 2.0**-4
