"""`coverage`: every operation is counted, with the format that it really has."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import precsim as ps

W, X = jnp.ones((4, 4)), jnp.ones((2, 4))


def kinds(found: ps.Coverage) -> list[tuple[str, str, str, int]]:
    return [(row.primitive, row.dtype, row.format, row.times) for row in found.rows]


def test_a_bf16_example_that_computes_in_float32_shows_up() -> None:
    # Weights stay float32, as in a Flax layer without param_dtype: JAX promotes to them.
    def model(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(x.astype(jnp.bfloat16) @ w)

    assert kinds(ps.coverage(model, "fp32", W, X)) == [
        ("convert_element_type", "fp32->bf16", "bf16", 1),
        ("dot_general", "bf16 fp32->fp32", "fp32", 1),
        ("tanh", "fp32", "fp32", 1),
    ]
    right = ps.coverage(model, "fp32", W.astype(jnp.bfloat16), X)
    assert [row.dtype for row in right.rows if row.primitive == "dot_general"] == ["bf16"]


def test_a_flax_layer_with_bf16_inputs_computes_in_float32() -> None:
    linen = pytest.importorskip("flax.linen")
    x = X.astype(jnp.bfloat16)

    def product(layer: Any) -> tuple[str, str]:
        weights = jax.eval_shape(layer.init, jax.random.key(0), x)
        rows = ps.coverage(layer.apply, "fp32", weights, x).rows
        (row,) = [row for row in rows if row.primitive == "dot_general"]
        return row.dtype, row.scope

    assert product(linen.Dense(3)) == ("fp32", "Dense")
    assert product(linen.Dense(3, dtype=jnp.bfloat16)) == ("bf16", "Dense")


def test_turns_of_scans_multiply_and_a_loop_traced_twice_counts_once() -> None:
    def nested(x: jax.Array) -> jax.Array:
        inner = lambda c, _: (jnp.sin(c), None)
        # It starts as 0, a bf16 number, and leaves as one that is none: traced twice.
        outer = lambda c, _: (jax.lax.scan(inner, c + x.astype(jnp.float32), None, 5)[0], None)
        return jax.lax.scan(outer, jnp.zeros_like(x), None, 3)[0]

    counts = {row.primitive: row.times for row in ps.coverage(nested, "bf16", X).rows}
    assert (counts["sin"], counts["add"]) == (15, 3)


def test_share_and_unknown_of_a_primitive_without_a_rule() -> None:
    found = ps.coverage(lambda x: jax.lax.linalg.cholesky_update(x, x[0]) * 2, "bf16", W)
    (row,) = found.unknown
    assert row.primitive == "cholesky_update"
    assert "test_coverage.py" in row.line, "the line of the call, since JAX tells none inside"
    assert found.share == 0.5
    assert not found.as_it_is
    assert {r.primitive for r in found.emulated} == {"mul"}


def test_a_rule_of_the_policy_leaves_its_scope() -> None:
    def model(x: jax.Array) -> jax.Array:
        with jax.named_scope("head"):
            x = jnp.exp(x)
        return x + 1

    found = ps.coverage(model, "bf16;head:fp32", X)
    assert {(r.scope, r.how, r.format) for r in found.rows} == {
        ("head", "as it is", "fp32"),
        ("", "rounded once", "bf16"),
    }
    with pytest.raises(ValueError, match="'tail' of the policy matches no scope"):
        ps.coverage(model, "bf16;tail:fp32", X)


def test_backward_static_arguments_and_shapes_alone() -> None:
    def loss(w: jax.Array, x: jax.Array, kind: str = "sum") -> jax.Array:
        return jnp.sum(x @ w) if kind == "sum" else jnp.zeros(())

    shapes = jax.eval_shape(lambda: (W, X))
    found = ps.coverage(jax.grad(loss), "bf16", *shapes, kind="sum")
    assert any(r.is_backward and r.primitive == "dot_general" for r in found.rows)
    assert ps.coverage(loss, "bf16", *shapes, kind="other").share == 1.0


def test_text_json_and_html() -> None:
    with jax.named_scope("a_scope_with_a_long_name_" * 3):
        found = ps.coverage(lambda w, x: jax.nn.softmax(x @ w), "bf16_mixed", W, X)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("100.0 % emulated: ")
    assert any("test_coverage.py:" in line and "dot_general" in line for line in lines)
    stored = json.loads(found.to_json())
    assert stored["share"] == 1.0
    assert len(stored["rows"]) == len(found.rows)
    assert "&lt;lambda&gt;" in found._repr_html_()
    with pytest.raises(TypeError, match="fun is 3; allowed is a function of arrays"):
        ps.coverage(3, "bf16")  # type: ignore[arg-type]
