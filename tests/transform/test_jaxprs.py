"""The walker of nested programs finds the operations inside everything that can hold them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import precsim as ps
from precsim.transform.jaxprs import equations, inner_jaxprs


@jax.custom_jvp
def with_tangent(x: Any) -> Any:
    return jnp.sin(x)


with_tangent.defjvp(lambda primals, tangents: (with_tangent(*primals), tangents[0]))


@jax.custom_vjp
def with_cotangent(x: Any) -> Any:
    return jnp.sin(x)


with_cotangent.defvjp(lambda x: (with_cotangent(x), None), lambda _, g: (g,))


def sharded(x: Any) -> Any:
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("d")  # type: ignore[no-untyped-call]
    return jax.shard_map(jnp.sin, mesh=mesh, in_specs=rows, out_specs=rows)(x)


def switched(x: Any) -> Any:
    return lax.switch(jnp.int32(x[0]), [jnp.cos, jnp.tan, jnp.sin], x)


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "jit": jax.jit(jnp.sin),
    "switch": switched,
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "condition of while": lambda x: lax.while_loop(lambda x: jnp.sin(x)[0] > 0, jnp.negative, x),
    "body of while": lambda x: lax.while_loop(lambda x: x[0] > 0, jnp.sin, x),
    "scan": lambda x: lax.scan(lambda c, y: (jnp.sin(c), y), x[0], x),
    "custom_jvp": with_tangent,
    "custom_vjp": with_cotangent,
    "checkpoint": jax.checkpoint(jnp.sin),
    "shard_map": sharded,
    "all at once": lambda x: lax.cond(
        x[0] > 0, jax.jit(jax.checkpoint(with_tangent)), jnp.negative, x
    ),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_walker_finds_an_operation_inside(holder: str) -> None:
    jaxpr = jax.make_jaxpr(HOLDERS[holder])(jnp.ones(2))
    names = [eqn.primitive.name for eqn in equations(jaxpr)]
    assert names.count("sin") == 1
    assert "sin" not in [eqn.primitive.name for eqn in jaxpr.jaxpr.eqns] or holder == "all at once"


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_held_is_searched_for_unportable_operations(holder: str) -> None:
    found = [line.split()[0] for line in ps.find_unportable(HOLDERS[holder], jnp.ones(2))]
    assert "sin" in found


def test_the_backward_pass_of_what_is_held_is_found_too() -> None:
    """A gradient of a scan over a remat: loops and recomputations inside of each other."""
    body = jax.checkpoint(lambda c, y: (jnp.sin(c) * y, y))
    gradient = jax.grad(lambda x: lax.scan(body, x[0], x)[0])
    names = [eqn.primitive.name for eqn in equations(jax.make_jaxpr(gradient)(jnp.ones(2)))]
    assert "cos" in names


def test_programs_in_lists_and_dicts_are_found() -> None:
    class Equation:
        inner = jax.make_jaxpr(jnp.sin)(1.0)
        params = {"a": [1, (inner, {"b": inner.jaxpr})], "c": "sin", "d": inner}  # noqa: RUF012

    assert list(inner_jaxprs(Equation())) == [Equation.inner.jaxpr] * 3
