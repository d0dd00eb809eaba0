"""Tensors that products of a training step take: each is rounded, and looked at, once.

A tensor is a factor of two or three products of a step: an activation of the product forward and of
the gradient of weights, a cotangent of both gradients. XLA's CPU compiler takes 15 to 40 ms for
every pass over an array, so one rounding and one pass for all that is counted serve them all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array, bitcast
from precsim._loops import computed_once
from precsim.formats.carrier import FLOAT32, is_infinite, is_nan
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.products.emulated import Facts
from precsim.products.orders.float32 import EXTENT_OF_NOTHING, exponents
from precsim.rounding.events import classify
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.scaled.measures import count_operand
from precsim.rounding.spec import RoundingSpec
from precsim.training.functions import functions_of
from precsim.training.recipes.tensor_scaling import current_scale
from precsim.transform.policy import Policy
from precsim.transform.watch import NUM_EVENTS


class Factor(NamedTuple):
    """A tensor as products take it."""

    values: Array
    """Rounded to the operand's format; as they were in formats whose elements share scales."""
    scale: tuple[Array, Array] | None = None
    """What the tensor was multiplied by, and its inverse, under current tensor scaling."""
    facts: Facts = Facts()


class Use(NamedTuple):
    """How a tensor becomes an operand, (..., M, K) or (..., K, N)."""

    arrange: Callable[[Array], Array]
    """Makes the operand: exact copies of the elements, and zeros."""
    is_left: bool = True
    times: np.ndarray | None = None
    """How often each element occurs; once if None. It broadcasts to the tensor."""
    elements: int | None = None
    """Of the operand; as many as the tensor has if None."""

    def operand(self, factor: Factor, spec: RoundingSpec | None) -> Factor:
        """Return a factor that has been made for this spec and arrangement as the operand."""
        is_arranged = not _keeps_zeros(spec)
        return factor if is_arranged else factor._replace(values=self.arrange(factor.values))


def _keeps_zeros(spec: RoundingSpec | None) -> bool:
    """Return whether zeros can be put between elements after their rounding as well as before."""
    return spec is None or not isinstance(spec.format, FloatFormat) or spec.format.has_zero


def is_shared(spec: RoundingSpec | None, other: RoundingSpec | None) -> bool:
    """Return whether one factor serves two operands, of these specs."""
    return spec == other and _keeps_zeros(spec)


def make_factor(
    x: Array,
    spec: RoundingSpec | None,
    use: Use,
    policy: Policy,
    asked: tuple[str, ...],
    *,
    is_counted: bool = False,
    known: Factor | None = None,
) -> tuple[Factor, Array]:
    """Return a factor, with the facts that its products ask for, and the events of its rounding.

    Each element counts as often as it is used. Where a former rounding has put all of them into
    their format there are no events. `known` has the same elements in another order.
    """
    none = jnp.zeros(NUM_EVENTS, jnp.int32)
    if spec is None or scaled_format(spec.format) is not None:
        if spec is None or not is_counted:
            return Factor(x), none
        operand = use.arrange(x)
        return Factor(x), count_operand(operand if use.is_left else operand.mT, None, spec)
    if not _keeps_zeros(spec):
        x, use = use.arrange(x), Use(use.arrange)
    scale, scaled = None, x
    if policy.tensor_scaling == "current":
        scale = current_scale(x, spec) if known is None else known.scale
        assert scale is not None
        scaled = functions_of(policy.functions).flush(x * scale[0])
    values = computed_once(round_array(scaled, None, spec))
    if known is not None:
        return Factor(values, scale, known.facts), none
    if not (asked or is_counted):
        return Factor(values, scale), none
    elements = x.size if use.elements is None else use.elements
    times = None if use.times is None else jnp.asarray(use.times)
    counts, facts = _survey(scaled, values, times, spec, elements, asked, is_counted)
    return Factor(values, scale, facts), none if counts is None else counts


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _survey(
    before: Array,
    after: Array,
    times: Array | None,
    spec: RoundingSpec,
    elements: int,
    asked: tuple[str, ...],
    is_counted: bool,
) -> tuple[Array | None, Facts]:
    """Return the events of a rounding and facts of its results, from one pass over both."""
    bits = bitcast(after, jnp.uint32).reshape(-1)
    if times is not None:
        times = jnp.broadcast_to(times, before.shape).reshape(-1)
    columns: list[tuple[Array, Any, Callable[[Any, Any], Any]]] = []

    def total(mask: Array) -> None:
        ones = mask.astype(jnp.int32)
        columns.append((ones if times is None else ones * times, np.int32(0), lax.add))

    if is_counted:
        for mask in classify(before, after, spec)[1:]:
            total(mask)
        total(bitcast(before, jnp.uint32).reshape(-1) != bits)
    if "special" in asked:
        total(is_infinite(bits, FLOAT32) | is_nan(bits, FLOAT32))
    if "extent" in asked:
        ends = zip(exponents(after.reshape(-1)), EXTENT_OF_NOTHING, strict=True)
        columns += [(*end, f) for end, f in zip(ends, (lax.min, lax.max), strict=True)]
    values, firsts, combine = zip(*columns, strict=True)

    def both(xs: Any, ys: Any) -> Any:
        return tuple(f(x, y) for f, x, y in zip(combine, xs, ys, strict=True))

    found = list(lax.reduce(values, firsts, both, (0,)))
    counts = None
    if is_counted:
        *events, changed = found[:NUM_EVENTS]
        del found[:NUM_EVENTS]
        counts = jnp.where(changed > 0, jnp.stack([jnp.int32(elements), *events]), 0)
    special = found.pop(0) > 0 if "special" in asked else None
    return counts, Facts((found[0], found[1]) if "extent" in asked else None, special)
