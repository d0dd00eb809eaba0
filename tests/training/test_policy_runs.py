"""A training accepts every policy that the parser accepts; a policy prints what parses to it."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps
from precsim.training.step import initial_state, make_step
from precsim.training.watched import UNGUARDED
from tests.training.test_loop import OneLayer, one_layer

FORMATS = ("fp16", "bf16:rtz", "e4m3:saturate", "q3.8", "float(e=8,p=14)", "e5m2:sr8", "uq0.8")
SPECIAL = ("mxfp8_e4m3", "int8", "fp64", "q20.20", "e8m0", "nonsense")
ANY = st.sampled_from(FORMATS + SPECIAL)
PRODUCTS = st.sampled_from(
    (
        "bf16_fp16_fp32->bf16[sr]",
        "float(e=8,p=14)_raw_fp32:pairwise",
        "mxfp8_mxfp8_fp32[rtz]:fused2x25",
        "h100:bf16",
        "e4m3_e4m3_fp64",
        "bf16_bf16_bf16[sr]",
    )
)
VALUES = {
    **dict.fromkeys(("p", "c", "o", "acc", "e", "opt"), ANY),
    "update": ANY | st.just("kahan"),
    **dict.fromkeys(("fwd", "dgrad", "wgrad"), PRODUCTS),
    "scale": st.sampled_from(("none", "dynamic", "1024", "dynamic@8")),
    "tensor": st.sampled_from(("none", "current")),
    "fn": st.sampled_from(("platform", "portable")),
}
SETTINGS = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), min_size=1, max_size=4)


@st.composite
def policies(draw: Any) -> str:
    """Up to four settings, each of a value that has a meaning somewhere."""
    return ",".join(f"{key}={draw(VALUES[key])}" for key in draw(SETTINGS))


def two_steps(policy: ps.Policy, optimizer: str) -> Any:
    """Trace two steps of a tiny training; whatever a training refuses, it refuses then."""
    config = ps.TrainConfig(policy=policy, optimizer=optimizer, batch_size=2)
    model = OneLayer()
    state = initial_state(config, model.init(np.random.default_rng(0), (2, 2, 1), 3))
    step = make_step(config, model.apply, f"auto{UNGUARDED}")
    x, y = np.zeros((2, 2, 2, 1), np.float32), np.zeros(2, np.int32)
    return jax.eval_shape(lambda state: step(step(state, x, y)[0], x, y), state)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(policies(), st.sampled_from(("momentum", "adam")))
def test_every_policy_that_parses_trains_and_prints_back(text: str, optimizer: str) -> None:
    try:
        policy = ps.Policy.parse(text)
    except ValueError:
        return
    assert ps.Policy.parse(str(policy)) == policy
    two_steps(policy, optimizer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p=mxfp8_e4m3", "params is mxfp8_e4m3, a block format"),
        ("fn=portable,opt=mxfp4", "optimizer_state of portable functions is mxfp4, a block format"),
        ("fn=portable,opt=int8", "optimizer_state of portable functions is int8, an affine"),
        ("update=int8", "update is int8, an affine format"),
        ("e=mxfp8_e4m3", "elementwise is mxfp8_e4m3, a block format"),
        ("opt=fp64", "optimizer_state is 'fp64'; allowed are formats whose values are float32"),
        ("acc=fp64", "accumulator of forward is 'fp64'; allowed are formats whose values"),
        ("p=q20.20", "params is 'q20.20'; allowed are formats whose values are float32"),
    ],
)
def test_formats_that_a_training_cannot_have_are_refused_before_it(text: str, message: str) -> None:
    """Defect: they were parsed, and raised after training had started."""
    with pytest.raises(ValueError, match="allowed are") as error:
        ps.Policy.parse(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("text", ["p=float(e=8,p=14)", "fwd=float(e=8,p=14)_bf16_fp32,e=q3.4"])
def test_formats_with_commas_print_back(text: str) -> None:
    """Defect: a policy was split at the commas inside of brackets too."""
    policy = ps.Policy.parse(text)
    assert ps.Policy.parse(str(policy)) == policy
    assert str(ps.Policy.parse("bf16,p=float(e=8,p=14)").params) == "float(e=8,p=14)"


def test_a_stochastic_optimizer_state_has_bits_from_seed_step_and_path() -> None:
    """Defect: `opt=bf16:sr` asked for random bits that nobody could give."""
    options: dict[str, Any] = {"policy": "fp32,opt=bf16:sr", "optimizer": "momentum"}
    options |= {"steps": 3, "batch_size": 4, "snapshots": 1}
    states: list[dict[str, np.ndarray]] = []

    def keep(_: int, state: Any) -> None:
        trace = state.optimizer_state[0].trace
        states.append({name: np.asarray(x) for name, x in trace.items()})

    with one_layer():
        for seed in (0, 0, 1):
            ps.train(ps.TrainConfig(seed=seed, **options), on_state=keep)
    first, again, other = states[3], states[7], states[11]
    for name, x in first.items():
        assert (x == ps.round_to(x, "bf16")).all()
        assert (x == again[name]).all()
    assert (first["w"] != other["w"]).any()


def states_after(policy: str, optimizer: str, steps: int = 2) -> list[Any]:
    """Return the state of a tiny training before its steps and after each."""
    config = ps.TrainConfig(policy=ps.Policy.parse(policy), optimizer=optimizer, batch_size=2)  # type: ignore[arg-type]
    model = OneLayer()
    states = [initial_state(config, model.init(np.random.default_rng(0), (2, 2, 1), 3))]
    step = jax.jit(make_step(config, model.apply, f"auto{UNGUARDED}"))
    x = np.random.default_rng(1).random((2, 2, 2, 1)).astype(np.float32)
    for _ in range(steps):
        states.append(step(states[-1], x, np.zeros(2, np.int32))[0])
    return states


@pytest.mark.parametrize("fmt", ["mxfp8_e4m3", "nvfp4:sr", "int8_symmetric", "uint4_channel"])
def test_optimizer_states_in_block_and_affine_formats_train(fmt: str) -> None:
    """Wish 24: the parser accepted them, and the training failed."""
    state = states_after(f"fp32,opt={fmt}", "momentum")[-1].optimizer_state[0].trace
    nearest = ps.RoundingSpec(format=ps.RoundingSpec.parse(fmt).format)
    assert all(np.asarray(x).any() for x in state.values())
    plain = states_after("fp32", "momentum", 1)[-1].optimizer_state[0].trace
    first = states_after(f"fp32,opt={nearest}", "momentum", 1)[-1].optimizer_state[0].trace
    for name, x in plain.items():
        assert (first[name] == ps.round_to(x, nearest)).all()


def test_powers_of_decay_rates_are_no_buffers() -> None:
    """Defect: 0.999 became 1 in bf16, so portable Adam divided by 0 and took no second step."""
    states = states_after("fn=portable,opt=bf16", "adam", 3)
    assert states[-1].optimizer_state.powers.tolist() != [1, 1]
    weights = [np.asarray(state.params["b"]) for state in states]
    for before, after in itertools.pairwise(weights):
        assert (before != after).all()
