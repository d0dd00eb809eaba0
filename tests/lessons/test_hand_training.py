"""Lesson 10: which trainings learn does not hang on a few digits of the arithmetic."""

import numpy as np

from lessons.hand_training import exact, fp8, one_weight, q38, q38_sr, train


def test_nearest_swallows_and_the_coin_saves() -> None:
    wide = train(exact, exact).accuracy[-1]
    assert abs(train(fp8, exact).accuracy[-1] - wide) < 0.03
    assert abs(train(q38_sr, q38_sr).accuracy[-1] - wide) < 0.06
    assert train(q38, q38).accuracy[-1] < wide - 0.3
    assert train(q38, q38).swallowed > 0.95 > train(q38_sr, q38_sr).swallowed > 0.8


def test_one_weight_is_right_on_average() -> None:
    assert np.all(one_weight("rne") == 1)
    assert np.all(one_weight("sr", 200)[-1] * 256 % 1 == 0)
    mean = one_weight("sr", 200)[-1].mean()
    assert abs(mean - 2) < 4 * np.sqrt(1000 * 0.256 * 0.744 / 200) / 256
