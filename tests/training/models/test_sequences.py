"""Recurrent networks: the formulas of their papers, their gradients, and the end of a text."""

from typing import Any

import jax
import numpy as np
import pytest

from precsim.training.models.gru import WIDTH
from tests.training.models.conftest import PROBLEMS, examples, loss_of, started

NETWORKS = ("gru", "lstm")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def gru(params: dict[str, np.ndarray], places: np.ndarray) -> np.ndarray:
    """Return the state after each place, shape (length, batch, width), in NumPy."""
    h, every = np.zeros((places.shape[1], WIDTH)), []
    split = len(params["gates/w"]) - WIDTH
    (wx, wh), b = np.split(params["gates/w"], [split]), params["gates/b"]
    (ux, uh), c = np.split(params["candidate/w"], [split]), params["candidate/b"]
    for x in places:
        z, r = np.split(sigmoid(x @ wx + h @ wh + b), 2, axis=1)
        h = z * h + (1 - z) * np.tanh(x @ ux + (r * h) @ uh + c)
        every.append(h)
    return np.stack(every)


def lstm(params: dict[str, np.ndarray], places: np.ndarray) -> np.ndarray:
    """Return the output after each place, shape (length, batch, width), in NumPy."""
    h = c = np.zeros((places.shape[1], WIDTH))
    every = []
    wx, wh = np.split(params["gates/w"], [len(params["gates/w"]) - WIDTH])
    for x in places:
        i, f, g, o = np.split(x @ wx + h @ wh + params["gates/b"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        every.append(h)
    return np.stack(every)


def in_double(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: w.astype(np.float64) for name, w in params.items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["images", "characters"])
def test_answers_follow_from_the_formulas_of_the_paper(name: str, kind: str) -> None:
    problem = PROBLEMS[kind]
    model, params, _ = started(name, problem)
    inputs, _ = examples(problem)
    params = in_double(params)
    with jax.enable_x64(True):
        run = jax.jit(model.apply)
        answers = np.asarray(run(params, inputs.astype(np.int32 if problem.ids else float)))
    places = inputs[..., 0].astype(float) if kind == "images" else params["tokens/w"][inputs]
    every = (gru if name == "gru" else lstm)(params, places.swapaxes(0, 1))
    if kind == "images":
        expected = every[-1] @ params["pooled/w"] + params["pooled/b"]
    else:
        expected = every.swapaxes(0, 1) @ params["output/w"] + params["output/b"]
    # Some 10,000 roundings of numbers near 1, each grown at most a little by the gates.
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e4 * 2.0**-53)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_agree_with_central_differences(name: str) -> None:
    """In float64 along a random direction: the cube root of the unit roundoff as the step."""
    problem = PROBLEMS["sentences"]
    model, params, _ = started(name, problem)
    inputs, targets = examples(problem)
    rng = np.random.default_rng(2)
    params = in_double(params)
    direction = {weight: rng.normal(size=w.shape) for weight, w in params.items()}
    step = 2.0 ** (-53 / 3)

    def loss(params: Any) -> Any:
        return loss_of(model, problem)(params, None, inputs, targets)[0]

    def moved(sign: int) -> dict[str, Any]:
        return {weight: w + sign * step * direction[weight] for weight, w in params.items()}

    with jax.enable_x64(True):
        run = jax.jit(jax.value_and_grad(loss))
        values = [np.float64(run(moved(sign))[0]) for sign in (1, -1)]
        gradient = run(params)[1]
    slope = sum(np.vdot(gradient[weight], d) for weight, d in direction.items())
    difference = (values[0] - values[1]) / (2 * step)
    # The third derivative along a direction of this length, times step**2, and roundings / step.
    assert abs(slope - difference) <= 1e4 * step**2 * max(1, abs(slope))
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_before_a_text_or_behind_it_changes_no_answer(name: str) -> None:
    model, params, _ = started(name, PROBLEMS["sentences"])
    words = [3, 7, 5, 9]
    texts = np.array([[0, 0, *words], [*words, 0, 0], [*words, 5, 9]], np.int32)
    before, behind, longer = np.asarray(jax.jit(model.apply)(params, texts))
    np.testing.assert_array_equal(before, behind)
    assert np.any(longer != behind)


def test_no_token_of_a_text_sees_padding() -> None:
    """A text of padding alone has an answer too, which is a number."""
    model, params, _ = started("encoder", PROBLEMS["sentences"])
    texts = np.array([[3, 7, 5, 9, 0, 0], [0, 0, 0, 0, 0, 0]], np.int32)
    other = params | {"tokens/w": params["tokens/w"].copy()}
    other["tokens/w"][0] = 9.0
    run = jax.jit(model.apply)
    answers = [np.asarray(run(weights, texts)) for weights in (params, other)]
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert np.all(np.isfinite(answers))


def test_where_each_place_has_an_answer_no_token_is_padding() -> None:
    model, params, _ = started("gru", PROBLEMS["characters"])
    tokens = np.array([[4, 0, 4, 4, 4, 4]], np.int32)
    answers = np.asarray(jax.jit(model.apply)(params, tokens))[0]
    assert np.any(answers[1] != answers[0])
