"""Roundings inside emulated programs: of a result, and of the cotangent that comes back to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array
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


def nearest_value(x: Array, spec: RoundingSpec, place: Place) -> Array:
    """Return carrier values rounded by a spec; the derivative is that of the identity."""
    return _straight_through(x, random_bits(spec, place, x.shape), spec)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _straight_through(x: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    return round_array(x, bits, spec)


@_straight_through.defjvp
def _straight_through_jvp(spec: RoundingSpec, primals: Any, tangents: Any) -> Any:
    return _straight_through(*primals, spec), tangents[0]


def with_rounded_cotangent(x: Array, spec: RoundingSpec, place: Place) -> Array:
    """Return an array as it is; its cotangent is rounded by a spec."""
    gradient = Place(place.key, f"{place.path}/gradient")
    return _cotangent_rounded(x, random_bits(spec, gradient, x.shape), spec)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cotangent_rounded(x: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    return x


def _forward(x: Array, bits: Array | None, spec: RoundingSpec) -> tuple[Array, Array | None]:
    return x, bits


def _backward(spec: RoundingSpec, bits: Array | None, g: Array) -> tuple[Array, None]:
    return nearest_value_of(g, bits, spec), None


def nearest_value_of(x: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    """Round an array of a carrier or of a narrower dtype; the result has its dtype."""
    carrier = as_carrier(x)[1]
    return _straight_through(x.astype(carrier.float_dtype), bits, spec).astype(x.dtype)


_cotangent_rounded.defvjp(_forward, _backward)


def with_gradient_of(
    unrounded: Callable[..., Array], emulated: Callable[..., Array]
) -> Callable[..., Array]:
    """Return a function with the values of one function and the derivative of another."""

    @jax.custom_jvp
    def function(*operands: Any) -> Array:
        return emulated(*operands)

    @function.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        tangent = jax.jvp(unrounded, primals, tangents)[1]
        value = function(*primals)
        return value, jnp.asarray(tangent, value.dtype)

    return function
