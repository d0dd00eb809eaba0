"""Linear algebra under `emulate`: textbook algorithms, rounded by hand in other loops."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import linalg

import precsim as ps
from precsim.transform import textbook
from tests.transform.by_hand import bf16, f32, pairwise

RANDOM = np.random.default_rng(71)
A = f32(RANDOM.normal(size=(5, 5)))
S = f32(A @ A.T + np.eye(5))


def emulated(fun: Callable[..., Any], policy: str = "bf16") -> Callable[..., Any]:
    return jax.jit(ps.emulate(fun, policy))


def subtracted(total: Any, left: Any, right: Any) -> Any:
    """Subtract products one after the other: the inner-product form of an elimination."""
    for x, y in zip(left, right, strict=True):
        total = bf16(total - bf16(x * y))
    return total


@pytest.mark.long
def test_cholesky_by_inner_products() -> None:
    a, factor = bf16(S), np.zeros((5, 5))
    for j in range(5):
        factor[j, j] = bf16(np.sqrt(subtracted(a[j, j], factor[j, :j], factor[j, :j])))
        for i in range(j + 1, 5):
            factor[i, j] = bf16(subtracted(a[i, j], factor[i, :j], factor[j, :j]) / factor[j, j])
    # Not jnp.linalg.cholesky, which takes the mean with the transposed matrix first.
    found = emulated(lambda a: lax.linalg.cholesky(a, symmetrize_input=False))(S)
    np.testing.assert_array_equal(found, factor)
    is_nan = np.isnan(emulated(jnp.linalg.cholesky)(np.stack([S, -S])))
    np.testing.assert_array_equal(is_nan, [np.zeros((5, 5)), np.tri(5)])


def eliminated(a: Any) -> tuple[np.ndarray, list[int]]:
    """Return the factors of a matrix, column by column (Crout), and its permutation."""
    a, order = bf16(a), list(range(len(a)))
    for j in range(a.shape[1]):
        for i in range(len(a)):
            n = min(i, j)
            a[i, j] = subtracted(a[i, j], a[i, :n], a[:n, j])
        if j < len(a):
            pivot = j + int(np.argmax(np.abs(a[j:, j])))
            a[[j, pivot]] = a[[pivot, j]]
            order[j], order[pivot] = order[pivot], order[j]
            if a[j, j]:
                a[j + 1 :, j] = bf16(a[j + 1 :, j] / a[j, j])
    return a, order


@pytest.mark.long
@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (3, 5)])
def test_lu_by_columns(shape: tuple[int, int]) -> None:
    a = A[: shape[0], : shape[1]].copy()
    a[:, 1] = 0  # a pivot that is zero
    found, pivots, order = emulated(lax.linalg.lu)(a)
    expected, rows = eliminated(a)
    np.testing.assert_array_equal(found, expected)
    assert order.tolist() == rows
    assert lax.linalg.lu_pivots_to_permutation(pivots, shape[0]).tolist() == rows


def solved_by_hand(a: Any, b: Any, *, lower: bool, unit_diagonal: bool) -> np.ndarray:
    """Return x of a triangular system, each unknown by an inner product."""
    a = bf16(a)
    x: np.ndarray = bf16(b)
    count = len(a)
    for i in range(count) if lower else reversed(range(count)):
        others = list(range(i)) if lower else list(reversed(range(i + 1, count)))
        for k in range(x.shape[1]):
            total = subtracted(x[i, k], a[i, others], x[others, k])
            x[i, k] = total if unit_diagonal else bf16(total / a[i, i])
    return x


@pytest.mark.long
@pytest.mark.parametrize("left_side", [True, False])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("transpose_a", [True, False])
def test_triangular_systems(left_side: bool, lower: bool, transpose_a: bool) -> None:
    a, b = A + f32(3 * np.eye(5)), A[:, :2]
    for unit in (True, False):
        options = {"left_side": left_side, "lower": lower, "transpose_a": transpose_a}
        solve = lambda a, b: lax.linalg.triangular_solve(a, b, unit_diagonal=unit, **options)  # noqa: B023
        turned = transpose_a == left_side
        expected = solved_by_hand(
            a.T if turned else a, b, lower=lower != turned, unit_diagonal=unit
        )
        found = emulated(solve)(a, b if left_side else b.T)
        np.testing.assert_array_equal(found if left_side else found.T, expected)


def reflected(c: Any, v: Any, tau: Any) -> np.ndarray:
    """Return c - v (tau (v^T c)), column by column."""
    columns: Any = [bf16(c - bf16(v * bf16(tau * pairwise(bf16(v * c))))) for c in bf16(c).T]
    return np.stack(columns, axis=1)


def reflectors(a: Any) -> tuple[np.ndarray, list[tuple[np.ndarray, Any]]]:
    """Return R, and the vectors and factors of Householder's reflectors."""
    work, found = bf16(a), []
    count = len(work)
    for k in range(min(work.shape)):
        column = np.where(np.arange(count) < k, 0, work[:, k])
        v, tau, last = np.eye(count)[k], np.float64(0), column[k]
        if np.any(column[k + 1 :]):
            norm = bf16(np.sqrt(pairwise(bf16(column * column))))
            last = norm if column[k] < 0 else -norm
            tau = bf16(bf16(last - column[k]) / last)
            v[k + 1 :] = bf16(column[k + 1 :] / bf16(column[k] - last))
        work[:, k + 1 :] = reflected(work[:, k + 1 :], v, tau) if k + 1 < work.shape[1] else 0
        work[k, k] = last
        found.append((v, tau))
    return np.triu(work), found


