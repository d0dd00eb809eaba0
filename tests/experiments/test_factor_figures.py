"""G23, G25, G26: factors in fp16 bit by bit, GMRES, and results that the checks must refuse."""

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.io

import precsim as ps
from experiments import g23_half_precision_lu as g23
from experiments import g25_low_precision_factors as g25
from experiments import g26_least_squares as g26
from experiments.gmres import gmres
from experiments.low_precision_lu import cholesky, factorise

half = np.float16
PAGES = Path(__file__).parents[2] / "docs" / "gallery"


def grades(checks: list[Any], *, matched: bool) -> Counter[str]:
    return Counter(check.grade for check in checks if check.matched == matched)


def rounded(x: Fraction) -> Fraction:
    return Fraction(ps.oracle.round_exact(x, "fp16").value)


@pytest.mark.long
@pytest.mark.parametrize(("fused", "by_reciprocal"), [(True, False), (False, True), (True, True)])
def test_ways_of_elimination_by_exact_rationals(fused: bool, by_reciprocal: bool) -> None:
    n = 6
    start = np.random.default_rng(1).normal(size=(n, n)).astype(half).astype(np.float32)
    ours, order = factorise(
        start, jax.random.key(0), 0.0, spec="fp16", fused=fused, by_reciprocal=by_reciprocal
    )
    a = [[Fraction(float(x)) for x in row] for row in start[np.asarray(order)]]
    for k in range(n - 1):
        inverse = rounded(1 / a[k][k])
        for i in range(k + 1, n):
            a[i][k] = rounded(a[i][k] * inverse if by_reciprocal else a[i][k] / a[k][k])
            for j in range(k + 1, n):
                product = a[i][k] * a[k][j]
                a[i][j] = rounded(a[i][j] - (product if fused else rounded(product)))
    assert np.array_equal(np.asarray(ours), np.array(a, np.float64))


