"""G22: the kernel against softmax in float64, and wrong rules that its checks must find."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import precsim as ps
from experiments import g22_flash_attention as g22

SMALL: dict[str, Any] = {"rows": 32, "keys": 8}


def unmatched(**parameters: Any) -> Counter[str]:
    checks = g22.check(g22.compute(True, **parameters))
    return Counter(check.grade for check in checks if not check.matched)


@pytest.mark.long
def test_all_checks_match() -> None:
    checks = g22.check(g22.compute(True, **SMALL))
    assert Counter(check.grade for check in checks if check.matched) == {"B": 37, "C": 5}
    assert len(checks) == 42


@pytest.mark.parametrize(("tile", "beta"), [(8, 1.0), (2, 1.0), (8, 2.0), (2, 2.0)])
def test_kernel_is_softmax(tile: int, beta: float) -> None:
    q, k, v = g22.problems(16, 8, 5.0, 2, "bf16", 3)
    scores = np.einsum("rid,rkd->rk", q, k)
    weights = np.exp(scores - scores.max(axis=1)[:, None])
    expected = np.einsum("rk,rkf->rf", weights, v) / weights.sum(axis=1)[:, None]
    found = g22.attention(q, k, v, fmt="bf16", tile=tile, beta=beta)
    np.testing.assert_allclose(found["sum"] / found["total"][:, None], expected, rtol=0.03)


def test_tied_keys_score_the_same() -> None:
    q, k, v = g22.problems(16, 8, 11.0, 3, "bf16", 3)
    weights = g22.attention(q, k, v, fmt="bf16", tile=8)["weights"]
    assert ((weights == 1).sum(axis=1) == 3).all()
    assert ((v <= -2) & (v >= -4)).all()


def test_sums_of_pairs_by_integers() -> None:
    # 4 significant bits: x = 16 ... 31 eighths of an eighth; -(x + y + s) in multiples of 2 ulp.
    x = 8 + np.arange(8)
    sums = 8 * (x[:, None] + x) + 3  # in 1/8 ulp; two values and a tail of 3/8 ulp
    rounded = np.rint(sums / 16) * 16
    assert g22.mean_error("float(e=5,p=4)", 3) * 8 == -(rounded - sums).mean()


def test_ties_away_break_the_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    rounding = ps.round_to
    monkeypatch.setattr(ps, "round_to", lambda x, spec: rounding(x, spec, mode="rna"))
    assert g22.mean_error("bf16", 0) != g22.closed_form(0)
    assert g22.mean_error("bf16", 8) != g22.closed_form(8)


@pytest.mark.long
def test_toward_zero_and_no_cure_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unmatched(beta=1.0, **SMALL) == {"B": 2, "C": 1}  # weights of 1, and their bias
    rounding = ps.round_to
    monkeypatch.setattr(ps, "round_to", lambda x, spec: rounding(x, spec, mode="rtz"))
    wrong = unmatched(**SMALL)
    assert wrong["B"] > 9
    assert wrong["C"] >= 3
