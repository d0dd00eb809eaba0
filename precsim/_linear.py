"""A linear map whose transpose is stated: `linear_map`, one primitive of JAX.

JAX's own `linear_call` has no rule for `vmap` and no derivative in the residuals. All that precsim
takes from JAX's interpreters is in this file.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
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
    y: Array = _PRIMITIVE.bind(*arrays, fun=fun, transpose=transpose, tree=tree, out=out)
    return y


def tangent_sum(y: Array, maps: Sequence[tuple[Any, Callable[[Any], Array]]]) -> Array:
    """Return the sum of ``f(t)`` over the tangents t and their maps that are not zero throughout.

    Tangents are those of a `jax.custom_jvp` with symbolic zeros, or None; y is its result.
    """
    terms = [f(t) for t, f in maps if t is not None and not isinstance(t, SymbolicZero)]
    return reduce(add, terms) if terms else jnp.zeros_like(y)


def _evaluate(*arrays: Array, fun: Map, tree: Any, **_: Any) -> Array:
    *leaves, x = arrays
    return fun(jax.tree.unflatten(tree, leaves), x)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    *leaves, x = primals
    bind = partial(_PRIMITIVE.bind, **params)
    terms = [] if isinstance(tangents[-1], ad.Zero) else [bind(*leaves, tangents[-1])]
    moving = [n for n, t in enumerate(tangents[:-1]) if not isinstance(t, ad.Zero)]
    if moving:

        def at(*moved: Any) -> Array:
            there = dict(zip(moving, moved, strict=True))
            return _evaluate(*(there.get(n, leaf) for n, leaf in enumerate(leaves)), x, **params)

        terms.append(jax.jvp(at, [leaves[n] for n in moving], [tangents[n] for n in moving])[1])
    return bind(*primals), reduce(add, terms)


def _transpose(cotangent: Any, *arrays: Any, **params: Any) -> list[Any]:
    *leaves, x = arrays
    if isinstance(cotangent, ad.Zero):
        return [None] * len(arrays)
    swapped = params | {
        "fun": params["transpose"],
        "transpose": params["fun"],
        "out": x.aval,
    }
    return [*[None] * len(leaves), _PRIMITIVE.bind(*leaves, cotangent, **swapped)]


def _batch(arrays: Sequence[Any], axes: Sequence[Any], **params: Any) -> tuple[Array, int]:
    """Map both functions.

    The transpose of a map that takes one x everywhere is the sum of the transposes.
    """
    size = next(x.shape[at] for x, at in zip(arrays, axes, strict=True) if at is not None)
    of_leaves = jax.tree.unflatten(params["tree"], axes[:-1])
    fun, transpose = params["fun"], params["transpose"]

    def mapped(residuals: Any, x: Array) -> Array:
        y: Array = jax.vmap(fun, (of_leaves, axes[-1]), axis_size=size)(residuals, x)
        return y

    def transposed(residuals: Any, g: Array) -> Array:
        at: Any = 0 if axes[-1] is None else axes[-1]
        each: Array = jax.vmap(transpose, (of_leaves, 0), at, axis_size=size)(residuals, g)
        return each.sum(0) if axes[-1] is None else each

    out = cast("Any", unmapped_aval)(size, 0, params["out"])
    new = params | {"fun": mapped, "transpose": transposed, "out": out}
    return _PRIMITIVE.bind(*arrays, **new), 0


_PRIMITIVE.def_impl(_evaluate)
_PRIMITIVE.def_abstract_eval(lambda *_, out, **__: out)
ad.primitive_jvps[_PRIMITIVE] = _jvp
ad.primitive_transposes[_PRIMITIVE] = _transpose
batching.primitive_batchers[_PRIMITIVE] = _batch
mlir.register_lowering(_PRIMITIVE, mlir.lower_fun(_evaluate, multiple_results=False))
