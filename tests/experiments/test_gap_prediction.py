"""Loss gaps that are predicted, measured by a sweep, and scored."""

import json
import math
import runpy
import tomllib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from experiments import g29_predicted_gaps as g29
from experiments import gap_prediction as gp
from experiments.gap_prediction import POLICIES, PREDICTIONS, RUNS, PredictedGap
from precsim.sweeps.cell import versions
from precsim.sweeps.store import Store
from tests.sweeps.made import cell_of, run_of_cell
from tests.test_how_to import scripts

OPTIONS: dict[str, Any] = {"floor": 1e-4, "level": 0.95, "resamples": 50, "seed": 1}


def test_fisher_weighted_error_is_the_divergence_to_second_order() -> None:
    rng = np.random.default_rng(1)
    exact, errors = rng.normal(size=(2, 50, 10))
    p = np.exp(gp._log_probabilities(exact))
    for size in (1e-2, 1e-3):
        q = gp._log_probabilities(exact + size * errors)
        divergence = np.mean(np.sum(p * (np.log(p) - q), axis=1))
        found = gp._fisher_weighted(exact, exact + size * errors)
        third = np.mean(np.sum(p * np.abs(size * errors) ** 3, axis=1))
        assert abs(found - divergence) <= third
    assert gp._fisher_weighted(exact, exact + 3.0) <= np.spacing(3.0)  # no probability changes


def test_half_steps_take_twice_as_long_and_none_at_all_for_ever() -> None:
    steps = [0, 50, 100]
    assert gp._reached(steps, np.array([1.0, 1.0])) == 100
    assert gp._reached(steps, np.array([1.5, 2.0])) == 100  # not beyond the end
    assert gp._reached(steps, np.array([0.5, 0.5])) == 50
    assert gp._reached(steps, np.array([0.0, 1.0])) < 1
    assert 50 < gp._reached(steps, np.array([1.0, 0.5])) < 100
    assert gp._reached(steps, np.array([0.5, 1.5])) > gp._reached(steps, np.array([0.5, 1.0]))


def test_noise_of_each_step_raises_the_loss_as_stated() -> None:
    rng = np.random.default_rng(2)
    rate, size, curvature = 0.05, 0.01, 0.5
    w, total, count = np.zeros(1000), 0.0, 2000
    for step in range(2 * count):
        w = w - rate * curvature * w + size * rng.normal(size=w.shape)
        total += curvature / 2 * float(w @ w) * (step >= count)
    stated = w.size * size**2 / (4 * rate)
    # The next order of the variance is rate * curvature / 2; the mean has 1000 * 50 free numbers.
    assert abs(total / count / stated - 1) < rate * curvature / 2 + 4 * math.sqrt(2 / 50_000)


def test_other_optimizers_are_refused() -> None:
    config = ps.TrainConfig(policy=ps.Policy.parse("fp32"), optimizer="adam", steps=1)
    with pytest.raises(ValueError, match="optimizer is 'adam'; allowed is 'sgd'"):
        gp.predict_gaps(config, ["bf16"], model=gp.mlp(), data=gp.digits()[:2])


def test_weights_that_are_no_dict_of_arrays_are_refused() -> None:
    config = ps.TrainConfig(policy=ps.Policy.parse("fp32"), steps=1)
    init, apply = gp.mlp()
    others: tuple[Any, ...] = (
        lambda key: {"inner": init(key)},
        lambda key: list(init(key).values()),
    )
    for other in others:
        with pytest.raises(ValueError, match="model has weights in another structure; allowed is"):
            gp.predict_gaps(config, ["bf16"], model=(other, apply), data=gp.digits()[:2], probes=1)


@pytest.mark.long
def test_page_has_a_script_that_prints_what_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "gallery" / "g29_predicted_gaps.md"
    ((script, (shown,)),) = scripts(page)
    path = tmp_path / "script.py"
    path.write_text(script, "utf-8")
    runpy.run_path(str(path))
    assert capsys.readouterr().out == shown


@pytest.mark.slow  # compiles four programs
def test_predictions_are_those_that_were_committed() -> None:
    config = ps.TrainConfig(policy=ps.Policy.parse("fp32"), seed=gp.SEED, **gp.SETTINGS)
    found = gp.predict_gaps(config, ["fp32", "bf16"], model=gp.mlp(), data=gp.digits()[:2])
    assert found["fp32"] == PredictedGap(forward=0.0, slowed=0.0, noise=0.0)
    before = json.loads(PREDICTIONS.read_text("utf-8"))["mlp"]["bf16"]
    # Another processor's float32 run ends elsewhere, with errors of the same size.
    assert 0.5 < found["bf16"].forward / before["forward"] < 2
    assert 0.5 < found["bf16"].total / sum(before.values()) < 2


