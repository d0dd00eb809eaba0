"""`emulate` knows every operation of the plain models, forward and backward, and their scopes."""

from typing import Any

import jax
import pytest

import precsim as ps
from precsim.transform.scopes import matches
from tests.training.models.conftest import PLAIN, PROBLEMS, examples, loss_of, started


def gradient_of(name: str, kind: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the gradient of a model's loss as a function, and its arguments."""
    problem = PROBLEMS[kind]
    model, params, state = started(name, problem)
    gradient = jax.value_and_grad(loss_of(model, problem), has_aux=True)
    return gradient, (params, state, *examples(problem))


# One kind of each model, and of those that two of them read, one model's.
_FAST = dict(reversed(PLAIN)) | {"lstm": "characters"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if _FAST[name] == kind else pytest.mark.slow)
        for name, kind in PLAIN
    ],
)
def test_all_arithmetic_is_covered_and_each_layer_is_a_scope(name: str, kind: str) -> None:
    gradient, arguments = gradient_of(name, kind)
    found = ps.coverage(gradient, "bf16_mixed", *arguments)
    assert found.unknown == ()
    assert found.as_it_is == ()
    assert found.share == 1
    scopes = {row.scope for row in found.rows}
    layers = {weight.rpartition("/")[0] for weight in arguments[0]}
    assert [layer for layer in layers if not any(matches(layer, s) for s in scopes)] == []


def test_strict_emulation_keeps_shapes() -> None:
    gradient, arguments = gradient_of("lstm", "sentences")
    emulated = ps.emulate(gradient, "bf16_mixed")
    assert jax.eval_shape(emulated, *arguments) == jax.eval_shape(gradient, *arguments)


def test_a_rule_names_one_layer() -> None:
    gradient, arguments = gradient_of("lenet", "images")
    found = ps.coverage(gradient, "fp32;conv2:fwd=bf16_bf16_fp32", *arguments)
    products = {(row.scope, row.format) for row in found.rows if row.how == "product"}
    assert ("conv2", "bf16_bf16_fp32") in products
    assert [scope for scope, spec in products if "bf16" in spec] == ["conv2"]


@pytest.mark.parametrize(
    ("name", "kind", "scope"),
    [("mobilenet", "images", "batch_norm"), ("encoder", "sentences", "layer_norm")],
)
def test_normalisations_are_found_by_their_names(name: str, kind: str, scope: str) -> None:
    problem = PROBLEMS[kind]
    model, params, state = started(name, problem)
    found = ps.coverage(
        loss_of(model, problem), "p=fp32,c=fp32,norm=bf16", params, state, *examples(problem)
    )
    rounded = {row.scope for row in found.emulated if row.format.startswith("bf16")}
    assert rounded
    assert all(scope in place for place in rounded)
