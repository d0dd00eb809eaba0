"""Means, intervals and paired differences, against numbers worked out otherwise."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from precsim.sweeps.cell import Cell
from precsim.sweeps.summary import Interval, blocks, interval, plus_minus
from tests.sweeps.made import cell_of, failed_run, run_of_cell


def ends(found: Interval) -> list[float | None]:
    return [found.mean, found.low, found.high]


def test_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).normal(5, 2, 7)
    found = interval(values.tolist(), 0.9)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert ends(found) == pytest.approx([values.mean(), low, high])


def test_interval_by_hand() -> None:
    """t(0.975, 2) = 4.302653 from printed tables; s = 1, n = 3."""
    found = interval([1.0, 2.0, 3.0])
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)


def test_what_is_not_finite_is_left_out_and_one_number_has_no_interval() -> None:
    assert interval([None, math.nan, math.inf]).count == 0
    one = interval([None, 4.0])
    assert (one.mean, one.low, one.high, one.count) == (4.0, None, None, 1)
    same = interval([2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)
    with pytest.raises(ValueError, match="level is 1"):
        interval([1.0], 1.0)


def test_differences_are_paired_by_seed() -> None:
    """Seeds that differ much more than policies do: only pairing finds the difference."""
    reference = {0: 1.0, 1: 50.0, 2: 200.0, 3: 7.0}
    other = {0: 1.5, 1: 50.7, 2: 200.6, 4: 9.0}
    runs = [run_of_cell(cell_of("fp32", seed), score) for seed, score in reference.items()]
    runs += [run_of_cell(cell_of("bf16", seed), score) for seed, score in other.items()]
    (block,) = blocks(runs)
    fp32, bf16 = block.rows
    assert (block.title, fp32.policy, bf16.policy) == ("linear", "fp32", "bf16")
    gap = bf16.gaps["test_score"]
    differences = [0.5, 0.7, 0.6]
    wanted = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert gap.count == 3
    assert ends(gap) == pytest.approx([0.6, wanted.low, wanted.high])
    assert bf16.means["test_score"].count == 4


def test_failures_and_what_is_not_finite_are_counted_apart() -> None:
    runs = [run_of_cell(cell_of("fp32", seed), 1.0) for seed in range(3)]
    runs += [
        run_of_cell(cell_of("bf16", 0), 2.0),
        run_of_cell(cell_of("bf16", 1), None),
        failed_run(cell_of("bf16", 2), "worker died"),
    ]
    row = blocks(runs)[0].rows[1]
    assert (row.done, row.failed, row.means["test_score"].count) == (2, 1, 1)
    assert blocks([]) == []


def test_blocks_are_told_apart_by_what_differs() -> None:
    runs = []
    for rate in (0.1, 0.2):
        for policy in ("fp32", "bf16"):
            config = replace(cell_of(policy, 0).config, learning_rate=rate)
            runs.append(run_of_cell(Cell(config), rate))
    found = blocks(runs)
    assert [block.title for block in found] == [
        "linear, learning_rate 0.1",
        "linear, learning_rate 0.2",
    ]
    assert len({run.key for run in runs}) == 4


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (0.1028, 0.2, "0.10±0.20"),
        (0.1028, 0.0996, "0.10±0.10"),
        (-97.123, 1.26, "-97.1±1.3"),
        (12345.6, 12.3, "12346±12"),
        (12345.6, 0.0, "1.235e+04±0"),
        (12345.6, 1234.0, "(1.23±0.12)e+04"),
        (2e-9, 5e-10, "(2.00±0.50)e-09"),
        (0.0, 5e-10, "(0.0±5.0)e-10"),
        (0.5, 5e-10, "(5.0000000000±0.0000000050)e-01"),
    ],
)
def test_mean_and_half_width_are_rounded_to_the_same_place(
    mean: float, half: float, said: str
) -> None:
    x = Interval(mean=mean, low=mean - half, high=mean + half, count=3)
    assert plus_minus(x, ".4g") == said
    assert plus_minus(Interval(mean=mean, low=None, high=None, count=1), ".4g") == f"{mean:.4g}"
