"""`Quantized` values mean the same numbers after `jax.vmap`, stacking or indexing."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from tests.surface.public_calls import numbers, same_bits

# One per granularity, block and affine formats: (format, axis of the blocks or channels).
LAYOUTS = (
    ("mxfp4", 0),
    ("nvfp4", -1),
    ("int4_symmetric_block2", 1),
    ("uint8_channel", 0),
    ("int8", -1),
)
X = numbers(2, 4, 3, 2)
"""Numbers with two axes that are to be added."""


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@pytest.mark.parametrize(("fmt", "axis"), LAYOUTS)
def test_stacked_values_are_dequantized_as_one_by_one(fmt: str, axis: int) -> None:
    every = [[ps.quantize(x, fmt, axis=axis) for x in row] for row in X]
    q = stacked([stacked(row) for row in every])
    assert q.shape == X.shape
    expected = np.stack([np.stack([ps.dequantize(one) for one in row]) for row in every])
    assert same_bits(ps.dequantize(q), expected)
    taken = jax.tree.map(lambda a: a[1, 2:], q)
    assert taken.shape == (2, 3, 2)
    assert same_bits(ps.dequantize(taken), expected[1, 2:])
    assert same_bits(ps.dequantize(jax.tree.map(lambda a: a[0, 1], q)), expected[0, 1])


@pytest.mark.long
@pytest.mark.parametrize(
    ("fmt", "axis"),
    [x if x[0] == "nvfp4" else pytest.param(*x, marks=pytest.mark.slow) for x in LAYOUTS],
)
def test_vmap_of_dequantize_is_dequantize_of_all(fmt: str, axis: int) -> None:
    """What vmap makes of `quantize` is the stack here; test_transformations.py is about that."""
    every = [[ps.quantize(x, fmt, axis=axis) for x in row] for row in X]
    q = stacked([stacked(row) for row in every])
    behind = jax.tree.map(lambda a: np.moveaxis(a, 1, -1), q)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(q: Any, behind: Any) -> Any:
        last = jax.vmap(jax.vmap(ps.dequantize, in_axes=-1))(behind)
        return ps.dequantize(q), jax.vmap(jax.vmap(ps.dequantize))(q), last

    expected = np.stack([np.stack([ps.dequantize(one) for one in row]) for row in every])
    assert all(same_bits(found, expected) for found in run(q, behind))


def test_an_axis_added_behind_the_blocks_is_refused() -> None:
    one = ps.quantize(numbers(3, 2), "mxfp4")
    q = jax.tree.map(lambda *leaves: np.stack(leaves, -1), one, one)
    with pytest.raises(ValueError, match=r"q has codes of shape \(3, 2, 2\) and scales of shape"):
        ps.dequantize(q)
    with pytest.raises(ValueError, match="along axis -1"):
        ps.dequantize(jax.tree.map(np.ravel, one))


def test_an_axis_added_behind_channels_and_tensors_changes_nothing() -> None:
    for fmt in ("uint8_channel", "int8"):
        one, other = (ps.quantize(numbers(3, 2, first=k), fmt) for k in (0, 2))
        q = jax.tree.map(lambda *leaves: np.stack(leaves, -1), one, other)
        expected = np.stack([ps.dequantize(one), ps.dequantize(other)], -1)
        assert same_bits(ps.dequantize(q), expected)
