"""The leaves of a pytree that are trained: an integer, a boolean or a random key is none."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim._loops import computed_once
from precsim.formats.carrier import is_narrow_float


def is_trained(leaf: Any) -> bool:
    """Return whether a leaf is differentiable: real or complex floating point."""
    dtype = getattr(leaf, "dtype", None)
    return bool(jnp.issubdtype(jnp.result_type(leaf) if dtype is None else dtype, jnp.inexact))


def map_trained(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to the trained leaves of a tree, and the same leaves of others.

    The tree's other leaves are returned as they are.
    """
    apply = lambda leaf, *rest: function(leaf, *rest) if is_trained(leaf) else leaf
    return jax.tree.map(apply, tree, *others)


def widened(tree: Any) -> Any:
    """Return a tree with its narrow floats (bfloat16, float16, ...) as float32, which is exact."""

    def widen(leaf: Any) -> Array:
        array = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        return array.astype(np.float32) if is_narrow_float(array.dtype) else array

    return map_trained(widen, tree)


def map_joined(function: Callable[[Array], Array], tree: Any) -> Any:
    """Apply an elementwise function to the trained leaves of a tree, joined into one array.

    So XLA compiles one kernel for all of them. The leaves have one dtype; others stay as they are.
    """
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    where = [n for n, leaf in enumerate(leaves) if is_trained(leaf)]
    if where:
        old = [jnp.asarray(leaves[n]) for n in where]
        for n, new in zip(where, parted(function(joined(old)), old), strict=True):
            leaves[n] = new
    return structure.unflatten(leaves)


def joined(arrays: Sequence[Array]) -> Array:
    """Return the elements of arrays as one vector."""
    return jnp.concatenate([x.reshape(-1) for x in arrays])


def parted(vector: Array, like: Sequence[Array]) -> list[Array]:
    """Undo `joined`: return arrays of the shapes of `like`."""
    ends = np.cumsum([x.size for x in like])[:-1].tolist()
    parts = jnp.split(computed_once(vector), ends)
    return [part.reshape(x.shape) for part, x in zip(parts, like, strict=True)]


def leaf_name(path: Sequence[Any]) -> str:
    """Return the keys of a path, joined by "/"."""
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)


def map_named(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Apply ``function(name, leaf)`` to the trained leaves of a tree."""
    apply = lambda path, leaf: function(leaf_name(path), leaf) if is_trained(leaf) else leaf
    return jax.tree_util.tree_map_with_path(apply, tree)


def by_name(tree: Any) -> dict[str, Any]:
    """Return the trained leaves of a tree by their names, of which no two may be the same."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(leaf_name(path), leaf) for path, leaf in leaves if is_trained(leaf)]
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise ValueError(f"two weights have the name {twice[0]!r}: give a key without '/'")
    return dict(named)
