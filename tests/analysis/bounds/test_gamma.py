"""Bounds: exact values, and measured errors below them."""

import math
from fractions import Fraction

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.bounds.gamma import matmul_bound


def sequential_dot(
    a: np.ndarray, b: np.ndarray, spec: str, random_bits: np.ndarray | None
) -> np.ndarray:
    """Sum a * b along the last axis; each product and sum is rounded once (float64 holds both)."""
    total = np.zeros(a.shape[:-1])
    for k in range(a.shape[-1]):
        bits = (None, None) if random_bits is None else random_bits[k]
        product = ps.round_to(a[..., k] * b[..., k], spec, random_bits=bits[0])
        total = ps.round_to(total + product, spec, random_bits=bits[1])
    return total


def test_gamma_is_the_exact_quotient_rounded_up() -> None:
    assert ps.gamma(0, 0.5) == 0.0
    assert ps.gamma(1, 0.25) == 1 / 3 or ps.gamma(1, 0.25) == math.nextafter(1 / 3, 1)
    for n in range(1, 200, 7):
        for u in (2.0**-8, 2.0**-24, 1e-3):
            exact = n * Fraction(u) / (1 - n * Fraction(u))
            bound = ps.gamma(n, u)
            assert Fraction(math.nextafter(bound, 0)) < exact <= Fraction(bound)


def test_unit_roundoff_of_a_format_depends_on_the_mode() -> None:
    assert ps.gamma(3, "fp16") == ps.gamma(3, ps.get_format("fp16")) == ps.gamma(3, 2**-11)
    assert ps.gamma(3, "fp16:rna") == ps.gamma(3, 2**-11)
    for mode in ("rtz", "rtp", "rto", "sr8"):
        assert ps.gamma(3, f"fp16:{mode}") == ps.gamma(3, 2**-10)


@pytest.mark.parametrize(
    ("n", "u", "words"),
    [
        (2048, "fp16", "n \\* unit_roundoff"),
        (-1, 0.1, "n is -1"),
        (1.5, 0.1, "n is 1.5"),
        (1, 0.0, "unit_roundoff is 0.0"),
        (1, 1.0, "unit_roundoff is 1.0"),
        (1, math.nan, "unit_roundoff is nan"),
        (1, "q3.4", "fixed point has none"),
        (1, "fp15", "did you mean 'fp16'"),
    ],
)
def test_gamma_names_what_is_wrong(n: int, u: float | str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.gamma(n, u)


def test_probabilistic_gamma_by_the_formula() -> None:
    n, u, lambda_ = 1000, 2.0**-8, 3.0
    expected = math.exp(lambda_ * math.sqrt(n) * u + n * u**2 / (1 - u)) - 1
    assert ps.probabilistic_gamma(n, u, lambda_=lambda_) == pytest.approx(expected, rel=1e-14)
    # The confidence fixes lambda by 1 - 2 N n exp(-lambda**2 (1 - u)**2 / 2).
    for confidence, results in ((0.5, 1), (0.99, 1), (0.99, 100)):
        lambda_ = math.sqrt(-2 * math.log((1 - confidence) / (2 * results * n))) / (1 - u)
        bound = ps.probabilistic_gamma(n, u, confidence=confidence, num_results=results)
        assert bound == pytest.approx(ps.probabilistic_gamma(n, u, lambda_=lambda_), rel=1e-12)
    assert ps.probabilistic_gamma(10**9, 0.1, lambda_=1.0) == math.inf


def test_probabilistic_gamma_grows_with_the_square_root() -> None:
    ratio = ps.probabilistic_gamma(400, "fp64", lambda_=2) / ps.probabilistic_gamma(
        100, "fp64", lambda_=2
    )
    assert ratio == pytest.approx(2.0, rel=1e-12)
    assert ps.probabilistic_gamma(10**6, "fp32", confidence=0.999) < ps.gamma(10**6, "fp32") / 100


def test_probabilistic_gamma_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        ps.probabilistic_gamma(10, "fp16")
    with pytest.raises(ValueError, match="exactly one"):
        ps.probabilistic_gamma(10, "fp16", confidence=0.9, lambda_=1.0)
    with pytest.raises(ValueError, match="confidence is 1"):
        ps.probabilistic_gamma(10, "fp16", confidence=1)
    with pytest.raises(ValueError, match="lambda_ is 0"):
        ps.probabilistic_gamma(10, "fp16", lambda_=0)
    with pytest.raises(ValueError, match="n is 0"):
        ps.probabilistic_gamma(0, "fp16", confidence=0.9)


@pytest.mark.parametrize("spec", ["fp16", "bf16", "bf16:rtz", "float(e=8,p=6):rtp"])
def test_measured_errors_stay_below_gamma(spec: str) -> None:
    generator = np.random.default_rng(3)
    n = 16
    a = ps.round_to(generator.standard_normal((40, n)), spec)
    b = ps.round_to(generator.standard_normal((40, n)), spec)
    computed = sequential_dot(a, b, spec, None)
    bounds = matmul_bound(a[:, None, :], b[:, :, None], spec)[:, 0, 0]
    errors = ps.errors.absolute_error(computed, np.sum(a * b, axis=1))
    assert np.all(errors <= bounds)
    assert errors.max() > 0
    # The same in other words.
    backward = ps.backward_error(computed[:, None, None], a[:, None, :], b[:, :, None])
    assert backward <= ps.gamma(n, spec)


def test_an_input_that_needs_most_of_gamma() -> None:
    # Each sum is a tie that stays where it is: the error is n u, all on one side.
    n, u = 64, 2.0**-8
    a = np.array([[1.0] + [u] * n])
    b = np.ones((n + 1, 1))
    computed = sequential_dot(a[:, None, :], b.T[None], "bf16", None)
    assert computed.item() == 1.0
    error = ps.backward_error(computed, a, b)
    assert error == n * u / (1 + n * u)
    assert 0.5 * ps.gamma(n + 1, u) < error <= ps.gamma(n + 1, u)
    # Rounding to nearest is not random: this input exceeds the probabilistic bound.
    assert error > ps.probabilistic_gamma(n + 1, u, confidence=0.99)


def test_stochastic_rounding_keeps_the_probabilistic_bound() -> None:
    generator = np.random.default_rng(4)
    n, rows = 64, 200
    a = ps.round_to(generator.uniform(0, 1, (rows, n)), "bf16")
    b = ps.round_to(generator.uniform(0, 1, (rows, n)), "bf16")
    bits = generator.integers(0, 2**32, (n, 2, rows), np.uint32)
    computed = sequential_dot(a, b, "bf16:sr", bits)
    bound = ps.probabilistic_gamma(n, "bf16:sr", confidence=0.99, num_results=rows)
    assert bound < ps.gamma(n, "bf16:sr")
    assert ps.backward_error(computed[:, None, None], a[:, None, :], b[:, :, None]) <= bound


def test_matmul_bound_is_never_below_the_exact_one() -> None:
    generator = np.random.default_rng(5)
    a, b = generator.standard_normal((3, 20)), generator.standard_normal((20, 2))
    bound = matmul_bound(a, b, "fp32")
    assert bound.shape == (3, 2)
    exact_gamma = 20 * Fraction(2) ** -24 / (1 - 20 * Fraction(2) ** -24)
    for i in range(3):
        for j in range(2):
            exact = exact_gamma * sum(abs(Fraction(a[i, k]) * Fraction(b[k, j])) for k in range(20))
            assert exact <= Fraction(bound[i, j]) <= exact * (1 + Fraction(1, 10**12))
    assert np.all(matmul_bound(a, b, "fp32", n=19) < bound)
