"""Initial weights."""

import numpy as np


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal numbers of variance 2 / fan_in (He et al., ICCV 2015); fan_out comes last."""
    fan_in = int(np.prod(shape[:-1]))
    weights: np.ndarray = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    return np.asarray(weights, np.float32)
