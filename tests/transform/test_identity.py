"""A policy that rounds nothing changes no bit: of plain JAX programs, and of libraries' models."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from precsim.transform.emulate import emulate, run
from precsim.transform.operation import Context
from precsim.transform.policy import Policy

RNG = np.random.default_rng(0)
PROGRAMS: dict[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]] = {}
HEAVY = ("transformer", "l-bfgs", "special functions", "attention", "lstm", "convolution")


def program(name: str) -> Callable[..., Any]:
    return lambda make: PROGRAMS.setdefault(name, make)


def x(*shape: int) -> Any:
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


@program("mlp")
def mlp() -> Any:
    def loss(p: Any, x: Any) -> Any:
        return jnp.mean((jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]) ** 2)

    return loss, ({"w": x(4, 8), "b": x(8), "v": x(8, 3)}, x(5, 4))


@program("convolution")
def convolution() -> Any:
    def loss(p: Any, x: Any) -> Any:
        kinds = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=kinds)
        y = lax.reduce_window(
            jax.nn.relu(y), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
        return jax.nn.logsumexp(y.reshape(2, -1) @ p["w"], axis=-1).sum()

    return loss, ({"k": x(3, 3, 2, 4), "w": x(64, 3)}, x(2, 8, 8, 2))


@program("gru")
def gru() -> Any:
    def loss(p: Any, x: Any) -> Any:
        def cell(h: Any, t: Any) -> Any:
            z = jax.nn.sigmoid(t @ p["w"] + h @ p["u"])
            h = (1 - z) * h + z * jnp.tanh(t @ p["w"] + h @ p["u"])
            return h, h

        return jnp.sum(lax.scan(cell, jnp.zeros((3, 6)), x)[1] ** 2)

    return loss, ({"w": x(4, 6), "u": x(6, 6)}, x(5, 3, 4))


@program("lstm")
def lstm() -> Any:
    def loss(p: Any, x: Any) -> Any:
        def cell(state: Any, t: Any) -> Any:
            h, c = state
            i, f, o, u = jnp.split(t @ p["w"] + h @ p["u"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = (jnp.zeros((3, 6)), jnp.zeros((3, 6)))
        return lax.scan(cell, start, x, unroll=2, reverse=True)[1].mean()

    return loss, ({"w": x(4, 24), "u": x(6, 24)}, x(5, 3, 4))


@program("attention")
def attention() -> Any:
    def loss(p: Any, x: Any) -> Any:
        q, k, v = (jnp.einsum("bld,dhe->blhe", x, p[n]) for n in "qkv")
        return jnp.sum(jax.nn.dot_product_attention(q, k, v, is_causal=True) ** 2)

    return loss, ({n: x(8, 2, 4) for n in "qkv"}, x(2, 5, 8))


@program("transformer")
def transformer() -> Any:
    def norm(y: Any) -> Any:
        return (y - y.mean(-1, keepdims=True)) * lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)

    @jax.checkpoint
    def block(h: Any, p: Any) -> Any:
        q, k, v = jnp.split(norm(h) @ p["qkv"], 3, -1)
        h = h + jax.nn.softmax(q @ k.swapaxes(1, 2), -1) @ v
        return h + jax.nn.gelu(norm(h) @ p["u"]) @ p["d"]

    def loss(p: Any, tokens: Any) -> Any:
        logits = block(p["embedding"][tokens], p) @ p["embedding"].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()

    p = {"embedding": x(11, 8), "qkv": x(8, 24), "u": x(8, 16), "d": x(16, 8)}
    return loss, (p, jnp.asarray(RNG.integers(0, 11, (2, 6))))


@program("fourier")
def fourier() -> Any:
    return lambda x: jnp.abs(jnp.fft.ifft(jnp.fft.fft(x) * x)).sum(), (x(8),)


@program("sort")
def sort() -> Any:
    return lambda x: (jnp.sort(x) * jnp.arange(9.0)).sum() + lax.top_k(x, 3)[0].sum(), (x(9),)


@program("cholesky and eigh")
def factors() -> Any:
    def fun(x: Any) -> Any:
        positive = x @ x.T + jnp.eye(3)
        return jnp.linalg.cholesky(positive).sum() + jnp.linalg.eigh(positive)[0][0] ** 2

    return fun, (x(3, 3),)


@program("branches")
def branches() -> Any:
    return lambda x: lax.cond(x[0] > 0, jnp.sin, lambda x: x * 3, x).sum(), (x(5),)


@jax.custom_vjp
def scaled(x: Any, y: Any) -> Any:
    return jnp.sin(x) * y


scaled.defvjp(lambda x, y: (scaled(x, y), (x, y)), lambda kept, g: (g * 100 * kept[1], None))


@program("custom_vjp and remat")
def own_gradients() -> Any:
    def fun(x: Any) -> Any:
        return jax.checkpoint(jnp.sin)(scaled(x, jnp.arange(5)) + scaled(x, x)).sum()

    return fun, (x(5),)


@program("scatter")
def scatter() -> Any:
    def fun(x: Any) -> Any:
        y = x.at[jnp.array([0, 0, 1])].add(2.5).at[1].multiply(3.0).at[2].set(x[0])
        return (y.at[4].subtract(x[1]) ** 2).sum()

    return fun, (x(5),)


@program("calls")
def calls() -> Any:
    """Functions of functions, whose gradients are added up inside first."""
    inner = jax.jit(lambda x: jnp.linalg.norm(x) + jnp.cumsum(x)[2] * jnp.prod(x))
    return lambda x: inner(x) + inner(x * x) + x.sum(), (x(5),)


@program("l-bfgs")
def lbfgs() -> Any:
    target = jnp.arange(3.0)
    value = lambda p: jnp.sum((p - target) ** 4)
    optimizer = optax.lbfgs()

    def fun(start: Any) -> Any:
        def step(carried: Any) -> Any:
            p, state, n = carried
            loss, gradient = optax.value_and_grad_from_state(value)(p, state=state)
            more = {"value": loss, "grad": gradient, "value_fn": value}
            updates, state = optimizer.update(gradient, state, p, **more)
            return optax.apply_updates(p, updates), state, n + 1

        first = (start, optimizer.init(start), 0)
        return lax.stop_gradient(lax.while_loop(lambda s: s[2] < 3, step, first)[0])

    return fun, (x(3),)


def unlike(got: Any, expected: Any) -> list[int]:
    """Return which leaves differ in a bit, or in dtype or shape."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return [
        n
        for n, (a, b) in enumerate(pairs)
        if a.dtype != b.dtype
        or a.shape != b.shape
        or np.asarray(a).tobytes() != np.asarray(b).tobytes()
    ]


