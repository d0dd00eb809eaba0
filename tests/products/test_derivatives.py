"""Tangents, Jacobians and Hessians: products by the forward spec, transposes by dgrad and wgrad."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, integers, operands, reference

FORWARD, DGRAD, WGRAD = "fp16_fp16_fp32", "e5m2_e4m3_fp16", "e4m3_e5m2_fp32->bf16"
EXACT = "fp32_fp32_fp32"
"""On small integers, where every order of a sum has the same bits."""

fast = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def product(a: Any, b: Any) -> Any:
    return ps.matmul(a, b, FORWARD, dgrad=DGRAD, wgrad=WGRAD)


def pushed(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    return fast(lambda p, t: jax.jvp(function, p, t))(primals, tangents)


def test_tangent_of_a_product_is_the_sum_of_two_products_by_the_forward_spec() -> None:
    a, b, da, db, c, dc = operands((4, 6), (6, 5), (4, 6), (6, 5), (4, 5), (4, 5))
    y, tangent = pushed(
        lambda a, b, c: ps.matmul(a, b, FORWARD, c=c, dgrad=DGRAD, wgrad=WGRAD),
        (a, b, c),
        (da, db, dc),
    )
    assert_same_bits(y, reference(a, b, FORWARD, c))
    assert_same_bits(tangent, reference(da, b, FORWARD) + reference(a, db, FORWARD) + dc)


def test_a_constant_operand_costs_no_product() -> None:
    a, b, da = operands((4, 6), (6, 5), (4, 6))
    program = jax.make_jaxpr(lambda a, da: jax.jvp(lambda a: product(a, b), (a,), (da,))[1])(a, da)
    assert str(program).count("precsim_linear_map") == 1
    assert_same_bits(pushed(lambda a: product(a, b), (a,), (da,))[1], reference(da, b, FORWARD))


def test_tangents_of_stochastic_products_are_rounded_to_nearest() -> None:
    a, b, da = operands((4, 6), (6, 5), (4, 6))
    bits = np.arange(20, dtype=np.uint32).reshape(4, 5) * np.uint32(0x9E3779B9)
    run: Callable[..., Any] = lambda a: ps.matmul(
        a, b, "fp16_fp16_fp32->bf16[sr]", random_bits=bits
    )
    y, tangent = pushed(run, (a,), (da,))
    assert_same_bits(tangent, reference(da, b, "fp16_fp16_fp32->bf16"))
    total = reference(a, b, "fp16_fp16_fp32")
    assert_same_bits(y, ps.round_to(total, "bf16:sr", random_bits=bits))


def all_derivatives(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return both Jacobians and the Hessian of a function of two arrays."""

    def of(a: Any, b: Any) -> Any:
        energy: Callable[..., Any] = lambda a, b: (function(a, b) ** 2).sum()
        return (
            jax.jacfwd(function, (0, 1))(a, b),
            jax.jacrev(function, (0, 1))(a, b),
            jax.hessian(energy)(a, b),
        )

    return of


