"""Products of a training step: by the policy's three specs, with every rounding watched.

Gradients are the one channel that leads out of a `custom_vjp`. The counts of the backward pass
therefore leave it as the cotangent of a `probe`: zeros that take part in nothing.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim._loops import computed_once
from precsim.products.backends import resolve_backend
from precsim.products.columns import in_columns
from precsim.products.emulated import asked_facts, unguarded_matmul
from precsim.products.product import run_product
from precsim.products.specs.spec import MatmulSpec
from precsim.products.windows import Windows, as_rows, flipped, patches
from precsim.rounding.events import count
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.training.factors import Factor, Use, is_shared, make_factor
from precsim.training.functions import functions_of
from precsim.transform.noise import bits_at
from precsim.transform.policy import Policy
from precsim.transform.watch import NUM_EVENTS

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
    a: Factor,
    b: Factor,
    spec: MatmulSpec,
    setting: Setting,
    role: str,
    key: Array,
    *,
    k_first: bool = False,
) -> tuple[Array, Watched]:
    """Return a @ b, shapes (..., M, K) and (..., K, N), and the events of its output's rounding.

    With `k_first` the shape of a is (..., K, M).
    """
    flush = functions_of(setting.policy.functions).flush
    rows = a.values.shape[-1 if k_first else -2]
    shape = *a.values.shape[:-2], rows, b.values.shape[-1]
    seeds = noise_for(key, f"{setting.name}/{role}/accumulator", shape, spec.accumulator)
    without_output = replace(spec, output=None)
    total, untrusted = _multiply(a, b, without_output, seeds, setting.backend, k_first)
    total = flush(total)
    inverses = [factor.scale[1] for factor in (a, b) if factor.scale is not None]
    if inverses or spec.output is None:
        total = computed_once(total)
    for inverse in inverses:
        total = flush(total * inverse)
    if spec.output is None:
        return total, no_events()._replace(untrusted=untrusted)
    noise = noise_for(key, f"{setting.name}/{role}", total.shape, spec.output)
    result = computed_once(round_array(total, noise, spec.output))
    return result, Watched(count(total, result, spec.output), untrusted)


def _multiply(
    a: Factor, b: Factor, spec: MatmulSpec, seeds: Array | None, backend: str, k_first: bool
) -> tuple[Array, Array]:
    """Return a @ b, and 1 if its bits cannot be trusted, else 0."""
    name = backend.removesuffix(UNGUARDED)
    left, right, known = a.values, b.values, (a.facts, b.facts)
    matrix = left.mT if k_first else left
    is_emulated = resolve_backend(spec, name, shapes=(matrix.shape, right.shape)) == "emulated"
    if not is_emulated or backend == name:
        return run_product(matrix, right, None, spec, seeds, backend=name), jnp.int32(0)

    def run(a: Array, b: Array, c: Array | None, seeds: Array | None) -> tuple[Array, Array]:
        total, is_exact = unguarded_matmul(a, b, c, spec, seeds, known, k_first)
        return total, (~is_exact).astype(jnp.int32)

    total, untrusted = in_columns(run, left, right, None, seeds)
    return total, untrusted


class _Uses(NamedTuple):
    """How x, w and the cotangent g of a product become operands of it and of its gradients."""

    rows: Use
    """Of x: the left operand; transposed it is that of w's gradient."""
    filters: Use
    """Of w: the right operand."""
    columns: Use
    """Of g: the right operand of w's gradient."""
    windows: Use
    """Of g: the left operand of x's gradient."""
    turned: Callable[[Array], Array]
    """Makes the right operand of x's gradient, of w."""


def _same(x: Array) -> Array:
    return x


def _of_linear(x: Array, w: Array) -> _Uses:
    left, right = Use(_same), Use(_same, is_left=False)
    return _Uses(left, right, right, left, lambda w: w.mT)


def _of_conv(x: Array, w: Array) -> _Uses:
    image, window, filters = x.shape[1:3], w.shape[:2], Use(as_rows, is_left=False)

    def of_windows(windows: Windows, channels: int) -> Use:
        elements = math.prod((*x.shape[:3], *window, channels))
        rows = lambda x: as_rows(patches(x, window, windows))
        return Use(rows, times=windows.times(image, window), elements=elements)

    windows = Windows.over(image, window)
    turned = windows.of_cotangents(image, window)
    return _Uses(
        of_windows(windows, w.shape[2]),
        filters,
        filters,
        of_windows(turned, w.shape[3]),
        lambda w: as_rows(flipped(w, 2)),
    )


