"""Comparisons of runs, on results written by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import precsim as ps
from precsim.analysis.comparison import (
    event_rates,
    final_loss,
    gradient_errors,
    relative_distance,
    summarise,
    weight_drift,
)
from precsim.analysis.report import LEGEND, comparison_tables, places_table
from tests.training.conftest import single

STEPS = 40
EVENTS = {  # elements, nonzero, underflowed, subnormal, overflowed, saturated, nan
    "forward": [100, 50, 0, 5, 1, 2, 0],
    "backward": [100, 40, 10, 4, 0, 3, 0],
}


def result(policy: str = "bf16", **changes: Any) -> ps.TrainResult:
    fields: dict[str, Any] = {
        "config": ps.TrainConfig(policy=policy, steps=STEPS),
        "losses": np.linspace(2, 1, STEPS),
        "metric": "accuracy",
        "test_score": 0.875,
        "taken": np.ones(STEPS, bool),
        "loss_scales": np.full(STEPS, 4.0),
        "nonzero_updates": np.full(STEPS, 8.0),
        "swallowed_updates": np.full(STEPS, 2.0),
        "forward_events": {"hidden": np.tile(EVENTS["forward"], (STEPS, 1)).astype(np.float32)},
        "backward_events": {"hidden": np.tile(EVENTS["backward"], (STEPS, 1)).astype(np.float32)},
        "first_gradient": {"w": single([3, 4]), "b": single([1])},
        "last_gradient": {"w": single([3, 4]), "b": single([1])},
        "snapshots": {
            0: {"w": single([1, 0]), "b": single([0])},
            STEPS: {"w": single([0, 3]), "b": single([4])},
        },
        "backend": "emulated",
        "compile_seconds": 1.5,
        "run_seconds": 0.5,
    }
    return ps.TrainResult(**fields | changes)


def test_relative_distance() -> None:
    assert relative_distance(single([3, 4.5]), single([3, 4])) == 0.1
    assert relative_distance(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_distance(np.ones(2), np.zeros(2)) == math.inf
    assert math.isnan(relative_distance(np.array([np.inf]), np.ones(1)))
    assert math.isnan(relative_distance(np.ones(1), np.array([np.nan])))
    tiny = single([1e-30, -1e-30])  # squares underflow in float32
    assert relative_distance(2 * tiny, tiny) == pytest.approx(1)


def test_gradient_errors_per_tensor() -> None:
    other = result(first_gradient={"w": single([3, 4.5]), "b": single([1])})
    assert gradient_errors(other, result()) == {"w": 0.1, "b": 0.0}


def test_weight_drift_at_common_steps() -> None:
    weights = {"w": single([0, 3]), "b": single([5])}
    other = result(snapshots={0: result().snapshots[0], 7: weights, STEPS: weights})
    steps, drifts = weight_drift(other, result())
    assert steps.tolist() == [0, STEPS]
    assert drifts.tolist() == [0.0, 0.2]


def test_final_loss_is_the_mean_of_the_last_twentieth() -> None:
    losses = np.arange(STEPS, dtype=float)
    assert final_loss(result(losses=losses)) == 38.5
    assert final_loss(result(losses=losses[:5])) == 4.0


def test_summary() -> None:
    taken = np.ones(STEPS, bool)
    taken[:3] = False
    other = result(
        losses=np.full(STEPS, 2.0),
        taken=taken,
        first_gradient={"w": single([3, 4.5]), "b": single([1])},
    )
    s = summarise(other, result(losses=np.full(STEPS, 1.5)))
    assert (s.policy, s.definition) == ("bf16", str(ps.Policy.parse("bf16")))
    assert ps.Policy.parse(s.definition) == other.config.policy
    assert s.test_accuracy_percent == 87.5
    assert (s.final_loss, s.loss_gap) == (2.0, 0.5)
    assert s.gradient_underflow_percent == 25.0
    assert s.gradient_underflow_of_all_percent == 10.0
    assert s.gradient_subnormal_percent == 10.0
    assert (s.overflow_percent, s.saturation_percent) == (0.5, 2.5)
    assert s.beyond_range_percent == 3.0
    assert s.swallowed_updates_percent == 25.0
    assert (s.gradient_error, s.gradient_error_tensor) == (0.1, "w")
    assert (s.weight_drift, s.skipped_steps, s.final_loss_scale) == (0.0, 3, 4.0)


def test_reference_against_itself_has_no_errors() -> None:
    s = summarise(result(), result())
    assert (s.loss_gap, s.gradient_error, s.weight_drift) == (0.0, 0.0, 0.0)


def diverged() -> ps.TrainResult:
    bad = {"w": single([np.nan, np.inf]), "b": single([1.5])}
    return result(losses=np.full(STEPS, np.nan), first_gradient=bad, snapshots={0: bad, STEPS: bad})


def test_json_has_no_nan() -> None:
    """JSON has no NaN or Infinity, but Python writes them; the worst tensor is the broken one."""
    summary = summarise(diverged(), result())
    values = summary.as_dict()
    parsed = json.loads(json.dumps(values, allow_nan=False))
    assert parsed == values
    assert {name for name, v in parsed.items() if v is None} == {
        "final_loss",
        "loss_gap",
        "gradient_error",
        "weight_drift",
    }
    assert parsed["gradient_error_tensor"] == "w"


def test_shares_of_nothing_are_zero() -> None:
    none = {"hidden": np.zeros((STEPS, 7), np.float32)}
    empty = result(
        forward_events=none,
        backward_events=none,
        nonzero_updates=np.zeros(STEPS),
        swallowed_updates=np.zeros(STEPS),
    )
    s = summarise(empty, result())
    assert s.gradient_underflow_percent == s.swallowed_updates_percent == 0.0
    assert s.beyond_range_percent == 0.0


def test_rates_of_places() -> None:
    assert event_rates(result()) == {
        "hidden forward": {"underflow": 0.0, "subnormal": 10.0, "overflow": 1.0, "saturation": 2.0},
        "hidden backward": {
            "underflow": 25.0,
            "subnormal": 10.0,
            "overflow": 0.0,
            "saturation": 3.0,
        },
    }


def test_counts_beyond_float32_integers_are_added_exactly() -> None:
    """2**24 + 1 elements: float32 could not count the last one."""
    many = np.zeros((2, 7), np.float32)
    many[0, :2], many[1, :3] = 2.0**24, 1
    run = result(backward_events={"hidden": many}, forward_events={"hidden": many})
    assert event_rates(run)["hidden backward"]["underflow"] == 100 / (2**24 + 1)


LONG = "fp32,fwd=fp16[rtz]_fp16_fp32->bf16,wgrad=bf16_bf16_fp32,update=bf16:sr"


def printed(*tables: Any, width: int) -> str:
    console = Console(width=width, markup=False, emoji=False)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


@pytest.mark.parametrize(("width", "count"), [(40, 4), (60, 2), (80, 2), (120, 1)])
def test_tables_fit_the_terminal_and_cut_nothing_off(width: int, count: int) -> None:
    huge = np.full(STEPS, 123.456)
    runs = [result("fp32"), diverged(), result(LONG, losses=huge), result("q3.8")]
    tables = comparison_tables([summarise(run, runs[0]) for run in runs], width)
    assert len(tables) == count
    text = printed(*tables, width=width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("87.50", "nan", "+122.4", "25.00", "products: emulated"):
        assert part in text
    assert "…" not in text
    for table in tables:  # a long name is broken into lines, and nothing of it is lost
        lines = printed(table, width=width).splitlines()
        assert LONG in "".join(line[1:].split(" ")[0] for line in lines)


def test_the_backend_is_a_column_where_backends_differ() -> None:
    runs = [result("fp32"), result("bf16", backend="native")]
    (table,) = comparison_tables([summarise(run, runs[0]) for run in runs], 120)
    assert "backend" in printed(table, width=120)
    (alike,) = comparison_tables([summarise(runs[0], runs[0])], 120)
    assert "backend" not in printed(alike, width=120)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_places_fit_the_terminal_and_an_empty_table_is_left_out(width: int) -> None:
    text = printed(places_table({LONG: event_rates(result())}), width=width)
    assert "hidden backward" in text
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    none = np.zeros((STEPS, 7), np.int64)
    quiet = result(forward_events={"hidden": none}, backward_events={"hidden": none})
    assert places_table({"fp32": event_rates(quiet)}) is None


def test_the_legend_has_two_lines() -> None:
    assert len(LEGEND) == 2
    assert max(map(len, LEGEND)) <= 80
