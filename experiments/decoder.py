"""A small language model with a cache of keys and values, in plain JAX.

Three blocks of attention and a perceptron, RMS normalisation before each, learned places, the
output tied to the embedding: 42,000 weights. The same function runs in bfloat16 or float16 as it is
(the platform's arithmetic), and in float32 under a policy of `precsim.emulate`.

Its weights are stored (`decoder.npz`): `train` made them on the text of Python's documentation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

WIDTH, HEADS, BLOCKS, WORDS, LENGTH = 32, 2, 3, 96, 48
FILE = Path(__file__).with_suffix(".npz")
_EPSILON = 1e-5

Weights = Mapping[str, Any]
Cache = dict[str, Any]


def initial(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return float32 weights: normal, variance 1 / fan_in; gains are 1."""
    shapes = {
        "qkv": (BLOCKS, WIDTH, 3 * WIDTH),
        "projection": (BLOCKS, WIDTH, WIDTH),
        "expand": (BLOCKS, WIDTH, 4 * WIDTH),
        "contract": (BLOCKS, 4 * WIDTH, WIDTH),
        "tokens": (WORDS, WIDTH),
        "places": (LENGTH, WIDTH),
    }
    weights = {
        name: rng.standard_normal(shape, np.float32) * np.float32(shape[-2] ** -0.5)
        for name, shape in shapes.items()
    }
    weights["tokens"] = rng.standard_normal((WORDS, WIDTH), np.float32) * np.float32(WIDTH**-0.5)
    weights["places"] = rng.standard_normal((LENGTH, WIDTH), np.float32) * np.float32(WIDTH**-0.5)
    ones = np.ones((BLOCKS, 2, WIDTH), np.float32)
    return weights | {"gains": ones, "gain": np.ones(WIDTH, np.float32)}


def load(dtype: Any = np.float32) -> dict[str, Any]:
    """Return the stored weights, whose values bfloat16 has."""
    with np.load(FILE) as file:
        stored = {name: file[name] for name in file.files if name != "text"}
    values = {name: ps.decode(codes, "bf16") for name, codes in stored.items()}
    return {name: jnp.asarray(x).astype(dtype) for name, x in values.items()}


def texts() -> np.ndarray:
    """Return the stored texts that the model has not seen: tokens, shape (64, LENGTH + 1)."""
    with np.load(FILE) as file:
        return file["text"].astype(np.int32)


