"""The reference set-up of the claims about low-precision training: small networks on digits.

Pixels over 16, a random split of 1,437 and 360 for each seed, He's initial weights, batches of 32.
All seeds are trained at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precsim.training.data.digits import load

SEEDS = 10
BATCH = 32


def data() -> tuple[Any, Any, Any, Any]:
    """Return training images and labels, and those for tests, one split for each seed."""
    splits = [load(seed) for seed in range(SEEDS)]
    parts = zip(*(split[:4] for split in splits), strict=True)
    return tuple(jnp.asarray(np.stack(part)) for part in parts)  # type: ignore[return-value]


def he(key: Any, *shape: int) -> Any:
    """Return weights of variance 2 / fan_in."""
    return jax.random.normal(key, shape) * np.sqrt(2 / np.prod(shape[:-1]))


def trained(
    init: Callable[[Any], Any], apply: Callable[..., Any], optimizer: Any, epochs: int
) -> list[Any]:
    """Return the trained float32 weights of each seed."""
    images, labels, *_ = data()
    count = images.shape[1] // BATCH

    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def one(seed: Any, images: Any, labels: Any) -> Any:
        first, second = jax.random.split(jax.random.key(seed))
        params = init(first)

        def step(carry: Any, order: Any) -> Any:
            params, state = carry
            gradient = jax.grad(loss)(params, images[order], labels[order])
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry: Any, key: Any) -> Any:
            order = jax.random.permutation(key, images.shape[0])[: count * BATCH]
            return jax.lax.scan(step, carry, order.reshape(count, BATCH))

        start = params, optimizer.init(params)
        return jax.lax.scan(epoch, start, jax.random.split(second, epochs))[0][0]

    every = jax.jit(jax.vmap(one))(jnp.arange(SEEDS), images, labels)
    return [jax.tree.map(lambda x, n=n: np.asarray(x[n]), every) for n in range(SEEDS)]


def accuracies(apply: Callable[..., Any], networks: list[Any]) -> np.ndarray:
    """Return the percentage of test images that each seed's network knows."""
    *_, images, labels = data()
    run = jax.jit(apply)
    return np.array(
        [
            100 * float(np.mean(np.argmax(run(params, x), -1) == y))
            for params, x, y in zip(networks, images, labels, strict=True)
        ]
    )


def mlp_init(key: Any) -> Any:
    """Return 64-64-10 as a pytree."""
    first, second = jax.random.split(key)
    return {
        "hidden": {"w": he(first, 64, 64), "b": jnp.zeros(64)},
        "output": {"w": he(second, 64, 10), "b": jnp.zeros(10)},
    }


def mlp(params: Any, x: Any) -> Any:
    """Return logits."""
    x = x.reshape(-1, 64)
    x = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return x @ params["output"]["w"] + params["output"]["b"]


def cnn_init(key: Any, *, is_depthwise: bool) -> Any:
    """Return two convolutions and a dense layer: 6,090 numbers, or 2,154 of a separable one."""
    keys = jax.random.split(key, 4)
    second = {"w": he(keys[1], 3, 3, 16, 32), "b": jnp.zeros(32)}
    if is_depthwise:
        second = {"w": he(keys[1], 3, 3, 1, 16), "b": jnp.zeros(16)}
    params = {
        "first": {"w": he(keys[0], 3, 3, 1, 16), "b": jnp.zeros(16)},
        "second": second,
        "output": {"w": he(keys[2], 128, 10), "b": jnp.zeros(10)},
    }
    if is_depthwise:
        params["point"] = {"w": he(keys[3], 1, 1, 16, 32), "b": jnp.zeros(32)}
    return params


def cnn(params: Any, x: Any) -> Any:
    """Return logits; a layer "point" makes the second convolution a separable one."""
    names = ["first", "second", *(["point"] if "point" in params else [])]
    for name in names:
        with jax.named_scope(name):
            w = params[name]["w"]
            x = jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=x.shape[-1] // w.shape[2],
            )  # fmt: skip
            x = jax.nn.relu(x + params[name]["b"])
        if name == "first" or name == names[-1]:
            x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    return x.reshape(x.shape[0], -1) @ params["output"]["w"] + params["output"]["b"]
