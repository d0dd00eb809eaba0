"""MATLAB's random numbers, so that a MATLAB experiment runs on the same matrices here.

MATLAB's default generator and NumPy's `RandomState` are the same Mersenne Twister with the same
seeding and the same way from two words to a double; MATLAB fills matrices column by column. Its
`randn` (ziggurat) and its other generators have no counterpart here.
"""

import numpy as np

_DEFAULT_SEED = 5489
_BLOCK = 1 << 20


def rng(seed: int) -> np.random.RandomState:
    """Return the stream that MATLAB's ``rng(seed)`` starts.

    Parameters
    ----------
    seed : int
        0 to 2**32 - 1. As in MATLAB, 0 is ``rng("default")``, which stands for the seed 5489.

    Returns
    -------
    numpy.random.RandomState
        To be handed to `rand`, `randi` and `skip`, which advance it.

    Raises
    ------
    ValueError
        If the seed is out of range.

    Examples
    --------
    >>> from experiments.matlab_random import rand, rng
    >>> rand(rng(0), 1, 3).tolist()
    [[0.8147236863931789, 0.9057919370756192, 0.12698681629350606]]
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; allowed are 0 to 2**32 - 1")
    return np.random.RandomState(seed or _DEFAULT_SEED)


def rand(stream: np.random.RandomState, rows: int, columns: int) -> np.ndarray:
    """Return MATLAB's ``rand(rows, columns)``: float64, uniform on (0, 1), shape (rows, columns).

    Examples
    --------
    >>> from experiments.matlab_random import rand, rng
    >>> rand(rng(1), 2, 2).round(4).tolist()
    [[0.417, 0.0001], [0.7203, 0.3023]]
    """
    return stream.random_sample(rows * columns).reshape(columns, rows).T


def randi(stream: np.random.RandomState, highest: int, rows: int, columns: int) -> np.ndarray:
    """Return MATLAB's ``randi(highest, rows, columns)``: integers from 1 to `highest`, float64.

    One double of the stream gives one number, ``floor(highest * rand) + 1``.

    Examples
    --------
    >>> from experiments.matlab_random import randi, rng
    >>> randi(rng(0), 10, 1, 5).tolist()
    [[9.0, 10.0, 2.0, 10.0, 7.0]]
    """
    if highest < 1:
        raise ValueError(f"highest is {highest}; allowed are 1, 2, ...")
    return np.asarray(np.floor(highest * rand(stream, rows, columns)) + 1)


def skip(stream: np.random.RandomState, count: int) -> None:
    """Draw `count` numbers and throw them away: what an earlier part of the script used up."""
    while count > 0:
        stream.random_sample(min(count, _BLOCK))
        count -= _BLOCK
