"""Functions under a policy: against NumPy rounded by hand, and what must hold of any program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from tests.transform.by_hand import bf16, f32, pairwise

RANDOM = np.random.default_rng(16)
X = RANDOM.integers(-200, 200, (4, 6)).astype(np.float32) / 64
W = RANDOM.integers(-200, 200, (6, 5)).astype(np.float32) / 128


def product(a: np.ndarray, b: np.ndarray) -> Any:
    """Round operands, add up in float32 from the first product on, round the sum."""
    a, b = bf16(a), bf16(b)
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total = (total + a[:, k : k + 1] * b[k]).astype(np.float32)
    return bf16(total)


def variance(x: Any) -> Any:
    mean = jnp.sum(x, axis=-1, keepdims=True) / x.shape[-1]
    return jnp.sum((x - mean) ** 2, axis=-1) / x.shape[-1]


def variance_by_hand(x: np.ndarray) -> Any:
    mean = bf16(pairwise(bf16(x))[..., None] / x.shape[-1])
    deviation = bf16(bf16(x) - mean)
    return bf16(pairwise(bf16(deviation * deviation)) / x.shape[-1])


def softmax(x: Any) -> Any:
    e = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_by_hand(x: np.ndarray) -> Any:
    x = bf16(x)
    e = bf16(np.exp(bf16(x - x.max(-1, keepdims=True))))
    return bf16(e / pairwise(e)[..., None])


def layer(x: Any) -> Any:
    return jnp.tanh(x @ W + 0.1)


def layer_by_hand(x: np.ndarray) -> Any:
    return bf16(np.tanh(bf16(product(x, W) + bf16(0.1))))


def decay(x: Any) -> Any:
    def step(y: Any, _: None) -> tuple[Any, Any]:
        y = y + 0.1 * (1.0 - y * y)
        return y, y[0, 0]

    return lax.scan(step, x, None, length=5)[0]


def decay_by_hand(x: np.ndarray) -> Any:
    y = bf16(x)
    for _ in range(5):
        y = bf16(y + bf16(bf16(0.1) * bf16(1.0 - bf16(y * y))))
    return y


def running(x: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] / 3.0), (0, x))[1]


def running_by_hand(x: np.ndarray) -> Any:
    y = bf16(x)
    for _ in range(3):
        y = bf16(y / 3.0)
    return y


BY_HAND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "variance": (variance, variance_by_hand),
    "softmax": (softmax, softmax_by_hand),
    "layer": (layer, layer_by_hand),
    "decay": (decay, decay_by_hand),
    "running": (running, running_by_hand),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_bits_are_those_of_numpy_rounded_by_hand(name: str) -> None:
    function, by_hand = BY_HAND[name]
    found = jax.jit(ps.emulate(function, "bf16"))(X)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, by_hand(X).astype(np.float32))


def test_operands_and_constants_are_values_of_the_format() -> None:
    """0.3 is no bf16 number: the sum is of what bf16 has, then rounded once."""
    x = f32([1.00390625, 2.0])  # the first lies between two values
    found = ps.emulate(lambda x: x + 0.3, "bf16")(x)
    expected = bf16(bf16(x) + bf16(0.3)).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_the_gradient_rule_of_a_function_is_kept() -> None:
    """An interpreter that goes into the function loses the rule: 44.2 instead of 4439.8."""

    @jax.custom_vjp
    def f(x: Any) -> Any:
        return jnp.exp(x)

    f.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (100 * g * jnp.exp(x),))
    x = jnp.float32(3.75)
    exact = float(jax.grad(f)(x))
    for gradient in (
        jax.grad(ps.emulate(f, "bf16")),
        jax.jit(jax.grad(ps.emulate(f, "bf16"))),
        ps.emulate(jax.grad(f), "bf16"),
    ):
        assert abs(float(gradient(x)) / exact - 1) < 0.02
    assert float(jax.grad(ps.emulate(f, "bf16"))(x)) == float(ps.emulate(jax.grad(f), "bf16")(x))

    @jax.custom_jvp
    def h(x: Any) -> Any:
        return jnp.sin(x)

    h.defjvp(lambda p, t: (h(*p), 7 * t[0]))
    value, tangent = jax.jvp(ps.emulate(h, "fp16"), (x,), (jnp.float32(1),))
    assert (float(value), float(tangent)) == (float(ps.round_to(np.sin(3.75), "fp16")), 7.0)
    assert float(jax.grad(ps.emulate(h, "fp16"))(x)) == 7.0


def network(params: Any, x: Any) -> Any:
    h = jax.nn.relu(x @ params["w"] + params["b"])
    return jnp.mean(jnp.square(h @ params["v"]))


PARAMS = {
    "w": jnp.asarray(W),
    "b": jnp.full(5, 0.3, jnp.float32),
    "v": jnp.asarray(W[:5, :2]),
}


@pytest.mark.long
def test_gradients_are_products_by_dgrad_and_wgrad() -> None:
    policy = "fp32,fwd=bf16_bf16_fp32,dgrad=e5m2_e4m3_fp32,wgrad=e4m3_e5m2_fp32"
    both = jax.grad(ps.emulate(network, policy))(PARAMS, X)
    one = ps.emulate(jax.grad(network), policy)(PARAMS, X)
    jax.tree.map(np.testing.assert_array_equal, both, one)
    w, x = PARAMS["w"], jnp.asarray(X)
    h = jax.nn.relu(ps.matmul(x, w, "bf16_bf16_fp32") + PARAMS["b"])
    y = ps.matmul(h, PARAMS["v"], "bf16_bf16_fp32")
    g = 2 * y * (1 / y.size)
    np.testing.assert_array_equal(both["v"], ps.matmul(h.T, g, "e4m3_e5m2_fp32"))
    dh = jnp.where(h > 0, ps.matmul(g, PARAMS["v"].T, "e5m2_e4m3_fp32"), 0)
    np.testing.assert_array_equal(both["w"], ps.matmul(x.T, dh, "e4m3_e5m2_fp32"))


@pytest.mark.long
def test_a_weight_on_the_left_is_a_weight() -> None:
    """Equinox writes ``weight @ x``: the weight still takes the specs of weights."""
    policy = "fp32,fwd=fp16_e4m3_fp32,dgrad=fp16_e5m2_fp32,wgrad=e4m3_fp16_fp32"

    def left(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.tanh(w.T @ x.T) * 3)

    def right(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.tanh(x @ w).T * 3)

    ways: list[Callable[[Any], Any]] = [
        lambda f: jax.grad(ps.emulate(f, policy)),
        lambda f: ps.emulate(jax.grad(f), policy),
    ]
    for wrapped in ways:
        np.testing.assert_array_equal(wrapped(left)(W, X), wrapped(right)(W, X))
    forward = ps.emulate(lambda w, x: w.T @ x.T, policy)(W, X)
    np.testing.assert_array_equal(forward, ps.matmul(X, W, "fp16_e4m3_fp32").T)


@pytest.mark.long
@pytest.mark.parametrize("policy", [pytest.param("bf16", marks=pytest.mark.slow), "q3.8_sr"])
def test_transformations_keep_the_bits(policy: str) -> None:
    def f(x: Any) -> Any:
        y = jax.checkpoint(lambda y: jnp.sin(y) * 1.1)(x)
        return lax.cond(y[0] > 0, lambda y: y / 3, lambda y: y * 5, y)

    e = ps.emulate(f, policy, seed=3)
    x = jnp.asarray(X[0])
    expected = e(x)
    np.testing.assert_array_equal(jax.jit(e)(x), expected)
    np.testing.assert_array_equal(jax.vmap(e)(jnp.stack([x, x]))[1], expected)
    value, _ = jax.value_and_grad(lambda x: jnp.sum(e(x)))(x)
    assert float(value) == float(jnp.sum(expected))
    gradient = jax.grad(lambda x: jnp.sum(e(x)))(x)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: jnp.sum(e(x))))(x), gradient)


@pytest.mark.long
def test_random_bits_depend_on_seed_place_and_turn() -> None:
    x = jnp.full(64, 0.3, jnp.float32)
    once: Callable[[Any], Any] = lambda x: x * 1.7
    twice: Callable[[Any], Any] = lambda x: (x * 1.7, x * 1.7)
    first, second = ps.emulate(twice, "q3.8_sr")(x)
    assert not np.array_equal(first, second)
    seeds: Any = [np.asarray(ps.emulate(once, "q3.8_sr", seed=seed)(x)) for seed in (0, 1)]
    assert not np.array_equal(*seeds)
    key = jax.random.key(1)
    np.testing.assert_array_equal(ps.emulate(once, "q3.8_sr", seed=key)(x), seeds[1])
    turns: Callable[[Any], Any] = lambda x: lax.scan(lambda c, _: (c, c * 1.7), x, None, length=2)[
        1
    ]
    rows = ps.emulate(turns, "q3.8_sr")(x)
    assert not np.array_equal(rows[0], rows[1])


def test_what_the_program_casts_is_cast_once_by_precsim() -> None:
    """XLA may leave out a cast to bf16 and back (xla #41605)."""
    f: Callable[[Any], Any] = lambda x: x.astype(jnp.bfloat16).astype(jnp.float32) * 3
    found = jax.jit(ps.emulate(f, "fp16"))(X)
    expected = bf16(bf16(X) * 3)  # of bf16 numbers; then rounded to fp16, which has these
    np.testing.assert_array_equal(found, np.float16(bf16(X) * 3).astype(np.float32))
    assert expected.shape == found.shape


@pytest.mark.long
def test_scopes_and_roles() -> None:
    def f(x: Any) -> Any:
        with jax.named_scope("first"):
            y = x * 1.1
        with jax.named_scope("second"):
            return jax.nn.softmax(y * 1.3)

    x = jnp.asarray(X[0])
    found = ps.emulate(f, "bf16,softmax=fp32;first:fp32")(x)
    y = ps.multiply(ps.round_to(x * 1.1, "bf16"), ps.round_to(np.float32(1.3), "bf16"), "bf16")
    np.testing.assert_array_equal(found, jax.nn.softmax(y))
    with pytest.raises(
        ValueError, match="rule 'third' of the policy matches no scope; allowed here"
    ):
        ps.emulate(f, "bf16;third:fp32")(x)


def test_results_of_the_function_have_the_policy_s_format_for_them() -> None:
    f: Callable[[Any], Any] = lambda x: x * 1.1
    assert np.all(
        np.isin(
            ps.emulate(f, "fp32,out=e4m3")(X), ps.decode(np.arange(256, dtype=np.uint8), "e4m3")
        )
    )


def test_stack_and_unstack_move_numbers() -> None:
    """JAX 0.10 has primitives of their own for both."""

    def f(x: Any) -> Any:
        first, second = jnp.unstack(jnp.stack([x * 3, x]))
        return first + second

    found = ps.emulate(f, "bf16")(X[0])
    x = bf16(X[0])
    np.testing.assert_array_equal(found, bf16(bf16(x * 3) + x).astype(np.float32))


def test_products_of_precsim_are_not_emulated_again() -> None:
    f: Callable[[Any], Any] = lambda x: ps.matmul(x, W, "bf16_bf16_bf16") * 3
    found = ps.emulate(f, "e4m3:saturate")(X)
    product = ps.matmul(X, W, "bf16_bf16_bf16")
    expected = ps.multiply(ps.round_to(product, "e4m3:saturate"), 3.0, "e4m3:saturate")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_tensor_scaling_is_that_of_products_with_scales() -> None:
    """Operands of 2**-20 vanish in e4m3 without a scale."""
    f: Callable[[Any, Any], Any] = lambda w, x: (x * 2.0**-20) @ w
    scaled = "e4m3[scale=tensor:pow2:saturate]_e4m3[scale=tensor:pow2:saturate]_fp32->bf16"
    found = ps.emulate(f, "fp8_current")(W, X)
    x = ps.round_to(X, "bf16") * np.float32(2.0**-20)
    np.testing.assert_array_equal(found, ps.matmul(x, W, scaled))
    assert not np.any(ps.emulate(f, "fp8_current,tensor=none")(W, X))


@pytest.mark.long
def test_batches_of_narrow_operands_run_natively() -> None:
    """XLA's CPU kernel for batches refuses bf16 operands in some layouts (attention's scores)."""
    q = RANDOM.integers(-9, 9, (2, 8, 4, 16)).astype(np.float32) / 4
    scores: Callable[[Any], Any] = lambda q: jnp.einsum("bihd,bjhd->bhij", q, q)
    native = ps.emulate(scores, "c=bf16,e=fp32", backend="native")
    np.testing.assert_array_equal(jax.jit(native)(q), scores(q))  # exact: small multiples of 1/16
    plain, ours = (jax.jit(jax.grad(lambda q, f=f: f(q).sum()))(q) for f in (scores, native))
    np.testing.assert_array_equal(ours, plain)


@pytest.mark.long
@pytest.mark.parametrize("policy", [pytest.param("e=bf16:sr", marks=pytest.mark.slow), "q3.8_sr"])
def test_stochastic_roundings_under_checkpoint(policy: str) -> None:
    """Rules of derivatives run when the checkpoint is left: they close over no tracer."""

    def step(c: Any, n: Any) -> Any:
        return c.at[n].add(c[0] * 1.3), jnp.cumsum(c)

    def f(x: Any) -> Any:
        return jnp.sum(lax.scan(step, x, jnp.arange(2))[1])

    def g(x: Any) -> Any:
        return jnp.sum(lax.scan(jax.checkpoint(step), x, jnp.arange(2))[1])

    x = jnp.asarray(X[0, :3])
    inside = jax.grad(ps.emulate(g, policy))(x)
    outside = jax.grad(jax.checkpoint(ps.emulate(f, policy)))(x)
    plain = jax.grad(ps.emulate(f, policy))(x)
    np.testing.assert_array_equal(outside, plain)
    assert np.all(np.isfinite(inside))


@pytest.mark.long
def test_solvers_that_are_not_symmetric() -> None:
    a = 8 * np.eye(3, dtype=np.float32) + X[:3, :3] / 8
    solve: Callable[[Any], Any] = lambda a: jnp.linalg.solve(a, a[0])
    found = ps.emulate(solve, "bf16")(a)
    np.testing.assert_allclose(found, solve(a), atol=0.02)
    total: Callable[[Any], Any] = lambda a: jnp.sum(solve(a))
    gradient = jax.grad(ps.emulate(total, "bf16"))(a)
    np.testing.assert_allclose(gradient, jax.grad(total)(a), atol=0.02)
