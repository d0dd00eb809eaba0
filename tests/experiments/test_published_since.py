"""G17 to g21: published numbers by other ways, and with a wrong rule that a check notices."""

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import integrate, stats

import precsim as ps
from experiments import g17_gaussian_grids as g17
from experiments import g18_nvfp4_scale_rules as g18
from experiments import g19_loss_gap as g19
from experiments import g20_tpu_prints as g20
from experiments import g21_limited_randomness as g21

F = np.float32


def score(module: Any, results: Any) -> tuple[Counter[str], list[str]]:
    """Return how many numbers of each class match, and the names of those that do not."""
    checks = module.check(results)
    good = Counter[str](check.grade for check in checks if check.matched)
    return good, [check.name for check in checks if not check.matched]


@pytest.mark.long
def test_gaussian_grids() -> None:
    results = g17.compute(fast=True)
    assert score(g17, results) == ({"A": 20, "B": 7, "C": 1}, [])
    # The notebook's optimiser, stopped early: its errors as if they were the optimum.
    early = results | {
        "equidistant": np.array([e for _, e in g17.PUBLISHED["equidistant"].values()])
    }
    names = score(g17, early)[1]
    assert [name for name in names if "above the optimum" in name] == names
    assert len(names) == 3
    # A grid of 16 values for one of 15.
    more = results | {"element, error": results["equidistant"][3]}
    assert "E2M1, error" in score(g17, more)[1]


@pytest.mark.parametrize("grid", [np.linspace(-1.5, 1.5, 4), np.array([-2.0, -0.3, 0.1, 3.0])])
def test_error_of_a_grid_by_quadrature(grid: np.ndarray) -> None:
    def loss(x: float) -> float:
        return float(np.min((grid - x) ** 2) * stats.norm.pdf(x))

    edges = (grid[1:] + grid[:-1]) / 2
    found = integrate.quad(loss, -12, 12, points=edges, limit=200)[0]
    assert g17.mean_square_error(grid) == pytest.approx(found, rel=1e-8)


def test_best_values_are_means_of_their_cells() -> None:
    for count in (2, 7, 64):
        grid = g17.best_values(count)
        _, _, probability, moment = g17.cells(grid)
        np.testing.assert_allclose(moment / probability, grid, atol=1e-13)
        around = [g17.mean_square_error(grid * factor) for factor in (0.99, 1.0, 1.01)]
        assert around[1] == min(around)