def assert_derivatives_are(
    function: Callable[..., Any], plain: Callable[..., Any], *at: Any
) -> None:
    both = fast(lambda a, b: (all_derivatives(function)(a, b), all_derivatives(plain)(a, b)))
    for got, expected in zip(*map(jax.tree.leaves, both(*at)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.long
def test_matmul_has_jacobians_and_hessians() -> None:
    exact: Callable[..., Any] = lambda a, b: ps.matmul(a, b, EXACT)
    assert_derivatives_are(exact, jnp.matmul, *integers((2, 2), (2, 2)))


@pytest.mark.slow
def test_conv_has_jacobians_and_hessians() -> None:
    def plain(x: Any, w: Any) -> Any:
        numbers = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, w, (2,), "SAME", dimension_numbers=numbers)

    exact: Callable[..., Any] = lambda x, w: ps.conv(x, w, EXACT, stride=2)
    assert_derivatives_are(exact, plain, *integers((1, 4, 2), (3, 2, 2)))


def test_tangent_of_a_convolution_is_the_sum_of_two_convolutions() -> None:
    x, w, dx, dw = operands((1, 5, 2), (3, 2, 2), (1, 5, 2), (3, 2, 2))
    run: Callable[..., Any] = lambda x, w: ps.conv(
        x, w, FORWARD, dgrad=DGRAD, wgrad=WGRAD, stride=2
    )
    y, tangent = pushed(run, (x, w), (dx, dw))
    assert_same_bits(y, run(x, w))
    assert_same_bits(tangent, run(dx, w) + run(x, dw))


@pytest.mark.long
def test_embedding_has_jacobians_and_hessians() -> None:
    (table,) = integers((3, 2))
    ids = jnp.asarray([2, 0, 2, 7])
    rows: Callable[..., Any] = lambda t: ps.embedding(t, ids, "fp32")[:3]
    energy: Callable[..., Any] = lambda rows: lambda t: (rows(t) ** 3).sum()

    def both(t: Any) -> list[Any]:
        return [
            (jax.jacfwd(f)(t), jax.jacrev(f)(t), jax.hessian(energy(f))(t))
            for f in (rows, lambda t: t[ids[:3]])
        ]

    for got, expected in zip(*map(jax.tree.leaves, fast(both)(table)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_tangents_of_rows_outside_the_table_are_zero() -> None:
    (table,) = integers((3, 2))
    y, tangent = jax.jvp(lambda t: ps.embedding(t, jnp.asarray([1, 5]), "bf16"), (table,), (table,))
    assert np.isnan(np.asarray(y[1])).all()
    np.testing.assert_array_equal(tangent, np.stack([table[1], np.zeros(2)]))


def test_tangents_under_vmap_and_of_vmap_are_those_of_a_loop() -> None:
    a, b, da, db = operands((2, 4, 6), (6, 5), (2, 4, 6), (6, 5))

    def both(a: Any, da: Any, b: Any, db: Any) -> Any:
        every = jax.vmap(product, (0, None))
        one: Callable[..., Any] = lambda a, da: jax.jvp(product, (a, b), (da, db))[1]
        return jax.jvp(every, (a, b), (da, db))[1], jax.vmap(one)(a, da)

    expected = np.stack(
        [reference(da[k], b, FORWARD) + reference(a[k], db, FORWARD) for k in range(2)]
    )
    for got in fast(both)(a, da, b, db):
        assert_same_bits(got, expected)


def test_gradients_of_a_shared_operand_under_vmap_are_added_by_jax() -> None:
    """As before there were tangents: a product for each, and JAX's sum."""
    a, b, g = operands((3, 4, 6), (6, 5), (3, 4, 5))
    every = jax.vmap(product, (0, None))
    da, db = fast(lambda a, b, g: jax.vjp(every, a, b)[1](g))(a, b, g)
    each = np.stack([reference(x.T, y, WGRAD) for x, y in zip(a, g, strict=True)])
    assert_same_bits(da, np.stack([reference(y, b.T, DGRAD) for y in g]))
    assert_same_bits(db, each.sum(0))


def test_a_gradient_of_a_gradient_is_transposed_back_to_the_forward_spec() -> None:
    a, b, g = operands((4, 6), (6, 5), (4, 5))
    pull: Callable[..., Any] = lambda g: jax.vjp(lambda a: product(a, b), a)[1](g)[0]
    assert_same_bits(fast(lambda g: jax.vjp(pull, g)[1](a)[0])(g), reference(a, b, FORWARD))


def test_forward_mode_through_a_loop_with_a_condition() -> None:
    """Which reverse mode does not have."""
    a, b = integers((2, 2), (2, 2))

    def run(x: Any) -> Any:
        step: Callable[..., Any] = lambda state: (state[0] + 1, ps.matmul(state[1], b, EXACT))
        return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, x))[1]

    np.testing.assert_array_equal(pushed(run, (a,), (a,))[1], a @ b @ b @ b)


def test_elementwise_operations_and_roundings_have_tangents() -> None:
    x, dx = operands((8,), (8,))
    run: Callable[..., Any] = lambda x: ps.round_to(ps.multiply(x, x, "bf16"), "e4m3")
    jacobian = fast(jax.jacfwd(run))(x)
    assert_same_bits(jacobian, np.diag(2 * x))
    assert_same_bits(
        fast(jax.hessian(lambda x: run(x).sum()))(x), np.diag(np.full(8, 2, np.float32))
    )
    assert pushed(run, (x,), (dx,))[1].shape == x.shape
