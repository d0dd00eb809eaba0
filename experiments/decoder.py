"""A small language model with a cache of keys and values, for any arithmetic.

Three blocks of attention and a perceptron, RMS normalisation before each, learned places, the
output tied to the embedding: 42,000 weights. What it computes with is an argument: `Platform` has
XLA's own operations in bfloat16, float16 or float32, `Stated` those of precsim, each with a stated
rounding and order. Arrays are NumPy's or JAX's; a token is a row (the last axis but one).

The weights are stored (`decoder.npz`): `train` made them from the text of Python's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import precsim as ps

WIDTH, HEADS, BLOCKS, WORDS, LENGTH = 32, 2, 3, 96, 48
FILE = Path(__file__).with_suffix(".npz")
UNSEEN = 64
_EPSILON = np.float32(1e-5)
_SCALE = np.float32((WIDTH // HEADS) ** -0.5)
_MEAN = np.float32(1 / WIDTH)

Weights = Mapping[str, Any]
Cache = dict[str, Any]


class Arithmetic(Protocol):
    """What the model computes with. `name` says which operation it is."""

    def __hash__(self) -> int:
        """Equal ones share compiled programs."""

    @property
    def dtype(self) -> Any:
        """The dtype of arrays between the operations."""

    def product(self, name: str, a: Any, b: Any) -> Any:
        """Return a @ b."""

    def add(self, name: str, x: Any, y: Any) -> Any:
        """Return x + y."""

    def scale(self, name: str, x: Any) -> Any:
        """Return x times the power of two that attention scales by."""

    def normalised(self, name: str, x: Any, gain: Any) -> Any:
        """Divide rows by the root of their mean square, multiply by the gain."""

    def silu(self, name: str, x: Any) -> Any:
        """Return x / (1 + exp(-x))."""

    def softmax(self, name: str, x: Any) -> Any:
        """Return exp(x) over its sum, row by row."""

    def log_softmax(self, name: str, x: Any) -> Any:
        """Return the logarithm of that, in float32."""


def extend(
    weights: Weights, cache: Cache, tokens: Any, positions: Any, slots: Any, using: Arithmetic,
    masked: float = -np.inf,
) -> tuple[Any, Cache]:  # fmt: skip
    """Read tokens behind what a cache has; return log-probabilities of the next ones, and a cache.

    Parameters
    ----------
    weights, cache
        As `load` and `empty_cache` return them.
    tokens, positions, slots : array of int32, shape (batch, count)
        The tokens; their positions in the sequence, -1 for padding; the slots of the cache that
        keep their keys and values. Padding is kept nowhere.
    using : Arithmetic
        What computes.
    masked : float
        The score of what a query must not see: keys behind its own position, and empty slots.

    Returns
    -------
    array of float32, shape (batch, count, WORDS), and the longer cache
    """
    xp = np if isinstance(tokens, np.ndarray) else _jax_numpy()
    batch, count = tokens.shape
    capacity = cache["positions"].shape[1] - 1
    at = np.arange(batch)[:, None], xp.where(positions < 0, capacity, slots)
    known = _written(cache["positions"], at, positions)
    places = xp.maximum(positions, 0)
    seen = known[:, None, :capacity]
    is_visible = ((seen >= 0) & (seen <= places[:, :, None]))[:, None]
    longer: Cache = {"positions": known}
    x = using.add("embedding", weights["tokens"][tokens], weights["places"][places])
    for n in range(BLOCKS):
        w = {name: weights[name][n] for name in ("qkv", "projection", "expand", "contract")}
        y = using.normalised("norm", x, weights["gains"][n, 0])
        y = using.product("qkv", y, w["qkv"]).reshape(batch, count, 3, HEADS, -1)
        for k, name in ((1, f"keys {n}"), (2, f"values {n}")):
            longer[name] = _written(cache[name], at, y[:, :, k])
        keys, values = (longer[f"{name} {n}"][:, :capacity] for name in ("keys", "values"))
        q = xp.moveaxis(y[:, :, 0], 2, 1)
        scores = using.product("scores", q, xp.moveaxis(keys, (2, 3), (1, 2)))
        scores = xp.where(
            is_visible, using.scale("scaled_scores", scores), scores.dtype.type(masked)
        )
        shares = using.softmax("softmax", scores)
        y = using.product("values", shares, xp.moveaxis(values, 2, 1))
        y = xp.moveaxis(y, 1, 2).reshape(batch, count, WIDTH)
        x = using.add("residual", x, using.product("projection", y, w["projection"]))
        y = using.normalised("perceptron_norm", x, weights["gains"][n, 1])
        y = using.silu("silu", using.product("expand", y, w["expand"]))
        y = using.product("contract", y, w["contract"])
        x = using.add("perceptron_residual", x, y)
    x = using.normalised("last_norm", x, weights["gain"])
    logits = using.product("output", x, weights["tokens"].T)
    return using.log_softmax("log_softmax", logits), longer


def _written(x: Any, at: Any, y: Any) -> Any:
    """Return an array with some entries replaced."""
    if not isinstance(x, np.ndarray):
        return x.at[at].set(y)
    x = x.copy()
    x[at] = y
    return x


def _jax_numpy() -> Any:
    import jax.numpy

    return jax.numpy


@dataclass(frozen=True, slots=True)
class Platform:
    """XLA's own operations in a dtype, as programs are usually written.

    Normalisations and softmax are computed in float32.
    """

    dtype: Any

    def product(self, name: str, a: Any, b: Any) -> Any:
        """Return a @ b in the platform's order."""
        with _scope(name):
            return a @ b

    def add(self, name: str, x: Any, y: Any) -> Any:
        """Return x + y."""
        with _scope(name):
            return x + y

    def scale(self, name: str, x: Any) -> Any:
        """Return x times a power of two."""
        with _scope(name):
            return x * x.dtype.type(_SCALE)

    def normalised(self, name: str, x: Any, gain: Any) -> Any:
        """Normalise in float32."""
        import jax

        with _scope(f"rms_{name}"):
            wide = x.astype(np.float32)
            mean = (wide * wide).mean(axis=-1, keepdims=True)
            return (wide * jax.lax.rsqrt(mean + _EPSILON)).astype(x.dtype) * gain

    def silu(self, name: str, x: Any) -> Any:
        """Return x / (1 + exp(-x))."""
        import jax

        with _scope(name):
            return jax.nn.silu(x)

    def softmax(self, name: str, x: Any) -> Any:
        """Return the softmax, computed in float32."""
        import jax

        with _scope(name):
            return jax.nn.softmax(x.astype(np.float32), axis=-1).astype(x.dtype)

    def log_softmax(self, name: str, x: Any) -> Any:
        """Return its logarithm in float32."""
        import jax

        with _scope(name):
            return jax.nn.log_softmax(x.astype(np.float32), axis=-1)