def empty_cache(batch: int, capacity: int, dtype: Any = np.float32) -> Cache:
    """Return a cache without entries: keys and values of `capacity` slots, each slot's position."""
    shape = (BLOCKS, batch, capacity, HEADS, WIDTH // HEADS)
    return {
        "keys": jnp.zeros(shape, dtype),
        "values": jnp.zeros(shape, dtype),
        "positions": jnp.full((batch, capacity), -1, np.int32),
    }


def extend(
    weights: Weights, cache: Cache, tokens: Any, positions: Any, slots: Any
) -> tuple[Any, Cache]:
    """Read tokens behind what a cache has; return log-probabilities of the next ones, and a cache.

    Parameters
    ----------
    weights, cache
        As `load` and `empty_cache` return them, of one dtype.
    tokens, positions, slots : array of int32, shape (batch, count)
        The tokens; their positions in the sequence, -1 for padding; the slots of the cache that
        keep their keys and values. Padding is kept nowhere.

    Returns
    -------
    array of float32, shape (batch, count, WORDS), and the longer cache

    Notes
    -----
    A query sees the slots whose position is at most its own. The others get -infinity, whose
    exponential is exactly 0.
    """
    batch, count = tokens.shape
    rows = np.arange(batch)[:, None]
    kept = jnp.where(positions < 0, cache["positions"].shape[1], slots)
    known = cache["positions"].at[rows, kept].set(positions, mode="drop")
    places = jnp.maximum(positions, 0)
    is_visible = (known[:, None] >= 0) & (known[:, None] <= places[:, :, None])
    dtype = weights["tokens"].dtype
    x = weights["tokens"][tokens] + weights["places"][places]

    def block(x: Any, own: Any) -> tuple[Any, Any]:
        w, keys, values = own
        y = _normalised(x, w["gains"][0])
        with jax.named_scope("qkv"):
            q, k, v = jnp.split((y @ w["qkv"]).reshape(batch, count, 3 * HEADS, -1), 3, axis=2)
        keys = keys.at[rows, kept].set(k, mode="drop")
        values = values.at[rows, kept].set(v, mode="drop")
        with jax.named_scope("scores"):
            scores = jnp.einsum("bthd,bshd->bhts", q, keys) * dtype.type(0.25)
        with jax.named_scope("softmax"):
            seen = jnp.where(is_visible[:, None], scores.astype(jnp.float32), -jnp.inf)
            powers = jnp.exp(seen - jnp.max(seen, axis=-1, keepdims=True))
            shares = powers / jnp.sum(powers, axis=-1, keepdims=True)
        with jax.named_scope("values"):
            y = jnp.einsum("bhts,bshd->bthd", shares.astype(dtype), values)
        with jax.named_scope("projection"):
            x = x + y.reshape(batch, count, WIDTH) @ w["projection"]
        y = _normalised(x, w["gains"][1])
        with jax.named_scope("expand"):
            y = jax.nn.silu(y @ w["expand"])
        with jax.named_scope("contract"):
            x = x + y @ w["contract"]
        return x, (keys, values)

    of_blocks = {name: weights[name] for name in ("qkv", "projection", "expand", "contract", "gains")}
    x, (keys, values) = jax.lax.scan(block, x, (of_blocks, cache["keys"], cache["values"]))
    x = _normalised(x, weights["gain"])
    with jax.named_scope("output"):
        logits = x @ weights["tokens"].T
    with jax.named_scope("log_softmax"):
        logits = logits.astype(jnp.float32)
        logits = logits - jnp.max(logits, axis=-1, keepdims=True)
        found = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
    return found, {"keys": keys, "values": values, "positions": known}


def _normalised(x: Any, gain: Any) -> Any:
    with jax.named_scope("rms_norm"):
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide * wide, axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(mean + _EPSILON)).astype(x.dtype) * gain


def train(text: str, steps: int = 3000) -> None:
    """Train on a text in float32, and store the weights, rounded to bfloat16, and unseen rows."""
    import optax

    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int32)
    tokens = np.where((codes >= 32) & (codes < 127), codes - 31, ord("?") - 31)
    tokens = np.where(codes == ord("\n"), 0, tokens)
    rows = tokens[: len(tokens) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    seen, unseen = rows[:-64], rows[-64:]
    rng = np.random.default_rng(0)
    weights = initial(rng)
    optimizer = optax.adamw(optax.cosine_decay_schedule(4e-3, steps))
    state = optimizer.init(weights)
    positions = jnp.broadcast_to(jnp.arange(LENGTH), (64, LENGTH))

    def loss(weights: Any, batch: Any) -> Any:
        cache = empty_cache(64, LENGTH)
        found, _ = extend(weights, cache, batch[:, :-1], positions, positions)
        return -jnp.mean(jnp.take_along_axis(found, batch[:, 1:, None], axis=-1))

    @jax.jit
    def step(weights: Any, state: Any, batch: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights, batch)
        change, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, change), state, value

    for n in range(steps):
        weights, state, value = step(weights, state, seen[rng.integers(len(seen), size=64)])
        if n % 200 == 0 or n == steps - 1:
            print(n, float(value), float(jax.jit(loss)(weights, unseen)), flush=True)
    codes = {
        name: ps.encode(ps.round_to(np.asarray(w), "bf16"), "bf16") for name, w in weights.items()
    }
    np.savez_compressed(FILE, text=unseen.astype(np.uint8), **codes)
