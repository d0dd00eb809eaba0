"""Results under `emulate` and `autocast` take part in promotion as those of the function itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import precsim as ps

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "mul": lambda w: w * 2,
    "exp": jnp.exp,
    "constant": lambda w: 0.1 * jnp.asarray(3.0),
    "neg": lambda w: -w,
    "sum": lambda w: jnp.sum(w * 3),
    "jit": jax.jit(lambda w: w * w),
    "where": lambda w: jnp.where(w > 1, w, 0.0),
    "scan": lambda w: lax.scan(lambda c, _: (c * w, c), w, None, 3),
    "while": lambda w: lax.while_loop(lambda c: c < 9, lambda c: c * w, w),
    "cond": lambda w: lax.cond(w > 1, lambda w: w * 2, lambda w: w, w),
    "pow": lambda w: w**2.5,
    "relu": lambda w: jax.nn.relu(w * w),
    "remat": jax.checkpoint(lambda w: w * w),
    "grad": jax.grad(lambda w: w * w * 3),
    "integers": lambda w: jnp.asarray(3) * 2,
    "key": lambda w: jax.random.key(0),
    "strong": lambda w: (w * 2).astype(jnp.float32),
    "bf16": lambda w: w * jnp.ones(2, jnp.bfloat16),
}


def types(results: Any) -> list[tuple[Any, bool]]:
    return [(x.dtype, jax.typeof(x).weak_type) for x in jax.tree.leaves(results)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_weak_types_are_those_of_the_function(name: str) -> None:
    fun, w = FUNCTIONS[name], jnp.asarray(1.5)
    expected = types(fun(w))
    assert types(ps.autocast(fun, "bf16_mixed")(w)) == expected
    for policy in ("fp32", "bf16", "bf16,fn=portable"):
        emulated = ps.emulate(fun, policy)
        assert types(jax.eval_shape(emulated, w)) == types(jax.eval_shape(fun, w))
    assert types(ps.emulate(fun, "bf16")(w)) == expected


def test_promotion_downstream_is_that_of_the_function() -> None:
    narrow = jnp.ones(2, jnp.bfloat16)
    assert (ps.emulate(jnp.exp, "bf16")(jnp.asarray(1.5)) * narrow).dtype == jnp.bfloat16
