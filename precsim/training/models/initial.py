"""Initial weights."""

import numpy as np


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal numbers of variance 2 / fan_in (He et al., ICCV 2015); fan_out comes last."""
    fan_in = int(np.prod(shape[:-1]))
    weights: np.ndarray = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    return np.asarray(weights, np.float32)


def lecun_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal numbers of variance 1 / fan_in (LeCun et al., 1998); fan_out comes last."""
    fan_in = int(np.prod(shape[:-1]))
    return normal(rng, shape, fan_in**-0.5)


def normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Return normal numbers of a standard deviation."""
    return (rng.standard_normal(shape) * deviation).astype(np.float32)


def zeros(*shape: int) -> np.ndarray:
    """Return weights that start at zero."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    """Return weights that start at one."""
    return np.ones(shape, np.float32)
