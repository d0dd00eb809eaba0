"""Policies with rules in a training: each place by its own policy, in every bit."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers
from precsim.training.models.registry import MODELS
from precsim.training.network import Network
from precsim.training.setup import Layered, setup_of
from precsim.training.watched import UNGUARDED
from precsim.transform.policy import Policy
from tests.training.conftest import assert_same_bits
from tests.training.test_loop import OneLayer, one_layer

TRANSFORMER = "bf16_mixed;block1/qkv:fwd=e4m3_e4m3_fp32,e=bf16;scores:fp32;output:bf16;logits:bf16"


def places(policy: Policy, model: str = "transformer") -> dict[str, Policy]:
    """Return the policy that each place of a model really uses, by a pass over shapes."""
    module = MODELS[model].load()
    used: dict[str, Policy] = {}

    class Noted(Layers):
        def _setting(self, name: str, *, is_first: bool = False) -> Any:
            setting = super()._setting(name, is_first=is_first)
            used[name] = setting.policy
            return setting

    tokens = np.zeros((2, 4), np.int32)
    layers = Noted(policy=policy, backend=f"auto{UNGUARDED}", key=jax.random.key(0))
    weights = module.init(np.random.default_rng(0), Problem((4,), "int32", (4,), 5, (5,)))
    jax.eval_shape(lambda params: module.apply(params, tokens, layers), weights)
    layers.check_rules()
    return used


@pytest.mark.long
def test_layer_scores_and_head_of_the_transformer() -> None:
    used = places(Policy.parse(TRANSFORMER))
    base = Policy.parse("bf16_mixed")
    scores, layer = used.pop("block0/scores"), used.pop("block1/qkv")
    assert str(scores.forward) == str(scores.dgrad) == "fp32_fp32_fp32"
    assert (str(layer.forward), layer.dgrad) == ("e4m3_e4m3_fp32", base.dgrad)
    assert str(used.pop("block1/scores").elementwise) == "fp32"
    assert used.pop("output") == used.pop("logits") == base
    assert set(used.values()) == {base}


@pytest.mark.long
def test_a_rule_that_matches_no_place_is_refused_and_the_places_are_listed() -> None:
    for scope in ("layer3", "scores/x", "softmax*"):
        with pytest.raises(ValueError, match=r"decides nothing") as error:
            places(Policy.parse(f"bf16;{scope}:fp32"))
        message = str(error.value)
        assert message.startswith(f"rule '{scope}' of the policy decides nothing: it matches no")
        assert "'block0/scores'" in message
        assert "\n" not in message
    with pytest.raises(ValueError, match=r"rule 'logits' .* or earlier rules match all"):
        places(Policy.parse("bf16;*:fp32;logits:fp16"))
    places(Policy.parse("bf16;softmax*:fn=portable"))  # a call of a function, where fn differs


def program(policy: str) -> str:
    """Return the program of a training step of one layer, as XLA gets it."""
    with one_layer():
        config = ps.TrainConfig(policy=Policy.parse(policy), batch_size=2)
        run = ps.replay.prepare_run(config, is_guarded=False)
    return str(jax.jit(run.step).lower(run.state, *run.batch(0)).as_text())


@pytest.mark.long
@pytest.mark.parametrize(
    ("ruled", "plain"),
    [
        ("fp32;*:fp8_current", "fp8_current"),
        ("fp16,update=q3.8:sr,fn=portable;*:q3.8_sr", "q3.8_sr,p=fp16,fn=portable"),
        ("fp32;input:bf16;*1:fn=portable;*:bf16,o=fp32", None),
    ],
)
def test_a_rule_for_all_places_makes_the_program_of_its_policy(
    ruled: str, plain: str | None
) -> None:
    """The same program has the same bits; it holds products, scales, roundings and random bits."""
    assert (program(ruled) == program(plain or "bf16_mixed")) is (plain is not None)


def test_bits_of_three_rules_are_those_by_hand() -> None:
    policy = Policy.parse(
        "bf16;input:fp16;output:fwd=fp16_fp16_fp32,wgrad=e5m2_e5m2_fp32;logits:e=e4m3"
    )
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(s).astype(np.float32) for s in ((4, 6), (6, 3), (4, 3)))

    @jax.jit
    def gradient(w: Any) -> Any:
        def logits(w: Any) -> Any:
            layers = Layers(policy=policy, backend=f"auto{UNGUARDED}", key=jax.random.key(0))
            params = {"w": w, "b": np.zeros(3, np.float32)}
            return OneLayer().apply(params, x.reshape(4, 2, 3, 1), layers)

        y, back = jax.vjp(logits, w)
        return y, *back(g)

    y, dw = gradient(w)
    rounded = ps.round_to(x, "fp16")
    expected = ps.matmul(rounded, w, "fp16_fp16_fp32", backend="reference")
    assert_same_bits(y, ps.round_to(expected, "e4m3"))
    cotangent = ps.round_to(g, "e4m3")
    assert_same_bits(dw, ps.matmul(rounded.T, cotangent, "e5m2_e5m2_fp32", backend="reference"))


DIGITS = Problem((8, 8, 1), "float32", (), 10)


@pytest.mark.parametrize(
    "text",
    [
        *("bf16,softmax=bf16", "bf16,norm=fp16", "bf16,out=bf16", "bf16,red=fp16"),
        *("bf16,order=kahan", "fp32;output:softmax=bf16", "fp8_delayed"),
    ],
)
def test_what_layers_have_not_runs_under_emulate(text: str) -> None:
    setup = setup_of(ps.TrainConfig(policy=Policy.parse(text)), DIGITS)
    assert isinstance(setup.model, Network)


def test_what_layers_have_runs_by_them() -> None:
    allowed = Policy.parse("bf16,softmax=fp32,norm=fp32,red=fp32;output:red=fp32")
    assert isinstance(setup_of(ps.TrainConfig(policy=allowed), DIGITS).model, Layered)
