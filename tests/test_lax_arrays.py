"""`LaxArray` is a JAX array with other operators: every result has jax.numpy's values and dtype."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precsim._arrays import (
    bitcast,
    count_bits,
    count_true,
    entry,
    leading_zeros,
    namespace,
    shift_left,
)
from precsim._lax_arrays import LaxArray, lax_numpy, plain, with_lax
from precsim._loops import repeat, repeat_while

NAMES = [
    "add",
    "sub",
    "mul",
    "and_",
    "or_",
    "xor",
    "lshift",
    "rshift",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "floordiv",
    "mod",
]
UNSIGNED = np.array([1, 7, 0x80000001], np.uint32)
SIGNED = np.array([-5, 3, 2], np.int32)
OPERANDS: list[Any] = [
    UNSIGNED,
    SIGNED,
    np.array([-1.5, 0.0, np.nan], np.float32),
    np.array([True, False, True]),
    UNSIGNED[:, None],
    np.uint32(3),
    np.int32(2),
    np.float32(0.5),
    np.True_,
    2,
    1.5,
]


def same(got: Any, expected: Any) -> None:
    assert type(got) is LaxArray
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(got.x), np.asarray(expected))


def assert_as_in_jax(of_jax: Callable[..., Any], of_lax: Callable[..., Any], pairs: Any) -> None:
    """Compare a function of two operands in one program; what jax.numpy refuses is refused."""

    def results(function: Callable[..., Any], wrap: Callable[[Any], Any]) -> list[Any]:
        found: list[Any] = []
        for pair in pairs:
            x, y = (wrap(jnp.asarray(v)) if isinstance(v, np.ndarray) else v for v in pair)
            try:
                found.append(plain(function(x, y)))
            except TypeError:
                found.append(None)
        return found

    ours = jax.jit(partial(results, of_lax, LaxArray))()
    theirs = jax.jit(partial(results, of_jax, lambda x: x))()
    assert len(ours) == len(theirs) > 20
    for got, expected in zip(ours, theirs, strict=True):
        assert (got is None) == (expected is None)
        if expected is not None:
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


PAIRS = [(x, y) for x in OPERANDS[:5] for y in OPERANDS]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_operators_are_those_of_jax(name: str) -> None:
    """For all pairs of dtypes and shapes, on both sides."""
    operate = getattr(operator, name)
    assert_as_in_jax(operate, operate, [*PAIRS, *(pair[::-1] for pair in PAIRS)])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extrema_are_those_of_jax(name: str) -> None:
    assert_as_in_jax(getattr(jnp, name), getattr(lax_numpy, name), PAIRS)


@pytest.mark.long
def test_selection_is_that_of_jax() -> None:
    mask = jnp.asarray([True, False, True])
    assert_as_in_jax(
        lambda yes, no: jnp.where(mask, yes, no),
        lambda yes, no: lax_numpy.where(LaxArray(mask), yes, no),
        [(yes, no) for yes in OPERANDS for no in OPERANDS],
    )


def test_unary_operators_conversions_and_attributes() -> None:
    x: Any = LaxArray(jnp.asarray(SIGNED))
    same(-x, -jnp.asarray(SIGNED))
    same(~x, ~jnp.asarray(SIGNED))
    same(abs(x), abs(jnp.asarray(SIGNED)))
    for dtype in (np.uint32, np.float32, np.int32, bool):
        same(x.astype(dtype), jnp.asarray(SIGNED).astype(dtype))
    same(x[1:], jnp.asarray(SIGNED[1:]))
    same(x.reshape(3, 1), jnp.asarray(SIGNED.reshape(3, 1)))
    same(x.sum(), jnp.asarray(SIGNED).sum())
    assert (x.ndim, x.size, len(x)) == (1, 3, 3)


def test_the_helpers_of_arrays_take_it() -> None:
    x: Any = LaxArray(jnp.asarray(UNSIGNED))
    assert namespace(x) is lax_numpy
    same(bitcast(x, np.float32), jnp.asarray(UNSIGNED.view(np.float32)))
    same(shift_left(x, x), jnp.asarray([2, 7 << 7, 0], jnp.uint32))
    same(entry(x, 1), jnp.uint32(7))
    same(count_true(x > np.uint32(3), True), jnp.array([2, 3], jnp.int32))


def test_loops_carry_it() -> None:
    x: Any = LaxArray(jnp.asarray(UNSIGNED))
    same(repeat(3, lambda k, total: total + np.uint32(1), x), jnp.asarray(UNSIGNED + np.uint32(3)))
    count, total = repeat_while(
        lambda state: (state[0] < np.int32(4)).all(),
        lambda state: (state[0] + np.int32(1), state[1] + x),
        (LaxArray(jnp.int32(0)), x),
    )
    assert int(count.x) == 4
    same(total, jnp.asarray(UNSIGNED * np.uint32(5)))


def test_functions_get_it_and_give_arrays_back() -> None:
    def function(tree: Any, *, scale: Any) -> Any:
        assert type(tree["x"]) is type(scale) is LaxArray
        product = operator.mul(tree["x"], scale)
        return {"y": product, "none": None}

    x = jnp.asarray(UNSIGNED)
    result = jax.jit(with_lax(function))({"x": x, "none": None}, scale=x)
    assert result["none"] is None
    assert isinstance(result["y"], jax.Array)
    assert plain((x, [LaxArray(x)]))[1][0] is x


def test_bits_of_constants_are_counted_under_jit() -> None:
    """XLA folds what it knows while it compiles, by code of its own for each operation."""
    for dtype in (np.uint32, np.uint8):
        x = np.array([0, 1, 5, 1 << (8 * np.dtype(dtype).itemsize - 1)], dtype)
        x = np.append(x, ~dtype(0))
        for function in (leading_zeros, count_bits):
            folded = jax.jit(lambda f=function, x=x: f(jnp.asarray(x)))()
            assert np.array_equal(folded, function(x)), (function, dtype)
