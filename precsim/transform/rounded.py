"""Roundings inside emulated programs: of a result, and of the cotangent that comes back to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim._linear import linear_map
from precsim._loops import computed_once
from precsim.formats.carrier import as_carrier
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.noise import bits_at


class Place(NamedTuple):
    """Where random bits are used: a key, made from the seed, and a path in the program."""

    key: Array
    path: str


def random_bits(spec: RoundingSpec, place: Place, shape: tuple[int, ...]) -> Array | None:
    """Return the bits of a stochastic rounding at a place; None for other modes."""
    if spec.mode is not RoundingMode.STOCHASTIC:
        return None
    return bits_at(place.key, place.path, shape)


def nearest_value(
    x: Array, spec: RoundingSpec, place: Place, *, has_one_use: bool = False
) -> Array:
    """Return carrier values rounded by a spec; the derivative is that of the identity.

    `has_one_use` says that a single elementwise operation uses them: XLA computes both in one
    kernel, unless random bits are drawn. All others are computed once, for all their uses.
    """
    return rounded(x, random_bits(spec, place, x.shape), spec, has_one_use)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def rounded(x: Array, bits: Array | None, spec: RoundingSpec, has_one_use: bool = False) -> Array:
    """Return carrier values rounded by a spec with these random bits, as `nearest_value` does."""
    y = round_array(x, bits, spec)
    # XLA's CPU compiler may never end where one kernel draws the bits of several roundings.
    return y if has_one_use and bits is None else computed_once(y)


@rounded.defjvp
def _rounded_jvp(spec: RoundingSpec, has_one_use: bool, primals: Any, tangents: Any) -> Any:
    return rounded(*primals, spec), tangents[0]  # a derivative may be one more use


@jax.custom_jvp
def alone(y: Array) -> Array:
    """Return what integers have computed, as it is: XLA compiles that once for all its uses."""
    return computed_once(y)


alone.defjvp(lambda primals, tangents: (alone(*primals), *tangents))


def with_rounded_cotangent(x: Array, spec: RoundingSpec, place: Place) -> Array:
    """Return an array as it is; its cotangent is rounded by a spec."""
    gradient = Place(place.key, f"{place.path}/gradient")
    return _cotangent_rounded(x, random_bits(spec, gradient, x.shape), spec)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _cotangent_rounded(x: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    return x


@_cotangent_rounded.defjvp
def _cotangent_rounded_jvp(spec: RoundingSpec, primals: Any, tangents: Any) -> Any:
    """Pass tangents on as they are, and round cotangents, in the carrier of their dtype."""
    (x, bits), (tangent, _) = primals, tangents

    def of_cotangent(bits: Array | None, g: Array) -> Array:
        carrier = as_carrier(g)[1]
        return rounded(g.astype(carrier.float_dtype), bits, spec).astype(g.dtype)

    return x, linear_map(lambda _, t: t, of_cotangent, bits, tangent, x)


def with_gradient_of(
    unrounded: Callable[..., Array], emulated: Callable[..., Array]
) -> Callable[..., Array]:
    """Return a function with the values of one function and the derivative of another.

    It takes a key before the operands, and `emulated` does. Both must close over nothing that JAX
    traces: a rule may run when the loop or the checkpoint around has been left.
    """

    @jax.custom_jvp
    def function(key: Array, *operands: Any) -> Array:
        return emulated(key, *operands)

    @function.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        tangent = jax.jvp(unrounded, primals[1:], tangents[1:])[1]
        value = function(*primals)
        return value, jnp.asarray(tangent, value.dtype)

    return function
