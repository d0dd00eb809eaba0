"""Rules of single primitives: each case is a program that was once computed wrongly or refused."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform.emulate import emulate

BF16 = "e=bf16,fwd=bf16_bf16_fp32"
X = np.linspace(-1.3, 2.9, 5, dtype=np.float32)


def f32(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def bf16(x: Any) -> np.ndarray:
    return np.asarray(ps.round_to(np.asarray(x, np.float32), "bf16"))


def test_a_function_with_a_samplers_name_is_emulated() -> None:
    def _f(x: Any) -> Any:
        return x * x

    np.testing.assert_array_equal(emulate(jax.jit(_f), BF16)(X), bf16(bf16(X) * bf16(X)))


def test_random_numbers_are_jaxs_own() -> None:
    def draw(key: Any) -> Any:
        return jax.random.normal(key, (5,))

    key = jax.random.key(3)
    np.testing.assert_array_equal(emulate(draw, BF16)(key), draw(key))


@pytest.mark.long
def test_scattered_differences() -> None:
    fun = lambda x, y: x.at[np.array([0, 0, 1])].subtract(y)
    target, updates = bf16(X), bf16(X[:3] * 3)
    y = emulate(fun, BF16)(target, updates)
    first = bf16(target[0] + bf16(-updates[0] - updates[1]))
    np.testing.assert_array_equal(y, [first, bf16(target[1] - updates[2]), *target[2:]])


@pytest.mark.parametrize("policy", [BF16, "e=bf16,fn=portable"])
def test_integers_are_scattered_as_they_are(policy: str) -> None:
    fun = lambda x: jnp.zeros(3, jnp.int32).at[x].add(70001)
    np.testing.assert_array_equal(emulate(fun, policy)(np.array([0, 0, 2])), [140002, 0, 70001])


@pytest.mark.long
def test_bits_read_as_numbers() -> None:
    y = emulate(lambda x: jnp.ldexp(x, 3), BF16)(bf16(X))
    np.testing.assert_array_equal(y, bf16(X) * 8)


def test_complex_products_are_their_real_ones() -> None:
    a, b, c, d = (bf16(X * s) for s in (1, 2.3, -0.7, 1.1))
    fun = lambda a, b, c, d: jax.lax.complex(a, b) * jax.lax.complex(c, d)
    y = jax.jit(emulate(fun, BF16))(a, b, c, d)
    np.testing.assert_array_equal(y.real, bf16(bf16(a * c) - bf16(b * d)))
    np.testing.assert_array_equal(y.imag, bf16(bf16(a * d) + bf16(b * c)))


@pytest.mark.long
@pytest.mark.parametrize("wanted", [None, np.complex128])
def test_products_of_any_two_dtypes_have_the_dtype_of_jax(wanted: Any) -> None:
    """Complex ones had the dtype of their first operand; integers beside them were refused."""
    numbers = (((1,), (0,)), ((), ()))
    plain = partial(jax.lax.dot_general, dimension_numbers=numbers, preferred_element_type=wanted)
    like: Any = jax.ShapeDtypeStruct
    kinds = (np.int32, np.float32, np.float64, np.complex64, np.complex128)
    with jax.enable_x64(True):
        for pair in itertools.product(kinds, kinds):
            shapes = [like((2, 2), kind) for kind in pair]
            expected = jax.eval_shape(plain, *shapes)
            assert jax.eval_shape(emulate(plain, BF16), *shapes).dtype == expected.dtype, pair
        a, b = np.array([[1, 2], [3, -4]]), np.array([[5, 6j], [7 - 2j, 8]])
        np.testing.assert_array_equal(emulate(plain, BF16)(a, b), a @ b)


def with_own_gradient(*, keeps_less: bool) -> Any:
    """Return a function whose forward rule JAX may replace where nothing of it is kept."""

    def forward(x: Any) -> Any:
        root = jnp.sqrt(x * 1.1)
        return root * 0.3, root

    fun = jax.custom_vjp(lambda x: jnp.sqrt(x * 1.1) * 0.3)
    fun.defvjp(forward, lambda root, g: (g * 0.7 / root,), optimize_remat=keeps_less)
    return lambda x: jnp.sum(fun(x))


@pytest.mark.long
@pytest.mark.parametrize("around", [lambda f: f, jax.checkpoint])
def test_a_forward_rule_that_keeps_less_under_checkpoint(around: Any) -> None:
    """`custom_vjp` with `optimize_remat`, as in tokamax: `remat_opt` had no rule."""
    x = f32([0.7, 1.3, 9.1])

    def computed(*, keeps_less: bool) -> list[Any]:
        fun = around(with_own_gradient(keeps_less=keeps_less))
        gradient = jax.grad(fun)
        total = lambda x: jnp.sum(gradient(x))
        assert ps.coverage(gradient, BF16, x).share == 1
        return [
            *(jax.jit(emulate(gradient, policy))(x) for policy in (BF16, "fp32")),
            *(jax.jit(jax.grad(emulate(fun, policy)))(x) for policy in (BF16, "fp32")),
            ps.autocast(gradient, "bf16_mixed")(x),
            ps.running_bound(total, x, policy=BF16),
            ps.cost(gradient, x).operations,
        ]

    for less, plain in zip(*(computed(keeps_less=flag) for flag in (True, False)), strict=True):
        np.testing.assert_array_equal(less, plain)


def test_parts_of_fourier_coefficients_are_rounded() -> None:
    y = emulate(jnp.fft.rfft, BF16)(X)
    expected = np.asarray(jnp.fft.rfft(bf16(X)))
    np.testing.assert_array_equal(y, bf16(expected.real) + 1j * bf16(expected.imag))


def test_a_linear_solver_is_interpreted_and_solves_for_gradients() -> None:
    diagonal = f32([3, 7])

    def fun(b: Any) -> Any:
        product, solve = lambda v: diagonal * v, lambda _, b: b / diagonal
        return jax.lax.custom_linear_solve(product, b, solve, symmetric=True)

    b = f32([1, 2])
    y, back = jax.vjp(emulate(fun, BF16), b)
    np.testing.assert_array_equal(y, bf16(b / diagonal))
    np.testing.assert_array_equal(back(b)[0], bf16(b / diagonal))


def test_a_refusal_names_the_users_line() -> None:
    with pytest.raises(NotImplementedError, match=r"'cholesky_update'.*test_primitives\.py"):
        emulate(lambda x: jax.lax.linalg.cholesky_update(x, x[0]), BF16)(
            np.eye(2, dtype=np.float32)
        )


def test_a_rule_for_gradients_learns_which_operands_need_them() -> None:
    needed: list[Any] = []

    @jax.custom_vjp
    def both(x: Any, y: Any) -> Any:
        return x * y, x + y

    def forward(x: Any, y: Any) -> Any:
        needed.append((x.perturbed, y.perturbed))
        return both(x.value, y.value), y.value

    def backward(y: Any, cotangents: Any) -> Any:
        needed.append(type(cotangents[1]).__name__)
        return y * 100, None

    both.defvjp(forward, backward, symbolic_zeros=True)

    def first(x: Any) -> Any:
        return both(x, 3.0)[0]

    gradient = jax.grad(emulate(first, "fp32"))(2.0)
    assert (needed, gradient) == ([(True, False), "SymbolicZero"], 300)


def test_a_function_with_its_own_tangents_may_return_integers() -> None:
    @jax.custom_jvp
    def counted(x: Any) -> Any:
        return x * 2, jnp.int32(7)

    @counted.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        return counted(*primals), (tangents[0] * 5, np.zeros((), jax.dtypes.float0))

    fun = emulate(lambda x: counted(x)[0] * counted(x)[1], BF16)
    assert jax.grad(fun)(1.0) == 35


def test_gradients_are_added_up_in_jaxs_order() -> None:
    """A called function adds up its own: 1e8 - 1e8 + 1 is 1, or 0 in another order."""
    inner = jax.jit(lambda x: -1e8 * x + x)
    fun = lambda x: 1e8 * x + inner(x)
    x = np.float32(1)
    assert jax.grad(emulate(fun, "fp32"))(x) == jax.grad(fun)(x)


def test_a_rule_rounds_in_its_scope_only() -> None:
    def fun(x: Any) -> Any:
        y = jax.jit(jnp.sin)(x)
        with jax.named_scope("head"):
            return jax.jit(lambda x, y: x * y)(x, y)

    y = jax.jit(jnp.sin)(X)
    np.testing.assert_array_equal(emulate(fun, "fp32;head:e=bf16")(X), bf16(bf16(X) * bf16(y)))


@pytest.mark.long
def test_formats_of_gradients_count_where_the_product_itself_rounds_nothing() -> None:
    policy = "e=fp32,fwd=fp32_fp32_fp32,dgrad=bf16_bf16_fp32,wgrad=bf16_bf16_fp32"
    w = f32([[1 + 2**-12]])

    def fun(x: Any) -> Any:
        return (x @ w).sum()

    gradient = jax.grad(emulate(fun, policy, params=None))(f32([[1]]))
    assert gradient == 1


def test_loops_under_vmap_end_one_by_one() -> None:
    def fun(x: Any) -> Any:
        return jax.lax.while_loop(lambda y: y < 3, lambda y: y * 2, x)

    x = f32([0.5, 1.5, 7])
    np.testing.assert_array_equal(emulate(jax.vmap(fun), BF16)(x), [4, 3, 7])


def test_the_next_integer_may_lie_beyond_the_format() -> None:
    """The largest number of e2m3 is 7.5: 8 is rounded where it is used."""
    found = emulate(lambda x: jnp.ceil(x) * 1.0, "e2m3")(f32([7.5, 2.5]))
    np.testing.assert_array_equal(found, [7.5, 3.0])


def test_what_gather_fills_is_no_constant() -> None:
    ones = jnp.ones(3)
    found = emulate(lambda n: ones.at[n].get(mode="fill") * 2.0, "q3.4")(np.array([1, 9]))
    np.testing.assert_array_equal(found, [2.0, np.nan])


@pytest.mark.long
def test_a_ragged_product_of_one_group_is_the_product_gradients_too() -> None:
    """Without the scale of `tensor=current` the cotangents, near 2**-20, would vanish in e5m2."""
    rows = f32([[1, 2, -3], [0.5, 4, 1]])
    weights = f32([[1, -2], [3, 0.25], [2, 1]])
    sizes = jnp.array([2])

    def ragged(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.square(jax.lax.ragged_dot(x, w[None], sizes))) * 2.0**-20

    def plain(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.square(x @ w)) * 2.0**-20

    found, expected = (
        jax.value_and_grad(emulate(f, "fp8_current"), argnums=(0, 1))(weights, rows)
        for f in (ragged, plain)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.any(found[1][0])


RAGGED = f32(np.random.default_rng(8).normal(size=(7, 4)))
MATRICES = f32(np.random.default_rng(9).normal(size=(3, 4, 5)))
SIZES = np.array([2, 0, 4])
ROUNDED = "e=fp32,fwd={0},dgrad={0},wgrad={0}"


@pytest.mark.long
def test_gradients_of_a_ragged_product_are_products_of_each_group() -> None:
    spec, g = "bf16_bf16_bf16", f32(np.random.default_rng(10).normal(size=(7, 5)))
    loss = lambda a, b: jnp.sum(jax.lax.ragged_dot(a, b, jnp.asarray(SIZES)) * g)
    policy = ROUNDED.format(spec)
    inside = jax.jit(emulate(jax.grad(loss, (0, 1)), policy, params=1))(RAGGED, MATRICES)
    outside = jax.jit(jax.grad(emulate(loss, policy, params=1), (0, 1)))(RAGGED, MATRICES)
    da, db = np.zeros_like(RAGGED), np.zeros_like(MATRICES)
    for n, (first, last) in enumerate([(0, 2), (2, 2), (2, 6)]):
        rows = slice(first, last)
        if first < last:
            da[rows] = ps.matmul(g[rows], MATRICES[n].T, spec)
            db[n] = ps.matmul(RAGGED[rows].T, g[rows], spec)
    for found in (inside, outside):
        np.testing.assert_array_equal(found[0], da)
        np.testing.assert_array_equal(found[1], db)


@pytest.mark.long
def test_ragged_products_are_rounded_stochastically_by_bits_of_each_group() -> None:
    policy, sizes = "c=bf16,acc=bf16:sr,e=fp32", jnp.array([3, 3])
    rows = np.concatenate([RAGGED[:3], RAGGED[:3]])
    both = np.stack([MATRICES[0], MATRICES[0]])
    loss = lambda a, b: jnp.sum(jax.lax.ragged_dot(a, b, sizes) ** 2)
    found = {
        seed: jax.jit(emulate(jax.value_and_grad(loss, (0, 1)), policy, params=1, seed=seed))(
            rows, both
        )
        for seed in (1, 2)
    }
    da, db = found[1][1]
    assert np.any(da[:3] != da[3:])
    assert np.any(db[0] != db[1])
    assert float(found[1][0]) != float(found[2][0])
    exact = jax.grad(loss, (0, 1))(rows, both)
    for ours, plain in zip((da, db), exact, strict=True):
        assert np.linalg.norm(ours - plain) < 10 * 2.0**-8 * np.linalg.norm(plain)


@pytest.mark.parametrize("where", [0, [1, 1, 9, 0, 1], slice(1, 3)])
def test_a_function_applied_in_place_is_emulated(where: Any) -> None:
    """It once ran in float32, and counted as moved."""
    index = where if isinstance(where, (int, slice)) else np.array(where)
    fun = lambda x: x.at[index].apply(lambda y: jnp.sin(y * 1.7) / 3)
    expected = bf16(X)
    for n in [m for m in (where if isinstance(where, list) else [where]) if m != 9]:
        expected[n] = bf16(bf16(np.sin(bf16(expected[n] * bf16(1.7)))) / 3)
    np.testing.assert_array_equal(jax.jit(emulate(fun, BF16))(jnp.asarray(X)), expected)
    assert "step by step" in [row.how for row in ps.coverage(fun, BF16, jnp.asarray(X)).rows]
    batch = jnp.stack([X, X / 2])
    np.testing.assert_array_equal(jax.vmap(emulate(fun, BF16))(batch)[0], expected)


def test_a_function_applied_to_complex_numbers_is_rounded() -> None:
    fun = lambda x: x.at[0].apply(jnp.exp)
    y = emulate(fun, BF16)(jnp.asarray(bf16(X) * 1j))
    np.testing.assert_array_equal([y.real, y.imag], [bf16(y.real), bf16(y.imag)])
