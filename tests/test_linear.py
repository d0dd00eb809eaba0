"""Linear maps with a stated transpose, under every transformation of JAX.

The maps here are no transposes of each other, so that each rule shows which of them it takes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precsim._linear import linear_map
from precsim.transform.jaxprs import equations

X, R = jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([4.0, 5.0, 6.0])
IDS = jnp.arange(3)


def fun(residuals: Any, x: Any) -> Any:
    return residuals["r"] * x


def transpose(residuals: Any, g: Any) -> Any:
    return 100 * residuals["r"] * g


def mapped(r: Any, x: Any) -> Any:
    return linear_map(fun, transpose, {"r": r, "ids": IDS}, x, like=r * x)


def same(got: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "remat"])
def test_value_and_tangent_are_of_the_map_and_the_gradient_of_its_transpose(wrap: Any) -> None:
    run = wrap(mapped)
    same(run(R, X), R * X)
    same(jax.jvp(lambda x: run(R, x), (X,), (2 * X,))[1], 2 * R * X)
    same(jax.vjp(lambda x: run(R, x), X)[1](X)[0], 100 * R * X)


def test_the_transpose_of_the_transpose_is_the_map() -> None:
    pull: Any = lambda g: jax.vjp(lambda x: mapped(R, x), X)[1](g)[0]
    same(jax.jvp(pull, (X,), (X,))[1], 100 * R * X)
    same(jax.vjp(pull, X)[1](X)[0], R * X)


@pytest.mark.long
def test_derivatives_in_the_residuals_are_those_of_the_map() -> None:
    same(jax.jvp(mapped, (R, X), (R, X))[1], 2 * R * X)
    dr, dx = jax.jit(lambda r, x, g: jax.vjp(mapped, r, x)[1](g))(R, X, X)
    same(dr, X * X)
    same(dx, 100 * R * X)
    same(jax.jacfwd(jax.grad(lambda r: (mapped(r, X) ** 2).sum()))(R), np.diag(2 * X * X))


@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0), (1, 0), (0, 1)], ids=str)
def test_vmap_is_a_loop(axes: tuple[int | None, int | None]) -> None:
    rows = jnp.stack([X, 10 * X])
    r, x = (
        y if at is None else jnp.moveaxis(rows, 0, at) for y, at in zip((R, X), axes, strict=True)
    )
    every = jax.vmap(mapped, axes)
    of: Any = lambda y, at, n: y if at is None else jnp.take(y, n, at)
    parts = [(of(r, axes[0], n), of(x, axes[1], n)) for n in range(2)]
    same(every(r, x), [fun({"r": a}, b) for a, b in parts])
    same(jax.jvp(lambda x: every(r, x), (x,), (x,))[1], every(r, x))
    gradients = [transpose({"r": a}, g) for (a, _), g in zip(parts, rows, strict=True)]
    expected = sum(gradients) if axes[1] is None else jnp.moveaxis(jnp.stack(gradients), 0, axes[1])
    same(jax.vjp(lambda x: every(r, x), x)[1](rows)[0], expected)


def test_scan_carries_tangents_and_gradients() -> None:
    def run(x: Any) -> Any:
        return jax.lax.scan(lambda x, r: (mapped(r, x), x), x, jnp.stack([R, R]))[0]

    same(jax.jvp(run, (X,), (X,))[1], R * R * X)
    same(jax.vjp(run, X)[1](X)[0], 100.0**2 * R * R * X)


def test_readers_of_programs_find_the_map() -> None:
    program = jax.make_jaxpr(lambda g: jax.vjp(lambda x: mapped(R, x), X)[1](g)[0])(X)
    names = [eqn.primitive.name for eqn in equations(program)]
    assert "precsim_linear_map" in names
    assert names.count("mul") >= 2
    assert "linear" in str(program)


def test_inside_of_shard_map_types_say_what_varies() -> None:
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec: Any = jax.sharding.PartitionSpec
    both: Any = lambda r, x: jax.vjp(mapped, r, x)[1](r)
    shared = jax.shard_map(
        both, mesh=mesh, in_specs=(spec("d"), spec()), out_specs=(spec("d"), spec())
    )
    dr, dx = jax.jit(shared)(R, X)
    same(dr, X * R)
    same(dx, 100 * R * R)
