"""Training with every result rounded to a format: the set-up that the measured rows share."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

Round: TypeAlias = Callable[[Any], Any]
Params: TypeAlias = dict[str, Any]
Apply: TypeAlias = Callable[[Round, Params, Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """In which formats a training computes.

    `compute` is the spec of every result of the forward and the backward pass; products accumulate
    in float32. `weights` is that of the stored weights, "fp32" for a master copy. `change` is the
    format to which learning rate times gradient is rounded before it is subtracted. `backward` is
    the spec of gradients, where that is another one than `compute`.
    """

    compute: str = "fp32"
    weights: str = "fp32"
    change: str = "fp32"
    is_compensated: bool = False
    backward: str = ""


FP32 = Recipe()


def spec_of(name: str) -> str:
    """Return a format's spec; 8-bit floats saturate."""
    return f"{name}:saturate" if name.startswith(("e4m3", "e5m2")) else name


def pure(name: str) -> Recipe:
    """Return the recipe that has weights, results and updates in one format."""
    spec = spec_of(name)
    return Recipe(compute=spec, weights=spec, change=spec)


def stochastic(name: str) -> Recipe:
    """Return the pure recipe whose new weights are rounded stochastically."""
    return Recipe(compute=spec_of(name), weights=f"{spec_of(name)}:sr")


def compensated(name: str) -> Recipe:
    """Return the pure recipe whose updates are compensated (Kahan)."""
    spec = spec_of(name)
    return Recipe(compute=spec, weights=spec, change=spec, is_compensated=True)


def mixed(name: str) -> Recipe:
    """Return the recipe with float32 master weights."""
    return Recipe(compute=spec_of(name))


def rounder(spec: str, key: Any = None, backward: str = "") -> Round:
    """Return a function that rounds a value, and on the way back its gradient."""
    if spec == "fp32" and not backward:
        return lambda x: x
    calls = itertools.count()

    def rounded(x: Any, spec: str = spec) -> Any:
        if spec == "fp32":
            return x
        if ":sr" not in spec:
            return ps.round_to(x, spec)
        noise = jax.random.bits(jax.random.fold_in(key, next(calls)), x.shape)
        return ps.round_to(x, spec, random_bits=noise)

    @jax.custom_vjp
    def both(x: Any) -> Any:
        return rounded(x)

    both.defvjp(lambda x: (rounded(x), None), lambda _, g: (rounded(g, backward or spec),))
    return both


def mlp(q: Round, w: Params, x: Any) -> Any:
    """Return the logits of the network of the digits."""
    h = jax.nn.relu(q(q(x @ w["w1"]) + w["b1"]))
    return q(q(h @ w["w2"]) + w["b2"])


def mlp_weights(rng: np.random.Generator) -> Params:
    """Return He's initial weights of 64-64-10."""
    w1, w2 = (rng.normal(0, np.sqrt(2 / 64), (64, n)).astype(np.float32) for n in (64, 10))
    return {"w1": w1, "b1": np.zeros(64, np.float32), "w2": w2, "b2": np.zeros(10, np.float32)}


class Digits(NamedTuple):
    """Handwritten digits, split by a seed; arrays have one more axis in front for many seeds."""

    x: Any
    y: Any
    test_x: Any
    test_y: Any


def split_digits(seed: int) -> Digits:
    """Return the split of a seed: 1,437 to train, 360 to test; pixels / 16."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng([seed, 0]).permutation(len(found.target))
    x = (found.data / 16).astype(np.float32)[order]
    y = found.target.astype(np.int32)[order]
    return Digits(x[360:], y[360:], x[:360], y[:360])


def batches(seed: int, examples: int, epochs: int, size: int = 32) -> np.ndarray:
    """Return the examples of each step, shape (steps, size): whole batches of each epoch."""
    rng = np.random.default_rng([seed, 1])
    steps = examples // size
    orders = [rng.permutation(examples)[: steps * size] for _ in range(epochs)]
    return np.concatenate(orders).reshape(-1, size)


def stacked(trees: Any) -> Any:
    """Return trees of arrays as one, with an axis in front."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def loss_of(logits: Any, y: Any) -> Any:
    """Return the mean cross-entropy, in float32."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], axis=-1))


class State(NamedTuple):
    """Weights, what Kahan's sum carries, and how many updates changed nothing, of how many."""

    weights: Params
    lost: Params
    swallowed: Any
    nonzero: Any


def gradient(apply: Apply, q: Round, weights: Params, x: Any, y: Any, scale: Any) -> Any:
    """Return the unscaled gradient of the scaled loss."""

    def scaled_loss(w: Params) -> Any:
        return scale * loss_of(apply(q, jax.tree.map(q, w), q(x)), y)

    return jax.tree.map(lambda g: g / scale, jax.grad(scaled_loss)(weights))


