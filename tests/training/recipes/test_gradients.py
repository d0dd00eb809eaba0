"""`value_and_grad`: arguments reach the loss function as given, errors take one line."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import precsim as ps


def loss(w: Any, x: Any, *, offset: Any = 0.0) -> Any:
    return jnp.sum(w * x) + offset


W, X = jnp.float32([1, 2]), jnp.float32([3, 5])
SCALE = ps.StaticLossScale(factor=8.0)


@pytest.mark.long
def test_keyword_arguments_reach_the_loss_function() -> None:
    """Defect: the function that `value_and_grad` returns took none."""
    run = ps.value_and_grad(loss, "fp32", loss_scale=SCALE)
    value, gradient, _, _ = run(W, offset=jnp.float32(0.5), x=X)
    assert (float(value), gradient.tolist()) == (13.5, [3, 5])
    value, gradient, _, _ = jax.jit(run)(W, X, offset=1.0)
    assert (float(value), gradient.tolist()) == (14, [3, 5])


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), [0, 1]])
def test_argnums_as_in_jax(argnums: Any) -> None:
    expected = jax.value_and_grad(loss, argnums=argnums if argnums != [0, 1] else (0, 1))(W, X)
    value, gradient, _, _ = ps.value_and_grad(loss, "fp32", loss_scale=SCALE, argnums=argnums)(W, X)
    assert isinstance(gradient, tuple) == isinstance(expected[1], tuple)
    found, wanted = (
        [x.tolist() for x in jax.tree.leaves(t)] for t in ((value, gradient), expected)
    )
    assert found == wanted


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda w: 2 * w, {}, r"loss_fn returned shape \(2,\); allowed is a scalar"),
        (lambda w: {"loss": w[0]}, {}, r"loss_fn returned \{'loss': .*; allowed is a scalar"),
        (lambda w: None, {}, r"loss_fn returned None; allowed is a scalar"),
        (lambda w: 3, {}, r"loss_fn returned dtype int32; allowed are real floating-point"),
        (lambda w: w[0] + 1j, {}, r"loss_fn returned dtype complex64; allowed are real"),
        (
            lambda w: w[0],
            {"has_aux": True},
            r"loss_fn returned .*; allowed is a pair \(loss, aux\)",
        ),
        (lambda w: w[0], {"argnums": 1}, r"argnums is 1; allowed are the 1 positional arguments"),
        (lambda w: w[0], {"argnums": 0.5}, r"argnums is 0.5; allowed are integers"),
        (lambda w: w[0], {"loss_scale": "dynamik"}, r"loss scale is 'dynamik'; allowed are 'none'"),
        ("loss", {}, r"loss_fn is 'loss'; allowed is a function"),
    ],
)
def test_errors_name_the_argument_in_one_line(function: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as error:
        ps.value_and_grad(function, "fp32", **options)(W)
    assert "\n" not in str(error.value)


def test_a_loss_scale_may_be_text_or_a_number() -> None:
    for given, factor in ((1024.0, 1024), ("dynamic@64", 64), ("none", 1)):
        _, gradient, state, _ = ps.value_and_grad(loss, "fp32", loss_scale=given)(W, X)
        assert (float(state.factor), gradient.tolist()) == (factor, [3, 5])
    with pytest.raises(ValueError, match="loss scale is 'dynamic@none'; allowed are"):
        ps.Policy.parse("scale=dynamic@none")
