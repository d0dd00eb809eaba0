"""Presets: each is a recipe that the documentation names, with its string, and runs."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform.presets import ALIASES, PRESETS

DOCS = Path(__file__).parents[2] / "docs"
RECIPES = (DOCS / "reference/recipes.md").read_text("utf-8")
WORDS = (DOCS / "explanation/words.md").read_text("utf-8")


@pytest.mark.parametrize("name", PRESETS)
def test_the_documentation_says_each_preset(name: str) -> None:
    assert f"`{name}`" in WORDS
    assert f"`{name}`" in RECIPES
    text = PRESETS[name]
    lines = re.sub(r"\s+", "", RECIPES)
    assert ALIASES.get(name, text) in lines, text


def test_variants_of_the_documentation_are_policies() -> None:
    """Each string in the table of variants parses, and its string does, to the same policy."""
    variants = re.findall(r"^\| `([^`]+)` \|", RECIPES.partition("## Variants")[2], re.MULTILINE)
    assert len(variants) > 8
    for text in variants:
        policy = ps.Policy.parse(text)
        assert ps.Policy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("params=float32,compute=bfloat16,output=float32", "p=f32,c=bf16,o=f32"),
        ("p=half,compute=float16,output=f32", "p=fp16,c=fp16,o=fp32"),
        ("float32", "fp32"),
        ("float16", "fp16"),
        ("bfloat16", "bf16"),
    ],
)
def test_names_of_other_libraries(alias: str, text: str) -> None:
    assert ps.Policy.parse(alias) == ps.Policy.parse(text)


def test_a_key_by_both_of_its_names_is_refused() -> None:
    with pytest.raises(ValueError, match="gives 'p' twice"):
        ps.Policy.parse("params=float32,p=bf16")


def loss(w: Any, x: Any) -> Any:
    return jnp.sum(jnp.square(x @ w))


W, X = (
    np.random.default_rng(n).normal(size=shape).astype(np.float32)
    for n, shape in enumerate(((3, 2), (2, 3)))
)

SLOW = ["fp8_block", "int8", "mxfp8", "mxfp4", "nvfp4", "fp8_delayed", "q3.4_sr"]


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["fp8_rowwise", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_recipes_run_in_both_orders(name: str) -> None:
    """Of emulate(grad) and grad(emulate), near the gradient in float32.

    An error is relative to the sum of the magnitudes that the gradient adds up.
    """
    exact, size = jax.grad(loss)(W, X), jax.grad(loss)(np.abs(W), np.abs(X))
    inside = jax.jit(ps.emulate(jax.grad(loss), name))(W, X)
    outside = jax.jit(jax.grad(ps.emulate(loss, name)))(W, X)
    for found in (inside, outside):
        error = np.abs(found - exact).max() / size.max()
        assert error < (0.3 if "4" in name else 0.1), (name, error)
        assert error > 0


def test_int8_is_the_straight_through_estimator() -> None:
    """Both gradients multiply by what the forward product multiplied by: quantized operands."""
    policy = ps.Policy.parse("int8")
    g = np.asarray([[0.5, -0.25], [1.0, 0.125]], np.float32)
    x, w = ps.round_to(X, "int8"), ps.round_to(W, "int8_symmetric")
    wgrad = ps.matmul(X.T, g, policy.wgrad, backend="reference")
    dgrad = ps.matmul(g, W.T, policy.dgrad, backend="reference")
    np.testing.assert_allclose(wgrad, x.T @ g, rtol=1e-6)
    np.testing.assert_allclose(dgrad, ps.round_to(g @ w.T, "bf16"), rtol=2.0**-8)
