"""Cases of `autocast`: a transformer's training step, beside bf16 written by hand and float32."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import precsim as ps
from benchmarks.case import Case, Contender, Goal, Setting, SkipError

PLAIN, BY_HAND = "float32 step", "bf16 step, by hand"
AUTOCAST, EIGHT_BITS = "bf16 step, autocast", "fp8 step, autocast"


class Shape(NamedTuple):
    """Sizes of a transformer and of its batch."""

    layers: int
    width: int
    heads: int
    batch: int
    length: int


SMALL = Shape(layers=2, width=128, heads=4, batch=2, length=64)
LARGE = Shape(layers=8, width=1024, heads=16, batch=8, length=1024)
VOCABULARY = 256


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    goals = (
        Goal(measured=AUTOCAST, against=BY_HAND, at_most=1 / 0.9),
        Goal(measured=AUTOCAST, against=PLAIN),
        Goal(measured=BY_HAND, against=PLAIN),
        Goal(measured=EIGHT_BITS, against=PLAIN),
    )
    yield Case(name="autocast/transformer", build=steps, goals=goals, size=1)
    yield Case(name="gpu/autocast/transformer", build=large, goals=goals, size=1, platform="")


def large(setting: Setting) -> Mapping[str, Contender | str]:
    """Compute one step of a large transformer on a GPU."""
    if jax.devices()[0].platform != "gpu":
        raise SkipError("JAX has no GPU here")
    return steps(setting, LARGE)


def steps(setting: Setting, shape: Shape = SMALL) -> Mapping[str, Contender | str]:
    """Compute one step of plain gradient descent: loss, gradients, new weights."""
    weights, tokens = make_weights(shape), make_tokens(shape)

    def plain(weights: Any, tokens: Any) -> Any:
        return loss(weights, tokens, shape, jnp.float32)

    def by_hand(weights: Any, tokens: Any) -> Any:
        return loss(weights, tokens, shape, jnp.bfloat16)

    found: dict[str, Contender | str] = {
        PLAIN: _contender(plain, weights, tokens),
        BY_HAND: _contender(by_hand, weights, tokens),
        AUTOCAST: _contender(ps.autocast(plain, "bf16_mixed"), weights, tokens),
    }
    if jax.devices()[0].platform == "gpu":
        found[EIGHT_BITS] = _contender(ps.autocast(plain, "fp8_current"), weights, tokens)
    else:
        found[EIGHT_BITS] = "no kernel for 8-bit operands here"
    return found


def _contender(loss_of: Callable[..., Any], weights: Any, tokens: Any) -> Contender:
    def step(weights: Any, tokens: Any) -> Any:
        value, gradient = jax.value_and_grad(loss_of)(weights, tokens)
        return value, jax.tree.map(lambda w, g: w - 1e-3 * g, weights, gradient)

    compiled = jax.jit(step).lower(weights, tokens).compile()
    return Contender(run=lambda: jax.block_until_ready(compiled(weights, tokens)))  # type: ignore[no-untyped-call]


def make_weights(shape: Shape) -> dict[str, Any]:
    """Return float32 weights, those of all layers in one array each."""
    width = shape.width
    sizes = {
        "tokens": (VOCABULARY, width),
        "places": (shape.length, width),
        "qkv": (shape.layers, width, 3 * width),
        "projection": (shape.layers, width, width),
        "expand": (shape.layers, width, 4 * width),
        "contract": (shape.layers, 4 * width, width),
    }
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return {
        name: jax.random.normal(key, size) / size[-2] ** 0.5
        for key, (name, size) in zip(keys, sizes.items(), strict=True)
    }


def make_tokens(shape: Shape) -> Any:
    """Return random tokens, one more per row than the length."""
    return jax.random.randint(jax.random.key(1), (shape.batch, shape.length + 1), 0, VOCABULARY)


def loss(weights: Any, tokens: Any, shape: Shape, dtype: Any) -> Any:
    """Return the mean cross-entropy of the next token; products have operands of a dtype."""
    x = weights["tokens"][tokens[:, :-1]] + weights["places"]
    names = ("qkv", "projection", "expand", "contract")
    for n in range(shape.layers):
        layer = {name: weights[name][n].astype(dtype) for name in names}
        x = x + _attention(layer, _normalised(x).astype(dtype), shape)
        inner = jax.nn.gelu(_normalised(x).astype(dtype) @ layer["expand"])
        x = x + inner @ layer["contract"]
    logits = _normalised(x).astype(dtype) @ weights["tokens"].T.astype(dtype)
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen)


def _normalised(x: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def _attention(layer: Any, x: Any, shape: Shape) -> Any:
    batch, length, width = x.shape
    size = width // shape.heads
    qkv = (x @ layer["qkv"]).reshape(batch, length, 3, shape.heads, size)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * size**-0.5
    is_visible = jnp.tril(jnp.ones((length, length), bool))
    share = jax.nn.softmax(jnp.where(is_visible, scores, -jnp.inf), axis=-1).astype(x.dtype)
    return (
        jnp.einsum("bhqk,bkhd->bqhd", share, v).reshape(batch, length, width) @ layer["projection"]
    )
