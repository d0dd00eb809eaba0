"""A Flax CNN trains with scaled operands: one injected function for its layers is all it takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps

nn = pytest.importorskip("flax.linen")

E4M3 = "e4m3[scale=tensor]_e4m3[scale=tensor]_fp32"


def losses(spec: str, steps: int, **gradients: str) -> list[float]:
    """Train a convolution and a dense layer to tell which half of an image is brighter."""
    conv, dot = ps.conv_general_dilated(spec, **gradients), ps.dot_general(spec, **gradients)
    layers = [nn.Conv(4, (3, 3), strides=2, conv_general_dilated=conv), nn.relu]
    layers += [lambda x: x.reshape(len(x), -1), nn.Dense(2, dot_general=dot)]
    model, optimizer = nn.Sequential(layers), optax.adam(0.02)
    x = jax.random.normal(jax.random.key(0), (16, 6, 6, 1))
    y = (x[:, :3].sum((1, 2, 3)) > x[:, 3:].sum((1, 2, 3))).astype(int)
    params = model.init(jax.random.key(1), x)
    state = optimizer.init(params)

    def loss_of(params: Any) -> Any:
        logits = model.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    found = []
    for _ in range(steps):
        params, state, loss = step(params, state)
        found.append(float(loss))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "gradients"),
    [
        (E4M3, {"dgrad": "e5m2[scale=tensor]_e4m3[scale=tensor]_fp32"}),
        ("int8_int8_int32->fp32", {}),
        ("h100:e4m3[scale=1x128]_e4m3[scale=128x128]", {}),
        ("mxfp8_mxfp8_fp32", {}),
    ],
)
def test_a_cnn_trains(spec: str, gradients: dict[str, str]) -> None:
    found = losses(spec, 25, **gradients)
    assert np.isfinite(found).all()
    assert found[-1] < 0.6 * found[0]


@pytest.mark.long
def test_a_dense_layer_trains_in_int8() -> None:
    dot = ps.dot_general("int8_int8_int32->fp32", dgrad="int8_int8_int32", wgrad="bf16_bf16_fp32")
    layer = nn.Dense(1, use_bias=False, dot_general=dot)
    x = jax.random.normal(jax.random.key(0), (16, 4))
    y, params = x @ jnp.arange(4.0)[:, None], layer.init(jax.random.key(1), x)
    loss = lambda params: jnp.mean((layer.apply(params, x) - y) ** 2)
    step = jax.jit(jax.value_and_grad(loss))
    found = []
    for _ in range(20):
        value, grads = step(params)
        params = jax.tree.map(lambda p, g: p - 0.2 * g, params, grads)
        found.append(float(value))
    assert found[-1] < 0.05 * found[0]