@pytest.mark.long
def test_cholesky_as_numpy_half() -> None:
    n = 7
    x = np.random.default_rng(2).normal(size=(n, n))
    start = (x @ x.T + n * np.eye(n)).astype(half)
    a = start.copy()
    for k in range(n):
        a[k, k] = np.sqrt(a[k, k])
        a[k, k + 1 :] = a[k, k + 1 :] / a[k, k]
        for i in range(k + 1, n):
            a[i, k + 1 :] = a[i, k + 1 :] - a[k, i] * a[k, k + 1 :]
    ours = np.asarray(cholesky(start.astype(np.float32), spec="fp16"))
    assert np.array_equal(ours, np.triu(a).astype(np.float32))
    assert np.isnan(cholesky(-start.astype(np.float32), spec="fp16")).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gmres_solves(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    a = (np.eye(12) + 0.1 * rng.normal(size=(12, 12))).astype(dtype)
    b = rng.normal(size=12).astype(dtype)
    x, steps = gmres(lambda v: a @ v, b, tolerance=1e-3, most=12)
    assert x.dtype == dtype
    assert np.linalg.norm(a @ x - b) <= 1.1e-3 * np.linalg.norm(b)
    assert steps < 12
    assert gmres(lambda v: a @ v, b, tolerance=1e-9, most=2)[1] == 2
    assert gmres(lambda v: a @ v, 0 * b, tolerance=1e-3, most=12)[1] == 0


@pytest.mark.long
def test_half_precision_lu_of_a_small_system() -> None:
    g = g23.green(9)
    second = 100 * (2 * np.eye(9) - np.eye(9, k=1) - np.eye(9, k=-1))
    np.testing.assert_allclose(g @ second, np.eye(9), atol=1e-12)  # h = 1 / 10
    a = (np.eye(9) - 8 * g).astype(half)
    factors, order = g23.factors_of(a.astype(np.float64), g23.SOURCE, "fp16")
    a = a[order]
    for k in range(8):
        a[k + 1 :, k] *= half(1) / a[k, k]
        a[k + 1 :, k + 1 :] -= np.multiply.outer(a[k + 1 :, k], a[k, k + 1 :])
    assert np.array_equal(factors, a.astype(np.float32))


@pytest.mark.slow
def test_half_precision_lu_fast_run() -> None:
    checks = g23.check(g23.compute(True))
    assert grades(checks, matched=True) == {"A": 2, "C": 3}
    assert len(checks) == 5


def full_run() -> dict[str, np.ndarray]:
    """Return results as a full run has them."""
    results = {"n": np.array(1024), "orders": np.array([4096, 4069])}
    for k, way in enumerate(g23.WAYS):
        results[f"residual, {way}"] = np.array(0.62565)
        results[f"error, {way}"] = np.array(0.234975 if k == 0 else 0.12)
    for order in (4096, 4069):
        results[f"solves in fp16, {order}"] = np.array([99.0, 105.272, 30.0])
        end = 1.5e-3 if order == 4096 else 0.1247
        falling = np.array([99.0, end, end])
        results[f"solves in fp32, {order}"] = falling
        results[f"GMRES-IR, {order}"] = np.array([99.0, 3e-3, 2e-5, 2.2e-5])
    return results


def test_half_precision_lu_checks_can_fail() -> None:
    results = full_run()
    assert grades(g23.check(results), matched=True) == {"A": 2, "B": 3, "C": 8}
    results["GMRES-IR, 4069"] = np.array([99.0, 3e-3, 3e-3])
    # GMRES far above the published residual, and above the roundoff.
    assert grades(g23.check(results), matched=False) == {"C": 2}
    results["GMRES-IR, 4069"] = np.array([99.0, 3e-3, 2e-3, 2e-5])  # a step too late
    assert grades(g23.check(results), matched=False) == {"C": 1}
    results = full_run()
    for k, wrong in enumerate((0.62566, 0.234974)):
        results[f"{('residual', 'error')[k]}, {g23.SOURCE}"] = np.array(wrong)
    results["solves in fp16, 4096"][1] = 105.28
    assert grades(g23.check(results), matched=False)["A"] == 2
    assert grades(g23.check(results), matched=False)["B"] == 2


def test_where_refinement_stops() -> None:
    sizes = np.array([100.0, 10.0, 1.0, 0.95, 0.1])
    assert g23.stopped(sizes, 0.9) == 0.95
    assert g23.stopped(sizes, 0.96) == 0.1
    assert g23.stopped(np.array([1.0, 3.0]), 0.9) == 3.0


@pytest.mark.long
def test_factors_as_preconditioners() -> None:
    checks = g25.check(g25.compute(True, n=30))
    assert grades(checks, matched=True) == {"B": 1, "C": 17}


def test_matrix_of_trefethen() -> None:
    """Order 4 by hand; the first entry of the inverse at order 20,000 is 0.7250783462."""
    assert g25.trefethen(4).tolist() == [[2, 1, 1, 0], [1, 3, 1, 1], [1, 1, 5, 1], [0, 1, 1, 7]]
    assert np.diag(g25.trefethen(500))[-1] == 3571
    first = np.linalg.inv(g25.trefethen(500))[0, 0]
    assert abs(first - 0.7250783462) < 1e-3


def test_page_names_the_matrices_that_are_compared() -> None:
    page = " ".join((PAGES / "g25_low_precision_factors.md").read_text("utf-8").split())
    listed = page.partition("For Cholesky: ")[2].partition(". Without")[0].split(". For LU: ")
    for kind, names in zip(g25.KINDS, listed, strict=True):
        assert sorted(names.split(", ")) == sorted(g25.PUBLISHED[kind])


@pytest.mark.long
@pytest.mark.parametrize("kind", g25.KINDS)
def test_scaling_is_undone(kind: str) -> None:
    a = g25.badly_scaled(g25.toeplitz(30, low1=-1, at=4, up1=-1), kind, 8.0)
    x = 1 / np.abs(a).max(axis=0)
    ours = g25.preconditioner(a, kind, "fp16")(a @ x)
    away = np.abs(a).max(axis=0) * ours - 1  # 1e-3 of the largest, as rows of A mix their sizes
    assert np.median(np.abs(away)) < 0.01


@pytest.mark.long
def test_published_steps_are_compared(tmp_path: Path) -> None:
    for name in ("nos5", "saylr1"):
        scipy.io.mmwrite(tmp_path / f"{name}.mtx", g25.formulas(30)["Cholesky"]["Lehmer"])
    results = g25.compute(True, matrices=str(tmp_path))
    assert g25.names(results) == [("Cholesky", "nos5"), ("LU", "saylr1")]
    assert grades(g25.check(results), matched=True)["B"] == 2
    results["LU, saylr1, backward error"] = np.ones(3)
    assert grades(g25.check(results), matched=False)["B"] == 1


@pytest.mark.long
def test_checks_of_factors_can_fail() -> None:
    results = g25.compute(True, n=30)
    results["LU, Parter, backward error"] = np.array([1e-3, 1e-3])
    results["LU, Parter, GMRES steps"] = np.array([60])
    for key in results:
        if key.endswith("unscaled"):
            results[key] = np.array(0.0)
    assert grades(g25.check(results), matched=False) == {"C": 3}


@pytest.mark.long
def test_householder_as_numpy_half() -> None:
    a = np.random.default_rng(5).normal(size=(5, 3)).astype(half)

    def inner(u: np.ndarray, x: np.ndarray) -> np.ndarray:
        total = u[0] * x[0]
        for row in range(1, len(u)):
            total = total + u[row] * x[row]
        return np.asarray(total)

    r, directions = a.copy(), []
    for j in range(3):
        x = r[j:, j]
        unit = x / np.abs(x).max()
        u = x / (np.abs(x).max() * np.sqrt(inner(unit, unit)))
        u[0] = u[0] + half(-1 if u[0] < 0 else 1)
        u = (u / np.sqrt(np.abs(float(u[0])))).astype(half)
        directions.append(u)
        r[j:, j:] = r[j:, j:] - u[:, None] * inner(u, r[j:, j:])
        r[j + 1 :, j] = 0
    q = np.eye(5, 3, dtype=half)
    for j in (2, 1, 0):
        q[j:] = q[j:] - directions[j][:, None] * inner(directions[j], q[j:])
    ours = g26.householder(a.astype(np.float32), "fp16")
    for mine, theirs in zip(ours, (q, r[:3]), strict=True):
        assert np.array_equal(mine, theirs.astype(np.float32))


def test_least_squares_solution_and_corrections() -> None:
    rng = np.random.default_rng(6)
    a = g26.with_condition(rng, (20, 4), [1, 6])
    b = rng.normal(size=20)
    np.testing.assert_allclose(np.linalg.cond(a), [10, 1e6], rtol=1e-6)
    expected = np.linalg.lstsq(a[0], b, rcond=None)[0]
    residual, x = g26.exact_solution(a[0], b)
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    q, r = np.linalg.qr(a[0])
    for dr, dx in (
        g26.by_factors(q, r, b, np.zeros(4)),
        g26.by_gmres(a[0], q, r, b, np.zeros(4)),
    ):
        np.testing.assert_allclose(dx, expected, rtol=1e-4)
        np.testing.assert_allclose(dr, residual, rtol=1e-3, atol=1e-5)


def test_checks_of_least_squares_can_fail() -> None:
    never, soon = np.full((6, 2, 21), 1.0), np.full((6, 2, 21), 0.0)
    factors = np.concatenate([soon[:1], never[1:]])
    steps = np.ones((6, 2, 21))
    steps[:5, :, 1:] = 0
    results = {"exponent": np.arange(3, 9), "by factors": factors, "by GMRES": steps}
    assert grades(g26.check(results), matched=True) == {"C": 16}
    assert grades(g26.check(results | {"by factors": soon}), matched=False) == {"C": 5}
    assert grades(g26.check(results | {"by GMRES": never}), matched=False) == {"C": 10}


@pytest.mark.slow
def test_least_squares_fast_run() -> None:
    checks = g26.check(g26.compute(True))
    assert grades(checks, matched=True) == {"C": 16}
    assert len(checks) == 16
