"""The gradient of rounding is straight-through: 1 everywhere, and the cotangent is not rounded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.kernel.kernel import round_array

X = np.array([0.3, -3.14159, 500.0, 1e-5, 0.0, -0.0, 1.0], np.float32)
COTANGENT = np.array([0.0013, 1e4, -3.3, 1e-30, 7e-39, 1.0, 0.1], np.float32)  # none is in e4m3
RANDOM_BITS = np.array([0, 2**32 - 1, 5, 77, 1, 2, 3], np.uint32)

SPECS = ["e4m3:saturate", "bf16:rtz", "fp16:sr8", "q3.4", "q3.4:wrap"]


def rounded(x: Any, name: str) -> Any:
    return ps.round_to(x, name, random_bits=RANDOM_BITS if ":sr" in name else None)


@pytest.mark.parametrize("name", SPECS)
def test_cotangent_passes_unchanged(name: str) -> None:
    """Bit for bit; a cast's gradient would round the cotangent too (1e4 becomes NaN in e4m3)."""
    value, pull_back = jax.vjp(lambda x: rounded(x, name), X)
    (cotangent,) = pull_back(jnp.asarray(COTANGENT))
    np.testing.assert_array_equal(np.asarray(cotangent).view(np.uint32), COTANGENT.view(np.uint32))
    np.testing.assert_array_equal(value, rounded(X, name))


@pytest.mark.parametrize("name", SPECS)
def test_tangent_passes_unchanged(name: str) -> None:
    _, tangent = jax.jvp(lambda x: rounded(x, name), (jnp.asarray(X),), (jnp.asarray(COTANGENT),))
    np.testing.assert_array_equal(np.asarray(tangent).view(np.uint32), COTANGENT.view(np.uint32))


@pytest.mark.parametrize("name", ["e4m3:saturate", "fp16:sr8"])
def test_under_jit_and_vmap(name: str) -> None:
    def loss(x: Any, r: Any) -> Any:
        random_bits = r if ":sr" in name else None
        return ps.round_to(x, name, random_bits=random_bits) * 3

    each = jax.jit(jax.vmap(jax.grad(loss)))(X, RANDOM_BITS)
    assert each.tolist() == [3.0] * X.size
    mapped = jax.vmap(jax.jit(jax.grad(loss)))(X, RANDOM_BITS)
    assert mapped.tolist() == [3.0] * X.size


def test_gradient_is_one_where_rounding_saturates_or_underflows() -> None:
    gradient = jax.grad(lambda x: ps.round_to(x, "e4m3:saturate").sum())
    assert gradient(jnp.array([1e9, -1e9, 1e-9, np.inf])).tolist() == [1.0] * 4


def test_gradient_inside_a_function_uses_the_rounded_value() -> None:
    """d/dx of round(x)**2 / 2 is round(x), not x, and not 0."""
    gradient = jax.grad(lambda x: (ps.round_to(x, "e4m3") ** 2 / 2).sum())
    x = jnp.array([0.3, 3.14159])
    assert gradient(x).tolist() == [0.3125, 3.25]


def test_second_order() -> None:
    """Straight-through twice: the second derivative of round(x)**3 is 6 round(x), of round(x) 0."""
    cubed = jax.grad(jax.grad(lambda x: ps.round_to(x, "e4m3") ** 3))
    assert cubed(jnp.float32(3.14159)).item() == 6 * 3.25
    plain = jax.grad(jax.grad(lambda x: ps.round_to(x, "e4m3")))
    assert plain(jnp.float32(3.14159)).item() == 0.0
    hessian = jax.jit(jax.hessian(lambda x: (ps.round_to(x, "e4m3") ** 2).sum()))
    np.testing.assert_array_equal(hessian(jnp.array([0.3, 5.1])), 2 * np.eye(2))


def test_rounding_inside_scan_and_checkpoint() -> None:
    def step(carry: Any, r: Any) -> Any:
        return ps.round_to(carry * 1.1, "bf16:sr8", random_bits=r), carry

    def last(x: Any) -> Any:
        return jax.lax.scan(jax.checkpoint(step), x, jnp.arange(5, dtype=jnp.uint32))[0]

    expected = np.float32(1)
    for _ in range(5):
        expected = np.float32(expected * np.float32(1.1))
    assert jax.jit(jax.grad(last))(jnp.float32(0.7)).item() == expected


def test_float64() -> None:
    with jax.enable_x64(True):
        gradient = jax.grad(lambda x: ps.round_to(x, "fp32") * (1 + 2.0**-40))
        assert gradient(jnp.float64(0.1)).item() == 1 + 2.0**-40


def test_equal_specs_share_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats of other names and equal values do not compile again."""
    traced = []

    def counting(x: Any, random_bits: Any, spec: ps.RoundingSpec) -> Any:
        traced.append(spec.format.name)
        return round_array(x, random_bits, spec)

    monkeypatch.setattr("precsim.rounding.round_to.round_array", counting)
    x = jnp.ones(3)
    for name in ("first", "second"):
        fmt = ps.FloatFormat(name=name, precision=6, exponent_bits=7, bias=60)
        ps.round_to(x, fmt)
        ps.round_to(x + 1, ps.RoundingSpec(format=fmt))
    assert traced == ["first"]
