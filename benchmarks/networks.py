"""The three networks of `precsim.train` in plain JAX: float32, XLA's products, optax, no counts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = Mapping[str, Any]
HEADS, WIDTH = 4, 64


def _linear(name: str, params: Params, x: Any) -> Any:
    return x @ params[f"{name}/w"] + params[f"{name}/b"]


def mlp(params: Params, images: Any) -> Any:
    """Return the logits of the perceptron with one hidden layer."""
    x = jax.nn.relu(_linear("hidden", params, images.reshape(images.shape[0], -1)))
    return _linear("output", params, x)


def cnn(params: Params, images: Any) -> Any:
    """Return the logits of the network with two convolutions."""
    x = images
    for name in ("conv1", "conv2"):
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, params[f"{name}/w"], (1, 1), "SAME", dimension_numbers=dimensions
        )
        x = jax.nn.relu(x + params[f"{name}/b"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return _linear("output", params, x.reshape(x.shape[0], -1))


def transformer(params: Params, tokens: Any) -> Any:
    """Return the logits of the transformer with two blocks, (batch, length, classes)."""
    x = params["tokens"][tokens] + params["places"]
    for block in ("block0", "block1"):
        x = x + _attention(block, params, _normalised(f"{block}/norm1", params, x))
        inner = _normalised(f"{block}/norm2", params, x)
        inner = jax.nn.gelu(_linear(f"{block}/expand", params, inner), approximate=True)
        x = x + _linear(f"{block}/contract", params, inner)
    return _linear("output", params, _normalised("norm", params, x))


def _normalised(name: str, params: Params, x: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return centred * scale * params[f"{name}/gain"] + params[f"{name}/bias"]


def _attention(block: str, params: Params, x: Any) -> Any:
    batch, length, width = x.shape
    qkv = _linear(f"{block}/qkv", params, x).reshape(batch, length, 3, HEADS, WIDTH // HEADS)
    q, k, v = jnp.moveaxis(qkv, 2, 0).transpose(0, 1, 3, 2, 4)
    scores = q @ k.mT * (WIDTH // HEADS) ** -0.5
    is_visible = np.tril(np.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(is_visible, scores, -jnp.inf), axis=-1)
    y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, length, width)
    return _linear(f"{block}/projection", params, y)


def make_step(
    network: Callable[[Params, Any], Any], optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """Return ``step(params, optimizer_state, batch, labels)``: new weights, new state, loss."""

    def loss_of(params: Params, batch: Any, labels: Any) -> Any:
        logits = network(params, batch)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    def step(params: Params, state: Any, batch: Any, labels: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, batch, labels)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step