@pytest.mark.long
@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (3, 5)])
def test_factors_of_householder(shape: tuple[int, int]) -> None:
    a = A[: shape[0], : shape[1]]
    expected, found = reflectors(a)
    count, c = min(shape), f32(RANDOM.normal(size=(shape[0], 2)))
    q, qc, cq = np.eye(shape[0]), bf16(c), bf16(c)
    for v, tau in reversed(found):
        q, qc = reflected(q, v, tau), reflected(qc, v, tau)
    for v, tau in found:
        cq = reflected(cq, v, tau)
    both = emulated(jnp.linalg.qr)(a)
    np.testing.assert_array_equal(both[0], q[:, :count])
    np.testing.assert_array_equal(both[1], expected[:count])
    whole = emulated(lambda a: jnp.linalg.qr(a, mode="complete"))(a)
    np.testing.assert_array_equal(whole[0], q)
    np.testing.assert_array_equal(whole[1], expected)
    if shape[0] == count:
        left = emulated(lambda a, c: linalg.qr_multiply(a, c, "left")[0])(a, c)
        np.testing.assert_array_equal(left, qc)
        right = emulated(lambda a, c: linalg.qr_multiply(a, c)[0])(a, c.T)
        np.testing.assert_array_equal(right.T, cq)


@pytest.mark.slow
def test_gradients_are_those_of_the_steps() -> None:
    """Near those of JAX: u of bf16 is 2**-8, and no condition number here is above 100."""
    totals: list[Callable[[Any], Any]] = [
        lambda a: jnp.sum(jnp.linalg.cholesky(a)),
        jnp.linalg.det,
        lambda a: jnp.sum(jnp.linalg.solve(a, a[0])),
        lambda a: jnp.sum(jnp.abs(jnp.linalg.qr(a)[1])),
    ]
    for total in totals:
        plain = jax.grad(total)(S)
        size = float(jnp.max(jnp.abs(plain)))
        for gradient in (ps.emulate(jax.grad(total), "bf16"), jax.grad(ps.emulate(total, "bf16"))):
            assert float(jnp.max(jnp.abs(gradient(S) - plain))) < 100 * 2.0**-8 * size


@pytest.mark.slow
def test_portable_float32_is_near_the_platforms() -> None:
    """Other orders of sums, of at most 5 summands, and no fused operations."""
    for fun in (lax.linalg.lu, jnp.linalg.cholesky, jnp.linalg.qr, jnp.linalg.inv):
        found = jax.tree.leaves(emulated(fun, "fp32,fn=portable")(S))
        for ours, plain in zip(found, jax.tree.leaves(fun(S)), strict=True):
            size = 1 + float(jnp.max(jnp.abs(plain)))
            np.testing.assert_allclose(ours, plain, rtol=0, atol=100 * 2.0**-24 * size)
    np.testing.assert_array_equal(ps.emulate(jnp.linalg.inv, "fp32")(S), jnp.linalg.inv(S))


