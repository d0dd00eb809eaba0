"""Products of a training step: by the policy's three specs, with every rounding watched.

Gradients are the one channel that leads out of a `custom_vjp`. The counts of the backward pass
therefore leave it as the cotangent of a `probe`: zeros that take part in nothing.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array, bitcast, count_true
from precsim._loops import computed_once
from precsim.formats.scaled import scaled_format
from precsim.products.backends import resolve_backend
from precsim.products.columns import in_columns
from precsim.products.emulated import unguarded_matmul
from precsim.products.product import run_product
from precsim.products.specs.spec import MatmulSpec
from precsim.products.windows import Shape, Windows, as_rows, flipped, patches
from precsim.rounding.events import Events, classify, count
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.measures import count_operand
from precsim.rounding.spec import RoundingSpec
from precsim.training.functions import functions_of
from precsim.training.recipes.tensor_scaling import current_scale
from precsim.transform.noise import bits_at
from precsim.transform.policy import Policy

NUM_EVENTS = len(Events._fields)
UNGUARDED = ":unguarded"
"""After a backend's name: emulated products do not guard their range; they say if they left it."""


class Watched(NamedTuple):
    """What a place counts in one pass."""

    events: Array
    """Range events of all roundings, int32 of shape (7,), in the order of `Events`."""
    untrusted: Array
    """Unguarded products that left the range where their bits can be trusted, an int32."""


def no_events() -> Watched:
    """Return the counts of nothing."""
    return Watched(jnp.zeros(NUM_EVENTS, jnp.int32), jnp.int32(0))


def probe() -> Watched:
    """Return zeros whose cotangents are the counts of a backward pass.

    They are float32, as cotangents have to be: counts are exact up to 2**24 per place and step.
    """
    return _as_floats(no_events())


def _as_floats(watched: Watched) -> Watched:
    return Watched(*(x.astype(jnp.float32) for x in watched))


def _sum(x: Watched, y: Watched) -> Watched:
    return Watched(x.events + y.events, x.untrusted + y.untrusted)


def _with(watched: Watched, counts: Array) -> Watched:
    return watched._replace(events=watched.events + counts)


class Setting(NamedTuple):
    """What a product needs to know, besides arrays; static under jit."""

    policy: Policy
    backend: str
    """Of all products; `UNGUARDED` may follow it."""
    name: str
    is_first: bool = False
    """Whether the input is data, so that nobody needs its gradient."""


def noise_for(key: Array, path: str, shape: tuple[int, ...], spec: RoundingSpec) -> Array | None:
    """Random bits for an array, if its rounding is stochastic."""
    return bits_at(key, path, shape) if spec.mode is RoundingMode.STOCHASTIC else None


def watched_product(
    a: Array, b: Array, spec: MatmulSpec, setting: Setting, role: str, key: Array, watch: str
) -> tuple[Array, Watched]:
    """Return a @ b, shapes (..., M, K) and (..., K, N), and the events in some roundings.

    `watch` names the operands, "a", "b", "ab" or "": each tensor of a step is counted once. An
    operand is not counted either where a former rounding has put all of it into its format. In
    formats with scales the range is that of the elements.
    """
    flush = functions_of(setting.policy.functions).flush
    inverses = []
    watched = no_events()
    operands = []
    for name, x, operand in (("a", a, spec.lhs), ("b", b, spec.rhs)):
        if operand is None or scaled_format(operand.format) is not None:
            if operand is not None and name in watch:
                vectors = x if name == "a" else x.mT
                watched = _with(watched, count_operand(vectors, None, operand))
            operands.append(x)
            continue
        scaled = x
        if setting.policy.tensor_scaling == "current":
            scale, inverse = current_scale(x, operand)
            inverses.append(inverse)
            scaled = flush(x * scale)
        rounded = computed_once(round_array(scaled, None, operand))
        if name in watch:
            watched = _with(watched, _count_anew(scaled, rounded, operand))
        operands.append(rounded)
    left, right = operands
    shape = *a.shape[:-1], b.shape[-1]
    seeds = noise_for(key, f"{setting.name}/{role}/accumulator", shape, spec.accumulator)
    total, untrusted = _multiply(left, right, replace(spec, output=None), seeds, setting.backend)
    watched = watched._replace(untrusted=watched.untrusted + untrusted)
    total = computed_once(flush(total))
    for inverse in inverses:
        total = flush(total * inverse)
    if spec.output is None:
        return total, watched
    noise = noise_for(key, f"{setting.name}/{role}", total.shape, spec.output)
    result = computed_once(round_array(total, noise, spec.output))
    return result, _with(watched, count(total, result, spec.output))


def _multiply(
    a: Array, b: Array, spec: MatmulSpec, seeds: Array | None, backend: str
) -> tuple[Array, Array]:
    """Return a @ b, and 1 if its bits cannot be trusted, else 0."""
    name = backend.removesuffix(UNGUARDED)
    is_emulated = resolve_backend(spec, name, shapes=(a.shape, b.shape)) == "emulated"
    if is_emulated and backend != name:

        def run(a: Array, b: Array, c: Array | None, seeds: Array | None) -> tuple[Array, Array]:
            total, is_exact = unguarded_matmul(a, b, c, spec, seeds)
            return total, (~is_exact).astype(jnp.int32)

        total, untrusted = in_columns(run, a, b, None, seeds)
        return total, untrusted
    return run_product(a, b, None, spec, seeds, backend=name), jnp.int32(0)


