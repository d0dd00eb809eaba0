"""Which leaves of a pytree are trained: an integer, a boolean or a random key stays as it is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


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