def sgd_step(
    recipe: Recipe, apply: Apply, data: Digits, rate: Any, scale: Any, state: State, step: Any
) -> State:
    """Return the state after one batch: `step` is its examples and a key."""
    batch, key = step
    q = rounder(recipe.compute, jax.random.fold_in(key, 1), recipe.backward)
    w = state.weights
    g = gradient(apply, q, w, data.x[batch], data.y[batch], scale)
    change = jax.tree.map(lambda g: ps.round_to(-(rate * g), recipe.change), g)
    stochastic = {"key": key, "step": 0} if ":sr" in recipe.weights else {}
    if recipe.is_compensated:
        new, lost = ps.apply_updates(
            w, change, rounding=recipe.weights, compensation=state.lost, **stochastic
        )
    else:
        new, lost = ps.apply_updates(w, change, rounding=recipe.weights, **stochastic), state.lost
    pairs = list(zip(jax.tree.leaves(w), jax.tree.leaves(new), jax.tree.leaves(g), strict=True))
    nonzero = sum((rate * g != 0).sum() for _, _, g in pairs)
    swallowed = sum(((old == now) & (rate * g != 0)).sum() for old, now, g in pairs)
    return State(new, lost, state.swallowed + swallowed, state.nonzero + nonzero)


@partial(jax.jit, static_argnames=("recipe", "apply"))
def _trained(
    data: Digits, weights: Params, order: Any, rate: Any, scale: Any, recipe: Recipe, apply: Apply
) -> State:
    def one(data: Digits, weights: Params, order: Any) -> State:
        fmt = recipe.weights.replace(":sr", "")
        start = jax.tree.map(lambda w: ps.round_to(w, fmt), weights)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(len(order)))
        state = State(start, jax.tree.map(jnp.zeros_like, start), 0, 0)
        step = partial(sgd_step, recipe, apply, data, rate, scale)
        return jax.lax.scan(lambda s, x: (step(s, x), None), state, (order, keys))[0]

    return jax.vmap(one)(data, weights, order)


@partial(jax.jit, static_argnames=("spec", "apply"))
def scores(data: Digits, weights: Params, spec: str, apply: Apply = mlp) -> tuple[Any, Any, Any]:
    """Return test accuracy in %, test loss and training accuracy in % of each seed."""

    def one(data: Digits, weights: Params) -> tuple[Any, Any, Any]:
        q = rounder(spec, jax.random.key(1))
        w = jax.tree.map(q, weights)
        logits, known = apply(q, w, q(data.test_x)), apply(q, w, q(data.x))
        right = (jnp.argmax(logits, -1) == data.test_y).mean()
        return 100 * right, loss_of(logits, data.test_y), 100 * (known.argmax(-1) == data.y).mean()

    return jax.vmap(one)(data, weights)


@dataclass(frozen=True, slots=True)
class Run:
    """Trainings of several seeds: arrays of one number for each, and the weights."""

    accuracy: np.ndarray
    loss: np.ndarray
    training_accuracy: np.ndarray
    swallowed: np.ndarray
    weights: Params


_DONE: dict[Any, Run] = {}


def splits(seeds: int) -> Any:
    """Return the splits of the first seeds."""
    return stacked([split_digits(seed) for seed in range(seeds)])


def first_weights(seeds: int) -> Any:
    """Return the initial weights of the first seeds."""
    return stacked([mlp_weights(np.random.default_rng([seed, 2])) for seed in range(seeds)])


def orders(seeds: int, epochs: int, batch: int = 32) -> np.ndarray:
    """Return the examples of each step of the first seeds."""
    examples = splits(1).x.shape[1]
    return np.stack([batches(seed, examples, epochs, batch) for seed in range(seeds)])


def train(
    recipe: Recipe,
    *,
    seeds: int,
    rate: float = 0.01,
    epochs: int = 20,
    scale: float = 1.0,
    dtype: str = "float32",
    batch: int = 32,
) -> Run:
    """Train the network of the digits by SGD, for each of the first seeds.

    A run is made once in a process, whichever rows ask for it.
    """
    asked = (recipe, seeds, rate, epochs, scale, dtype, batch)
    if asked not in _DONE:
        data, start = jax.tree.map(
            lambda a: a.astype(dtype) if a.dtype == np.float32 else a,
            (splits(seeds), first_weights(seeds)),
        )
        order = orders(seeds, epochs, batch)
        _DONE[asked] = run_from(recipe, data, start, order, rate=rate, scale=scale)
    return _DONE[asked]


def go_on(recipe: Recipe, start: Run, *, seeds: int, rate: float) -> Run:
    """Train on from the weights of a run, with the same data."""
    return run_from(recipe, splits(seeds), start.weights, orders(seeds, 20), rate=rate)


def run_from(
    recipe: Recipe,
    data: Digits,
    start: Params,
    order: np.ndarray,
    *,
    rate: float,
    scale: float = 1.0,
) -> Run:
    """Train from some weights, by the examples of each step, and score the end."""
    end = _trained(data, start, order, np.float32(rate), np.float32(scale), recipe, mlp)
    accuracy, loss, known = map(np.asarray, scores(data, end.weights, recipe.compute))
    share = 100 * np.asarray(end.swallowed) / np.maximum(np.asarray(end.nonzero), 1)
    return Run(accuracy, loss, known, share, jax.tree.map(np.asarray, end.weights))