_USES = {"linear": _of_linear, "conv": _of_conv}


def linear(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting
) -> tuple[Array, Watched]:
    """Return x @ w, shapes (..., M, K) and (..., K, N), equal batch dimensions, and its counts."""
    return _product(x, w, probe, key, setting, "linear")


def conv(x: Array, w: Array, probe: Watched, key: Array, setting: Setting) -> tuple[Array, Watched]:
    """Return the "SAME" convolution of x (B, H, W, C) and w (R, S, C, F), and its counts."""
    return _product(x, w, probe, key, setting, "conv")


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _product(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting, kind: str
) -> tuple[Array, Watched]:
    return _forward(x, w, probe, key, setting, kind)[0]


class _Residuals(NamedTuple):
    """What the backward pass takes; factors of the forward pass where their specs serve both."""

    x: Array | Factor
    w: Array
    of_w: Factor | None
    key: Array


def _asked(setting: Setting, x: Array, w: Array) -> tuple[str, ...]:
    """Return which facts of their operands a product and its gradients ask for."""
    if not setting.backend.endswith(UNGUARDED):
        return ()
    policy, depth = setting.policy, max(x.size, w.size)
    specs = policy.forward, policy.dgrad, policy.wgrad
    return tuple(sorted({fact for spec in specs for fact in asked_facts(spec, depth)}))


def _forward(
    x: Array, w: Array, probe: Watched, key: Array, setting: Setting, kind: str
) -> tuple[tuple[Array, Watched], _Residuals]:
    policy, uses, asked = setting.policy, _USES[kind](x, w), _asked(setting, x, w)
    spec = policy.forward
    left, of_x = make_factor(x, spec.lhs, uses.rows, policy, asked, is_counted=True)
    right, of_w = make_factor(w, spec.rhs, uses.filters, policy, asked, is_counted=True)
    a, b = uses.rows.operand(left, spec.lhs), uses.filters.operand(right, spec.rhs)
    y, watched = watched_product(a, b, spec, setting, "forward", key)
    residuals = _Residuals(
        left if is_shared(spec.lhs, policy.wgrad.lhs) else x,
        w,
        right if is_shared(spec.rhs, policy.dgrad.rhs) else None,
        key,
    )
    return (y.reshape(*x.shape[:-1], w.shape[-1]), _with(watched, of_x + of_w)), residuals


def _backward(
    setting: Setting, kind: str, residuals: _Residuals, cotangents: tuple[Array, Any]
) -> tuple[Array, Array, Watched, None]:
    """Return both gradients and the counts; that of data is zero.

    The cotangent is a factor of both and counted once, in dgrad where that runs.
    """
    policy, g, is_first = setting.policy, cotangents[0], setting.is_first
    kept, w, of_w, key = residuals
    x = kept.values if isinstance(kept, Factor) else kept
    uses, asked, spec = _USES[kind](x, w), _asked(setting, x, w), policy.wgrad
    factor = partial(make_factor, policy=policy, asked=asked)
    left = kept if isinstance(kept, Factor) else factor(x, spec.lhs, uses.rows)[0]
    turned, events = None, no_events().events
    if not is_first:
        turned, events = factor(g, policy.dgrad.lhs, uses.windows, is_counted=True)
    if turned is not None and is_shared(policy.dgrad.lhs, spec.rhs):
        right = turned
    else:
        right, of_g = factor(g, spec.rhs, uses.columns, is_counted=is_first)
        events = events + of_g
    a, b = uses.rows.operand(left, spec.lhs), uses.columns.operand(right, spec.rhs)
    dw, watched = watched_product(a, b, spec, setting, "wgrad", key, k_first=True)
    watched, dx = _with(watched, events), cast("Array", jnp.zeros_like(x))
    if turned is not None:
        spec = policy.dgrad
        # Arranged before it is rounded: a matrix is transposed by a kernel that compiles slowly.
        b = factor(uses.turned(w), spec.rhs, Use(_same, is_left=False), known=of_w)[0]
        a = uses.windows.operand(turned, spec.lhs)
        dx, of_dgrad = watched_product(a, b, spec, setting, "dgrad", key)
        watched = _sum(watched, of_dgrad)
    return dx.reshape(x.shape), dw.reshape(w.shape), _as_floats(watched), None


_product.defvjp(_forward, _backward)


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
