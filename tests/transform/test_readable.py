"""Emulated programs keep the names of the user's scopes, functions and operations."""

import re

import jax
import jax.numpy as jnp
import pytest

import precsim as ps


@jax.jit
def inner(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


def model(x: jax.Array) -> jax.Array:
    with jax.named_scope("layer3"):
        x = inner(x)
    with jax.named_scope("head"):
        return jnp.sum(x * 3)


@pytest.mark.parametrize("transform", [ps.emulate, ps.autocast])
def test_hlo_has_scopes_functions_and_operations(transform: object) -> None:
    assert callable(transform)
    run = jax.jit(jax.grad(transform(model, "bf16")))
    text = run.lower(jnp.ones(4)).compile().as_text() or ""
    names = "\n".join(re.findall(r'op_name="([^"]*)"', text))
    assert re.search(r"jvp\(layer3\)/inner/tanh", names)
    assert "transpose(jvp(layer3))" in names


def test_the_scopes_of_an_emulated_function_name_its_own() -> None:
    found = ps.coverage(ps.emulate(model, "bf16"), "fp32", jnp.ones(4))
    scopes = {row.scope for row in found.rows}
    assert any(scope.startswith("layer3/inner/tanh") for scope in scopes)
    assert any(scope.startswith("head/mul") for scope in scopes)
