"""A function of any arguments as a function of arrays alone, ready to be traced."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim.formats.arguments import shown

_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


class Flat(NamedTuple):
    """A function whose arguments are arrays; what is static among them is part of it."""

    fun: Callable[..., Any]
    arrays: list[Any]
    is_array: list[bool]
    """For each leaf of the arguments."""


def flattened(fun: Callable[..., Any], args: Any, kwargs: Any) -> Flat:
    """Return a function of the arrays that a call of `fun` with these arguments holds."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_array = [isinstance(leaf, _ARRAYS) for leaf in leaves]
    arrays = [leaf for leaf, yes in zip(leaves, is_array, strict=True) if yes]

    def flat(*arrays: Any) -> Any:
        given = iter(arrays)
        every = [next(given) if yes else leaf for leaf, yes in zip(leaves, is_array, strict=True)]
        args, kwargs = jax.tree.unflatten(tree, every)
        result = fun(*args, **kwargs)
        _check_result(fun, result)
        return result

    flat.__name__ = getattr(fun, "__name__", "flat")  # for messages of JAX
    return Flat(flat, arrays, is_array)


def with_arrays(tree: Any) -> Any:
    """Return a tree in which numbers with a point are arrays, as `jax.jit` would make them."""
    as_array = lambda x: jax.numpy.asarray(x) if isinstance(x, (float, complex)) else x
    return jax.tree.map(as_array, tree)


def _check_result(fun: Any, result: Any) -> None:
    """Refuse a result that holds something else than arrays and numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(result):
        if not (
            isinstance(leaf, (*_ARRAYS, complex, float, int)) or hasattr(leaf, "__jax_array__")
        ):
            name = getattr(fun, "__name__", type(fun).__name__)
            raise TypeError(
                f"fun, {name}, returns {shown(leaf)} as result{jax.tree_util.keystr(path)}; "
                "allowed are arrays, numbers, and trees of them"
            )


def check_function(fun: object) -> None:
    """Refuse what cannot be called."""
    if not callable(fun):
        raise TypeError(f"fun is {shown(fun)}; allowed is a function of arrays")
