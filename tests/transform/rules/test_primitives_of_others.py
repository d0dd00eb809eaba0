"""Primitives of other libraries, as lineax's: what they compute is emulated, if JAX traces it."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero
from jax.experimental import sparse
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import precsim as ps

POLICY = "e=bf16,fwd=bf16_bf16_fp32"


def iterated(state: Any, x: Any) -> list[Any]:
    """Return a root by Newton's steps in a loop, which JAX cannot differentiate backward."""

    @jax.named_scope("turn")
    def turn(pair: Any) -> Any:
        return pair[0] + 1, (pair[1] + x / pair[1]) * state

    return [
        jax.lax.while_loop(lambda pair: pair[0] < jnp.int32(jnp.sum(x) * 0 + 5), turn, (0, x))[1]
    ]


def primitive(name: str, function: Any) -> Any:
    """Return a primitive as Equinox makes them: its rules are functions of JAX."""
    made: Any = Primitive(name)
    made.multiple_results = True
    made.def_impl(function)
    made.def_abstract_eval(lambda *args: [jax.core.ShapedArray(args[-1].shape, args[-1].dtype)])
    mlir.register_lowering(made, mlir.lower_fun(function, multiple_results=True))

    def tangents(primals: Any, moving: Any) -> Any:
        assert type(moving[0]) is ad.Zero, "what does not move has no array of zeros"
        results = made.bind(*primals)
        return results, [3 * moving[-1] / results[0]]  # not the derivative, to be told from it

    ad.primitive_jvps[made] = tangents
    batched = jax.vmap(function, in_axes=(None, 0))
    batching.primitive_batchers[made] = lambda args, _: (batched(*args), [0])
    return made


NEWTON = primitive("newton_of_others", iterated)
X = np.array([1.7, 2.3, 9.1], np.float32)


def newton(x: Any) -> Any:
    """Return roots by the primitive."""
    return NEWTON.bind(jnp.float32(0.5), x * 1.1)[0] * 0.7


def test_rows_of_a_report_point_at_the_line_that_calls_it() -> None:
    """They pointed at the file of precsim that spells it out."""
    report = ps.analyze(newton, X, policy="bf16", strict=False)
    assert {Path(row.line.partition(":")[0]).name for row in report.rows} == {Path(__file__).name}
    assert {row.source.split("(")[0] for row in report.rows} >= {"return NEWTON.bind"}


def spelled(x: Any) -> Any:
    """Return roots by its function."""
    return iterated(jnp.float32(0.5), x * 1.1)[0] * 0.7


def turned(fun: Any) -> Any:
    """Return a function that is applied to each number in a loop."""
    return partial(jax.lax.map, fun)


@pytest.mark.parametrize("around", [jax.jit, jax.vmap, turned])
def test_a_primitive_of_others_has_the_bits_of_its_function(around: Any) -> None:
    emulated, expected = (around(ps.emulate(f, POLICY))(X) for f in (newton, spelled))
    np.testing.assert_array_equal(emulated, expected)
    assert not np.array_equal(emulated, newton(X))
    found = [ps.coverage(newton, f"{POLICY}{rule}", X).share for rule in ("", ";turn:fp32")]
    assert found[0] == 1 > found[1]


def test_it_keeps_its_own_tangents_in_both_orders_and_all_bits_where_nothing_is_rounded() -> None:
    loss = lambda x: jnp.sum(newton(x))
    expected = jax.grad(loss)(X)
    np.testing.assert_allclose(jax.grad(ps.emulate(loss, POLICY))(X), expected, rtol=0.02)
    np.testing.assert_allclose(ps.emulate(jax.grad(loss), POLICY)(X), expected, rtol=0.02)
    for same in (jax.grad(ps.emulate(loss, "fp32")), ps.emulate(jax.grad(loss), "fp32")):
        np.testing.assert_array_equal(jax.jit(same)(X), jax.jit(jax.grad(loss))(X))


def test_a_primitive_of_others_closes_the_account() -> None:
    report = ps.analyze(lambda x: jnp.sum(newton(x)), X, policy="bf16")
    assert abs(report.remainder) < 1e-4 * report.gross
    assert any("div" in row.primitive for row in report.rows)


def test_strict_looks_into_a_primitive_of_others() -> None:
    made = primitive("sum_of_others", lambda _, x: [jnp.cumsum(x.astype(jnp.bfloat16)) * x])
    with pytest.raises(TypeError, match="cumsum"):
        ps.strict(lambda x: made.bind(jnp.float32(0), x)[0])(X)


def test_a_primitive_that_jax_cannot_trace_is_refused_and_a_rule_of_your_own_comes_first() -> None:
    made = primitive("numpy_of_others", lambda _, x: [np.asarray(x) * 2])
    run = lambda x: made.bind(jnp.float32(0), x)[0]
    with pytest.raises(NotImplementedError, match="'numpy_of_others' of float32 at"):
        ps.emulate(run, POLICY)(X)
    ruled = primitive("ruled_of_others", lambda _, x: [x * 2])
    ps.register_rule(ruled, lambda operation, state, x: [x * 4])
    assert (
        ps.emulate(lambda x: ruled.bind(jnp.float32(0), x)[0], POLICY)(np.ones(1, np.float32))[0]
        == 4
    )