def _scope(name: str) -> Any:
    import jax

    return jax.named_scope(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """Precsim's operations: one rounding each, sums in a stated order.

    Parameters
    ----------
    format : str
        Of weights and of everything between the operations.
    products : str
        The matrix products.
    few_rows : str or MatmulSpec, optional
        The products of fewer than 8 rows; as the others by default. Kernels of libraries differ
        there (an H100 computes them outside the tensor cores), and a result then depends on how
        many rows are computed with it.
    order : str
        Order of the other sums, in float32.
    backend : str
        As of `precsim.matmul`.
    """

    format: str = "bf16"
    products: str = "bf16_bf16_fp32->bf16"
    few_rows: str | ps.MatmulSpec = ""
    order: str = "pairwise"
    backend: str = "auto"
    dtype: Any = np.float32

    def product(self, name: str, a: Any, b: Any) -> Any:
        """Return a @ b by a spec."""
        rows = a.shape[-2] if a.ndim == 4 or b.ndim > 2 else int(np.prod(a.shape[:-1]))
        spec = self.few_rows if self.few_rows and rows < 8 else self.products
        if b.ndim > 2:
            return self._multiplied(a, b, spec)
        y = self._multiplied(a.reshape(rows, -1), b, spec)
        return y.reshape(*a.shape[:-1], -1)

    def _multiplied(self, a: Any, b: Any, spec: str | ps.MatmulSpec) -> Any:
        """Multiply; native products of NumPy arrays run on JAX's device."""
        if self.backend != "native" or not isinstance(a, np.ndarray):
            return ps.matmul(a, b, spec, backend=self.backend)
        import jax.numpy as jnp

        return np.asarray(ps.matmul(jnp.asarray(a), jnp.asarray(b), spec, backend="native"))

    def add(self, name: str, x: Any, y: Any) -> Any:
        """Return x + y, rounded once."""
        return ps.add(x, y, self.format)

    def scale(self, name: str, x: Any) -> Any:
        """Return x times a power of two, rounded once."""
        return ps.multiply(x, _SCALE, self.format)

    def normalised(self, name: str, x: Any, gain: Any) -> Any:
        """Sum squares in order; each operation is rounded to float32, the results to the format."""
        total = ps.accumulate(ps.multiply(x, x, "fp32"), "fp32", axis=-1, order=self.order)
        mean = ps.multiply(total, _MEAN, "fp32")
        root = ps.rsqrt(ps.add(mean, _EPSILON, "fp32"), "fp32")[..., None]
        return ps.multiply(ps.multiply(x, root, self.format), gain, self.format)

    def silu(self, name: str, x: Any) -> Any:
        """Return x times the rounded 1 / (1 + exp(-x))."""
        return ps.multiply(x, ps.sigmoid(x, self.format), self.format)

    def softmax(self, name: str, x: Any) -> Any:
        """Return exp(x - max) over its sum, in float32, rounded to the format at the end."""
        powers, total = self._powers(x)[1:]
        return ps.divide(powers, total, self.format)

    def log_softmax(self, name: str, x: Any) -> Any:
        """Return (x - max) - log(sum(exp(x - max))) in float32."""
        own, _, total = self._powers(x)
        return ps.subtract(own, ps.log(total, "fp32"), "fp32")

    def _powers(self, x: Any) -> tuple[Any, Any, Any]:
        own = ps.subtract(x, x.max(axis=-1, keepdims=True), "fp32")
        powers = ps.exp(own, "fp32")
        return own, powers, ps.accumulate(powers, "fp32", axis=-1, order=self.order)[..., None]


def load() -> dict[str, np.ndarray]:
    """Return the stored weights in float32; bfloat16 has their values."""
    with np.load(FILE) as file:
        return {name: ps.decode(file[name], "bf16") for name in file.files if name != "text"}


def texts() -> np.ndarray:
    """Return texts that the model has not seen: tokens, shape (UNSEEN, LENGTH + 1)."""
    with np.load(FILE) as file:
        return np.asarray(file["text"], np.int32)


def empty_cache(batch: int, capacity: int, dtype: Any = np.float32) -> Cache:
    """Return a cache without entries, with one more slot, for what is not kept."""
    shape = (batch, capacity + 1, HEADS, WIDTH // HEADS)
    parts = [f"{name} {n}" for name in ("keys", "values") for n in range(BLOCKS)]
    cache: Cache = {name: np.zeros(shape, dtype) for name in parts}
    return cache | {"positions": np.full((batch, capacity + 1), -1, np.int32)}


def initial(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return float32 weights: normal, variance 1 / fan_in; gains are 1."""
    shapes = {
        "qkv": (BLOCKS, WIDTH, 3 * WIDTH),
        "projection": (BLOCKS, WIDTH, WIDTH),
        "expand": (BLOCKS, WIDTH, 4 * WIDTH),
        "contract": (BLOCKS, 4 * WIDTH, WIDTH),
        "tokens": (WIDTH, WORDS),
        "places": (WIDTH, LENGTH),
    }
    weights = {
        name: rng.standard_normal(shape, np.float32) * np.float32(shape[-2] ** -0.5)
        for name, shape in shapes.items()
    }
    weights |= {name: weights[name].T for name in ("tokens", "places")}
    ones = np.ones((BLOCKS, 2, WIDTH), np.float32)
    return weights | {"gains": ones, "gain": np.ones(WIDTH, np.float32)}


def train(text: str, steps: int = 600, batch: int = 64) -> None:
    """Train on a text in float32; store the weights, rounded to bfloat16, and the unseen rows.

    The stored ones were made so, from the text of `conformance/replay` (Adam with weight decay, a
    rate of 0.004 that falls to 0 along a cosine; the loss of unseen text was 1.97).
    """
    import jax
    import jax.numpy as jnp
    import optax

    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int32)
    tokens = np.where((codes >= 32) & (codes < 127), codes - 31, ord("?") - 31)
    tokens = np.where(codes == ord("\n"), 0, tokens)
    rows = tokens[: len(tokens) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    seen, unseen = rows[:-UNSEEN], rows[-UNSEEN:]
    rng = np.random.default_rng(0)
    weights = initial(rng)
    optimizer = optax.adamw(optax.cosine_decay_schedule(4e-3, steps))
    state = optimizer.init(weights)
    positions = jnp.broadcast_to(jnp.arange(LENGTH), (batch, LENGTH))

    def loss(weights: Any, rows: Any) -> Any:
        cache = jax.tree.map(jnp.asarray, empty_cache(batch, LENGTH))
        given = rows[:, :-1], positions, positions
        found, _ = extend(weights, cache, *given, Platform(np.float32))
        return -jnp.mean(jnp.take_along_axis(found, rows[:, 1:, None], axis=-1))

    @jax.jit
    def step(weights: Any, state: Any, rows: Any) -> Any:
        change, state = optimizer.update(jax.grad(loss)(weights, rows), state, weights)
        return optax.apply_updates(weights, change), state

    for _ in range(steps):
        weights, state = step(weights, state, seen[rng.integers(len(seen), size=batch)])
    stored = {
        name: ps.encode(ps.round_to(np.asarray(w), "bf16"), "bf16") for name, w in weights.items()
    }
    np.savez_compressed(FILE, text=unseen.astype(np.uint8), **stored)
