"""Policies: the grammar, its round trip, and what its errors suggest."""

import time
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.transform.presets import ALIASES, PRESETS

JMP = ["p=f32,c=bf16,o=f32", "p=f32,c=f16,o=f32", "p=half,c=half,o=half", "p=bfloat16,c=bf16"]
OVERRIDES = [
    "bf16,update=bf16:sr",
    "bf16,update=kahan",
    "fp16_mixed,scale=1024",
    "fp8_current,tensor=none,opt=bf16",
    "q3.8,acc=q3.12",
    "scale=2.5e3",
]


@pytest.mark.parametrize("text", sorted({*PRESETS, *PRESETS.values(), *JMP, *OVERRIDES}))
def test_round_trip(text: str) -> None:
    policy = ps.Policy.parse(text)
    again = ps.Policy.parse(str(policy))
    assert again == policy
    assert hash(again) == hash(policy)
    assert str(again) == str(policy)
    assert policy.name == text
    assert ps.Policy.parse(policy) is policy


def test_presets_differ() -> None:
    policies = {ps.Policy.parse(name) for name in PRESETS if name not in ALIASES}
    assert len(policies) == len(PRESETS) - len(ALIASES)


def test_jmp() -> None:
    policy = ps.Policy.parse("p=f32,c=bf16,o=f32")
    assert str(policy.params) == str(policy.update) == "fp32"
    assert {str(s) for s in (policy.forward, policy.dgrad, policy.wgrad)} == {
        "bf16_bf16_fp32->fp32"
    }
    assert str(policy.elementwise) == "bf16"
    assert (policy.loss_scale, policy.tensor_scaling, policy.is_compensated) == (
        "none",
        "none",
        False,
    )


@pytest.mark.parametrize(
    ("alias", "name"), [("mixed_float16", "fp16_mixed"), ("mixed_bfloat16", "bf16_mixed")]
)
def test_keras_aliases(alias: str, name: str) -> None:
    policy = ps.Policy.parse(alias)
    assert policy == ps.Policy.parse(name)
    assert policy.name == ps.Policy.parse(f"{alias},").name == alias


def test_loss_scale_of_mixed_fp16_is_dynamic_as_in_keras() -> None:
    assert ps.Policy.parse("mixed_float16").loss_scale == "dynamic"
    assert ps.Policy.parse("mixed_bfloat16").loss_scale == "none"


def test_overrides_change_what_they_name_only() -> None:
    base, changed = ps.Policy.parse("bf16"), ps.Policy.parse("bf16,update=bf16:sr")
    assert changed == ps.Policy.parse("bf16_sr")
    assert str(changed.update) == "bf16:sr"
    assert changed.params == base.params
    assert changed.forward == base.forward
    assert ps.Policy.parse("bf16,update=kahan") == ps.Policy.parse("bf16_kahan")


def test_kahan_updates_in_the_format_of_the_weights() -> None:
    policy = ps.Policy.parse("bf16_kahan")
    assert policy.is_compensated
    assert policy.update == policy.params