SQUARE = ["cholesky", "cond", "det", "eigh", "eigvalsh", "eigvals", "inv", "norm", "pinv", "qr"]
SQUARE += ["slogdet", "svd", "matrix_rank"]
FUNCTIONS: dict[str, Any] = {
    **{name: getattr(jnp.linalg, name) for name in SQUARE},
    "tensorinv": lambda a: jnp.linalg.tensorinv(a, 1),
    "solve": lambda a: jnp.linalg.solve(a, a),
    "lstsq": lambda a: jnp.linalg.lstsq(a, a[0])[0],
    "cho_solve": lambda a: linalg.cho_solve(linalg.cho_factor(a), a[0]),
    "lu_solve": lambda a: linalg.lu_solve(linalg.lu_factor(a), a[0]),
    "qr with pivoting": lambda a: linalg.qr(a, pivoting=True),
    "expm": linalg.expm,
    "schur": linalg.schur,
    "sqrtm": linalg.sqrtm,
    "hessenberg": linalg.hessenberg,
    "complex solve": lambda a: jnp.linalg.solve(a + 1j * a.T, a),
    "fft": lambda a: jnp.fft.ifft2(jnp.fft.fft2(a)),
    "sort": lambda a: (jnp.sort(a), lax.top_k(a, 2), jnp.median(a)),
    "cumlogsumexp": lambda a: lax.cumlogsumexp(a, 0),
    "tridiagonal": lambda a: lax.linalg.tridiagonal_solve(a[0], a[1], a[2], a),
    "pooling": jax.grad(lambda a: jnp.sum(_pooled(a))),
    "composite": lax.composite(lambda a: a * 2, "own.double"),
    "ragged": jax.grad(lambda a: jnp.sum(lax.ragged_dot(a, a[None], jnp.array([5])))),
}


def _pooled(a: Any) -> Any:
    return lax.reduce_window(a, -np.inf, lax.max, (2, 2), (1, 1), "SAME") ** 2


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_operation_is_without_a_rule(name: str) -> None:
    fun = FUNCTIONS[name]
    found = ps.coverage(fun, "bf16", S)
    assert not found.unknown
    if name not in ("sort", "eigvals", "complex solve", "fft", "matrix_rank"):
        assert found.share == 1
        jax.eval_shape(ps.emulate(fun, "bf16"), S)


@pytest.mark.long
@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "svd", "pinv", "cond", "matrix_rank"])
def test_the_platform_finds_eigenvalues_and_singular_values(name: str) -> None:
    fun = getattr(jnp.linalg, name)
    assert not ps.coverage(fun, "bf16", S).unknown
    for y in jax.tree.leaves(emulated(fun)(S)):
        np.testing.assert_array_equal(y, f32(bf16(y)))


