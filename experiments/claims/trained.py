"""What several rows ask of the trained networks of digits."""

from functools import partial
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.claims.training import (
    FP32,
    Digits,
    Params,
    Recipe,
    Run,
    first_weights,
    go_on,
    gradient,
    loss_of,
    mlp,
    rounder,
    scores,
    spec_of,
    splits,
    train,
)


def seeds(full: bool) -> int:
    """Return how many seeds are taken."""
    return 10 if full else 3


def digits(recipe: Recipe, full: bool, *, rate: float = 0.01, scale: float = 1) -> Run:
    """Return the set-up of most rows: 20 epochs."""
    return train(recipe, seeds=seeds(full), rate=rate, scale=scale)


def slowly(recipe: Recipe, full: bool) -> Run:
    """Return the harder case: learning rate 0.001, 100 epochs."""
    return train(recipe, seeds=5 if full else 2, rate=0.001, epochs=100)


def further(recipe: Recipe, start: Run, full: bool) -> Run:
    """Return 20 more epochs at rate 0.01."""
    return go_on(recipe, start, seeds=seeds(full), rate=0.01)


def in_float64(full: bool) -> Run:
    """Return the training in float64, at rate 0.1."""
    with jax.enable_x64(True):
        return train(
            Recipe(weights="fp64", change="fp64"), seeds=seeds(full), rate=0.1, dtype="float64"
        )


def usual(full: bool) -> tuple[Digits, Params]:
    """Return data and weights of the training in float32, at rate 0.1."""
    return splits(seeds(full)), digits(FP32, full, rate=0.1).weights


@partial(jax.jit, static_argnames="spec")
def logits(x: Any, weights: Params, spec: str) -> Any:
    """Return the logits of each seed."""

    def one(x: Any, weights: Params) -> Any:
        q = rounder(spec)
        return mlp(q, jax.tree.map(q, weights), q(x))

    return jax.vmap(one)(x, weights)


def exact_logits(x: np.ndarray, w: Params) -> Any:
    """Return the logits of each seed in float64."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    h = np.maximum(x.astype(np.float64) @ w["w1"] + w["b1"][:, None], 0)
    return h @ w["w2"] + w["b2"][:, None]


def logit_errors(name: str, full: bool) -> Any:
    """Return the relative L2 error of the logits, of each seed."""
    data, weights = usual(full)
    exact = exact_logits(data.test_x, weights)
    found = np.asarray(logits(data.test_x, weights, spec_of(name)))
    return np.linalg.norm(found - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def changed_decisions(name: str, full: bool) -> Any:
    """Return how many of the 360 decisions are others than in float64, of each seed."""
    data, weights = usual(full)
    exact = exact_logits(data.test_x, weights).argmax(-1)
    found = np.asarray(logits(data.test_x, weights, spec_of(name))).argmax(-1)
    return (found != exact).sum(axis=1)


@partial(jax.jit, static_argnames="spec")
def gradients(data: Digits, weights: Params, spec: str, scale: Any = 1.0) -> Any:
    """Return the gradient of the first batch of 32, of each seed."""
    q = rounder(spec)
    return jax.vmap(lambda d, w: gradient(mlp, q, w, d.x[:32], d.y[:32], scale))(data, weights)


def start_of(full: bool) -> tuple[Digits, Params]:
    """Return data and the weights before any training."""
    return splits(seeds(full)), first_weights(seeds(full))


def flat(tree: Params) -> Any:
    """Return the numbers of each seed, one row each."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def gradient_errors(name: str, full: bool) -> Any:
    """Return the relative L2 error of the gradient at the first weights, of each seed."""
    data, weights = start_of(full)
    usual, found = (flat(gradients(data, weights, s)) for s in ("fp32", spec_of(name)))
    return np.linalg.norm(found - usual, axis=1) / np.linalg.norm(usual, axis=1)


def gradient_ratios(name: str, full: bool) -> Any:
    """Return the median ratio to the gradient in float32, of each seed."""
    data, weights = start_of(full)
    usual, found = (flat(gradients(data, weights, s)) for s in ("fp32", spec_of(name)))
    rows = zip(found, usual, strict=True)
    return np.array([np.median(f[u != 0] / u[u != 0]) for f, u in rows])


@partial(jax.jit, static_argnames="spec")
def input_gradients(data: Digits, weights: Params, spec: str) -> Any:
    """Return the gradient of the loss in the test images, of each seed."""
    q = rounder(spec)

    def one(data: Digits, weights: Params) -> Any:
        w = jax.tree.map(q, weights)
        return jax.grad(lambda x: loss_of(mlp(q, w, q(x)), data.test_y))(data.test_x)

    return jax.vmap(one)(data, weights)


def input_gradient_errors(name: str, full: bool) -> Any:
    """Return the relative L2 error of the gradients in the inputs, of each seed."""
    data, weights = usual(full)
    exact, found = (np.asarray(input_gradients(data, weights, s)) for s in ("fp32", spec_of(name)))
    return np.linalg.norm(found - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def disturbed(name: str, full: bool, *, noise: float = 0, factor: float = 1) -> Any:
    """Return the accuracy with noise added to test images, or with images times a factor."""
    data, weights = usual(full)
    random = np.random.default_rng(3).normal(0, noise, data.test_x.shape)
    images = (factor * (data.test_x + random)).astype(np.float32)
    return np.asarray(scores(data._replace(test_x=images), weights, spec_of(name))[0])


def sqnr_of_weights(name: str, full: bool) -> Any:
    """Return the signal-to-noise ratio of the coded weights, in dB, of each seed."""
    found = []
    for row in flat(usual(full)[1]):
        is_affine = name.startswith("uint")
        coded = ps.dequantize(ps.quantize(row, name)) if is_affine else ps.round_to(row, name)
        found.append(ps.sqnr(coded, row))
    return np.array(found)


def logit_gradients(full: bool) -> Any:
    """Return (p - y) / 1437 of all training examples after 20 epochs at rate 0.1."""
    data, weights = usual(full)
    z = exact_logits(data.x, weights)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return ((p - np.eye(10)[data.y]) / data.x.shape[1]).astype(np.float32)


def pruned(name: str, share: float, full: bool) -> Any:
    """Return the accuracy with the smallest weights of each matrix set to 0, of each seed."""
    data, weights = usual(full)
    kept = dict(weights)
    for matrix in ("w1", "w2"):
        masks = [np.asarray(ps.prune({"w": w}, share)["w"]) for w in weights[matrix]]
        kept[matrix] = np.where(np.stack(masks), weights[matrix], 0)
    return np.asarray(scores(data, kept, spec_of(name))[0])


def cast(name: str, full: bool) -> Any:
    """Return the accuracy after a cast: floats of all results, affine codes of the weights."""
    data, weights = usual(full)
    if not name.startswith("uint"):
        return np.asarray(scores(data, weights, spec_of(name))[0])
    coded = {
        key: np.stack([np.asarray(ps.dequantize(ps.quantize(w, name))) for w in value])
        for key, value in weights.items()
    }
    return np.asarray(scores(data, coded, "fp32")[0])