@partial(jax.jit, static_argnames="spec")
def _count_anew(before: Array, after: Array, spec: RoundingSpec) -> Array:
    """Count the events of a rounding, unless all numbers are in the format already."""
    is_new = (bitcast(before, jnp.uint32) != bitcast(after, jnp.uint32)).reshape(-1)
    *counts, news = count_true(*classify(before, after, spec), is_new)
    return jnp.where(news > 0, jnp.stack(counts), 0)


def _watched_gradients(
    wgrad: tuple[Array, Array], dgrad: tuple[Array, Array], setting: Setting, key: Array
) -> tuple[Array, Array | None, Watched]:
    """Return both gradients of a product from their factors, and the events; no dgrad of data.

    The cotangent is a factor of both and counted once, in dgrad where that runs.
    """
    policy = setting.policy
    watch = "b" if setting.is_first else ""
    dw, watched = watched_product(*wgrad, policy.wgrad, setting, "wgrad", key, watch)
    if setting.is_first:
        return dw, None, _as_floats(watched)
    dx, of_dgrad = watched_product(*dgrad, policy.dgrad, setting, "dgrad", key, "a")
    return dw, dx, _as_floats(_sum(watched, of_dgrad))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def linear(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting
) -> tuple[Array, Watched]:
    """Return x @ w, shapes (..., M, K) and (..., K, N), equal batch dimensions, and its counts."""
    return watched_product(x, w, setting.policy.forward, setting, "forward", key, "ab")


def _linear_forward(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting
) -> tuple[tuple[Array, Watched], tuple[Array, Array, Array]]:
    return linear(x, w, probe, key, setting), (x, w, key)


def _linear_backward(
    setting: Setting, residuals: tuple[Array, Array, Array], cotangents: tuple[Array, Any]
) -> tuple[Array, Array, Watched, None]:
    x, w, key = residuals
    g = cotangents[0]
    dw, dx, watched = _watched_gradients((x.mT, g), (g, w.mT), setting, key)
    return (jnp.zeros_like(x) if dx is None else dx), dw, watched, None


linear.defvjp(_linear_forward, _linear_backward)


def _rows(x: Array, window: Shape, windows: Windows) -> Array:
    return as_rows(patches(x, window, windows))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def conv(x: Array, w: Array, probe: Watched, key: Array, setting: Setting) -> tuple[Array, Watched]:
    """Return the "SAME" convolution of x (B, H, W, C) and w (R, S, C, F), and its counts."""
    flat = _rows(x, w.shape[:2], Windows.over(x.shape[1:3], w.shape[:2]))
    y, watched = watched_product(
        flat, w.reshape(-1, w.shape[3]), setting.policy.forward, setting, "forward", key, "ab"
    )
    return y.reshape(*x.shape[:3], w.shape[3]), watched


def _conv_forward(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting
) -> tuple[tuple[Array, Watched], tuple[Array, Array, Array]]:
    return conv(x, w, probe, key, setting), (x, w, key)


def _conv_backward(
    setting: Setting, residuals: tuple[Array, Array, Array], cotangents: tuple[Array, Any]
) -> tuple[Array, Array, Watched, None]:
    x, w, key = residuals
    g = cotangents[0]
    image, window = x.shape[1:3], w.shape[:2]
    windows = Windows.over(image, window)
    wgrad = (_rows(x, window, windows).T, as_rows(g))
    dgrad = (_rows(g, window, windows.of_cotangents(image, window)), as_rows(flipped(w, 2)))
    dw, dx, watched = _watched_gradients(wgrad, dgrad, setting, key)
    dx = jnp.zeros_like(x) if dx is None else dx.reshape(x.shape)
    return dx, dw.reshape(w.shape), watched, None


conv.defvjp(_conv_forward, _conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def rounded(x: Array, probe: Watched, key: Array, setting: Setting) -> tuple[Array, Watched]:
    """Round values by the policy's elementwise spec, and cotangents likewise; with counts."""
    return round_watched(x, key, setting, "forward")


def round_watched(x: Array, key: Array, setting: Setting, role: str) -> tuple[Array, Watched]:
    """Round by the elementwise spec; with the events."""
    spec = setting.policy.elementwise
    noise = noise_for(key, f"{setting.name}/{role}", x.shape, spec)
    y = computed_once(round_array(x, noise, spec))
    return y, _with(no_events(), count(x, y, spec))


def _rounded_forward(
    x: Array, probe: Watched, key: Array, setting: Setting
) -> tuple[tuple[Array, Watched], Array]:
    return rounded(x, probe, key, setting), key


def _rounded_backward(
    setting: Setting, key: Array, cotangents: tuple[Array, Any]
) -> tuple[Array, Watched, None]:
    g, watched = round_watched(cotangents[0], key, setting, "backward")
    return g, _as_floats(watched), None


rounded.defvjp(_rounded_forward, _rounded_backward)