def test_specs_are_given_as_strings_too() -> None:
    options = dict.fromkeys(("forward", "dgrad", "wgrad"), "bf16_bf16_fp32->bf16")
    policy = ps.Policy(params="bf16", elementwise="bf16", **options)  # type: ignore[arg-type]
    assert policy == ps.Policy.parse("bf16")
    assert policy.name == str(policy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bf16_mixd", "unknown policy 'bf16_mixd'; did you mean 'bf16_mixed'?"),
        ("zzz", "unknown policy 'zzz'; known are fp32, bf16,"),
        ("", "unknown policy ''"),
        ("pp=f32", "policy setting 'pp=f32' is not understood; keys are p, c, o, acc, fwd"),
        ("bf16,p", "policy setting 'p' is not understood"),
        ("p=", "policy setting 'p=' is not understood"),
        ("p=f32,p=f32", "gives 'p' twice"),
        ("c=bf17", "unknown format 'bf17'; did you mean 'bf16'?"),
        ("bf16,update=bf16:st", "unknown rounding option 'st'; did you mean"),
        ("fwd=bf16_bf16", "matmul spec 'bf16_bf16' is not understood; allowed is LHS_RHS_ACC"),
        ("scale=dynamc", "loss scale is 'dynamc'; allowed are 'none', 'dynamic', a "),
        ("scale=-1", "loss scale is '-1'; allowed are"),
        ("scale=0", "loss scale is '0'; allowed are"),
        ("scale=1e400", "loss scale is '1e400'; allowed are"),
        ("tensor=curent", "tensor scaling is 'curent'; allowed are 'none', 'current'"),
    ],
)
def test_errors_say_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"known|understood|twice|allowed|did you mean") as error:
        ps.Policy.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; allowed are integers from 1 on"),
        ({"steps": 1.5}, "steps is 1.5; allowed are integers from 1 on"),
        ({"steps": float("nan")}, "steps is nan; allowed are integers from 1 on"),
        ({"steps": True}, "steps is True; allowed are integers from 1 on"),
        ({"batch_size": "8"}, "batch_size is '8'; allowed are integers"),
        ({"seed": 1.5}, "seed is 1.5; allowed are integers from 0 to 4294967295"),
        ({"snapshots": np.float32(2)}, "snapshots is np.float32(2.0); allowed are integers"),
        ({"learning_rate": "0.1"}, "learning_rate is '0.1'; allowed are positive numbers"),
        ({"learning_rate": True}, "learning_rate is True; allowed are positive numbers"),
        (
            {"task": "text"},
            "reads images; allowed for task 'text', which has characters, are 'transformer'",
        ),
        (
            {"model": "transformer", "task": "digits"},
            "reads characters; allowed for task 'digits', which has images, are 'mlp', 'cnn'",
        ),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"seed": -1}, "seed is -1; allowed are integers from 0"),
        ({"seed": 2**32}, "seed is 4294967296; allowed are integers from 0 to 4294967295"),
        ({"snapshots": 0}, "snapshots is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; allowed are positive numbers"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"model": "mpl"}, "model is 'mpl'; allowed are 'mlp', 'cnn', 'transformer', 'linear'"),
        ({"model": "mpl"}, "; did you mean 'mlp'?"),
        ({"task": "digit"}, "did you mean 'digits'?"),
        ({"optimizer": "zzz"}, "optimizer is 'zzz'; allowed are 'sgd', 'momentum', 'adam'"),
        ({"backend": "reference"}, "backend is 'reference'; allowed are 'auto', 'emulated'"),
        ({"policy": "bf61"}, "unknown policy 'bf61'; did you mean 'bf16'?"),
    ],
)
def test_errors_of_configs(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|unknown") as error:
        ps.TrainConfig(**{"policy": "bf16", **settings})  # type: ignore[arg-type]
    assert message in str(error.value)


def test_configs_are_hashable() -> None:
    configs = {ps.TrainConfig(policy=p) for p in ("fp16_mixed", "mixed_float16")}
    assert len(configs) == 1


def test_integers_of_numpy_are_integers() -> None:
    numbers: dict[str, Any] = {"steps": np.int64(5), "seed": np.uint32(7), "batch_size": np.int8(2)}
    config = ps.TrainConfig(policy="bf16", **numbers)
    assert [type(x) for x in (config.steps, config.seed, config.batch_size)] == [int] * 3
    assert config == ps.TrainConfig(policy="bf16", steps=5, seed=7, batch_size=2)


@pytest.mark.parametrize("value", [5, None, ["bf16"]])
def test_what_is_no_policy_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"policy is .*; allowed are a string or a Policy"):
        ps.TrainConfig(policy=value)


def test_a_long_text_is_refused_at_once_and_in_one_line() -> None:
    """A search to the end from each comma would take minutes; found by `conformance.fuzz`."""
    start = time.process_time()
    hostile = ("fp32" + ",r" * 50_000, "fp32,fwd=" + "a_" * 50_000, "int8\r,e=int8\n", "int8\r")
    for text in hostile:
        with pytest.raises(ValueError, match=r"\A[^\r\n]+\Z"):
            ps.Policy.parse(text)
    assert time.process_time() - start < 2
