"""What `find_unportable` names and what it lets pass; precsim's own training steps pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic import portable as p
from precsim.training.data.dataset import Problem
from precsim.training.models import cnn, mlp, transformer
from precsim.training.step import initial_state, make_step
from precsim.training.watched import UNGUARDED
from tests.training.conftest import layered, single

X = jnp.ones((3, 3))


def names(fun: Callable[..., Any], *args: Any) -> list[str]:
    return [line.split()[0] for line in ps.replay.find_unportable(fun, *args)]


UNPORTABLE: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "exponential": (jnp.exp, ["exp"]),
    "mul and add": (lambda x: x * x + x, ["mul", "add"]),
    # Whoever uses it might contract it: the result is not fenced in.
    "bare sum of two": (lambda x: x + x, ["add"]),
    "sum": (jnp.sum, ["reduce_sum"]),
    "product": (lambda x: x @ x, ["dot_general"]),
    "quotient": (lambda x: x / 3, ["div"]),
    "root": (jnp.sqrt, ["sqrt"]),
    "cumulative": (jnp.cumsum, ["cumsum"]),
    "narrowing": (lambda x: x.astype(jnp.bfloat16), ["convert_element_type"]),
    "JAX's gradient of two uses": (jax.grad(lambda x: x[0, 1] - x[0, 0]), ["add_any"]),
    "JAX's gradient of rows": (
        jax.grad(lambda x: x[np.array([0, 0, 1])][1, 0]),
        ["scatter-add"],
    ),
    "numbers set in places that may be the same": (
        lambda x: x.at[x[:, 0].astype(int)].set(-x, mode="drop"),
        ["scatter"],
    ),
    "sum in any order": (
        lambda x: jax.lax.reduce(x, np.float32(0), p.add, (0,)),
        ["reduce"],
    ),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda k, y: jnp.sin(y), x), ["sin"]),
    "branch": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.tanh, jnp.abs, x), ["tanh"]),
    "jitted": (jax.jit(jnp.log), ["log"]),
    "platform's matmul": (
        lambda x: ps.matmul(x, x, "bf16_bf16_fp32", backend="native"),
        ["dot_general"],
    ),
}


@pytest.mark.parametrize("name", UNPORTABLE)
def test_operations_that_depend_on_the_device_are_named(name: str) -> None:
    fun, expected = UNPORTABLE[name]
    assert set(names(fun, X)) == set(expected)


def test_lines_say_where() -> None:
    (line,) = ps.replay.find_unportable(lambda x: -jnp.exp(x), X)
    assert line.startswith("exp at ")
    assert "test_portability.py" in line
    assert ps.replay.find_unportable(jnp.exp, X) == ("exp",)  # no line of anybody's


PORTABLE: dict[str, Callable[..., Any]] = {
    "nothing": lambda x: x,
    "portable": lambda x: (p.add(p.multiply(x, x), p.exp(x)), p.mean(x, 0), p.divide(x, x)),
    "moved": lambda x: jnp.where(x > 0, -x, jnp.abs(x)).T.reshape(-1)[:4],
    "largest": lambda x: jnp.max(x, axis=0),
    "set in places of their own": lambda x: x.at[np.array([1, 0])].set(-x[:2], unique_indices=True),
    "rounded": lambda x: ps.round_to(x, "bf16"),
    "emulated product": lambda x: ps.matmul(x, x, "h100:bf16", backend="emulated"),
    "from booleans": lambda x: (x > 0).astype(jnp.float32),
}


@pytest.mark.parametrize("name", PORTABLE)
def test_exact_and_portable_operations_are_not_named(name: str) -> None:
    assert ps.replay.find_unportable(PORTABLE[name], X) == ()


def test_integers_are_fine() -> None:
    fun = lambda k: (k * k + 3, k // 2, jnp.sum(k), k @ k, jnp.cumsum(k), k >> 1)
    assert ps.replay.find_unportable(fun, jnp.ones((3, 3), jnp.int32)) == ()


def test_what_the_result_does_not_depend_on_is_not_named() -> None:
    def fun(x: Any) -> Any:
        log = {"norm": jnp.sum(jnp.exp(x))}
        return p.add(x, x), log

    assert names(lambda x: fun(x)[0], X) == []
    assert {"exp", "reduce_sum"} <= set(names(fun, X))


_BY_DEFAULT = {("h100_bf16", "mlp"), ("h100_fp8", "cnn")}  # the transformer takes long to trace


@pytest.mark.long
@pytest.mark.parametrize(
    ("policy", "model"),
    [
        pytest.param(policy, model, marks=[pytest.mark.slow] * ((policy, model) not in _BY_DEFAULT))
        for policy in ("h100_bf16", "h100_fp16", "h100_fp8")
        for model in ("mlp", "cnn", "transformer")
    ],
)
def test_a_training_step_is_portable_from_end_to_end(policy: str, model: str) -> None:
    """Everything that the next state depends on, for each optimizer; nothing is compiled here."""
    is_text = model == "transformer"
    optimizer = {"mlp": "sgd", "cnn": "momentum", "transformer": "adamw"}[model]
    config = ps.TrainConfig(
        policy=policy,
        model=model,
        task="text" if is_text else "digits",
        batch_size=2,
        optimizer=optimizer,
    )
    module: Any = {"mlp": mlp, "cnn": cnn, "transformer": transformer}[model]
    shape, classes = ((8,), 96) if is_text else ((8, 8, 1), 10)
    state = initial_state(
        layered(config),
        module.init(np.random.default_rng(0), Problem(shape, "float32", (), classes)),
    )
    step = make_step(layered(config, module), f"auto{UNGUARDED}")
    x = np.zeros((2, *shape), np.int32 if is_text else np.float32)
    y = np.zeros((2, 8) if is_text else 2, np.int32)
    assert ps.replay.find_unportable(lambda *args: step(*args)[0], state, x, y) == ()


def found_in_a_step(model: Any, **options: Any) -> list[str]:
    """Return what is not portable in a step of a model of digits."""
    config = ps.TrainConfig(batch_size=2, **options)
    state = initial_state(
        layered(config), model.init(np.random.default_rng(0), Problem((8, 8, 1), "float32", (), 10))
    )
    step = make_step(layered(config, model), f"{config.backend}{UNGUARDED}")
    x, y = single(np.zeros((2, 8, 8, 1))), np.zeros(2, np.int32)
    return list(ps.replay.find_unportable(lambda *args: step(*args)[0], state, x, y))


def test_a_training_step_with_the_functions_of_the_platform_is_not_portable() -> None:
    """Where products are the platform's own, or a function rounds; and Adam's rule."""
    names = [line.split()[0] for line in found_in_a_step(mlp, policy="fp32", backend="native")]
    assert {"dot_general", "exp", "reduce_sum", "div"} <= set(names)
    adam = found_in_a_step(mlp, policy="h100_bf16,fn=platform", optimizer="adam")
    assert {line.split()[0] for line in adam} >= {"sqrt", "div"}


@pytest.mark.long
@pytest.mark.parametrize(("model", "optimizer"), [(mlp, "sgd"), (cnn, "momentum")])
def test_steps_of_perceptrons_and_convolutions_are_portable_by_default(
    model: Any, optimizer: str
) -> None:
    """Defect: their loss and SGD were XLA's, so that only XLA could repeat a run's bits."""
    options = {"policy": "h100_bf16,fn=platform,scale=dynamic", "optimizer": optimizer}
    assert found_in_a_step(model, **options) == []


def test_a_reshape_between_two_float_operations_does_not_hide_that_they_may_be_contracted() -> None:
    x = single([[1.0, 2.0]])
    assert names(lambda x: (x * 3).reshape(-1) + 1, x) == ["mul", "add"]
