"""Products of a training step: by the policy's three specs, with every rounding watched.

The counts of what happens in the backward pass leave it as the cotangent of a `probe`, a vector of zeros
that takes part in nothing: gradients are the one channel that leads out of a `custom_vjp`.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.arithmetic.portable import add
from precsim.formats.scaled import scaled_format
from precsim.products.backends import resolve_backend
from precsim.products.convolution import backward_patches, forward_patches
from precsim.products.emulated import unguarded_matmul
from precsim.products.product import run_product
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.events import Events, count_events
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.training.functions import functions_of
from precsim.training.policy import Policy
from precsim.training.recipes.noise import bits_at
from precsim.training.recipes.tensor_scaling import current_scale

NUM_EVENTS = len(Events._fields)
NUM_WATCHED = NUM_EVENTS + 1
"""Length of the vectors of counts: the events, and products whose bits cannot be trusted."""


class Setting(NamedTuple):
    """What a product needs to know, besides arrays; static under jit."""

    policy: Policy
    backend: str
    name: str
    is_first: bool = False
    """Whether the input is data, so that nobody needs its gradient."""
    is_guarded: bool = True
    """Whether emulated products check their range themselves, instead of counting violations."""


def noise_for(key: Array, path: str, shape: tuple[int, ...], spec: RoundingSpec) -> Array | None:
    """Random bits for an array, if its rounding is stochastic."""
    return bits_at(key, path, shape) if spec.mode is RoundingMode.STOCHASTIC else None


def watched_product(
    a: Array, b: Array, spec: MatmulSpec, setting: Setting, role: str, key: Array, watch: str
) -> tuple[Array, Array]:
    """Return a @ b, shapes (..., M, K) and (..., K, N), and the events in some roundings.

    `watch` names the operands, "a", "b", "ab" or "": each tensor of a step is counted once.
    """
    flush = functions_of(setting.policy.functions).flush
    backend = resolve_backend(spec, setting.backend, shapes=(a.shape, b.shape))
    inverses = []
    events = jnp.zeros(NUM_WATCHED)
    operands = []
    for name, x, operand in (("a", a, spec.lhs), ("b", b, spec.rhs)):
        scaled = x
        if operand is not None and setting.policy.tensor_scaling == "current":
            scale, inverse = current_scale(x, operand)
            inverses.append(inverse)
            scaled = flush(x * scale)
        # Block formats have no range of their own to leave: their scales follow the data.
        if operand is not None and name in watch and scaled_format(operand.format) is None:
            events = add(events, _count(scaled, round_array(scaled, None, operand), operand))
        operands.append(scaled)
    left, right = operands
    unrounded = replace(spec, output=None)
    shape = *a.shape[:-1], b.shape[-1]
    seeds = noise_for(key, f"{setting.name}/{role}/accumulator", shape, spec.accumulator)
    if backend == "emulated" and not setting.is_guarded:
        total, is_exact = unguarded_matmul(left, right, None, unrounded, seeds)
        untrusted = jnp.where(is_exact, jnp.float32(0), jnp.float32(1))
        events = jnp.append(events[:-1], add(events[-1], untrusted))
    else:
        total = run_product(left, right, None, unrounded, seeds, backend=setting.backend)
    total = flush(total)
    for inverse in inverses:
        total = flush(total * inverse)
    if spec.output is None:
        return total, events
    noise = noise_for(key, f"{setting.name}/{role}", total.shape, spec.output)
    result = round_array(total, noise, spec.output)
    return result, add(events, _count(total, result, spec.output))


def _count(before: Array, after: Array, spec: RoundingSpec) -> Array:
    return jnp.append(count_events(before, after, spec).astype(jnp.float32), 0.0)


def _watched_gradients(
    wgrad: tuple[Array, Array], dgrad: tuple[Array, Array], setting: Setting, key: Array
) -> tuple[Array, Array | None, Array]:
    """Return both gradients of a product from their factors, and the events; no dgrad of data.

    The cotangent is a factor of both and counted once, in dgrad where that runs.
    """
    policy = setting.policy
    watch = "b" if setting.is_first else ""
    dw, events = watched_product(*wgrad, policy.wgrad, setting, "wgrad", key, watch)
    if setting.is_first:
        return dw, None, events
    dx, dx_events = watched_product(*dgrad, policy.dgrad, setting, "dgrad", key, "a")
    return dw, dx, add(events, dx_events)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def linear(x: Array, w: Array, probe: Array, key: Array, setting: Setting) -> tuple[Array, Array]:
    """Return x @ w, shapes (..., M, K) and (..., K, N) of equal batch dimensions, and its forward events."""
    return watched_product(x, w, setting.policy.forward, setting, "forward", key, "ab")


def _linear_forward(
    x: Array, w: Array, probe: Array, key: Array, setting: Setting
) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
    return linear(x, w, probe, key, setting), (x, w, key)


def _linear_backward(
    setting: Setting, residuals: tuple[Array, Array, Array], cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, None]:
    x, w, key = residuals
    g = cotangents[0]
    dw, dx, events = _watched_gradients((x.mT, g), (g, w.mT), setting, key)
    return (jnp.zeros_like(x) if dx is None else dx), dw, events, None


linear.defvjp(_linear_forward, _linear_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def conv(x: Array, w: Array, probe: Array, key: Array, setting: Setting) -> tuple[Array, Array]:
    """Return the "SAME" convolution of x (B, H, W, C) and w (R, S, C, F), and its forward events."""
    flat = forward_patches(x, w)
    y, events = watched_product(
        flat, w.reshape(-1, w.shape[3]), setting.policy.forward, setting, "forward", key, "ab"
    )
    return y.reshape(*x.shape[:3], w.shape[3]), events


def _conv_forward(
    x: Array, w: Array, probe: Array, key: Array, setting: Setting
) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
    return conv(x, w, probe, key, setting), (x, w, key)


def _conv_backward(
    setting: Setting, residuals: tuple[Array, Array, Array], cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, None]:
    x, w, key = residuals
    g = cotangents[0]
    wgrad = (forward_patches(x, w).T, g.reshape(-1, w.shape[3]))
    dw, dx, events = _watched_gradients(wgrad, backward_patches(g, x, w), setting, key)
    dx = jnp.zeros_like(x) if dx is None else dx.reshape(x.shape)
    return dx, dw.reshape(w.shape), events, None


conv.defvjp(_conv_forward, _conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def rounded(x: Array, probe: Array, key: Array, setting: Setting) -> tuple[Array, Array]:
    """Round values by the policy's elementwise spec, and cotangents likewise; with forward events."""
    return round_watched(x, key, setting, "forward")


def round_watched(x: Array, key: Array, setting: Setting, role: str) -> tuple[Array, Array]:
    """Round by the elementwise spec; with the events."""
    spec = setting.policy.elementwise
    y = round_array(x, noise_for(key, f"{setting.name}/{role}", x.shape, spec), spec)
    return y, _count(x, y, spec)


def _rounded_forward(
    x: Array, probe: Array, key: Array, setting: Setting
) -> tuple[tuple[Array, Array], Array]:
    return rounded(x, probe, key, setting), key


def _rounded_backward(
    setting: Setting, key: Array, cotangents: tuple[Array, Array]
) -> tuple[Array, Array, None]:
    g, events = round_watched(cotangents[0], key, setting, "backward")
    return g, events, None


rounded.defvjp(_rounded_forward, _rounded_backward)
