"""Gradients of 44 microbatches, added up in a format and an order."""

from functools import partial
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.claims import trained
from experiments.claims.training import gradient, mlp, orders, rounder, spec_of


@jax.jit
def _gradients(data: Any, weights: Any, order: Any) -> Any:
    def one(data: Any, weights: Any, order: Any) -> Any:
        of_batch = partial(gradient, mlp, rounder("fp32"), weights, scale=1.0)
        return jax.lax.map(lambda batch: of_batch(data.x[batch], data.y[batch]), order)

    return jax.vmap(one)(data, weights, order)


def gradients(full: bool) -> np.ndarray:
    """Return the gradients at the end of a training, shape (seeds, 44, number of weights)."""
    data, weights = trained.usual(full)
    found = _gradients(data, weights, orders(trained.seeds(full), 1))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2)


def errors(parts: np.ndarray, name: str, *, is_divided_first: bool = False) -> np.ndarray:
    """Return the relative L2 error of the mean of the parts, of each seed."""
    spec, count = spec_of(name), parts.shape[1]
    exact = parts.astype(np.float64).mean(axis=1)
    if is_divided_first:
        terms = ps.round_to(parts / np.float32(count), spec)
        found = np.asarray(ps.accumulate(terms, spec, axis=1), np.float64)
    else:
        terms = ps.round_to(parts, spec)
        found = np.asarray(ps.accumulate(terms, spec, axis=1), np.float64) / count
    return np.asarray(np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1))


def changed_by_order(parts: np.ndarray, name: str) -> np.ndarray:
    """Return how many % of the sums other than 0 the reverse order changes, of each seed."""
    terms = ps.round_to(parts, name)
    forth = np.asarray(ps.accumulate(terms, name, axis=1))
    back = np.asarray(ps.accumulate(np.ascontiguousarray(terms[:, ::-1]), name, axis=1))
    changed, all_of_them = (forth != back).sum(axis=1), (forth != 0).sum(axis=1)
    return np.asarray(100 * changed / np.maximum(all_of_them, 1))
