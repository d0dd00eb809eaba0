"""Small networks of several families, on digits, shapes and tones, trained with Adam."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.claims.adam import adam_run
from experiments.claims.training import (
    FP32,
    Apply,
    Digits,
    Params,
    Round,
    batches,
    mixed,
    scores,
    split_digits,
    stacked,
)


class Family(NamedTuple):
    """A network, its first weights, its data by seed, and the learning rate."""

    apply: Apply
    shapes: dict[str, tuple[int, ...]]
    data: Callable[[int], Digits]
    rate: float = 0.003
    epochs: int = 15


def conv(q: Round, x: Any, w: Any) -> Any:
    """Return a 3 x 3 convolution as one product, rounded: images (n, height, width, channels)."""
    return q(patches(x).reshape(*x.shape[:3], -1) @ w)


def patches(x: Any) -> Any:
    """Return the nine neighbours of each pixel, zeros outside, shape (..., 9, channels)."""
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.stack(parts, axis=3)


def pooled(x: Any) -> Any:
    """Return the maximum of each 2 x 2 pixels."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def cnn(q: Round, w: Params, x: Any) -> Any:
    """Two convolutions, the first one pooled, and a dense layer."""
    x = pooled(jax.nn.relu(conv(q, x.reshape(-1, 8, 8, 1), w["c1"])))
    x = jax.nn.relu(conv(q, x, w["c2"]))
    return q(q(x.reshape(len(x), -1) @ w["d"]) + w["b"])


def depthwise(q: Round, w: Params, x: Any) -> Any:
    """Like `cnn`, with the second convolution in two: each channel by itself, then across them."""
    x = pooled(jax.nn.relu(conv(q, x.reshape(-1, 8, 8, 1), w["c1"])))
    x = q(jnp.sum(patches(x) * w["each"], axis=3))
    x = jax.nn.relu(q(x @ w["across"]))
    return q(q(x.reshape(len(x), -1) @ w["d"]) + w["b"])


def rnn(q: Round, w: Params, x: Any) -> Any:
    """Read rows one after the other, and decide at the end."""
    rows = jnp.moveaxis(x.reshape(len(x), -1, len(w["in"])), 1, 0)

    def step(h: Any, row: Any) -> tuple[Any, None]:
        return q(jnp.tanh(q(q(row @ w["in"]) + q(h @ w["h"]) + w["hb"]))), None

    h = jax.lax.scan(step, jnp.zeros((len(x), len(w["h"])), x.dtype), rows)[0]
    return q(q(h @ w["d"]) + w["b"])


def attention(q: Round, w: Params, x: Any) -> Any:
    """Let the rows of an image look at each other; the softmax is in float32."""
    rows = q(q(x.reshape(-1, 8, 8) @ w["in"]) + w["place"])
    query, key, value = (q(rows @ w[name]) for name in ("q", "k", "v"))
    weights = q(jax.nn.softmax(q(query @ jnp.swapaxes(key, 1, 2)) / 4))
    rows = jax.nn.relu(q(rows + q(weights @ value)))
    return q(q(rows.mean(1) @ w["d"]) + w["b"])


def residual(q: Round, w: Params, x: Any) -> Any:
    """Add the result of each layer to its input."""
    x = jax.nn.relu(q(x @ w["in"]))
    for name in ("r1", "r2"):
        x = q(x + jax.nn.relu(q(x @ w[name])))
    return q(q(x @ w["d"]) + w["b"])


def segmented(q: Round, w: Params, x: Any) -> Any:
    """Return three logits of each pixel."""
    x = jax.nn.relu(conv(q, x, w["c1"]))
    x = jax.nn.relu(conv(q, x, w["c2"]))
    return conv(q, x, w["c3"])


def shapes(seed: int) -> Digits:
    """Return images of 12 x 12 with a square and a disc, and which of them each pixel shows."""
    rng = np.random.default_rng([seed, 5])
    y, x = np.mgrid[:12, :12]
    centres = rng.integers(2, 10, (640, 2, 2))
    square = (abs(x - centres[:, 0, :1, None]) < 3) & (abs(y - centres[:, 0, 1:, None]) < 3)
    disc = (x - centres[:, 1, :1, None]) ** 2 + (y - centres[:, 1, 1:, None]) ** 2 < 8
    labels = np.where(disc, 2, np.where(square, 1, 0)).astype(np.int32)
    bright = np.array([0, 5, 7])[labels] + rng.integers(-3, 4, labels.shape)
    images = (bright / 8).astype(np.float32)[..., None]
    return Digits(images[128:], labels[128:], images[:128], labels[:128])


