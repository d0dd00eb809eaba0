"""Models, losses, measures and optimizers of one's own, as newcomers write them."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.training import prepared
from precsim.training.data.dataset import Problem
from precsim.training.data.own import as_data
from precsim.training.loop import check_policy
from precsim.training.losses import checked_score
from precsim.training.network import as_network
from precsim.training.setup import setup_of
from tests.training.conftest import assert_same_bits, single

train: Any = ps.train  # takes what no type allows


def config(policy: str, **settings: Any) -> ps.TrainConfig:
    return ps.TrainConfig(policy=ps.Policy.parse(policy), **settings)


X, Y = single(np.random.default_rng(0).normal(size=(8, 3))), np.arange(8) % 2
NUMBERS = single(Y)
WEIGHTS = {"w": np.ones((3, 2)), "b": np.zeros(2)}
# Products by XLA and few roundings, which compiles in a fifth of the time.
QUICK: dict[str, Any] = {"steps": 3, "batch_size": 4, "backend": "native", "snapshots": 1}
BF16 = config("p=bf16,e=bf16", **QUICK)
FP32 = config("fp32", **QUICK)


def linear(weights: Any, x: Any) -> Any:
    return x @ weights["w"] + weights["b"]


MODEL = (WEIGHTS, linear)


def traced(data: Any = (X, Y), config: ps.TrainConfig = FP32, **own: Any) -> None:
    """Do all that a run does before it compiles."""
    check_policy(as_data(data), config, **({"model": MODEL} | own))


@pytest.mark.long
def test_a_run_is_the_loop_that_one_would_write() -> None:
    """Weights and losses are those of emulate, optax and apply_updates, bit for bit."""
    batches = [(X[:4], Y[:4]), (X[4:], Y[4:]), (X[:4], Y[:4])]
    schedule = optax.piecewise_constant_schedule(0.5, {2: 0.5})
    optimizer = optax.sgd(schedule, momentum=0.5)

    def own_loss(outputs: Any, targets: Any) -> Any:
        return jnp.mean((outputs[:, 0] - targets) ** 2)

    result = ps.train(BF16, model=MODEL, data=batches, loss=own_loss, optimizer=optimizer)

    def loss_fn(weights: Any, x: Any, y: Any) -> Any:
        outputs = linear(weights, x)
        with jax.named_scope("loss"):
            return own_loss(outputs, y)

    gradient = ps.emulate(jax.value_and_grad(loss_fn), f"{BF16.policy};loss:fp32", backend="native")

    @jax.jit
    def step(weights: Any, state: Any, x: Any, y: Any) -> Any:
        loss, grads = gradient(weights, x, y)
        updates, state = optimizer.update(grads, state, weights)
        return ps.apply_updates(weights, updates, rounding="bf16"), state, loss

    weights = jax.tree.map(jnp.float32, WEIGHTS)
    state = optimizer.init(weights)
    losses = []
    for x, y in batches:
        weights, state, loss = step(weights, state, jnp.asarray(x), jnp.asarray(y, jnp.int32))
        losses.append(loss)
    assert_same_bits(result.losses, single(losses))
    for name, array in weights.items():
        assert_same_bits(result.weights[name], array)
    assert not np.array_equal(result.weights["w"], WEIGHTS["w"])
    assert [int(events.sum()) > 0 for events in result.forward_events.values()] == [True]
    assert result.backward_events.keys() == result.forward_events.keys()


@pytest.mark.long
def test_a_second_run_of_the_same_model_compiles_nothing() -> None:
    traces = 0

    def apply(weights: Any, x: Any) -> Any:
        nonlocal traces
        traces += 1
        return linear(weights, x)

    first = ps.train(FP32, model=(WEIGHTS, apply), data=(X, Y))
    assert traces > 0
    before, other = traces, {"w": np.zeros((3, 2)), "b": np.ones(2)}
    second = ps.train(FP32, model=(other, apply), data=(X, Y))
    assert traces == before
    assert not np.array_equal(first.losses, second.losses)


def linen() -> Any:
    from flax import linen as nn

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(3)(x))
            return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))

    return Linen


def nnx() -> Any:
    from flax import nnx

    class Nnx(nnx.Module):
        def __init__(self, seed: int = 0) -> None:
            rngs = nnx.Rngs(seed)
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.dropout(self.norm(self.first(x))))

    return Nnx


def equinox() -> Any:
    import equinox as eqx

    class Equinox(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        dropout: eqx.nn.Dropout
        last: eqx.nn.Linear

        def __init__(self, key: Any) -> None:
            self.first = eqx.nn.Linear(3, 3, key=key)
            self.norm = eqx.nn.BatchNorm(3, axis_name="batch", mode="batch", momentum=0.5)
            self.dropout = eqx.nn.Dropout(0.5)
            self.last = eqx.nn.Linear(3, 2, key=key)

        def __call__(self, x: Any, state: Any, *, key: Any = None) -> Any:
            x, state = self.norm(self.first(x), state)
            return self.last(self.dropout(x, key=key)), state

    return lambda seed=0: eqx.nn.make_with_state(Equinox)(jax.random.key(seed))


def haiku() -> Any:
    import haiku as hk

    def forward(x: Any, is_training: bool) -> Any:
        x = hk.BatchNorm(True, True, 0.5)(hk.Linear(3)(x), is_training)
        return hk.Linear(2)(hk.dropout(hk.next_rng_key(), 0.5 if is_training else 0.0, x))

    model = hk.transform_with_state(forward)
    return lambda: model


LIBRARIES: dict[str, tuple[str, Callable[[], Any]]] = {
    "Linen": ("flax", linen),
    "NNX": ("flax", nnx),
    "Equinox": ("equinox", equinox),
    "Haiku": ("haiku", haiku),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "library",
    [
        pytest.param(x, marks=pytest.mark.slow if x in ("Equinox", "Haiku") else ())
        for x in LIBRARIES
    ],
)
def test_batch_norm_and_dropout_of_libraries(library: str) -> None:
    """State changes in training only, and in testing nothing is dropped at random."""
    package, build = LIBRARIES[library]
    pytest.importorskip(package)
    model, states, seen = build()(), [], []

    def metric(outputs: Any, targets: Any) -> float:
        seen.append(outputs)
        return 0.5

    result = ps.train(
        FP32,
        model=model,
        data=(X, Y, np.tile(X[:2], (2, 1)), Y[:4]),
        metric=metric,
        on_state=lambda step, state: states.append(jax.tree.map(np.array, numbers(state))),
    )
    assert np.isfinite(result.losses).all()
    assert result.test_score == 0.5
    assert_same_bits(seen[0][:2], seen[0][2:])
    # Running means move in each step, and are what testing uses.
    for before, after in itertools.pairwise(states):
        assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert result.weights.keys() == result.first_gradient.keys()


def numbers(state: Any) -> list[Any]:
    """Return the floats of what a model keeps besides its weights."""
    leaves = jax.tree.leaves(state.model_state)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


@pytest.mark.long
@pytest.mark.parametrize("library", LIBRARIES)
def test_models_that_differ_in_their_weights_share_what_is_compiled(library: str) -> None:
    package, build = LIBRARIES[library]
    pytest.importorskip(package)
    make = build()
    if library in ("NNX", "Equinox"):
        assert as_network(make(1)) == as_network(make(0))
    assert as_network(make()) == as_network(make())
    assert as_network(make()) != as_network(MODEL)


def with_count(weights: Any, x: Any, state: Any) -> Any:
    return linear(weights, x), {"calls": state["calls"] + 1}


def with_noise(weights: Any, x: Any, rng: Any, training: bool = False) -> Any:
    return linear(weights, x) + (jax.random.normal(rng, (len(x), 2)) if training else 0)


FORMS: dict[str, Any] = {
    "weights": MODEL,
    "bfloat16 weights": (jax.tree.map(jnp.bfloat16, WEIGHTS), linear),
    "no arguments": (lambda: dict(WEIGHTS), linear),
    "key": (lambda key: WEIGHTS, linear),
    "key by name": (lambda *, key: WEIGHTS, linear),
    "key and batch": (lambda key, x: WEIGHTS, linear),
    "an option": (lambda key, hidden=4: WEIGHTS | {"h": np.ones(hidden)}, linear),
    "arguments": (lambda *arguments: WEIGHTS, linear),
    "partial": (WEIGHTS, functools.partial(linear)),
    "jit": (WEIGHTS, jax.jit(linear)),
    "integers": (WEIGHTS | {"n": 3, "mask": np.ones(2, bool), "none": None}, linear),
    "a random key": (WEIGHTS | {"key": jax.random.key(0)}, linear),
    "key after": (WEIGHTS, with_noise),
    "key before": (WEIGHTS, lambda weights, rng, x: with_noise(weights, x, rng)),
    "state": (lambda key: (WEIGHTS, {"calls": jnp.int32(0)}), with_count),
    "weights called state": (WEIGHTS, lambda state, x: x @ state["w"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_pairs(form: str) -> None:
    traced(model=FORMS[form])


def test_weights_that_are_integers_are_kept_apart() -> None:
    network = as_network(FORMS["integers"])
    weights, state = network.init(0, X)
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == [bool, np.int32]
    outputs, after = network(weights, state, X, jax.random.key(0), True)
    assert outputs.shape == (8, 2)
    assert after == state


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a function": ({"model": linear}, r"^model is <function linear.*; allowed are a pair \(init,"),
    "no weights": ({"model": ({}, linear)}, r"^model linear has no weights"),
    "text": (
        {"model": (WEIGHTS | {"name": "x"}, linear)},
        r"^weights\['name'\] of model linear is",
    ),
    "no state": ({"model": (lambda: WEIGHTS, with_count)}, r"^init of model with_count returned"),
    "complex": ({"model": ({"w": np.ones(2, "F")}, linear)}, r"^weights\['w'\] .* are complex"),
    "a pair": ({"model": (WEIGHTS, lambda w, x: (x, x))}, r"^the outputs of the model are a tuple"),
    "one output": (
        {"model": (WEIGHTS, lambda w, x: x[:, :1])},
        r"^the outputs of the model have shape \(4, 1\); allowed for loss .* is \(4, 2\)",
    ),
    "two numbers": (
        {"data": (X, NUMBERS)},
        r"^the outputs of the model have shape \(4, 2\); allowed for loss 'mse' .* is \(4,\)",
    ),
    "a vector": (
        {"loss": lambda o, y: o[:, 0]},
        r"^loss returned shape \(4,\) of float32; allowed",
    ),
    "an integer": ({"loss": lambda o, y: y[0]}, r"^loss returned shape \(\) of int32; allowed"),
    "two losses": ({"loss": lambda o, y: (o.sum(), o)}, r"^loss returned a tuple; allowed is one"),
    "no loss": ({"loss": lambda o, y: None}, r"^loss returned a NoneType; allowed is one real"),
    "classes": (
        {"data": (X, NUMBERS), "loss": "cross_entropy"},
        r"^loss is 'cross_entropy', of classes, and the targets are numbers; allowed are 'mse' and",
    ),
    "accuracy": (
        {"data": (X, NUMBERS), "metric": "accuracy"},
        r"^metric is 'accuracy', of classes, and the targets are numbers; allowed are 'rmse' and",
    ),
    "a name": ({"optimizer": "sgd"}, r"^optimizer is 'sgd'; allowed is one of optax$"),
    "no call": (
        {"optimizer": optax.sgd},
        r"^optimizer is <function sgd.*; allowed is one of optax$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        traced(**given)
    assert "\n" not in caught.value.args[0]


def test_two_weights_of_one_name_are_refused() -> None:
    """Their snapshots would be one."""
    weights = {"a/b": WEIGHTS["w"], "a": {"b": WEIGHTS["w"]}}
    apply = lambda w, x: x @ w["a/b"] + x @ w["a"]["b"]
    with pytest.raises(ValueError, match=r"^two weights have the name 'a/b': give a key without"):
        ps.train(FP32, model=(weights, apply), data=(X, Y))


def test_errors_of_a_model_say_of_which_inputs() -> None:
    with pytest.raises(TypeError, match="contracting") as caught:
        traced(model=({"w": np.ones((5, 2)), "b": np.zeros(2)}, linear))
    assert "raised by model linear, applied to inputs float32[4,3]" in caught.value.__notes__


def test_a_model_may_return_its_loss() -> None:
    traced(model=(WEIGHTS, lambda w, x: linear(w, x).mean()), loss=lambda value, targets: value)


def test_scores_are_one_number() -> None:
    assert [checked_score(x) for x in (1, np.float32(0.5), jnp.float32(2))] == [1.0, 0.5, 2.0]
    for value in (np.ones(1), None, {"a": 1}, "0.5"):
        with pytest.raises(TypeError, match=r"^metric returned .*; allowed is one number$"):
            checked_score(value)


SENTENCES = Problem((4,), "int32", (), 2, (9,))


def test_targets_decide_the_loss() -> None:
    """Whoever made the model and the data; the task that a config names has no part in it."""
    masked = config("fp32", model="encoder")
    assert setup_of(masked, SENTENCES).loss == "cross_entropy"
    task = prepared.load_data(masked).problem
    assert setup_of(masked, task).loss == "masked_cross_entropy"
    assert setup_of(masked, task, model=MODEL).loss == "masked_cross_entropy"
    assert as_data((X, np.where(X > 1, -1, 1))).problem.is_masked
    chosen = setup_of(FP32, as_data((X, Y)).problem, model=MODEL, loss="mse")
    assert (chosen.loss, chosen.metric) == ("mse", "rmse")


def test_batches_for_a_model_of_precsim() -> None:
    """The number of classes has to be given: the first batch need not have all."""
    batches = [(np.zeros((4, 8, 8, 1)), [0, 1, 2, 3])]
    config = replace(FP32, model="logistic", task="digits")
    with pytest.raises(ValueError, match=r"^classes is not given; model 'logistic' needs"):
        ps.train(config, data=batches)
    check_policy(as_data(batches, classes=5), config)
    for name in ("classes", "test"):
        given: dict[str, Any] = {name: 4}
        with pytest.raises(ValueError, match=f"^{name} is given without data"):
            ps.train(FP32, **given)


def test_arrays_of_the_user_stay_theirs() -> None:
    """A step takes over the memory of its state, which is none of theirs."""
    weights, state = jax.tree.map(jnp.float32, WEIGHTS), {"calls": jnp.int32(0)}
    setup = setup_of(FP32, as_data((X, Y)).problem, model=(lambda: (weights, state), with_count))
    for leaf in jax.tree.leaves(setup.initial(as_data((X, Y)).problem, X)):
        leaf.delete()
    assert [float(weights["w"].sum()), int(state["calls"])] == [6, 0]


def test_a_model_that_a_config_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = "def make():\n    return {'w': [1.0]}, lambda weights, x: x[:, :1] * weights['w'][0]\n"
    (tmp_path / "own_model_of_a_test.py").write_text(text, "utf-8")
    check_policy(as_data((X, NUMBERS)), replace(FP32, model="own_model_of_a_test:make"))


def test_an_iterator_that_ends_too_early() -> None:
    with pytest.raises(ValueError, match=r"^data is an iterator, which gives its batches once"):
        ps.train(FP32, model=MODEL, data=iter([(X[:4], Y[:4])]))
