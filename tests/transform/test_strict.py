"""`strict`: what loses precision without a word is refused, and nothing else."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

X, W = jnp.ones((4, 4), jnp.bfloat16), jnp.ones((4, 4))


def refused(fun: Callable[..., Any], *args: Any, allow: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of the refusal."""
    with pytest.raises(TypeError) as caught:
        jax.eval_shape(ps.strict(fun, allow=allow), *args)
    return str(caught.value).splitlines()


def passes(fun: Callable[..., Any], *args: Any, allow: str | tuple[str, ...] = ()) -> None:
    jax.eval_shape(ps.strict(fun, allow=allow), *args)


def scanned(x: jax.Array) -> jax.Array:
    step = lambda total, row: (total + jnp.cumsum(row)[-1], None)
    return jax.lax.scan(step, jnp.zeros((), x.dtype), x)[0]


SUMS: dict[str, Callable[..., Any]] = {
    "jax #26365: a mean asked for in bfloat16": lambda x: jnp.mean(x, dtype=jnp.bfloat16),
    "ml_dtypes #63: a sum in bfloat16 sticks at 256": lambda x: jax.lax.reduce_sum_p.bind(
        x, axes=(0,), out_sharding=None
    ),
    "cumulative": lambda x: jnp.cumsum(x),  # noqa: PLW0108 -- its line is looked for
    "inside jit": jax.jit(lambda x: jnp.cumsum(x, 0)),
    "inside scan": scanned,
    "inside cond": lambda x: jax.lax.cond(True, lambda x: jnp.cumsum(x, 0), lambda x: x, x),
    "inside while": lambda x: jax.lax.while_loop(
        lambda x: x[0, 0] < 0, lambda x: jnp.cumsum(x, 0), x
    ),
    "inside checkpoint": jax.checkpoint(lambda x: jnp.cumsum(x, 0)),
    "backward: the gradient of a bias": lambda x: jax.grad(lambda b: jnp.mean(x + b))(x[0]),
    "scattered": lambda x: x.at[jnp.zeros(4, int)].add(x),
}


@pytest.mark.parametrize("name", SUMS)
def test_numpy_24443_a_reduction_in_a_narrow_format(name: str) -> None:
    lines = refused(SUMS[name], X)
    assert all("has partial sums in bfloat16; allowed are float32" in line for line in lines)
    assert all("test_strict.py:" in line for line in lines)
    passes(SUMS[name], X, allow=("sum",))


def test_products_without_a_named_accumulator() -> None:
    (line,) = refused(jnp.matmul, X, X)
    assert "dot_general has a result in bfloat16 and no named accumulator" in line
    passes(jnp.matmul, X, X, allow="dot")
    passes(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32), X)
    passes(lambda x: jnp.matmul(x, x, precision="BF16_BF16_F32"), X)
    image, kernel = jnp.ones((1, 4, 4, 1), jnp.float16), jnp.ones((2, 2, 1, 1), jnp.float16)
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert "conv_general_dilated has a result in float16" in refused(convolve, image, kernel)[0]


def test_float32_products_at_default_precision() -> None:
    (line,) = refused(jnp.matmul, W, W)
    assert "dot_general of float32 has default precision, which is TF32 or bfloat16" in line
    passes(lambda w: jnp.matmul(w, w, precision="highest"), W)
    with jax.default_matmul_precision("highest"):
        passes(jnp.matmul, W, W)
    loss = lambda w: jnp.sum(jnp.matmul(w, w, precision="highest"))
    passes(jax.grad(loss), W)


def test_downcasts_that_no_line_asks_for() -> None:
    with pytest.warns(FutureWarning, match="scatter"):
        lines = refused(lambda x, w: x.at[0].set(w[0]), X, W, allow=("promotion",))
    assert "float32 becomes bfloat16 without a cast; allowed are x.astype" in lines[0]
    with pytest.raises(TypeError) as caught:
        ps.strict(lambda params: params["a"])({"a": np.ones(3)})
    line = str(caught.value)
    assert line.startswith("argument [0]['a']: float64 becomes float32; allowed are float32")
    casts = (
        lambda w: w.astype(jnp.bfloat16),
        lambda w: jnp.asarray(w, jnp.float16),
        jnp.float16,
        lambda w: jax.lax.convert_element_type(w, jnp.bfloat16),
    )
    for cast in casts:
        passes(lambda w, cast=cast: cast(w), W)


PROMOTIONS: dict[str, Callable[..., Any]] = {
    "jax #34939: a sum of two dtypes": lambda x, w: x + w,
    "weights in float32": lambda x, w: x @ w,
    "a choice": lambda x, w: jnp.where(x > 0, x, w),
    "a scalar of NumPy": lambda x, w: x * np.float32(2),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_promotions_to_other_dtypes_than_the_users(name: str) -> None:
    (line,) = refused(PROMOTIONS[name], X, W)
    assert "bfloat16" in line
    assert "float32" in line
    assert "become one dtype without a cast" in line
    passes(PROMOTIONS[name], X, W, allow=("promotion",))


def test_what_jax_computes_wider_and_returns_as_it_came_passes() -> None:
    def fine(x: jax.Array, w: jax.Array) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * 2.5
        score = jax.nn.logsumexp(jax.nn.softmax(jax.nn.gelu(normed)))
        return score, jnp.sum(x, dtype=jnp.float32), w.astype(x.dtype) * x, jnp.linalg.norm(w)

    results = jax.jit(ps.strict(fine))(X, W)
    for mine, theirs in zip(results, jax.jit(fine)(X, W), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def test_the_function_keeps_its_signature_and_its_derivatives() -> None:
    @jax.custom_jvp
    def doubled(x: jax.Array) -> jax.Array:
        return x

    doubled.defjvp(lambda primals, tangents: (primals[0], 2 * tangents[0]))

    def loss(w: dict[str, jax.Array], *, kind: str) -> jax.Array:
        return jnp.sum(doubled(w["a"])) if kind == "sum" else w["a"]

    gradient = jax.jit(jax.grad(lambda w: ps.strict(loss)(w, kind="sum")))({"a": W})
    np.testing.assert_array_equal(gradient["a"], 2 * np.ones((4, 4)))


def test_arguments_are_explained() -> None:
    with pytest.raises(ValueError, match="allow has 'sums'; allowed are 'sum', 'dot', "):
        ps.strict(jnp.sum, allow=("sums",))
    with pytest.raises(TypeError, match="fun is 3; allowed is a function"):
        ps.strict(3)  # type: ignore[arg-type]
