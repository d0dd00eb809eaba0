"""Layers: biases in the same sum, pooling that sends its gradient to one element."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training import watched as products
from precsim.training.layers import Functions, Layers, max_pool
from precsim.training.watched import UNGUARDED, Setting, probe
from tests.training.conftest import DISTINCT, assert_same_bits, single

KEY = jax.random.key(0)


def layers(policy: ps.Policy = DISTINCT, probes: dict[str, Any] | None = None) -> Layers:
    return Layers(policy=policy, backend=f"auto{UNGUARDED}", key=KEY, probes=probes)


def normal(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [single(rng.standard_normal(shape)) for shape in shapes]


def reference(a: np.ndarray, b: np.ndarray, spec: Any) -> np.ndarray:
    return np.asarray(ps.matmul(a, b, spec, backend="reference"))


def test_linear_is_one_product_bias_row_included() -> None:
    x, w, b, g = normal((5, 7), (7, 3), (3,), (5, 3))

    @jax.jit
    def run(x: Any, w: Any, b: Any, g: Any) -> Any:
        y, back = jax.vjp(partial(layers().linear, "hidden"), x, w, b)
        return y, *back(g)

    y, dx, dw, db = run(x, w, b, g)
    x1, w1 = np.hstack([x, np.ones((5, 1), np.float32)]), np.vstack([w, b])
    assert_same_bits(y, reference(x1, w1, DISTINCT.forward))
    assert_same_bits(dx, reference(g, w1.T, DISTINCT.dgrad)[:, :-1])
    expected = reference(x1.T, g, DISTINCT.wgrad)
    assert_same_bits(dw, expected[:-1])
    assert_same_bits(db, expected[-1])


@pytest.mark.long
def test_conv_is_one_convolution_bias_channel_included() -> None:
    x, w, b, g = normal((2, 4, 4, 2), (3, 3, 2, 3), (3,), (2, 4, 4, 3))
    setting = Setting(DISTINCT, f"auto{UNGUARDED}", "conv")

    def explicit(x: Any, w: Any) -> Any:
        return products.conv(x, w, probe(), KEY, setting)[0]

    @jax.jit
    def run(x: Any, w: Any, b: Any, x1: Any, w1: Any, g: Any) -> Any:
        y, back = jax.vjp(partial(layers().conv, "conv"), x, w, b)
        y1, back1 = jax.vjp(explicit, x1, w1)
        return (y, *back(g)), (y1, *back1(g))

    x1 = np.concatenate([x, np.ones((2, 4, 4, 1), np.float32)], axis=3)
    extra = np.zeros((3, 3, 1, 3), np.float32)
    extra[1, 1, 0] = b
    w1 = np.concatenate([w, extra], axis=2)
    (y, dx, dw, db), expected = run(x, w, b, x1, w1, g)
    assert_same_bits(y, expected[0])
    assert_same_bits(dx, expected[1][..., :-1])
    assert_same_bits(dw, expected[2][:, :, :-1])
    assert_same_bits(db, expected[2][1, 1, -1])


def test_conv_without_rounding_is_a_convolution_plus_bias() -> None:
    """Integers: exact in any order, so JAX's own convolution has the same values."""
    rng = np.random.default_rng(0)
    x, w = (single(rng.integers(-3, 4, s)) for s in ((1, 5, 4, 2), (3, 3, 2, 3)))
    b = single([1, -2, 3])
    got = jax.jit(partial(layers(ps.Policy.parse("c=bf16")).conv, "conv"))(x, w, b)
    dimensions = ("NHWC", "HWIO", "NHWC")
    expected = (
        jax.lax.conv_general_dilated(
            jnp.asarray(x), jnp.asarray(w), (1, 1), "SAME", dimension_numbers=dimensions
        )
        + b
    )
    assert_same_bits(got, expected)


@pytest.mark.long
def test_events_of_every_place_and_none_of_the_data_backward() -> None:
    x, w, b, g = normal((5, 7), (7, 3), (3,), (5, 3))

    @jax.jit
    def run(probes: Any) -> Any:
        ops = layers(probes=probes)
        y = ops.linear("hidden", ops.data("input", jnp.asarray(x)), w, b)
        return jnp.sum(ops.rounded("logits", y) * g), ops.events

    probes = {name: probe() for name in ("input", "hidden", "logits")}
    (_, forward), backward = jax.value_and_grad(run, has_aux=True)(probes)
    # The data, rounded to bf16 at "input", are in fp16 already: as an operand they count no more.
    sizes = {"input": x.size, "hidden": 8 * 3 + g.size, "logits": g.size}
    assert {name: int(seen.events[0]) for name, seen in forward.items()} == sizes
    back = {"input": 0, "hidden": g.size + 5 * 8, "logits": g.size}
    assert {name: int(seen.events[0]) for name, seen in backward.items()} == back


def test_max_pool_sends_its_gradient_to_one_element() -> None:
    """The first of equal ones; JAX's maximum would halve it, and round once more."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, :2, :2, 0] = [[1, 2], [2, 0]]
    x[0, 2:, 2:, 0] = [[-3, -1], [-1, -1]]
    y, back = jax.vjp(max_pool, jnp.asarray(x))
    assert y[0, :, :, 0].tolist() == [[2, 0], [0, -1]]
    gradient = np.asarray(back(jnp.asarray(single([[[[5], [6]], [[7], [8]]]])))[0])[0, :, :, 0]
    expected = [[0, 5, 6, 0], [0, 0, 0, 0], [7, 0, 0, 8], [0, 0, 0, 0]]
    assert gradient.tolist() == expected


def test_max_pool_is_the_maximum_of_squares() -> None:
    (x,) = normal((2, 4, 6, 3))
    expected = x.reshape(2, 2, 2, 3, 2, 3).max(axis=(2, 4))
    assert_same_bits(max_pool(jnp.asarray(x)), expected)


@pytest.mark.parametrize(
    ("policy", "backend", "expected"),
    [
        ("bf16", "auto", "portable"),
        ("bf16", f"emulated{UNGUARDED}", "portable"),
        ("bf16;cross_entropy*:fn=platform", "emulated", "portable"),
        ("bf16", f"native{UNGUARDED}", "platform"),
        ("h100_bf16", "native", "portable"),
    ],
)
def test_the_cross_entropy_is_stated_where_products_are(
    policy: str, backend: str, expected: str
) -> None:
    functions = Functions(ps.Policy.parse(policy), backend, {})
    assert functions._chosen("cross_entropy", "cross_entropy 1") == expected
    assert functions._chosen("relu", "relu 1") == ps.Policy.parse(policy).functions
