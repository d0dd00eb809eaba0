"""G15: LU and solves, bit by bit, against scalar loops in another arithmetic; the pattern."""

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from experiments import g15_refinement
from experiments.low_precision_lu import DIRECTED, factorise, solve

N = 7
KEY = jax.random.key(5)


def system(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(N, N)), rng.normal(size=N)
    return a.astype(np.float16), b.astype(np.float16)


def eliminate(a: Any, b: Any, subtract: Any, multiply: Any, divide: Any) -> tuple[Any, ...]:
    """Return factors, order and solution by scalar operations."""
    a, order = a.copy(), np.arange(N)
    for k in range(N - 1):
        pivot = k + int(np.argmax(np.abs(a[k:, k])))
        a[[k, pivot]], order[[k, pivot]] = a[[pivot, k]], order[[pivot, k]]
        for i in range(k + 1, N):
            a[i, k] = divide(a[i, k], a[k, k])
            for j in range(k + 1, N):
                a[i, j] = subtract(a[i, j], multiply(a[i, k], a[k, j]))
    x = b[order].copy()
    for k in range(N):
        for i in range(k + 1, N):
            x[i] = subtract(x[i], multiply(x[k], a[i, k]))
    for k in reversed(range(N)):
        x[k] = divide(x[k], a[k, k])
        for i in range(k):
            x[i] = subtract(x[i], multiply(x[k], a[i, k]))
    return a, order, x


def equal_bits(ours: Any, theirs: np.ndarray) -> bool:
    return np.array_equal(np.asarray(ours).view(np.uint32), theirs.view(np.uint32))


def run_ours(seed: int, mode: str, chance: float) -> tuple[Any, ...]:
    a, b = (x.astype(np.float32) for x in system(seed))
    factors, order = factorise(a, KEY, chance, spec=f"fp16:{mode}")
    return factors, order, solve(factors, order, b, KEY, chance, spec=f"fp16:{mode}")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_to_nearest_as_numpy_half(seed: int) -> None:
    factors, order, x = run_ours(seed, "rne", 0.0)
    theirs = eliminate(*system(seed), np.subtract, np.multiply, np.divide)
    assert np.asarray(order).tolist() == theirs[1].tolist()
    assert equal_bits(factors, theirs[0].astype(np.float32))
    assert equal_bits(x, theirs[2].astype(np.float32))


@pytest.mark.long
@pytest.mark.parametrize(("chance", "mode"), [(1.0, "rtp"), (0.0, "rtn")])
def test_directed_rounding_as_exact_rationals(chance: float, mode: str) -> None:
    def exactly(operation: Any) -> Any:
        def apply(x: Any, y: Any) -> float:
            return float(
                ps.oracle.round_exact(operation(Fraction(float(x)), Fraction(float(y))), spec)[0]
            )

        spec = ps.RoundingSpec.parse(f"fp16:{mode}")
        return apply

    operations = (lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y)
    a, b = (x.astype(np.float32) for x in system(4))
    theirs = eliminate(a, b, *map(exactly, operations))
    factors, order, x = run_ours(4, DIRECTED, chance)
    assert np.asarray(order).tolist() == theirs[1].tolist()
    np.testing.assert_array_equal(np.asarray(factors), theirs[0])
    np.testing.assert_array_equal(np.asarray(x), theirs[2])


@pytest.mark.long
def test_chance_lies_between_and_systems_do_not_mix() -> None:
    down, up, both = (np.asarray(run_ours(0, DIRECTED, p)[0]) for p in (0.0, 1.0, 0.5))
    assert (both != down).any()
    assert (both != up).any()
    a, b = (np.stack(x).astype(np.float32) for x in zip(*map(system, range(3)), strict=True))
    factors, order = factorise(a, KEY, 0.0, spec="fp16:rne")
    x = solve(factors, order, b, KEY, 0.0, spec="fp16:rne")
    for k in range(3):
        assert equal_bits(np.asarray(x)[k], np.asarray(run_ours(k, "rne", 0.0)[2]))


def test_condition_of_the_matrices() -> None:
    a = g15_refinement.with_condition(np.random.default_rng(3), 1)
    values = np.linalg.svd(a[:, 0], compute_uv=False)
    np.testing.assert_allclose(values[:, 0] / values[:, -1], 10.0 ** np.arange(1, 9), rtol=1e-6)
    np.testing.assert_allclose(values[1, 1:] / values[1, :-1], 100 ** (-1 / 99), rtol=1e-10)


@pytest.mark.slow
def test_pattern_of_refinement_and_order_of_modes(tmp_path: Path) -> None:
    outcome = ps.figures.run("experiments.g15_refinement", out=tmp_path)
    assert not outcome.mismatches
    assert Counter(check.grade for check in outcome.checks) == {"C": 25}