def test_calls_of_the_host_without_floats_pass_and_those_with_floats_are_refused() -> None:
    """Equinox's `error_if` calls the host with integers, for numbers that nobody sees."""
    struct = jnp.float32(0)
    tenth: Any = lambda n: np.float32(n * 0.1)
    asked: Any = lambda n: jax.pure_callback(tenth, struct, n)
    again: Any = lambda n: jax.pure_callback(np.float32, struct, asked(n))
    guarded = lambda x: jax.lax.cond(x > 0, lambda: x * 1.7, lambda: again(jnp.int32(3)))
    assert float(jax.jit(ps.emulate(guarded, POLICY))(np.float32(1))) == 1.703125
    assert ps.coverage(guarded, POLICY, np.float32(1)).share == 1
    report = ps.analyze(guarded, np.float32(1.003), policy="bf16")  # the host has the own dtype
    assert abs(report.remainder) < 1e-6 * report.gross
    with pytest.raises(NotImplementedError, match="pure_callback"):
        ps.emulate(asked, POLICY)(np.float32(1))


def test_a_rule_for_tangents_sees_which_arguments_do_not_move() -> None:
    @jax.custom_jvp
    def scaled(x: Any, y: Any) -> Any:
        return x * y

    @partial(scaled.defjvp, symbolic_zeros=True)
    def tangent(primals: Any, tangents: Any) -> Any:
        assert isinstance(tangents[1], SymbolicZero)
        return scaled(*primals), tangents[0] * primals[1]

    larger: Any = lambda x: scaled(x, jnp.float32(2.5))
    assert float(jax.grad(ps.emulate(larger, POLICY))(np.float32(1.7))) == 2.5


def test_an_account_has_the_turns_of_loops_inside() -> None:
    """Defect: such a loop took no turn, and the account of zeros closed."""
    for fun in (newton, spelled):
        report = ps.analyze(lambda x, fun=fun: jnp.sum(fun(x)), X, policy=POLICY)
        assert report.closes
        assert report.value == float(ps.emulate(lambda x, fun=fun: jnp.sum(fun(x)), POLICY)(X))
        assert report.reference_value == pytest.approx(float(jnp.sum(fun(X))), rel=1e-5)
    # The 64-bit reference leaves nothing behind.
    assert jax.eval_shape(ps.emulate(newton, POLICY), jnp.asarray(X)).dtype == np.float32


def test_a_rule_for_gradients_may_decide_by_what_is_known() -> None:
    """As loops of Equinox do, with truth values among their residuals."""

    @jax.custom_vjp
    def doubled(x: Any) -> Any:
        return 2 * x

    def backward(residuals: Any, cotangent: Any) -> Any:
        x, is_cubed = residuals
        return (3 * x * x * cotangent if is_cubed is True else cotangent,)

    doubled.defvjp(lambda x: (2 * x, (x, True)), backward)
    loss = lambda x: jnp.sum(doubled(x * 1.1))
    for found in (jax.grad(ps.emulate(loss, POLICY))(X), ps.emulate(jax.grad(loss), POLICY)(X)):
        np.testing.assert_allclose(found, jax.grad(loss)(X), rtol=2**-6)


ROWS = [[0, 1.7, 0, -0.3], [2.3, 0, 0, 0.9], [0, 0, 0, 0], [1.1, -4.7, 0.6, 0]]
DENSE: Any = np.array(ROWS, np.float32)
KINDS: list[Any] = [sparse.BCOO, sparse.BCSR, sparse.CSR, sparse.COO]
SPARSE = {kind: kind.fromdense(DENSE) for kind in KINDS}


def with_numbers(matrix: Any, numbers: Any) -> Any:
    """Return a sparse matrix with other numbers at its places."""
    tree: Any = jax.tree.structure(matrix)
    return tree.unflatten([numbers, *jax.tree.leaves(matrix)[1:]])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_products_are_emulated_forward_and_backward(kind: Any) -> None:
    """Operations of `jax.experimental.sparse`, as mpax has them, had no rule."""
    is_product = kind in (sparse.BCOO, sparse.BCSR)  # the others multiply number by number
    matrix = SPARSE[kind]
    numbers, dense = matrix.data, ps.round_to(DENSE * 1.5, "bf16" if is_product else "fp32")
    fun: Any = lambda x, v: with_numbers(matrix, x * 1.5) @ v
    loss = lambda x, v: jnp.sum(fun(x, v) ** 2)
    v: Any = ps.round_to(DENSE[:, :2], "bf16")
    product = jax.jit(ps.emulate(fun, "e=fp32,fwd=bf16_bf16_fp32"))(numbers, v)
    np.testing.assert_allclose(product, dense @ v, rtol=1e-6)
    for f in (fun, jax.grad(loss)):
        found = ps.coverage(f, "bf16", numbers, v)
        assert (found.share, found.unknown) == (1, ())
    assert ps.cost(fun, numbers, v).operations > numbers.size * v.shape[1]
    for f in (jax.grad(ps.emulate(loss, "fp32")), ps.emulate(jax.grad(loss), "fp32")):
        np.testing.assert_array_equal(jax.jit(f)(numbers, v), jax.jit(jax.grad(loss))(numbers, v))


@pytest.mark.long
def test_other_sparse_operations_are_emulated() -> None:
    matrix, v = SPARSE[sparse.BCOO], DENSE[:, :2]

    def fun(x: Any, v: Any) -> list[Any]:
        own = with_numbers(matrix, x)
        square = (own.T @ own).sum_duplicates(nse=16)
        return [(square * 0.3).todense(), sparse.BCOO.fromdense(v * 1.1, nse=8).T @ v]

    found = ps.coverage(fun, "bf16", matrix.data, v)
    assert (found.share, found.unknown) == (1, ())
    for policy, digits in (("fp32", 0), ("bf16", 2.0**-6)):
        emulated = jax.jit(ps.emulate(fun, policy))(matrix.data, v)
        for y, expected in zip(emulated, jax.jit(fun)(matrix.data, v), strict=True):
            np.testing.assert_allclose(y, expected, rtol=digits, atol=8 * digits)