@pytest.mark.slow
def test_every_turn_has_random_bits_of_its_own() -> None:
    policy = "fp16:sr"
    first, again, other = (
        np.asarray(jax.jit(ps.emulate(jnp.linalg.cholesky, policy, seed=seed))(S))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    np.testing.assert_allclose(first, np.linalg.cholesky(S), atol=0.02)


def chained(x: Any) -> Any:
    total = x[..., 0]
    for n in range(1, x.shape[-1]):
        total = bf16(total * x[..., n])
    return total


def halved(x: Any) -> Any:
    while x.shape[-1] > 1:
        even = x.shape[-1] // 2 * 2
        products = bf16(x[..., 0:even:2] * x[..., 1:even:2])
        x = np.concatenate([products, x[..., even:]], axis=-1)
    return x[..., 0]


@pytest.mark.long
def test_products_over_axes_are_rounded_in_the_order_of_sums() -> None:
    x = f32(RANDOM.uniform(0.5, 1.5, (3, 7)))
    for order, by_hand in (("pairwise", halved), ("sequential", chained)):
        policy = f"bf16,order={order}"
        np.testing.assert_array_equal(
            emulated(lambda x: jnp.prod(x, axis=1), policy)(x), by_hand(bf16(x))
        )
        np.testing.assert_array_equal(emulated(jnp.prod, policy)(x), by_hand(bf16(x).reshape(-1)))
    running = emulated(lambda x: jnp.cumprod(x, axis=1), "bf16,order=sequential")(x)
    for n in range(1, 8):
        np.testing.assert_array_equal(running[:, n - 1], chained(bf16(x)[:, :n]))
    for reverse in (True, False):
        tree = emulated(lambda x: lax.cumprod(x, axis=1, reverse=reverse))(x)  # noqa: B023
        assert np.max(np.abs(tree - lax.cumprod(x, axis=1, reverse=reverse)) / tree) < 7 * 2.0**-8
    assert float(ps.emulate(jnp.prod, "bf16")(np.zeros(0, np.float32))) == 1


@pytest.mark.long
def test_reductions_by_a_function_of_the_program() -> None:
    x = f32(RANDOM.normal(size=(2, 6, 3)))

    def sum_and_product(first: Any, second: Any) -> Any:
        return first[0] + second[0], first[1] * second[1]

    def both(x: Any) -> Any:
        return lax.reduce((x, x), (np.float32(0), np.float32(1)), sum_and_product, (0, 1))

    total, product = emulated(both)(x)
    columns = np.moveaxis(bf16(x), -1, 0).reshape(3, -1)
    np.testing.assert_array_equal(total, pairwise(columns))
    np.testing.assert_array_equal(product, halved(columns))

    def over_windows(x: Any) -> Any:
        return lax.reduce_window(x, np.float32(1), lambda a, b: a * b, (3,), (2,), "SAME")

    row = f32(RANDOM.uniform(0.5, 1.5, 6))
    found = emulated(over_windows, "bf16,order=sequential")(row)
    padded = np.concatenate([bf16(row), [1.0]])
    np.testing.assert_array_equal(found, chained(np.stack([padded[i : i + 3] for i in (0, 2, 4)])))
    assert ps.emulate(lambda x: lax.reduce(x, 0, lax.bitwise_xor, (0,)), "bf16")(np.arange(4)) == 0


@pytest.mark.slow
def test_the_gradient_of_a_pooling_is_summed_in_the_order_of_the_policy() -> None:
    """An element that many windows select has a sum of as many cotangents."""
    x = f32(RANDOM.integers(0, 4, (1, 6, 6)))
    x[0, 3, 3] = 9
    x[0, 0, 0] = np.nan
    size, shift = (1, 3, 3), (1, 1, 1)
    pool: Callable[[Any], Any] = lambda x: lax.reduce_window(
        x, -np.inf, lax.max, size, shift, "SAME"
    )
    weights = f32(RANDOM.normal(size=pool(x).shape))
    gradient: Callable[[Any, Any], Any] = lambda x, w: jax.vjp(pool, x)[1](w)[0]
    plain = np.asarray(gradient(x, weights))
    for order in ("pairwise", "sequential"):
        found = emulated(gradient, f"bf16,order={order}")(x, weights)
        exact = emulated(gradient, f"fp32,fn=portable,order={order}")(x, weights)
        np.testing.assert_allclose(exact, plain, rtol=0, atol=9 * 2.0**-24 * 9)
        chosen = bf16(weights)[0, 2:5, 2:5].reshape(-1)
        total = np.float64(0)
        for w in chosen:
            total = bf16(total + w)
        expected = total if order == "sequential" else pairwise(chosen)
        assert found[0, 3, 3] == expected


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_prefixes_are_those_of_the_associative_scan(count: int, reverse: bool) -> None:
    x = np.random.default_rng(count).normal(size=(2, count)).astype(np.float32)
    got = textbook.prefixes(jnp.add, jnp.asarray(x), axis=1, reverse=reverse)
    want = jax.lax.associative_scan(jnp.add, jnp.asarray(x), axis=1, reverse=reverse)
    assert np.array_equal(got, want)


def test_cumulative_products_keep_the_sign_of_zero() -> None:
    """Defect: the pieces of the scan were put together by additions."""
    found = ps.emulate(jnp.cumprod, "bf16")(np.array([1, -1, 0, 2], np.float32))
    assert np.asarray(found).tobytes() == np.array([1, -1, -0.0, -0.0], np.float32).tobytes()


@pytest.mark.parametrize(
    ("fun", "shape"),
    [
        (jnp.linalg.inv, (0, 0)),
        (jnp.linalg.det, (0, 0)),
        (jnp.linalg.cholesky, (0, 0)),
        (jnp.linalg.qr, (3, 0)),
        (jax.lax.linalg.lu, (0, 3)),
        (jnp.cumsum, (0,)),
        (jnp.cumprod, (0,)),
    ],
)
def test_empty_matrices(fun: Any, shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    found, want = ps.emulate(fun, "bf16")(x), fun(x)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, want)