def tones(seed: int) -> Digits:
    """Return 16 frames of 8 samples, and which of five melodies of two tones with noise it is."""
    rng = np.random.default_rng([seed, 6])
    pitches = np.array([[2, 3], [3, 2], [2, 4], [4, 2], [3, 3]])
    labels = rng.integers(0, 5, 640).astype(np.int32)
    time = np.arange(64)
    start = rng.integers(0, 64, (640, 2, 1))
    waves = np.sin(2 * np.pi * pitches[labels][..., None] * (time + start) / 64)
    sound = waves.reshape(640, 128) + rng.normal(0, 0.3, (640, 128))
    x = sound.astype(np.float32)
    return Digits(x[128:], labels[128:], x[:128], labels[:128])


HEAD = {"b": (10,)}
FAMILIES = {
    "cnn": Family(cnn, {"c1": (9, 8), "c2": (72, 16), "d": (256, 10), **HEAD}, split_digits),
    "depthwise": Family(
        depthwise,
        {"c1": (9, 8), "each": (9, 8), "across": (8, 16), "d": (256, 10), **HEAD},
        split_digits,
    ),
    "rnn": Family(
        rnn, {"in": (8, 32), "h": (32, 32), "hb": (32,), "d": (32, 10), **HEAD}, split_digits
    ),
    "attention": Family(
        attention,
        {"in": (8, 16), "place": (8, 16), **dict.fromkeys("qkv", (16, 16)), "d": (16, 10), **HEAD},
        split_digits,
    ),
    "residual": Family(
        residual, {"in": (64, 32), "r1": (32, 32), "r2": (32, 32), "d": (32, 10), **HEAD}, split_digits
    ),
    "segmentation": Family(
        segmented, {"c1": (9, 8), "c2": (72, 8), "c3": (72, 3)}, shapes, 0.01
    ),
    "speech": Family(
        rnn, {"in": (8, 32), "h": (32, 32), "hb": (32,), "d": (32, 5), "b": (5,)}, tones, 0.005, 40
    ),
}  # fmt: skip


def first(family: Family, seed: int) -> Params:
    """Return He's first weights; those of one axis are 0."""
    rng = np.random.default_rng([seed, 7])
    return {
        name: rng.normal(0, np.sqrt((1 + (len(shape) > 1)) / shape[0]), shape).astype(np.float32)
        * (len(shape) > 1)
        for name, shape in family.shapes.items()
    }


def seeds(full: bool) -> int:
    """Return how many seeds are taken."""
    return 5 if full else 2


@functools.cache
def run(name: str, fmt: str, full: bool) -> tuple[Digits, Params]:
    """Return data and trained weights: float32, or mixed with S = 1024 for fp16."""
    family = FAMILIES[name]
    data = [family.data(seed) for seed in range(seeds(full))]
    order = np.stack([batches(seed, len(d.x), family.epochs) for seed, d in enumerate(data)])
    weights = stacked([first(family, seed) for seed in range(seeds(full))])
    recipe = FP32 if fmt == "fp32" else mixed(fmt)
    all_data: Any = stacked(data)
    scale = 1024.0 if fmt == "fp16" else 1.0
    end = adam_run(
        all_data, weights, order, 1e-8, scale, family.rate, recipe=recipe, apply=family.apply
    )
    return all_data, end


def accuracy(name: str, fmt: str, full: bool) -> Any:
    """Return the test accuracy in % of each seed."""
    data, weights = run(name, fmt, full)
    return np.asarray(scores(data, weights, fmt, FAMILIES[name].apply)[0])


def loss_of_points(name: str, bits: int, full: bool) -> Any:
    """Return the points that affine codes of weights and activations cost, of each seed."""
    data, weights = run(name, "fp32", full)
    apply = FAMILIES[name].apply

    def coded(x: Any) -> Any:
        return ps.round_to(x, f"uint{bits}")

    @jax.jit
    def score(x: Any, y: Any, w: Params) -> Any:
        logits = apply(coded, jax.tree.map(coded, w), coded(x))
        return 100 * (logits.argmax(-1) == y).mean()

    one = [jax.tree.map(lambda a, k=k: a[k], weights) for k in range(seeds(full))]
    found = [score(x, y, w) for x, y, w in zip(data.test_x, data.test_y, one, strict=True)]
    return accuracy(name, "fp32", full) - np.array(found)
