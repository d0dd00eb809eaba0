"""`prune`: which weights of a model to keep, by their magnitudes."""

from typing import Any

import jax
import numpy as np

from precsim._arrays import is_traced
from precsim.formats.arguments import not_allowed, number_within, shown
from precsim.training.recipes.leaves import is_trained, widened
from precsim.transform.scopes import check_pattern, matches

KINDS = ("weights", "rows", "columns", "channels")
"""What is taken out as a whole."""


def prune(
    params: Any,
    sparsity: float,
    *,
    kind: str = "weights",
    only: str = "*",
    together: bool = False,
) -> Any:
    """Choose the weights to keep: all but the smallest, one by one or in groups.

    Parameters
    ----------
    params : pytree of arrays
        Weights, not traced. Arrays of one axis (biases, gains) and arrays without numbers are kept
        whole.
    sparsity : float
        The share to take out, 0 to 1, of the arrays that are pruned. The number of weights (or
        groups) is rounded to the nearest integer.
    kind : {"weights", "rows", "columns", "channels"}
        "weights": each by its magnitude. "rows": all weights of one index along the last axis but
        one (an input of a layer with weights (inputs, outputs)). "columns": of one index along the
        last axis (an output). "channels": of one index along the last axis of kernels of three or
        more axes (a filter of a convolution); matrices are kept. Groups go by their 2-norms.
    only : str
        Pattern of the paths of the arrays to prune, such as ``"hidden/*"`` or "w"; its parts match
        consecutive parts of a path.
    together : bool
        Whether all arrays share one threshold; else each loses the same share.

    Returns
    -------
    pytree of bool arrays
        The masks, NumPy arrays in the structure and shapes of `params`: True where a weight is
        kept.

    Raises
    ------
    ValueError
        If `sparsity` or `kind` is not allowed, `only` matches nothing, or a weight is NaN.
    TypeError
        If `params` are traced, or `sparsity` is no number.

    Notes
    -----
    Of equal ones the first is taken out first. Norms are float64; with `together` they are divided
    by the root of the size of the group. `ps.optax.keep_masks` keeps the masks while training goes
    on; ``jax.tree.map(jnp.where, masks, params, zeros)`` applies them once.

    Source: Han, Pool, Tran, Dally, *Learning both Weights and Connections for Efficient Neural
    Networks*, NIPS 2015; Li et al., *Pruning Filters for Efficient ConvNets*, ICLR 2017.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> params = {"w": np.float32([[3.0, -0.1], [0.5, 2.0]]), "b": np.zeros(2, np.float32)}
    >>> ps.prune(params, 0.5)["w"].tolist()
    [[True, False], [False, True]]
    >>> ps.prune(params, 0.5, kind="columns")["w"].tolist()
    [[True, False], [True, False]]
    """
    share = number_within(sparsity, "sparsity", 0.0, 1.0)
    if kind not in KINDS:
        raise not_allowed("kind", kind, KINDS)
    check_pattern(only)
    structure: Any
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    leaves = [leaf for _, leaf in flat]
    if any(map(is_traced, leaves)):
        raise TypeError("params are traced; allowed are arrays: prune outside of jax.jit")
    least = 3 if kind == "channels" else 2
    chosen = [
        n
        for n, leaf in enumerate(leaves)
        if is_trained(leaf) and np.ndim(leaf) >= least and (only == "*" or matches(only, names[n]))
    ]
    if not chosen:
        listed = ", ".join(map(repr, names[:20]))
        raise ValueError(
            f"only is {shown(only)} and kind {kind!r}, which leaves nothing to prune; allowed are "
            f"patterns of arrays of {least} or more axes among {listed or 'none'}"
        )
    sizes = {n: _sizes(np.asarray(widened(leaves[n])), kind) for n in chosen}
    if wrong := [names[n] for n in chosen if np.isnan(sizes[n]).any()]:
        raise ValueError(f"params at {wrong[0]!r} have NaN; allowed are numbers that have an order")
    masks = [np.ones(np.shape(leaf), bool) for leaf in leaves]
    groups = [chosen] if together else [[n] for n in chosen]
    for group in groups:
        scale = _per_weight if together and kind != "weights" else _as_it_is
        every = [scale(sizes[n], leaves[n]).reshape(-1) for n in group]
        kept = _largest(np.concatenate(every), share)
        ends = np.cumsum([x.size for x in every])[:-1]
        for n, part in zip(group, np.split(kept, ends), strict=True):
            masks[n] &= part.reshape(sizes[n].shape)
    return jax.tree.unflatten(structure, masks)


def _sizes(weights: np.ndarray, kind: str) -> np.ndarray:
    """Return magnitudes of weights, or norms of groups in a shape that broadcasts to theirs."""
    wide = np.abs(weights.astype(np.float64))
    if kind == "weights":
        return wide
    kept = wide.ndim - (2 if kind == "rows" else 1)
    axes = tuple(axis for axis in range(wide.ndim) if axis != kept)
    norms: np.ndarray = np.sqrt(np.sum(wide**2, axis=axes, keepdims=True))
    return norms


def _as_it_is(sizes: np.ndarray, weights: Any) -> np.ndarray:
    return sizes


def _per_weight(sizes: np.ndarray, weights: Any) -> np.ndarray:
    scaled: np.ndarray = sizes / np.sqrt(np.size(weights) / sizes.size)
    return scaled


def _largest(sizes: np.ndarray, share: float) -> np.ndarray:
    """Return which of the sizes stay when a share of them, the smallest, goes."""
    kept = np.ones(sizes.size, bool)
    kept[np.argsort(sizes, kind="stable")[: round(share * sizes.size)]] = False
    return kept
