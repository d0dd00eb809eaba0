"""G24: slices and their products against exact arithmetic; wrong rules that checks must find."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import lu

import precsim as ps
from experiments import g24_integer_lu as g24

PAIRS = ((1, 2), (2, 2), (3, 3))


def unmatched() -> Counter[str]:
    checks = g24.check(g24.compute(True))
    return Counter(check.grade for check in checks if not check.matched)


@pytest.fixture
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g24, "FAST", PAIRS)


@pytest.mark.long
@pytest.mark.usefixtures("few_pairs")
def test_published_digits() -> None:
    checks = g24.check(g24.compute(True))
    assert [(check.grade, check.matched) for check in checks] == [("A", True)] * len(PAIRS)


@pytest.mark.slow
def test_all_fast_pairs() -> None:
    checks = g24.check(g24.compute(True))
    assert Counter(check.grade for check in checks if check.matched) == {"A": 7, "B": 3}
    assert len(checks) == 10


def test_slices_are_fixed_point_toward_zero() -> None:
    x = np.random.default_rng(1).normal(size=(5, 6)) * 2.0 ** np.arange(-20, 10, 6)[:, None]
    for count in (1, 2, 3):
        parts, powers = g24.slices(x, count, 7, 1)
        value = sum(part * 2.0 ** -(7 * k + 7) for k, part in enumerate(parts))
        assert np.array_equal(value, ps.round_to(x / powers, f"q0.{7 * count}:rtz"))
        assert all(np.abs(part).max() < 128 for part in parts)


@pytest.mark.parametrize("splits", [(1, 1), (1, 3), (3, 2), (4, 4)])
def test_product_by_fractions(splits: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    (left, p), (right, q) = g24.slices(a, splits[0], 7, 1), g24.slices(b, splits[1], 7, 0)
    for (i, j), ours in np.ndenumerate(g24.product(a, b, splits, 7)):
        total = 0.0
        for weight in range(max(splits)):
            exact = sum(
                Fraction(left[s][i, k]) * Fraction(right[weight - s][k, j])
                for s in range(splits[0])
                for k in range(4)
                if 0 <= weight - s < splits[1]
            )
            scale = Fraction(p[i, 0]) * Fraction(q[0, j]) / 2 ** (7 * (weight + 2))
            total += float(exact * scale)
        assert ours == total


def test_factors_of_many_slices_are_those_of_binary64() -> None:
    a = np.random.default_rng(3).normal(size=(30, 30))
    factors, order = g24.factorise(a, (9, 9), 10, 7)
    p, lower, upper = lu(a)
    assert order.tolist() == p.argmax(axis=0).tolist()
    np.testing.assert_allclose(factors, np.tril(lower, -1) + upper, rtol=1e-10, atol=1e-12)


def test_matrix_is_a_reflector() -> None:
    a = g24.blockhouse(40)
    np.testing.assert_allclose(a @ a, np.eye(40), atol=1e-12)
    assert np.trace(a) == pytest.approx(36)  # -1 twice


@pytest.mark.long
@pytest.mark.usefixtures("few_pairs")
def test_slices_to_nearest_and_all_weights_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(g24, "product", lambda a, b, *_: a @ b)
        assert unmatched() == {"A": 3}
        patch.setattr(g24, "SURE", 0)
        assert unmatched() == {"B": 3}
    monkeypatch.setattr(np, "trunc", np.rint)
    assert unmatched()["A"] == 3


def test_order_is_a_multiple_of_the_block() -> None:
    with pytest.raises(ValueError, match="n is 25; allowed are multiples of block, 10"):
        g24.compute(True, n=25)
