"""G12 to G14: facts of formats, independent loops, and one wrong rule makes a check fail."""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from experiments import g12_mixed_precision as g12
from experiments import g13_fixed_point_training as g13
from experiments import g14_weight_updates as g14
from tests.experiments.test_pictures import results

STORED = {module: module.__name__.rpartition(".")[2] for module in (g12, g13, g14)}
"""The fast runs of these figures are in gallery.npz."""


def wrong(module: Any, **changed: np.ndarray) -> set[str]:
    """Return the checks that fail when arrays of the stored fast run are replaced."""
    checks = module.check(results()[STORED[module]] | changed)
    return {check.name for check in checks if not check.matched}


@pytest.mark.parametrize("module", STORED)
def test_stored_fast_runs_match(module: Any) -> None:
    assert wrong(module) == set()


@pytest.mark.parametrize(
    ("spec", "missed"),
    [
        ("fp16", set()),
        ("fp16:rtz", {"fl(1 + 2^-11 + 2^-20)", "fl(2^-25 + 2^-35)"}),
        ("fp16:rna", {"fl(1 + 2^-11)", "fl(2^-25)"}),
        ("bf16", {"fl(1 + 2^-11 + 2^-20)", "fl(2^-25)", "fl(2^-25 + 2^-35)"}),
    ],
)
def test_facts_of_half_precision(spec: str, missed: set[str]) -> None:
    facts = {name: np.asarray(value) for name, value in g12.facts(spec).items()}
    swallows = "a weight swallows an update so many times smaller"
    assert wrong(g12, **facts) - {swallows} == missed
    assert float(facts[swallows]) == {"fp16": 2048, "bf16": 256}.get(spec, facts[swallows])


def test_mixed_precision_without_its_parts() -> None:
    stored = results()[STORED[g12]]
    kept = {
        f"{what}, no master weights": stored[f"{what}, fp32 master weights"]
        for what in ("error", "lost")
    }
    assert wrong(g12, **kept) == {"error without master weights, above", "updates lost"}
    left_out = {
        f"{what}, fp32 master weights": stored[f"{what}, no master weights"]
        for what in ("error", "lost")
    }
    assert wrong(g12, **left_out) == {
        "error without master weights, above",
        "error with master weights, above fp32",
        "updates lost by master weights",
    }
    always_1 = np.broadcast_to(stored["vanished"][:1], stored["vanished"].shape)
    assert len(wrong(g12, vanished=always_1)) == len(stored["loss scales"]) - 1


def test_no_gradient_that_vanishes_is_a_number_that_can_be_read() -> None:
    """Of the gradients that vanish at 1024 none does at 32768, and the check says 0."""
    found = {check.name: check for check in g12.check(results()[STORED[g12]])}
    last = found["vanish at loss scale 32768, of each that does at 1024"]
    assert (last.computed, last.matched) == (0, True)
    assert all(0 <= c.computed < 1 for name, c in found.items() if "of each that" in name)


def test_share_of_cancelled_updates_on_the_page() -> None:
    stored = results()[STORED[g14]]
    shares = [100 * float(stored[f"all cancelled, {r}"]) for r in g14.rules("bf16") if r != "fp32"]
    page = (Path(__file__).parents[2] / f"docs/gallery/{STORED[g14]}.md").read_text("utf-8")
    assert f"is {min(shares):.0f} to {max(shares):.0f} % in all of the bf16 runs" in page


def test_fixed_point_with_the_modes_exchanged() -> None:
    stored = results()[STORED[g13]]
    nearest, stochastic = stored["error, nearest"], stored["error, stochastic"]
    missed = wrong(g13, **{"error, nearest": stochastic, "error, stochastic": nearest})
    assert {"stochastic, FL = 8, error above float", "nearest, FL = 8, error at chance"} <= missed
    wide = {"error, narrow outputs": stochastic[-1]}
    assert wrong(g13, **wide) == {"outputs with 14 fraction bits too"}


@pytest.mark.parametrize("rule", ["Kahan", "stochastic", "nearest"])
def test_updates_under_another_rule(rule: str) -> None:
    stored, better = results()[STORED[g14]], g14.PUBLISHED["from the best to the worst"]
    other = better[better.index(rule) - 1]
    changed = {f"last losses, {rule}": stored[f"last losses, {other}"]}
    assert {f"loss, {rule} over {other}", f"loss, {rule}"} <= wrong(g14, **changed)


def test_the_small_sum_under_another_rule() -> None:
    stored = results()[STORED[g14]]
    stochastic = {"sum, nearest": stored["sums, stochastic"][:, 0]}
    assert wrong(g14, **stochastic) == {"1 + 1000 x 0.001, nearest"}
    nearest = {"last sums, stochastic": np.ones(3000)}
    assert wrong(g14, **nearest) == {
        "1 + 1000 x 0.001, stochastic, mean",
        "1 + 1000 x 0.001, stochastic, deviation",
    }


