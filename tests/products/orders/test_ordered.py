"""Orders of a product other than k ascending, against their definitions in exact rationals."""

from fractions import Fraction
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps

ORDERS = ("pairwise", "blocked1", "blocked4", "blocked16", "kahan", "two_sum")


def rounded(x: Fraction, fmt: str) -> Fraction:
    return Fraction(ps.oracle.round_exact(x, fmt).value)


def exact_dot(a: list[float], b: list[float], c: float, fmt: str, order: str) -> float:
    """Return one element, written from the definitions.

    It takes normal numbers only, so that every step is a Fraction.
    """
    fl = partial(rounded, fmt=fmt)
    products = [Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)]
    total = Fraction(c)
    if order == "pairwise":
        level = [fl(p) for p in products]
        while len(level) > 1:
            sums = [fl(level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = sums + level[len(sums) * 2 :]
        return float(fl(total + level[0]) if level else total)
    if order.startswith("blocked"):
        size = int(order[7:])
        for first in range(0, len(products), size):
            part = Fraction(0)
            for p in products[first : first + size]:
                part = fl(part + p)
            total = fl(total + part)
        return float(total)
    error = Fraction(0)
    for p in map(fl, products):
        if order == "kahan":
            y = fl(p - error)
            new = fl(total + y)
            error = fl(fl(new - total) - y)
        else:
            new = fl(total + p)
            virtual = fl(new - total)
            error = fl(error + fl(fl(total - fl(new - virtual)) + fl(p - virtual)))
        total = new
    return float(total if order == "kahan" else fl(total + error))


@pytest.mark.long
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fmt", ["bf16", "float(e=8,p=5)"])
def test_definition(order: str, fmt: str) -> None:
    rng = np.random.default_rng(3)
    for k in (0, 1, 2, 3, 7, 16, 21):
        a, b = (
            ps.round_to(rng.standard_normal(s).astype(np.float32), fmt) for s in ((2, k), (k, 3))
        )
        c = ps.round_to(rng.standard_normal((2, 3)).astype(np.float32), fmt)
        spec = ps.MatmulSpec(lhs=fmt, rhs=fmt, accumulator=fmt, order=order)
        got = ps.matmul(a, b, spec, c=c, backend="reference")
        exact = [
            [
                exact_dot(a[i].tolist(), b[:, j].tolist(), float(c[i, j]), fmt, order)
                for j in range(3)
            ]
            for i in range(2)
        ]
        np.testing.assert_array_equal(got, np.array(exact, np.float32), err_msg=f"k = {k}")


@pytest.mark.long
@pytest.mark.parametrize(
    "order", ["pairwise", "blocked4", "kahan", pytest.param("two_sum", marks=pytest.mark.slow)]
)
def test_jit_and_batches_have_the_bits_of_numpy(order: str) -> None:
    """Operands with subnormal products, an adder of its own, an output, two batches."""
    rng = np.random.default_rng(4)
    a = (rng.standard_normal((2, 3, 21)) * 2.0 ** rng.integers(-9, 4, (2, 3, 21))).astype(
        np.float32
    )
    b = rng.standard_normal((2, 21, 4)).astype(np.float32)
    a[0, 0, 3], b[1, 2, 2] = np.inf, np.nan
    spec = f"fp16_e5m2_fp16->bf16:{order}:adder=fp32"
    expected = ps.matmul(a, b, spec, backend="reference")
    got = jax.jit(lambda a, b: ps.matmul(a, b, spec))(a, b)
    assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.long
def test_gradients_have_orders_of_their_own() -> None:
    rng = np.random.default_rng(5)
    a, b, g = (rng.standard_normal(s).astype(np.float32) for s in ((3, 9), (9, 2), (3, 2)))
    dgrad, wgrad = "bf16_bf16_bf16:blocked1", "bf16_bf16_bf16:pairwise"
    product = partial(ps.matmul, spec="bf16_bf16_fp32", dgrad=dgrad, wgrad=wgrad)
    da, db = jax.vjp(product, a, b)[1](g)
    np.testing.assert_array_equal(da, ps.matmul(g, b.T.copy(), dgrad, backend="reference"))
    np.testing.assert_array_equal(db, ps.matmul(a.T.copy(), g, wgrad, backend="reference"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fmt", ["fp16", "bf16"])
def test_errors_keep_their_bounds(order: str, fmt: str) -> None:
    """Higham, *Accuracy and Stability*, 4.2 and 4.3, for the sum of 150 products."""
    n = 150
    rng = np.random.default_rng(6)
    a, b = (ps.round_to(rng.random(s).astype(np.float32), fmt) for s in ((1, n), (n, 1)))
    spec = ps.MatmulSpec(lhs=fmt, rhs=fmt, accumulator=fmt, order=order)
    exact = sum(
        (Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[0], b[:, 0], strict=True)),
        Fraction(0),
    )
    u = Fraction(1, 2048 if fmt == "fp16" else 256)
    size = int(order[7:]) if order.startswith("blocked") else 1

    def gamma(k: int) -> Fraction:
        return k * u / (1 - k * u) if k * u < 1 else Fraction(n)

    # Products are rounded once more than the sums, except in blocks.
    bound = {
        "pairwise": gamma(9),
        "kahan": u + 2 * u + 5 * n * u * u,
        "two_sum": 2 * u + gamma(n) ** 2,
    }.get(order, gamma(size + -(-n // size)))
    error = abs(Fraction(ps.matmul(a, b, spec, backend="reference").item()) - exact)
    assert error <= bound * exact


def _sum(order: str, x: Any) -> float:
    return float(ps.accumulate(x, "fp16", order=order))


@pytest.mark.long
def test_accumulate_knows_the_same_orders() -> None:
    ones = np.ones(60, np.float32)  # of which five significand bits count 32
    found = [
        float(ps.accumulate(ones, "float(e=8,p=5)", order=order))
        for order in ("sequential", "blocked10", "kahan", "two_sum")
    ]
    assert found == [32, 60, 60, 60]
    rng = np.random.default_rng(7)
    y = ps.round_to(rng.standard_normal(37).astype(np.float32), "fp16")
    ones = np.ones((37, 1), np.float32)
    for order in ("pairwise", "blocked5", "kahan", "two_sum"):
        product = ps.matmul(y[None, :], ones, f"fp16_fp16_fp16:{order}", backend="reference").item()
        assert _sum(order, y) == product
    compiled = jax.jit(partial(ps.accumulate, spec="fp16", order="kahan"))
    assert float(compiled(y)) == _sum("kahan", y)


def test_unknown_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed are integers from 1 on"):
        ps.accumulate(np.ones(3), "fp16", order="blocked0")
    with pytest.raises(ValueError, match=r"did you mean 'kahan'\?"):
        ps.MatmulSpec.parse("fp16_fp16_fp16:kahn")
    with pytest.raises(ValueError, match="allowed in mode 'sr' are 'sequential', 'pairwise'"):
        ps.accumulate(np.ones(3), "fp16:sr", order="kahan", random_bits=np.zeros(3, np.uint32))
