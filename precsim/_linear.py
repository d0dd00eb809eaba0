"""A linear map whose transpose is stated: `linear_map`, one primitive of JAX.

JAX's own `linear_call` has no rule for `vmap` and no derivative in the residuals. All that precsim
takes from JAX's interpreters is in this file.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir

from precsim._arrays import Array
from precsim._loops import vary_alike

Map = Callable[[Any, Array], Array]
"""From residuals, a pytree of arrays, and x to an array that is linear in x."""

_PRIMITIVE = cast("Any", Primitive)("precsim_linear_map")


class _Maps:
    """Both maps as the equation of a program holds them, and the program for who asks."""

    def __init__(self, fun: Map, transpose: Map, tree: Any, arrays: Sequence[Any]) -> None:
        self.fun, self.transpose, self.tree = fun, transpose, tree
        self._types = [jax.typeof(x) for x in arrays]

    def __call__(self, *arrays: Any) -> Array:
        *leaves, x = arrays
        return self.fun(jax.tree.unflatten(self.tree, leaves), x)

    def __repr__(self) -> str:
        return "linear"

    @cached_property
    def _closed(self) -> Any:
        return jax.make_jaxpr(self)(*self._types)

    @property
    def jaxpr(self) -> Any:
        """The program, which readers of programs find as they find that of a `ClosedJaxpr`."""
        return self._closed.jaxpr

    @property
    def consts(self) -> Any:
        """The constants of the program."""
        return self._closed.consts


def linear_map(fun: Map, transpose: Map, residuals: Any, x: Array, like: Array) -> Array:
    """Return ``fun(residuals, x)``, whose transpose is ``transpose(residuals, g)``.

    The transpose of that is `fun` again. The two need not be transposes in exact arithmetic, nor
    `fun` be linear in its last bits: derivatives in x are taken as if it were. Derivatives in the
    residuals are those of `fun`.

    Parameters
    ----------
    fun, transpose : callable
        Functions of the residuals and of one array.
    residuals : pytree of arrays
        What else the maps need.
    x : jax.Array
        Where the map is taken.
    like : jax.Array
        An array of the result's type: shape, dtype, sharding, and the devices it varies over.

    Returns
    -------
    jax.Array
        The result, with the type of `like`.
    """
    leaves, tree = jax.tree.flatten(residuals)
    arrays = vary_alike(*leaves, x, like)[:-1]
    out = cast("Any", jax.typeof(like)).strip_weak_type()
    return _bind(fun, transpose, tree, out, arrays)


def _bind(fun: Map, transpose: Map, tree: Any, out: Any, arrays: Sequence[Any]) -> Array:
    maps = _Maps(fun, transpose, tree, arrays)
    y: Array = _PRIMITIVE.bind(*arrays, maps=maps, out=out)
    return y


def tangent_sum(y: Array, maps: Sequence[tuple[Any, Callable[[Any], Array]]]) -> Array:
    """Return the sum of ``f(t)`` over the tangents t and their maps that are not zero throughout.

    Tangents are those of a `jax.custom_jvp` with symbolic zeros, or None; y is its result.
    """
    terms = [f(t) for t, f in maps if t is not None and not isinstance(t, SymbolicZero)]
    return reduce(add, terms) if terms else jnp.zeros_like(y)


def _evaluate(*arrays: Array, maps: _Maps, **_: Any) -> Array:
    return maps(*arrays)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    *leaves, x = primals
    bind = partial(_PRIMITIVE.bind, **params)
    terms = [] if isinstance(tangents[-1], ad.Zero) else [bind(*leaves, tangents[-1])]
    moving = [n for n, t in enumerate(tangents[:-1]) if not isinstance(t, ad.Zero)]
    if moving:

        def at(*moved: Any) -> Array:
            there = dict(zip(moving, moved, strict=True))
            result: Array = params["maps"](*(there.get(n, y) for n, y in enumerate(leaves)), x)
            return result

        terms.append(jax.jvp(at, [leaves[n] for n in moving], [tangents[n] for n in moving])[1])
    return bind(*primals), reduce(add, terms)


def _transpose(cotangent: Any, *arrays: Any, maps: _Maps, **_: Any) -> list[Any]:
    *leaves, x = arrays
    if isinstance(cotangent, ad.Zero):
        return [None] * len(arrays)
    back = _bind(maps.transpose, maps.fun, maps.tree, x.aval, (*leaves, cotangent))
    return [*[None] * len(leaves), back]


def _batch(
    arrays: Sequence[Any], axes: Sequence[Any], *, maps: _Maps, out: Any
) -> tuple[Array, int]:
    """Map both functions.

    The transpose of a map that takes one x everywhere is the sum of the transposes.
    """
    size = next(x.shape[at] for x, at in zip(arrays, axes, strict=True) if at is not None)
    of_leaves, of_x = jax.tree.unflatten(maps.tree, axes[:-1]), axes[-1]

    def mapped(residuals: Any, x: Array) -> Array:
        y: Array = jax.vmap(maps.fun, (of_leaves, of_x), axis_size=size)(residuals, x)
        return y

    def transposed(residuals: Any, g: Array) -> Array:
        at = 0 if of_x is None else of_x
        each: Array = jax.vmap(maps.transpose, (of_leaves, 0), at, axis_size=size)(residuals, g)
        return each.sum(0) if of_x is None else each

    of_all = cast("Any", unmapped_aval)(size, 0, out)
    return _bind(mapped, transposed, maps.tree, of_all, arrays), 0


_PRIMITIVE.def_impl(_evaluate)
_PRIMITIVE.def_abstract_eval(lambda *_, out, **__: out)
ad.primitive_jvps[_PRIMITIVE] = _jvp
ad.primitive_transposes[_PRIMITIVE] = _transpose
batching.primitive_batchers[_PRIMITIVE] = _batch
mlir.register_lowering(_PRIMITIVE, mlir.lower_fun(_evaluate, multiple_results=False))
