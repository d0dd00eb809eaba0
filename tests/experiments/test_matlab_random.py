"""MATLAB's random numbers, against numbers that MATLAB printed."""

import numpy as np
import pytest

from experiments.matlab_random import rand, randi, rng, skip

# "Reproducing MATLAB random numbers in Python" (blog post, 16 June 2014): rng(seed); rand(1, 5).
PRINTED = {
    0: (
        "0.814723686393179 0.905791937075619 0.126986816293506 0.913375856139019 0.632359246225410"
    ),
    1: (
        "0.417022004702574 0.720324493442158 0.000114374817345 0.302332572631840 0.146755890817113"
    ),
    2: (
        "0.435994902142004 0.025926231827891 0.549662477878709 0.435322392618277 0.420367802087489"
    ),
}
# Two posts on the same question: rand("twister", 1337); rand(3, 5), the first two columns.
COLUMNS = [
    [0.262024675015582, 0.459316887214567],
    [0.158683972154466, 0.321000540520167],
    [0.278126519494360, 0.518392820597537],
]


@pytest.mark.parametrize("seed", PRINTED)
def test_streams_of_three_seeds(seed: int) -> None:
    numbers = rand(rng(seed), 1, 5)
    # MATLAB's last digits are cut off or rounded.
    np.testing.assert_allclose(numbers[0], list(map(float, PRINTED[seed].split())), atol=1e-15)


def test_matrices_are_filled_by_columns() -> None:
    np.testing.assert_allclose(rand(rng(1337), 3, 5)[:, :2], COLUMNS, rtol=0, atol=1e-15)


def test_whole_numbers_take_one_double_each() -> None:
    stream, same = rng(1), rng(1)
    dice = randi(stream, 6, 4, 25)
    assert dice.dtype == np.float64
    assert dice.tolist() == (np.floor(6 * rand(same, 4, 25)) + 1).tolist()
    assert set(dice.flat) == {1, 2, 3, 4, 5, 6}
    assert rand(stream, 1, 1) == rand(same, 1, 1)


@pytest.mark.parametrize("count", [0, 1, (1 << 20) - 1, (1 << 20) + 3])
def test_skipping_is_drawing(count: int) -> None:
    stream, same = rng(1), rng(1)
    skip(stream, count)
    same.random_sample(count)
    assert rand(stream, 1, 3).tolist() == rand(same, 1, 3).tolist()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seed is -1; allowed are 0 to 2\*\*32 - 1"):
        rng(-1)
    with pytest.raises(ValueError, match="highest is 0; allowed are 1, 2"):
        randi(rng(1), 0, 2, 2)
