"""`autocast`: narrow products, wide sums, weights as they are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import precsim as ps
from precsim.transform import autocast as module
from precsim.transform import native_products
from precsim.transform.jaxprs import equations

Tree = dict[str, jax.Array]
BF16, F32 = "bfloat16", "float32"
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 8)), jnp.float32)


def weights(**shapes: tuple[int, ...]) -> Tree:
    rng = np.random.default_rng(2)
    draws = {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    return {name: jnp.asarray(draw, jnp.float32) for name, draw in draws.items()}


def products(fun: Callable[..., Any], *args: Any) -> list[Any]:
    """Return name, operands and result of each product of a program, in any order."""
    eqns = equations(jax.make_jaxpr(fun)(*args))
    found = [
        (e.primitive.name, *(str(v.aval) for v in (*e.invars[:2], *e.outvars)))
        for e in eqns
        if e.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    return sorted(found)


def dtypes_of(name: str, fun: Callable[..., Any], *args: Any) -> set[str]:
    """Return the dtypes of the first operands of a primitive."""
    eqns = equations(jax.make_jaxpr(fun)(*args))
    return {str(e.invars[0].aval.dtype) for e in eqns if e.primitive.name == name}


def mlp(w: Tree, x: jax.Array, low: Any = F32) -> jax.Array:
    """Return a loss; with a narrow dtype, as one casts by hand."""
    x = jnp.tanh(x.astype(low) @ w["a"].astype(low) + w["b"].astype(low))
    logits = (x @ w["c"].astype(low)).astype(F32)
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])


def block(w: Tree, x: jax.Array, low: Any = F32) -> jax.Array:
    """Return the sum of a transformer block; with a narrow dtype, as one casts by hand."""

    def normed(x: jax.Array) -> jax.Array:
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)

    def dense(x: jax.Array, name: str) -> jax.Array:
        return x.astype(low) @ w[name].astype(low)

    qkv = dense(normed(x), "qkv").reshape(6, 3, 2, 4)
    q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
    scores = jnp.einsum("qhd,khd->hqk", q, k) * 0.5
    share = jax.nn.softmax(scores.astype(F32)).astype(low)
    x = x + dense(jnp.einsum("hqk,khd->qhd", share, v).reshape(6, 8), "out")
    x = x + dense(jax.nn.gelu(dense(normed(x), "up")), "down")
    return jnp.sum(x**2)


MODELS = {
    "mlp": (mlp, weights(a=(8, 16), b=(16,), c=(16, 4))),
    "transformer block": (block, weights(qkv=(8, 24), out=(8, 8), up=(8, 32), down=(32, 8))),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_the_same_products_as_cast_by_hand(name: str) -> None:
    fun, w = MODELS[name]
    by_hand = lambda w, x: fun(w, x, BF16)
    ours = jax.value_and_grad(ps.autocast(fun))
    assert products(ours, w, X) == products(jax.value_and_grad(by_hand), w, X)
    ((value, gradient), expected) = jax.jit(
        lambda w, x: (ours(w, x), jax.value_and_grad(by_hand)(w, x))
    )(w, X)
    np.testing.assert_allclose(value, expected[0], rtol=2e-2)
    for key, g in gradient.items():
        assert g.dtype == np.float32
        distance = jnp.linalg.norm(g - expected[1][key]) / jnp.linalg.norm(g)
        assert distance < 0.03, f"gradient of {key}"


def test_both_orders_with_grad_multiply_in_bf16() -> None:
    fun, w = MODELS["mlp"]
    assert products(jax.grad(ps.autocast(fun)), w, X) == products(ps.autocast(jax.grad(fun)), w, X)


def test_products_accumulate_in_float32() -> None:
    """In bf16 a sum of ones stays at 256."""
    ones = jnp.ones((1, 4096))
    assert jax.jit(ps.autocast(jnp.matmul))(ones, ones.T).item() == 4096


def test_sensitive_operations_stay_in_float32() -> None:
    fun, w = MODELS["transformer block"]
    cast = ps.autocast(fun)
    for name in ("exp", "reduce_sum", "rsqrt", "sub", "div"):
        assert dtypes_of(name, cast, w, X) == {F32}
    assert dtypes_of("tanh", ps.autocast(MODELS["mlp"][0]), MODELS["mlp"][1], X) == {BF16}


def test_master_weights_lose_nothing_in_a_step() -> None:
    """A gradient in bf16 does not pull the weights that it updates into bf16."""
    fun, w = MODELS["mlp"]

    def step(w: Tree, x: jax.Array) -> Tree:
        gradient = jax.grad(fun)(w, x)
        return {key: w[key] - 1e-6 * g for key, g in gradient.items()}

    new = jax.jit(ps.autocast(step))(w, X)
    for key, old in w.items():
        assert 0 < np.max(np.abs(new[key] - old)) < 1e-5


def twice(x: jax.Array, w: jax.Array) -> jax.Array:
    return (x @ w) @ w


ROWS, WHOLE = PartitionSpec("i"), PartitionSpec()  # type: ignore[no-untyped-call]
MESH = Mesh(np.array(jax.devices()[:1]), ("i",))
SQUARE = weights(w=(8, 8))["w"]
HELD: dict[str, Callable[..., Any]] = {
    "jit": jax.jit(twice),
    "checkpoint": jax.checkpoint(twice),
    "scan": lambda x, w: jax.lax.scan(lambda c, _: (twice(c, w), c), x, None, 2)[0],
    "while": lambda x, w: jax.lax.while_loop(
        lambda c: c[0] < 2, lambda c: (c[0] + 1, twice(c[1], w)), (0, x)
    )[1],
    "cond": lambda x, w: jax.lax.cond(x[0, 0] > 0, twice, lambda x, _: x, x, w),
    "custom_jvp": lambda x, w: jax.nn.relu(twice(x, w)),
    "shard_map": jax.shard_map(twice, mesh=MESH, in_specs=(ROWS, WHOLE), out_specs=ROWS),
    "vmap": jax.vmap(lambda x, w: w.T @ x, in_axes=(0, None)),
}


@pytest.mark.parametrize("name", HELD)
def test_programs_inside_programs(name: str) -> None:
    fun = ps.autocast(HELD[name], params=1)
    found = products(fun, X, SQUARE)
    assert found
    assert all(BF16 in str(kind) and F32 not in str(kind) for kind in found)
    assert jax.eval_shape(fun, X, SQUARE) == jax.eval_shape(HELD[name], X, SQUARE)


def test_derivatives_of_ones_own_are_kept() -> None:
    @jax.custom_vjp
    def doubled(x: jax.Array) -> jax.Array:
        return x

    doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))
    total: Callable[..., jax.Array] = lambda x: jnp.sum(doubled(x))
    gradient = jax.grad(ps.autocast(total))(X)
    np.testing.assert_array_equal(gradient, np.full_like(X, 2))


def test_rules_of_the_policy_leave_scopes() -> None:
    def model(w: Tree, x: jax.Array) -> jax.Array:
        x = x @ w["a"]
        with jax.named_scope("head"):
            return x @ w["c"]

    w = MODELS["mlp"][1]
    found = products(ps.autocast(model, "bf16_mixed;head:fp32"), w, X)
    assert [kind[1].partition("[")[0] for kind in found] == [BF16, F32]


def test_a_product_whose_algorithm_is_named_is_left() -> None:
    named = lambda x: jnp.matmul(x, x.T, precision="F32_F32_F32")
    assert [kind[1].partition("[")[0] for kind in products(ps.autocast(named), X)] == [F32]


@pytest.mark.long
def test_fp16_with_loss_scaling() -> None:
    """The gradient of the products is below fp16's smallest number without the scale."""
    w, x = weights(w=(8, 4))["w"], X

    def small(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(x @ w) * 1e-9

    loss = ps.autocast(small, "fp16_mixed")
    scaled = ps.value_and_grad(loss, "fp16_mixed,scale=16777216")
    _, gradient, _, finite = jax.jit(scaled)(w, x)
    assert finite
    expected = np.broadcast_to(1e-9 * np.sum(X, 0)[:, None], w.shape)
    np.testing.assert_allclose(gradient, expected, rtol=5e-3, atol=1e-12)
    assert not np.any(jax.jit(jax.grad(loss))(w, x))


def test_convolutions_and_their_gradients() -> None:
    image, kernel = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 4))
    convolve = lambda w, x: jnp.sum(
        jax.lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    found = products(jax.grad(ps.autocast(convolve), argnums=(0, 1)), kernel, image)
    assert len(found) == 3
    assert all(F32 not in str(kind) for kind in found)


def test_8_bit_products_run_in_bf16_where_there_is_no_kernel_and_say_so() -> None:
    assert not native_products.has_kernel(native_products.FLOAT8[0])
    fun, w = MODELS["mlp"]
    with pytest.warns(UserWarning, match=r"dot_general at .*test_autocast.py.* runs in bf16: cpu"):
        found = products(ps.autocast(fun, "fp8_current"), w, X)
    assert found == products(ps.autocast(fun), w, X)


def test_8_bit_products_with_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_kernel", lambda _: True)
    fun, w = MODELS["mlp"]
    cast = jax.value_and_grad(ps.autocast(fun, "fp8_current"))
    kinds = {(kind[1][:10], kind[2][:10]) for kind in products(cast, w, X)}
    e4m3, e5m2 = "float8_e4m", "float8_e5m"
    assert kinds == {(e4m3, e4m3), (e5m2, e4m3), (e4m3, e5m2)}
    (value, gradient), (right, exact) = jax.jit(
        lambda w, x: (cast(w, x), jax.value_and_grad(fun)(w, x))
    )(w | {"a": 1e-6 * w["a"]}, 1e6 * X)
    np.testing.assert_allclose(value, right, rtol=0.2)
    for key, g in gradient.items():
        assert g.dtype == np.float32
        assert jnp.linalg.norm(g - exact[key]) < 0.25 * jnp.linalg.norm(exact[key])


@pytest.mark.slow
def test_8_bit_products_have_forward_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """u of e5m2 is 2**-3; a Hessian has products of two tangents."""
    monkeypatch.setattr(module, "has_kernel", lambda _: True)
    draw = np.random.default_rng(2).normal
    a, b = (jnp.asarray(draw(size=size), jnp.float32) for size in ((3, 4, 5), (3, 5, 2)))
    loss = lambda a: jnp.sum((a @ b) ** 3)
    fun = ps.autocast(loss, "fp8_current", params=None)
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        found, expected = derivative(fun)(a), derivative(loss)(a)
        assert found.dtype == np.float32
        assert jnp.linalg.norm(found - expected) < 0.25 * jnp.linalg.norm(expected)


def test_a_platform_without_a_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_kernel", lambda _: False)
    with pytest.raises(
        ValueError, match=r"dot_general at .* has operands in bfloat16 under .* cpu"
    ):
        jax.eval_shape(ps.autocast(jnp.matmul), X, X.T)


def test_the_gain_is_measured_and_its_kernels_are_named() -> None:
    ones = jnp.ones((16, 16))
    gain = ps.kernels.measure_gain(jnp.matmul, "bf16_mixed", ones, ones, repeats=1)
    assert len(gain.kernels) == len(gain.kernels_before) == 1
    assert str(gain).startswith("bf16_mixed on cpu: ")
    assert gain.ratio == gain.before / gain.after


def test_errors_are_explained() -> None:
    with pytest.raises(ValueError, match=r"lhs of .* is 'q3\.12'; native kernels have fp32, fp16"):
        ps.autocast(jnp.sin, "q3.12")
    with pytest.raises(ValueError, match=r"operands of .* differ; native kernels have two of one"):
        ps.autocast(jnp.sin, "fwd=bf16_fp16_fp32")
    with pytest.raises(ValueError, match="'tail' of the policy matches no scope"):
        ps.autocast(jnp.sin, "bf16_mixed;tail:fp32")(1.0)
    with pytest.raises(TypeError, match="fun is 3; allowed is a function"):
        ps.autocast(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="params is -1"):
        ps.autocast(jnp.sin, params=-1)


@pytest.mark.gpu
@pytest.mark.parametrize(("policy", "most"), [("bf16_mixed", 1), ("fp16_mixed", 1)])
def test_a_float32_product_is_not_slower_on_a_gpu(policy: str, most: float) -> None:
    if jax.default_backend() != "gpu":
        pytest.skip("no GPU")
    ones = jnp.ones((4096, 4096))
    gain = ps.kernels.measure_gain(jnp.matmul, policy, ones, ones)
    assert gain.ratio > most, str(gain)
    assert {kernel.kind for kernel in gain.kernels} <= {"cuBLASLt", "cuBLAS", "Triton"}


@pytest.mark.gpu
def test_8_bit_products_have_kernels_on_an_h100() -> None:
    if jax.default_backend() != "gpu":
        pytest.skip("no GPU")
    if not native_products.has_kernel(native_products.FLOAT8[0]):
        pytest.skip("this GPU multiplies no 8-bit operands")
    ones = jnp.ones((512, 512))
    gain = ps.kernels.measure_gain(jnp.matmul, "fp8_current", ones, ones)
    assert len(gain.kernels) == 1, str(gain)
