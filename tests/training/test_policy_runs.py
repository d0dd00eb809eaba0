"""A training accepts every policy that the parser accepts; a policy prints what parses to it."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.recipes.optimizers import buffers_of, make_optimizer
from precsim.training.step import initial_state, make_step
from precsim.training.watched import UNGUARDED
from precsim.transform.noise import bits_at, fold_in
from tests.training.conftest import layered
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
    state = initial_state(
        layered(config), model.init(np.random.default_rng(0), Problem((2, 2, 1), "float32", (), 3))
    )
    step = make_step(layered(config, model), f"auto{UNGUARDED}")
    x, y = np.zeros((2, 2, 2, 1), np.float32), np.zeros(2, np.int32)
    return jax.eval_shape(lambda state: step(step(state, x, y)[0], x, y), state)


@pytest.mark.long
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
        ("p=mxfp8_e4m3", "params (p=) is mxfp8_e4m3, a block format"),
        ("fn=portable,opt=mxfp4", "optimizer_state of portable functions is mxfp4, a block format"),
        ("fn=portable,nu=int8", "nu of portable functions is int8, an affine"),
        (
            "mu=fp64",
            "first_moment (mu=) is 'fp64'; allowed are formats whose values are float32",
        ),
        ("fn=portable,opt=int8", "optimizer_state of portable functions is int8, an affine"),
        ("update=int8", "update is int8, an affine format"),
        ("e=mxfp8_e4m3", "elementwise (e=) is mxfp8_e4m3, a block format"),
        (
            "opt=fp64",
            "optimizer_state (opt=) is 'fp64'; allowed are formats whose values are float32",
        ),
        ("acc=fp64", "accumulator of forward is 'fp64'; allowed are formats whose values"),
        ("p=q20.20", "params (p=) is 'q20.20'; allowed are formats whose values are float32"),
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


@pytest.mark.long
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


def taken_steps(policy: str, optimizer: str, count: int) -> list[Any]:
    """Return (state, metrics) of the steps of a tiny training."""
    options: Any = {"policy": ps.Policy.parse(policy), "optimizer": optimizer, "batch_size": 2}
    config, model = ps.TrainConfig(**options), OneLayer()
    state = initial_state(
        layered(config), model.init(np.random.default_rng(0), Problem((2, 2, 1), "float32", (), 3))
    )
    step = jax.jit(make_step(layered(config, model), f"auto{UNGUARDED}"))
    x = np.random.default_rng(1).random((2, 2, 2, 1)).astype(np.float32)
    taken = []
    for _ in range(count):
        taken.append(step(state, x, np.zeros(2, np.int32)))
        state = taken[-1][0]
    return taken


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        "mxfp8_e4m3",
        pytest.param("int8", marks=pytest.mark.slow),
        pytest.param("nvfp4:sr", marks=pytest.mark.slow),
        pytest.param("uint4_channel", marks=pytest.mark.slow),
    ],
)
def test_optimizer_states_in_block_and_affine_formats_train(spec: str) -> None:
    """Wish 24: they were refused. After a step of momentum the buffer is the rounded gradient."""
    state, metrics = taken_steps(f"fp32,opt={spec}", "momentum", 1)[0]
    for name, buffer in state.optimizer_state[0].trace.items():
        gradient = np.asarray(metrics.gradient[name])
        bits = None
        if ":sr" in spec:
            here = fold_in(state.key, 0)
            bits = bits_at(here, f"optimizer state[0].trace['{name}']", gradient.shape)
            bits = np.asarray(bits)
        assert (np.asarray(buffer) == ps.round_to(gradient, spec, random_bits=bits)).all()
        assert gradient.ndim == 1 or (buffer != gradient).any()


def test_powers_of_decay_rates_are_no_buffers() -> None:
    """Defect: 0.999 became 1 in bf16, so portable Adam divided by 0 and took no second step."""
    config = ps.TrainConfig(policy=ps.Policy.parse("fn=portable,opt=bf16"), optimizer="adam")
    state = make_optimizer(config).init({"w": np.zeros(3, np.float32), "b": np.zeros(2)})
    assert buffers_of(config, state) == (True, True, False)


@pytest.mark.slow
def test_portable_adam_with_a_state_in_bf16_goes_on() -> None:
    weights = [s.params["b"] for s, _ in taken_steps("fn=portable,opt=bf16", "adam", 3)]
    assert all((before != after).all() for before, after in itertools.pairwise(weights))