def test_nvfp4_by_independent_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales and elements as ml_dtypes rounds them; the tile is a block of its numbers."""
    x = np.random.default_rng(3).standard_normal((32, 128), F)
    blocks, scale, whole = g18.scaled(x, g18.SHRUNK)
    amax = np.abs(x.reshape(-1, 16)).max(axis=1)
    assert scale[:, 0].tolist() == [
        float(ml_dtypes.float8_e4m3fn(a * F(g18.SHRUNK / 6) / whole)) for a in amax
    ]
    elements = np.clip(blocks, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(F)
    rng = np.random.default_rng(0)
    assert np.array_equal(g18.nearest(x, rng), (elements * scale * whole).reshape(x.shape))
    assert np.array_equal(g18.from_tiles(g18.tiles(x), x.shape), x)
    assert np.array_equal(g18.tiles(x)[1].reshape(16, 16), x[:16, 16:32])
    turn = g18.rotation(rng)
    np.testing.assert_allclose(turn @ turn.T, np.eye(128), atol=1e-6)


@pytest.mark.long
def test_stochastic_blocks_have_the_mean_and_eden_the_length() -> None:
    x = np.random.default_rng(4).standard_normal((2, 128), F)
    rng = np.random.default_rng(5)
    many = np.stack([g18.stochastic(x, rng) for _ in range(200)])
    spread = many.std(axis=0) / np.sqrt(200)
    assert np.abs(many.mean(axis=0) - x).max() < 5 * spread.max()
    length = np.mean([np.sum(g18.eden(x, rng) * x) for _ in range(50)]) / np.sum(x * x)
    assert length == pytest.approx(1, abs=2e-3)


def nvfp4() -> dict[str, np.ndarray]:
    """Return results that match, as published; without a run."""
    published = g18.PUBLISHED
    results = {rule: np.asarray(4.0**-bits) for rule, (_, bits) in published["rules"].items()}
    for rule, (error, _, shrinkage) in published["unbiased"].items():
        bits = 2.197 if rule == "stochastic" else 2.9
        gain = 0.8 if rule == "nearest" else 1.0
        results[f"{rule}, error"] = np.asarray(error * 1e-3)
        results[f"{rule}, shrinkage"] = np.asarray(shrinkage)
        results[f"{rule}, averages"] = 4.0 ** -(bits + gain * np.arange(4))
    return results | {"products": 4 ** np.arange(4)}


def test_every_check_of_nvfp4_can_fail() -> None:
    good = nvfp4()
    assert score(g18, good) == ({"B": 21, "C": 3}, [])
    wrong = {
        "4 over 6": good["1 x 16"],  # one scale only
        "16 x 16": good["1 x 16"],
        "stochastic, error": good["nearest, error"],
        "EDEN, shrinkage": good["nearest, shrinkage"],  # no correction
        "stochastic, averages": good["stochastic, averages"][:1].repeat(4),  # one draw for all
    }
    for name, value in wrong.items():
        missed = score(g18, good | {name: value})[1]
        assert missed
        assert all(label.startswith(name.split(",")[0]) or "averages" in name for label in missed)


@pytest.mark.slow  # `.ci/run` runs all figures
def test_nvfp4_scale_rules() -> None:
    assert score(g18, g18.compute(fast=True)) == ({"B": 19, "C": 3}, [])


def test_loss_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert score(g19, g19.compute(fast=True)) == ({"B": 9, "C": 4}, [])
    # Activations rounded as the weights are: then the errors of both are those of the weights.
    same = {name: (weights, weights) for name, (weights, _) in g19.SCHEMES.items()}
    monkeypatch.setattr(g19, "SCHEMES", same)
    missed = score(g19, g19.compute(fast=True))[1]
    assert "16 x 16, mean gap / error" in missed
    assert "not rotated: mean miss by error of both" in missed
    monkeypatch.undo()
    monkeypatch.setattr(g19, "RUNS", g19.RUNS[1:])
    assert "predictions, all" in score(g19, g19.compute(fast=True))[1]


@pytest.mark.long
def test_tpu_prints() -> None:
    results = g20.compute(fast=True)
    assert score(g20, results) == ({"A": 7}, [])
    assert [sum(c.matched for c in g20.seven(results, name)) for name in g20.OTHERS] == [
        *(7, 7, 3),
        *(0, 0, 0),
    ]
    assert score(g20, g20.compute(fast=True, order="pairwise")) == ({"A": 7}, [])
    assert score(g20, g20.compute(fast=True, format_="tf32"))[0] == {}


def test_few_random_bits_are_sixteen_with_zeros() -> None:
    """The sums take r bits of 16; that is `sr` with r bits, by every number and every word."""
    for r in (1, 3):
        x = np.repeat(1 + np.arange(64) / 512, 2**r).astype(F)
        words = np.tile(np.arange(2**r, dtype=np.uint32), 64)
        few = ps.round_to(x, f"float(e=5,p=4):sr{r}", random_bits=words)
        shifted = words << np.uint32(g21.WORD - r)
        wide = ps.round_to(x, f"float(e=5,p=4):sr{g21.WORD}", random_bits=shifted)
        assert np.array_equal(few, wide)


@pytest.mark.long
def test_limited_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    results = g21.compute(fast=True, n=256)
    assert score(g21, results) == ({"B": 12, "C": 4}, [])
    nearest = results | {"mean error": np.zeros(6)}  # truncation replaced by an unbiased rule
    assert Counter(name.split(", ")[1] for name in score(g21, nearest)[1]) == {
        "mean error in u_(p+r)": 6
    }
    monkeypatch.setattr(g21, "suffices", lambda n: int(np.log2(n) / 4))
    assert all("error / (sqrt(n) u_p)" in name for name in score(g21, results)[1])
    assert score(g21, results)[1]


def test_truncation_by_integers() -> None:
    for r in (2, 5):
        right, mean = g21.truncated(r)
        low = np.arange(256) >> (8 - r) << (8 - r)
        assert right == 256
        assert mean == float((low - np.arange(256)).mean() / 2 ** (8 - r))
