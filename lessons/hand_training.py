"""Lesson 10: one layer that learns digits, written out in NumPy, with two places that round."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import precsim as ps

RATE = 0.02
Rounding = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Run(NamedTuple):
    """What a training leaves: test accuracy after each step, share of swallowed updates."""

    accuracy: np.ndarray
    swallowed: float


def exact(x: np.ndarray, bits: np.random.Generator) -> np.ndarray:
    """Leave a tensor as it is, in float32."""
    return x


def fp8(x: np.ndarray, bits: np.random.Generator) -> np.ndarray:
    """Round to E4M3, with a scale that follows from the largest element."""
    scale = np.float32(2.0 ** np.floor(np.log2(448 / np.abs(x).max())))
    return np.asarray(ps.round_to(x * scale, "e4m3:saturate") / scale)


def q38(x: np.ndarray, bits: np.random.Generator) -> np.ndarray:
    """Round to steps of 1/256, to nearest."""
    return np.asarray(ps.round_to(x, "q3.8"))


def q38_sr(x: np.ndarray, bits: np.random.Generator) -> np.ndarray:
    """Round to steps of 1/256, stochastically."""
    random_bits = bits.integers(2**32, size=x.shape, dtype=np.uint32)
    return np.asarray(ps.round_to(x, "q3.8:sr", random_bits=random_bits))


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images of handwritten digits, and their names, in random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.data / 16).astype(np.float32)[order], data.target[order]


@functools.cache
def train(operands: Rounding, weights: Rounding, rate: float = RATE) -> Run:
    """Train for 300 steps; round operands and stored weights by a rule."""
    images, names = digits()
    order, bits = np.random.default_rng(0), np.random.default_rng(1)
    start = 0.1 * order.standard_normal((64, 10))
    w = weights(start.astype(np.float32), bits)
    accuracy, nonzero, swallowed = [], 0, 0
    for _ in range(300):
        batch = order.integers(0, 1437, 32)
        x = operands(images[batch], bits)
        z = np.exp(x @ operands(w, bits))
        target = np.eye(10, dtype=np.float32)[names[batch]]
        error = z / z.sum(1, keepdims=True) - target
        gradient = x.T @ operands(error / 32, bits)
        after = weights(w - np.float32(rate) * gradient, bits)
        nonzero += int(np.count_nonzero(gradient))
        swallowed += int(np.count_nonzero((after == w) & (gradient != 0)))
        w = after
        answers = (images[1437:] @ w).argmax(1)
        accuracy.append(np.mean(answers == names[1437:]))
    return Run(np.array(accuracy), swallowed / nonzero)


@functools.cache
def one_weight(mode: str, paths: int = 1) -> np.ndarray:
    """Return a weight in q3.8 after 0 to 1000 updates of 0.001, rounded by a mode."""
    coins = np.random.default_rng(0).integers(2**32, size=(1000, paths), dtype=np.uint32)
    found = [np.ones(paths)]
    for each in coins:
        coin = each if mode == "sr" else None
        found.append(np.asarray(ps.add(found[-1], 0.001, f"q3.8:{mode}", random_bits=coin)))
    return np.array(found)
