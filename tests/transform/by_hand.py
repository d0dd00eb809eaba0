"""Arithmetic in bfloat16 by NumPy and ml_dtypes: what emulated functions are compared with."""

from typing import Any

import ml_dtypes
import numpy as np


def f32(x: Any) -> Any:
    """Return float32 numbers."""
    return np.array(x, np.float32)


def bf16(x: Any) -> Any:
    """Round by ml_dtypes, from float64 whose operation was exact or innocuous."""
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def pairwise(x: np.ndarray) -> Any:
    """Add along the last axis, neighbours first, each sum rounded."""
    while x.shape[-1] > 1:
        even = x.shape[-1] // 2 * 2
        sums = bf16(x[..., 0:even:2] + x[..., 1:even:2])
        x = np.concatenate([sums, x[..., even:]], axis=-1)
    return x[..., 0]