def test_words_are_used_once() -> None:
    words = g13.Words(np.arange(10))
    assert words.take((2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert words.take((4,)).tolist() == [6, 7, 8, 9]


def small_network(unit: float) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
    """Return a network 3-4-2 of multiples of a unit, and one batch of five pictures."""
    rng = np.random.default_rng(2)
    layers = [
        (unit * rng.integers(-200, 200, shape), unit * rng.integers(-9, 9, shape[1]))
        for shape in ((3, 4), (4, 2))
    ]
    return layers, (rng.integers(17, size=(1, 5, 3)) / 16, rng.integers(2, size=(1, 5)))


def backward(layers: Any, x: np.ndarray, labels: np.ndarray, scale: float, rounded: Any) -> Any:
    """Return the gradient of the mean cross-entropy of a network of two layers, by hand."""
    (w, b), (v, c) = layers
    h = rounded(x @ w + b, "output")
    y = rounded(np.maximum(h, 0) @ v + c, "output")
    p = np.exp(y - y.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    g = rounded((p - np.eye(2)[labels]) * scale / len(x), "cotangent")
    f = rounded(g @ v.T, "cotangent") * (h > 0)
    return [(x.T @ f, f.sum(axis=0)), (np.maximum(h, 0).T @ g, g.sum(axis=0))]


def flat(layers: Any) -> np.ndarray:
    return np.concatenate([np.ravel(array) for layer in layers for array in layer])


@pytest.mark.long
def test_a_step_in_fixed_point_by_hand() -> None:
    fraction_bits, output_bits, rate = 10, 8, 0.25

    def fixed(values: Any, bits: int) -> Any:
        return np.clip(np.rint(values * 2.0**bits), -(2**15), 2**15 - 1) / 2.0**bits

    def rounded(values: Any, place: str) -> Any:
        return fixed(values, output_bits if place == "output" else fraction_bits)

    layers, (x, labels) = small_network(2.0**-fraction_bits)
    exact = flat(backward(layers, x[0], labels[0], 1.0, rounded))
    expected = fixed(flat(layers) - rate * fixed(exact, fraction_bits), fraction_bits)
    with jax.enable_x64(True):
        found, (moving, staying) = g13.train_epoch(
            layers, (x, labels), rate, 10.0, 8.0, jax.random.key(0), "q15.0"
        )
        assert flat(found).tolist() == expected.tolist()
        assert int(moving[0]) == np.sum(exact != 0)
        assert int(staying[0]) == np.sum((exact != 0) & (expected == flat(layers)))


@pytest.mark.long
def test_a_step_of_mixed_precision_in_numpy_halves() -> None:
    vanished = []

    def rounded(values: Any, place: str) -> Any:
        halves = np.float16(values)
        if place == "cotangent":
            vanished.append(np.sum((values != 0) & (halves == 0)))
        return halves.astype(np.float64)

    layers, (x, labels) = small_network(2.0**-8)
    scale, rate = 2.0**-20, 2.0**-10  # so small that something vanishes
    gradient = np.float16(flat(backward(layers, x[0], labels[0], scale, rounded)))
    assert sum(vanished)
    update = -rate * gradient.astype(np.float64) / scale
    masters = flat(layers) + update
    singles = jax.tree.map(np.float32, layers)
    for has_masters, expected in ((True, masters), (False, np.float16(masters))):
        found, counts = g12.train_epoch(
            singles,
            (np.float32(x), labels),
            np.float32(rate),
            np.float32(scale),
            has_masters,
            "fp16",
        )
        np.testing.assert_allclose(flat(found), expected, rtol=2.0**-10, atol=2.0**-20)
        assert int(counts[1][0]) == sum(vanished)
        assert (int(counts[3][0]) > int(counts[2][0]) / 2) is not has_masters


@pytest.mark.long
def test_descent_in_numpy_halves() -> None:
    """Each operation of the descent in NumPy's float16, with an update rounded to nearest."""
    x, y = g14.problem(0, 60, 3, 0.5)
    x, y = (ps.round_to(values / 64, "fp16") for values in (x, y))
    keys = np.zeros((1, 2), np.uint32)
    squares, _, cancelled = g14.descend(
        x[None], y[None], keys, np.float32(0.1), "fp16", "fp16", False
    )
    w: Any = np.zeros(3, np.float32)
    lost = 0
    for k in range(len(x)):
        output: Any = np.float32(0)
        for term in x[k].astype(np.float64) * w:
            output = np.float32(output + term)
        residual = np.float32(np.float16(np.float16(output) - np.float16(y[k])))
        update = np.float32(-0.1) * np.float32(np.float16(residual * x[k]))
        new = np.float16(w.astype(np.float64) + update).astype(np.float32)
        lost += int(np.sum((update != 0) & (new == w)))
        square = float((x[k] @ w - y[k]) ** 2)
        assert float(squares[0, k]) == pytest.approx(square, rel=1e-4, abs=1e-9)
        w = new
    assert int(np.sum(cancelled)) == lost


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "grades"),
    [(g12, {"A": 5, "C": 8}), (g13, {"C": 8}), (g14, {"B": 7, "C": 6})],
)
def test_fast_run(module: Any, grades: dict[str, int], tmp_path: Path) -> None:
    outcome = ps.figures.run(f"experiments.{STORED[module]}", out=tmp_path)
    assert not outcome.mismatches
    assert Counter(check.grade for check in outcome.checks) == grades


@pytest.mark.slow
def test_a_run_that_keeps_no_master_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = g12.weights_kept
    monkeypatch.setattr(
        g12, "weights_kept", lambda fmt: kept(fmt) | {"fp32 master weights": (fmt, False)}
    )
    missed = {check.name for check in g12.check(g12.compute(fast=True)) if not check.matched}
    assert "error without master weights, above" in missed
    assert "updates lost by master weights" in missed


@pytest.mark.slow
def test_a_run_whose_stochastic_rounding_is_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g13, "MODES", {"nearest": "", "stochastic": ""})
    checks = g13.check(g13.compute(fast=True, fraction_bits=(8, 14), epochs=10))
    missed = {check.name for check in checks if not check.matched}
    assert "stochastic, FL = 8, error above float" in missed
