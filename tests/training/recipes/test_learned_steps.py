"""Learned step sizes: values, and the gradients of LSQ, against NumPy and exact quotients."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps

F: Any = np.float32
FORMATS = {"int4": (-8, 7), "int8_symmetric": (-127, 127), "uint4": (0, 15)}


def pairwise(x: Any) -> Any:
    """Add halves of what is filled up with zeros, each sum rounded to float32."""
    return ps.accumulate(x, "fp32", order="pairwise")


def by_hand(x: Any, step: Any, g: Any, least: int, most: int) -> tuple[Any, Any, Any]:
    """Return values, gradient of x and gradient of the step, element by element."""
    values, of_x, products = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for k, v in np.ndenumerate(x):
        exact = Fraction(float(v)) / Fraction(float(step))
        code = min(max(round(exact), least), most)  # `round` of a Fraction: ties to even
        values[k] = F(code) * step
        q = v / step
        if least < q < most:
            of_x[k], slope = g[k], F(code) - q
        else:
            slope = F(least if q <= least else most)
        products[k] = g[k] * slope
    return values, of_x, pairwise(products.ravel()) * F(1 / math.sqrt(x.size * most))


@pytest.mark.long
@pytest.mark.parametrize(("fmt", "step"), list(zip(FORMATS, (0.25, 0.3, 7e-3), strict=True)))
def test_values_and_gradients_are_those_of_the_paper(fmt: str, step: float) -> None:
    rng = np.random.default_rng(len(fmt))
    x = F(rng.normal(size=(7, 9)) * 2.0 ** rng.integers(-3, 3, (7, 9)))
    x[0] = F(step) * F(np.arange(9) - 4.5)  # ties, where the step is a power of two
    x[1, :4] = F(step) * F([-8, 7, 127, 15])  # the ends
    g = F(rng.normal(size=x.shape))
    values, of_x, of_step = by_hand(x, F(step), g, *FORMATS[fmt])
    found, pull = jax.jit(
        lambda x, s, g: (
            ps.round_to_steps(x, s, fmt),
            jax.vjp(lambda x, s: ps.round_to_steps(x, s, fmt), x, s)[1](g),
        )
    )(x, F(step), g)
    assert np.array_equal(found, values)
    assert np.array_equal(pull[0], of_x)
    assert np.asarray(pull[1]).view(np.uint32) == of_step.view(np.uint32)
    assert np.array_equal(ps.round_to_steps(x, F(step), fmt), values)


def test_special_values_are_lost_as_a_whole() -> None:
    for x, step in (([1.0, np.nan], 1.0), ([1.0, -np.inf], 1.0)):
        assert np.isnan(ps.round_to_steps(F(x), step, "int8")).all()
    for step in (0.0, -1.0, np.nan, np.inf, 1e-40):
        assert np.isnan(ps.round_to_steps(F([1.0, 0.0]), step, "int8")).all(), step
    assert ps.round_to_steps(F([]), 1.0, "int8").shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.0, "e4m3"), "fmt is e4m3; allowed are integers with one scale"),
        ((1.0, "int8_channel"), "fmt is int8_channel; allowed are integers with one scale"),
        ((1.0, "uint8_symmetric"), "fmt is uint8_symmetric; allowed"),
        ((1.0, "int8:sr"), "fmt is int8:sr; allowed are the modes without chance"),
        ((np.ones(2, np.float32), "int8"), r"step has shape \(2,\); allowed is one number"),
    ],
)
def test_what_has_no_step_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.round_to_steps(F([1.0]), *arguments)


@pytest.mark.long
def test_a_training_learns_its_step() -> None:
    """Four-bit weights: a step that starts eight times too large ends with a small error."""
    rng = np.random.default_rng(0)
    x = F(rng.normal(size=(64, 8)))
    target = F(rng.normal(size=8))
    start = {"w": np.zeros(8, np.float32), "step": F(8 * 2 * abs(target).mean() / math.sqrt(7))}

    def apply(params: Any, x: Any) -> Any:
        return x @ ps.round_to_steps(params["w"], params["step"], "int4")

    def fixed(params: Any, x: Any) -> Any:
        return apply({"w": params["w"], "step": jax.lax.stop_gradient(params["step"])}, x)

    config = ps.TrainConfig(policy="fp32", steps=200, batch_size=64, learning_rate=0.05)
    learnt, kept = (
        ps.train(config, model=(start, run), data=(x, x @ target)) for run in (apply, fixed)
    )
    assert float(kept.weights["step"]) == start["step"]
    assert float(learnt.weights["step"]) < start["step"] / 2
    assert learnt.losses[-1] < kept.losses[-1] / 4


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (1e300, r"step is 1e\+300; allowed are numbers within float32's range"),
        (10**400, r"step is 1000.*; allowed are numbers within float32's range"),
        (None, "step is None; allowed is a number, or a float32 array of one"),
        (True, "step is True; allowed is a number, or a float32 array of one"),
        ([0.5], r"step is \[0.5\]; allowed is a number, or a float32 array of one"),
        (np.ones(1), "step has dtype float64; allowed is float32"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_step_that_is_no_float32_number_is_refused(step: Any, words: str) -> None:
    """Defect: 1e300 became infinite with a warning, True was 1."""
    with pytest.raises((ValueError, TypeError), match=words):
        ps.round_to_steps(np.ones(2, np.float32), step, "int4")


@pytest.mark.long
def test_gradients_are_nan_where_results_are() -> None:
    """Defect: they were finite."""

    def total(x: Any, step: Any) -> Any:
        return ps.round_to_steps(x, step, "int4").sum()

    found = jax.jit(jax.grad(total, (0, 1)))
    usual = np.array([1, 9], np.float32)
    for x, step in (
        *((usual, s) for s in (0.0, -1.0, np.inf, np.nan, 1e-40)),
        (np.array([np.inf, 1], np.float32), 1.0),
        (np.array([1, np.nan], np.float32), 1.0),
    ):
        of_x, of_step = found(x, np.float32(step))
        assert np.isnan(of_x).all(), (x, step)
        assert np.isnan(of_step), (x, step)
    assert all(np.isfinite(each).all() for each in found(usual, np.float32(1)))
