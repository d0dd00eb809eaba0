"""Lesson 11: a variance and a model that lose their digits, and the accounts of their errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

X = np.array([100, 101, 102, 103], np.float32)


def variance(x: jax.Array) -> jax.Array:
    """Return the mean square minus the squared mean."""
    with jax.named_scope("squares"):
        mean_square = jnp.mean(x**2)
    with jax.named_scope("mean"):
        mean = jnp.mean(x)
    with jax.named_scope("difference"):
        return mean_square - mean**2


def two_pass(x: jax.Array) -> jax.Array:
    """Return the mean square of what is left without the mean."""
    centred = x - jnp.mean(x)
    return jnp.mean(centred**2)


def model(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Return the loss of two layers with a normalisation between them."""
    with jax.named_scope("first"):
        h = jnp.tanh(x @ weights["first"]) + 4
    with jax.named_scope("norm"):
        mean = jnp.mean(h, -1, keepdims=True)
        spread = jnp.mean(h**2, -1, keepdims=True) - mean**2
        h = (h - mean) / jnp.sqrt(spread + 0.01)
    with jax.named_scope("second"):
        z = h @ weights["second"]
    with jax.named_scope("loss"):
        return jnp.mean(z**2)


@functools.cache
def report_of_variance() -> ps.Report:
    """Return the account of the variance in fp16."""
    return ps.analyze(variance, X, policy="fp16")


@functools.cache
def report_of_model(policy: str) -> ps.Report:
    """Return the account of the model under a policy."""
    random = np.random.default_rng(1)
    weights = {
        "first": random.normal(0, 0.3, (8, 16)).astype(np.float32),
        "second": random.normal(0, 0.3, (16, 4)).astype(np.float32),
    }
    x = random.normal(0, 1, (16, 8)).astype(np.float32)
    return ps.analyze(model, weights, x, policy=policy)


@functools.cache
def result(function: str, policy: str) -> float:
    """Return the variance of X by one of the two functions, under a policy."""
    chosen = {"variance": variance, "two_pass": two_pass}[function]
    return float(jax.jit(ps.emulate(chosen, policy))(X))
