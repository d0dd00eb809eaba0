"""Bytes and operations against what XLA says of the compiled float32 program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

like: Any = jax.ShapeDtypeStruct
POINTER, NUMBER = 8, 4
"""Bytes: XLA returns several results as a table of pointers, and a loss as a float32."""


def perceptron(weights: Any, x: Any, y: Any) -> Any:
    *hidden, last = weights
    for w in hidden:
        x = jnp.sin(x @ w)
    return jnp.mean((x @ last - y) ** 2)


def recurrence(weights: Any, rows: Any) -> Any:
    def turn(h: Any, x: Any) -> Any:
        h = jnp.sin(x @ weights[0] + h @ weights[1])
        return h, h

    start = jnp.zeros((rows.shape[1], weights[1].shape[0]))
    return jnp.mean(jax.lax.scan(turn, start, rows)[1] ** 2)


def compiled(fun: Any, *args: Any) -> Any:
    return jax.jit(fun).lower(*args).compile()


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    return [like(shape, np.dtype(np.float32)) for shape in shapes]


CASES: dict[str, tuple[Any, list[Any], tuple[tuple[int, ...], ...]]] = {
    "perceptron": (perceptron, arrays((64, 256), (256, 128), (128, 10)), ((512, 64), (512, 10))),
    "recurrence": (recurrence, arrays((8, 64), (64, 64)), ((50, 32, 8),)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_compiled_program(name: str) -> None:
    loss, weights, shapes = CASES[name]
    examples = arrays(*shapes)
    found = ps.cost(loss, weights, *examples, policy="fp32", optimizer="sgd")
    given = NUMBER * sum(int(np.prod(shape)) for shape in shapes)

    def forward(weights: Any, *examples: Any) -> Any:
        return jax.vjp(lambda weights: loss(weights, *examples), weights)

    # Compiled alone, the forward pass has to return all that the backward pass reads: the loss, the
    # activations, and every weight but the first, through which no gradient of the examples goes.
    kept = compiled(forward, weights, *examples).memory_analysis()
    results = len(jax.tree.leaves(jax.eval_shape(forward, weights, *examples)))
    later = NUMBER * sum(w.size for w in weights[1:])
    returned = found.activations + later + NUMBER + POINTER * results
    assert kept.output_size_in_bytes == returned

    # The whole step takes weights and examples, and returns loss and gradients. In between, XLA
    # needs no more than the activations, and twice the largest array of a pass, which live at once;
    # it needs less where it uses the results' memory, or computes a cosine again.
    step = compiled(jax.value_and_grad(loss), weights, *examples)
    memory = step.memory_analysis()
    assert memory.argument_size_in_bytes == found.weights + given
    assert memory.output_size_in_bytes == found.gradients + NUMBER + POINTER * (1 + len(weights))
    largest = NUMBER * max(
        x.size for x in jax.tree.leaves(jax.eval_shape(forward, weights, *examples))
    )
    assert memory.temp_size_in_bytes <= found.activations + 2 * largest


def test_operations_are_those_of_the_compiled_program() -> None:
    loss, weights, shapes = CASES["perceptron"]
    examples = arrays(*shapes)
    found = ps.cost(loss, weights, *examples, policy="fp32", optimizer="sgd")
    step = compiled(jax.value_and_grad(loss), weights, *examples)
    update = next(row.operations for row in found.rows if row.role == "update")
    # XLA counts sines apart from additions and multiplications, and may merge some of these.
    assert found.products() < step.cost_analysis()["flops"] <= found.operations - update


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (1, 1), "padding": "SAME"},
        {"window_strides": (2, 1), "padding": ((2, 1), (0, 3)), "rhs_dilation": (2, 1)},
        {"window_strides": (1, 2), "padding": ((0, 1), (2, 0)), "lhs_dilation": (2, 3)},
    ],
    ids=["same", "strided", "dilated"],
)
def test_products_of_convolutions_are_those_of_the_compiled_program(options: Any) -> None:
    x, w = arrays((2, 3, 9, 8), (4, 3, 3, 3))
    convolve = lambda w, x: jax.lax.conv_general_dilated(x, w, **options)
    flops = compiled(convolve, w, x).cost_analysis()["flops"]
    assert ps.cost(convolve, w, x).products() == flops