def made(factor: float = 1.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return predictions, and losses that have `factor` times their gaps in each of two seeds."""
    gaps = dict(zip(POLICIES, 10.0 ** np.linspace(-3.5, -0.5, len(POLICIES)), strict=True))
    parts = {name: {"forward": gap, "slowed": 0.0, "noise": 0.0} for name, gap in gaps.items()}
    losses = {
        name: {"1": 0.5 + factor * gap, "2": 0.25 + factor * gap} for name, gap in gaps.items()
    }
    losses["fp32"] = {"1": 0.5, "2": 0.25}
    return {"mlp": parts, "cnn": parts}, {"mlp": losses, "cnn": losses}


def scores(results: dict[str, np.ndarray], name: str = "both") -> dict[str, float]:
    return dict(zip(g29.MEASURES, results[f"{name}, forward, scores"][:, 0].tolist(), strict=True))


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_scores_of_predictions_that_are_right_but_for_a_factor(factor: float) -> None:
    found = scores(g29.score(*made(factor), **OPTIONS))
    assert found["rank correlation"] == pytest.approx(1)
    assert found["log error"] == pytest.approx(math.log10(factor), abs=1e-10)
    assert found["fitted, over null"] == pytest.approx(0, abs=1e-10)


def test_prediction_of_the_same_for_all_is_the_null() -> None:
    predictions, runs = made()
    for parts in predictions["mlp"].values():
        parts["forward"] = 0.01
    predictions["mlp"]["bf16"]["forward"] *= 1 + 1e-12  # or it would have no order at all
    assert scores(g29.score(predictions, runs, **OPTIONS), "mlp")["fitted, over null"] == (
        pytest.approx(1)
    )


def test_run_that_diverged_costs_what_guessing_costs() -> None:
    predictions, runs = made()
    runs["mlp"]["bf16"]["2"] = None
    gaps = g29.score(predictions, runs, **OPTIONS)["mlp, gaps"]
    assert gaps[POLICIES.index("bf16"), 1] == math.log(10)


def test_losses_are_read_from_the_file_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    cells = [cell_of("fp32", 1), cell_of("bf16", 1)]
    with Store(path, create=True) as store:
        store.begin({c.key(versions()): c.text for c in cells}, versions(), "", "")
        store.copy([], [run_of_cell(c, 0.5) for c in cells])
    found = gp.measured(path)
    (losses,) = found.values()
    assert set(losses) == {"fp32", "bf16"}
    assert set(losses["bf16"]) == {"1"}


def test_grid_is_what_was_predicted() -> None:
    grid = tomllib.loads((PREDICTIONS.parent / "gap_prediction.toml").read_text("utf-8"))
    assert grid["policies"] == list(POLICIES)
    assert [name.rpartition(":")[2] for name in grid["models"]] == list(gp.MODELS)
    assert {name: grid["settings"][name] for name in gp.SETTINGS} == gp.SETTINGS
    first, last = map(int, grid["seeds"].split("-"))
    assert first > gp.SEED
    predictions, runs = (json.loads(path.read_text("utf-8")) for path in (PREDICTIONS, RUNS))
    for model in gp.MODELS:
        assert set(predictions[model]) == set(POLICIES)
        assert set(runs[model]) == {"fp32", *POLICIES}
        for losses in runs[model].values():
            assert sorted(map(int, losses)) == list(range(first, last + 1))


@pytest.mark.long
def test_checks_hold_for_what_was_measured_and_can_fail() -> None:
    predictions, runs = (json.loads(path.read_text("utf-8")) for path in (PREDICTIONS, RUNS))
    good = g29.check(g29.score(predictions, runs, **OPTIONS))
    assert len(good) == 13
    assert all(check.matched for check in good)
    for parts in predictions.values():
        for policy in parts:
            parts[policy] = {"forward": 0.01, "slowed": 0.0, "noise": 0.0}
        parts["bf16"]["forward"] = 0.5
    missed = [
        check.name
        for check in g29.check(g29.score(predictions, runs, **OPTIONS))
        if not check.matched
    ]
    assert "rank correlation" in missed
    assert "fitted log error over that of the null" in missed
    assert "cnn, mxfp4: measured / predicted" in missed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": "bf16"}, "policies is 'bf16'; allowed are lists of policies"),
        ({"probes": 0}, "probes is 0; allowed are integers from 1 to 4, steps"),
        ({"probes": 5}, "probes is 5; allowed are integers from 1 to 4, steps"),
        ({"probes": True}, "probes is True; allowed are integers from 1 to 4, steps"),
        ({"size": 15}, "data has 15 examples; allowed are 16 and more, 2 batches of 8"),
        ({"model": ({"w": np.zeros(1)}, abs)}, "model is no pair of functions; allowed is"),
    ],
)
def test_what_is_not_allowed_is_refused_before_anything_runs(
    change: dict[str, Any], message: str
) -> None:
    """Defect: batches were empty or short, or a message named other arguments."""
    config = ps.TrainConfig(policy="fp32", steps=4, batch_size=8)
    size = change.pop("size", 64)
    given: dict[str, Any] = {"policies": ["bf16"], "model": gp.mlp(), "probes": 2} | change
    data = [each[:size] for each in gp.digits()[:2]]
    with pytest.raises((ValueError, TypeError), match=message):
        gp.predict_gaps(config, data=data, **given)


@pytest.mark.long
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_model_that_does_not_move_has_no_gaps() -> None:
    """Defect: the share of a step of length 0 was 0 / 0."""
    config = ps.TrainConfig(policy="fp32", steps=2, batch_size=8)
    model = (
        lambda key: {"w": jnp.ones(1)},
        lambda w, x: jnp.zeros((x.shape[0], 10)) + 0 * w["w"],
    )
    found = gp.predict_gaps(config, ["bf16"], model=model, data=gp.digits()[:2], probes=2)
    assert found["bf16"] == PredictedGap(forward=0.0, slowed=0.0, noise=0.0)
