"""How much XLA compiles of an emulated program: nothing is copied into each of its uses."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.transform.by_hand import bf16

X = np.random.default_rng(3).normal(size=(16, 8)).astype(np.float32)


def normalised(x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "softmax": jax.nn.softmax,
    "normalised": normalised,
    "gradient": jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * x)),
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bf16,fn=portable", "fp32,fn=portable"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_integer_arithmetic_is_compiled_once(name: str, policy: str) -> None:
    """XLA's instructions are at most 3.5 per operation of the program; they were up to 8."""
    lowered = jax.jit(ps.emulate(PROGRAMS[name], policy)).lower(X)
    operations = lowered.as_text().count("\n")
    compiled = lowered.compile().as_text()
    assert compiled is not None
    assert compiled.count("\n") < 3.5 * operations


def chain(x: Any, y: Any) -> Any:
    for _ in range(3):
        x = (x * y + 0.25) / 1.5 - y
    return x


@pytest.mark.long
def test_operations_of_one_use_share_a_kernel_and_keep_their_bits() -> None:
    """Twelve roundings and those of the operands, of which the last result is computed apart."""
    compiled = jax.jit(ps.emulate(chain, "bf16")).lower(X, X).compile().as_text()
    assert compiled is not None
    assert compiled.count(" conditional(") == 1
    found = jax.jit(ps.emulate(chain, "bf16"))(X, X[::-1])
    x, y = bf16(X), bf16(X[::-1])
    for _ in range(3):
        x = bf16(bf16(bf16(bf16(x * y) + 0.25) / 1.5) - y)
    np.testing.assert_array_equal(found, x)


@pytest.mark.long
def test_no_kernel_draws_the_bits_of_two_roundings() -> None:
    """XLA of jaxlib 0.11.2 did not end with one that drew those of three, 63 times xor."""

    def program(x: Any, w: Any) -> Any:
        scores = (x @ w + 0.25) * 0.5
        return scores - scores.max(-1, keepdims=True)

    def gradient(x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: jnp.sum(program(x, w) ** 2), argnums=(0, 1))(x, w)

    sums = "bf16_bf16_fp32->bf16[sr]"
    everywhere = f"fwd={sums},dgrad={sums},wgrad={sums},e=bf16:sr"
    for policy, function in itertools.product(("q3.12_sr", everywhere), (program, gradient)):
        lowered = jax.jit(ps.emulate(function, policy)).lower(X, X[:8])
        compiled = lowered.compile().as_text()
        assert compiled is not None
        draws = [k.count(" xor(") for k in compiled.split("\n\n") if k.startswith("%fused")]
        assert 20 <= max(draws) < 40, (policy, sorted(draws))


@pytest.mark.long
def test_what_two_operations_use_is_computed_once() -> None:
    """Without that, the second half of the chain doubles its code at each step."""

    def doubling(x: Any) -> Any:
        for _ in range(6):
            x = x * 0.75 + x
        return x

    lowered = jax.jit(ps.emulate(doubling, "bf16")).lower(X)
    compiled = lowered.compile().as_text()
    assert compiled is not None
    assert compiled.count(" conditional(") == 6
    gradient = jax.grad(lambda x: jnp.sum(ps.emulate(doubling, "bf16")(x)))
    np.testing.assert_array_equal(jax.jit(gradient)(X), gradient(X))


@pytest.mark.parametrize("policy", ["q3.12_sr", "q3.12", "bf16,fn=portable"])
def test_a_repeated_call_that_is_not_jitted_compiles_nothing(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulated = ps.emulate(lambda x: (x * 0.75 + 0.25) * x, policy)
    first = emulated(X)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        again = emulated(X)
        assert not [r for r in caplog.records if "Compiling" in r.getMessage()]
        emulated(X[:3])  # of another shape, which does
        assert [r for r in caplog.records if "Compiling" in r.getMessage()]
    np.testing.assert_array_equal(first, again)
