"""G11: integrals in closed form against rounding and quadrature; what it prints."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import precsim as ps
from experiments import g11_eight_bits as g11

DENSITIES = {
    "uniform": lambda x: np.where(np.abs(x) <= 1, 0.5, 0.0),
    "normal": stats.norm.pdf,
    "Student t(8)": stats.t(8).pdf,
}


@pytest.mark.parametrize("name", DENSITIES)
def test_moments_are_integrals(name: str) -> None:
    x = np.linspace(-1.5, 2.25, 375_001)
    values = np.stack([x**k * DENSITIES[name](x) for k in range(3)])
    pieces = np.sum((values[:, 1:] + values[:, :-1]) / 2, axis=-1) * (x[1] - x[0])
    ours = g11.moments(name, x[-1:]) - g11.moments(name, x[:1])
    np.testing.assert_allclose(ours[:, 0], pieces, atol=1e-5)
    ends = g11.moments(name, np.array([-np.inf, np.inf]))
    variance = {"uniform": 1 / 3, "normal": 1.0, "Student t(8)": 8 / 6}[name]
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], [1, 0, variance], atol=1e-12)


@pytest.mark.parametrize("name", ["E5M2", "E4M3", "E2M5"])
@pytest.mark.parametrize("top", [0.7, 2.5, 30.0])
def test_integral_is_the_error_of_rounding(name: str, top: float) -> None:
    w = int(name[1])
    fmt = ps.FloatFormat(name=name, precision=8 - w, exponent_bits=w, specials=ps.Specials.NONE)
    count = 1 << 17
    x = stats.norm.ppf((np.arange(count) + 0.5) / count)
    scale = top / fmt.max_finite
    rounded = ps.round_to(x / scale, fmt, overflow="saturate") * scale
    error = np.mean((rounded - x) ** 2)
    assert g11.mean_square_error(g11.grid(name) * top, "normal") == pytest.approx(error, rel=5e-3)


def test_grids() -> None:
    assert {name: g11.grid(name).size for name in ("E5M2", "E2M5", "INT8")} == {
        "E5M2": 255,  # 256 codes, two zeros
        "E2M5": 255,
        "INT8": 255,
    }
    assert all(g11.grid(name)[[0, -1]].tolist() == [-1.0, 1.0] for name in ("E4M3", "INT8"))


def test_truncation_costs_six_decibels() -> None:
    x = stats.norm.ppf((np.arange(1 << 14) + 0.5) / (1 << 14)).astype(np.float32)
    loss = g11.snr("e4m3:rne:saturate", 1, x) - g11.snr("e4m3:rtz:saturate", 1, x)
    assert loss == pytest.approx(6.02, abs=0.5)


@pytest.mark.slow
def test_every_decibel(tmp_path: Path) -> None:
    outcome = ps.figures.run("experiments.g11_eight_bits", out=tmp_path)
    assert not outcome.mismatches
    assert Counter(check.grade for check in outcome.checks) == {"B": 40}