def walked(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose every operation goes through its rule: it is written down."""

    def emulated(*args: Any) -> Any:
        policy, key = Policy.parse("fp32"), jax.random.key(0)
        context = Context(policy=policy, backend="auto", strict=True, key=key, records={})
        return run(fun, args, {}, 0, context)

    return emulated


NAMES = [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in PROGRAMS]


def check(fun: Callable[..., Any], args: tuple[Any, ...], *, eager: bool = False) -> None:
    """Compare outputs and gradients, by both compositions."""
    of_both = partial(emulate, policy="fp32")
    jit = (lambda f: f) if eager else jax.jit
    assert not unlike(jit(of_both(fun))(*args), jit(fun)(*args))
    if jax.eval_shape(fun, *args).shape == ():
        expected = jit(jax.grad(fun))(*args)
        assert not unlike(jit(jax.grad(of_both(fun)))(*args), expected)
        assert not unlike(jit(of_both(jax.grad(fun)))(*args), expected)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_keep_their_bits(name: str) -> None:
    check(*PROGRAMS[name]())


@pytest.mark.long
@pytest.mark.parametrize("name", ["branches", "sort"])
def test_without_jit_too(name: str) -> None:
    """Where JAX runs the same operations one by one: a mean, say, it compiles as one."""
    check(*PROGRAMS[name](), eager=True)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "mlp" else pytest.mark.slow) for n in PROGRAMS]
)
def test_rules_that_round_nothing_keep_them(name: str) -> None:
    fun, args = PROGRAMS[name]()
    fun = fun if name == "l-bfgs" else jax.value_and_grad(fun)
    assert not unlike(jax.jit(walked(fun))(*args), jax.jit(fun)(*args))


@pytest.mark.slow
def test_a_step_of_adamw_keeps_its_bits() -> None:
    loss, (p, tokens) = PROGRAMS["transformer"]()
    optimizer = optax.adamw(1e-2)

    def step(state: Any, tokens: Any) -> Any:
        p, inner = state
        value, gradient = jax.value_and_grad(loss)(p, tokens)
        updates, inner = optimizer.update(gradient, inner, p)
        return (optax.apply_updates(p, updates), inner), value

    state = p, optimizer.init(p)
    assert not unlike(jax.jit(emulate(step, "fp32"))(state, tokens), jax.jit(step)(state, tokens))


@pytest.mark.slow
def test_four_devices() -> None:
    code = "from tests.transform.test_identity import on_four_devices; on_four_devices()"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"XLA_FLAGS": flags})


def on_four_devices() -> None:
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec: Callable[..., Any] = jax.P
    psum: Callable[..., Any] = lax.psum
    rows, everywhere = spec("d"), spec()

    def loss(w: Any, x: Any) -> Any:
        part = lambda w, x: psum(jnp.tanh(x @ w).sum(), "d")
        places = {"in_specs": (everywhere, rows), "out_specs": everywhere}
        mapped: Any = partial(jax.shard_map, mesh=mesh, **places)(part)
        return mapped(w, x)

    args = x(3, 2), x(8, 3)
    check(loss, args)
    assert not unlike(jax.jit(walked(loss))(*args), jax.jit(loss)(*args))
    y = jax.jit(jax.grad(emulate(loss, "e=bf16,fwd=bf16_bf16_fp32")))(*args)
    np.testing.assert_allclose(y, jax.grad(loss)(*args), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linen", "nnx", "equinox", "haiku", "diffrax", "numpyro"])
def test_models_of_libraries_keep_their_bits(name: str) -> None:
    fun, args = LIBRARIES[name]()
    check(fun, args)


def linen_model() -> Any:
    nn: Any = pytest.importorskip("flax.linen")

    layers: list[Any] = [nn.Conv(3, (3, 3)), nn.LayerNorm(), nn.relu, lambda y: y.reshape(2, 1, -1)]
    model = nn.Sequential([*layers, nn.Dense(6), nn.MultiHeadDotProductAttention(2), jnp.sum])
    images = x(2, 4, 4, 1)
    return model.apply, (model.init(jax.random.key(0), images), images)


def nnx_model() -> Any:
    nnx: Any = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs), jnp.sum)
    graph, state = nnx.split(model)
    return lambda state, x: nnx.merge(graph, state)(x), (state, x(5, 3))


def equinox_model() -> Any:
    eqx: Any = pytest.importorskip("equinox")

    model = eqx.nn.MLP(3, "scalar", 8, 2, key=jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_array)
    return lambda p, x: eqx.filter_jit(eqx.combine(p, rest))(x), (arrays, x(3))


def haiku_model() -> Any:
    hk: Any = pytest.importorskip("haiku")

    def fun(x: Any) -> Any:
        core = hk.LSTM(3)
        return hk.nets.MLP([4, 2])(hk.dynamic_unroll(core, x, core.initial_state(2))[0]).sum()

    model = hk.without_apply_rng(hk.transform(fun))
    return model.apply, (model.init(jax.random.key(0), series := x(4, 2, 3)), series)


def diffrax_solve() -> Any:
    diffrax: Any = pytest.importorskip("diffrax")

    def fun(p: Any, start: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, p: jnp.tanh(p @ y))
        steps = {"t0": 0.0, "t1": 1.0, "dt0": 0.1, "max_steps": 16}
        control = diffrax.PIDController(rtol=1e-2, atol=1e-2)
        return diffrax.diffeqsolve(
            term, diffrax.Tsit5(), y0=start, args=p, stepsize_controller=control, **steps
        ).ys.sum()

    return fun, (x(2, 2), x(2))


def numpyro_step() -> Any:
    numpyro: Any = pytest.importorskip("numpyro")
    distributions, infer = numpyro.distributions, pytest.importorskip("numpyro.infer")
    inputs = x(5, 2)

    def model(y: Any) -> None:
        w = numpyro.sample("w", distributions.Normal(0, 1).expand([2]))
        numpyro.sample("y", distributions.Normal(inputs @ w, 1), obs=y)

    kernel = infer.HMC(model, num_steps=3, adapt_step_size=False, step_size=0.05)
    data = (inputs.sum(1),)
    start = kernel.init(jax.random.key(0), 0, None, data, {})
    return lambda z: kernel.sample(start._replace(z=z), data, {}).z["w"], (start.z,)


LIBRARIES: dict[str, Callable[[], Any]] = {
    "linen": linen_model,
    "nnx": nnx_model,
    "equinox": equinox_model,
    "haiku": haiku_model,
    "diffrax": diffrax_solve,
    "numpyro": numpyro_step,
}
