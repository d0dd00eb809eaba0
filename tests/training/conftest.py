"""What the tests of training share: comparison of bits, and a policy whose specs all differ."""

from typing import Any

import numpy as np

import precsim as ps
from precsim.training import prepared, scores, setup
from precsim.training.setup import Layered, Setup

DISTINCT = ps.Policy.parse(
    "fwd=fp16_fp16_fp32->fp16,dgrad=e5m2_e4m3_fp32->bf16,wgrad=e4m3_bf16_fp16,e=bf16"
)
"""No product of a step can pass for another. Forward and wgrad round results once, dgrad twice."""


def assert_same_bits(got: Any, expected: Any, note: object = "") -> None:
    """Compare shape, dtype and every bit."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), note
    assert got.tobytes() == expected.tobytes(), (
        f"{note}: {int((got != expected).sum())} of {got.size} values differ"
    )


def forget_compiled() -> None:
    """Let the next run of each configuration trace and compile its step again."""
    for made in (prepared._step, prepared._compiled_step, scores._predictor, setup._registered):
        made.cache_clear()


def layered(config: ps.TrainConfig, model: Any = None) -> Setup:
    """Return the setup of a model that computes with `Layers`."""
    return Setup(config, Layered("model", model), "cross_entropy", "accuracy")


def single(values: Any) -> np.ndarray:
    """Return a float32 array."""
    return np.asarray(values, np.float32)
