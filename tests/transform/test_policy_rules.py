"""Policies with scopes: rules in strings, in TOML and as objects; what holds where."""

import random
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from precsim.options import Rule
from precsim.transform.presets import PRESETS

ISSUE = "bf16_mixed;layer3:fwd=e4m3_e4m3_fp32,e=bf16;scores:fp32;head:bf16"


def formats(policy: ps.Policy) -> tuple[str, ...]:
    return tuple(map(str, (policy.forward, policy.dgrad, policy.wgrad, policy.elementwise)))


def test_layer_scores_and_head_in_one_string() -> None:
    policy = ps.Policy.parse(ISSUE)
    bf16 = "bf16_bf16_fp32->bf16"
    fp32 = "fp32_fp32_fp32"
    assert formats(policy.at("Model/layer3/Dense_0")) == ("e4m3_e4m3_fp32", bf16, bf16, "bf16")
    assert formats(policy.at("Model/layer2/attn/scores")) == (fp32, fp32, fp32, "fp32")
    assert formats(policy.at("Model/head")) == formats(ps.Policy.parse("bf16"))
    assert policy.at("Model/layer2/Dense_0") == policy.at("") == ps.Policy.parse("bf16_mixed")
    assert policy.name == ISSUE
    found = policy.matching("Model/layer3/scores")
    assert found is policy.rules[0]  # the first match decides
    assert policy.matching("Model/layer2") is None


def test_what_exists_once_is_the_bases_everywhere() -> None:
    policy = ps.Policy.parse("bf16_kahan,opt=fp16,scale=1024,out=fp16;head:fp16_mixed")
    once = ("params", "update", "is_compensated", "optimizer_state", "loss_scale", "output")
    assert all(getattr(policy.at("head"), name) == getattr(policy, name) for name in once)
    rule = Rule("head", ps.Policy.parse("fp16_mixed"))
    assert replace(ps.Policy.parse("bf16_kahan,opt=fp16,scale=1024,out=fp16"), rules=(rule,)) == (
        policy
    )


def test_a_preset_replaces_products_and_elementwise_a_key_what_it_names() -> None:
    base = "fp8_current,red=fp16,order=kahan,softmax=fp32,fn=portable"
    policy = ps.Policy.parse(f"{base};a:bf16;b:e=fp16;c:acc=fp16;d:softmax=none,tensor=none")
    assert formats(policy.at("a")) == formats(ps.Policy.parse("bf16"))
    assert (policy.at("a").tensor_scaling, str(policy.at("a").reductions)) == ("none", "bf16")
    assert (str(policy.at("a").reduction_order), policy.at("a").functions) == ("kahan", "portable")
    assert policy.at("b") == ps.Policy.parse(f"{base},e=fp16")
    assert str(policy.at("c").forward) == "e4m3[saturate]_e4m3[saturate]_fp16->bf16"
    assert policy.at("c").elementwise == policy.elementwise
    assert policy.at("d").softmax is None
    assert formats(policy.at("d")) == formats(policy)


def test_reductions_follow_elementwise_unless_they_are_given() -> None:
    policy = ps.Policy.parse("bf16;a:e=fp16;b:red=fp32;c:fp32")
    assert str(policy.reductions) == "bf16"
    assert [str(policy.at(scope).reductions) for scope in "abc"] == ["fp16", "fp32", "fp32"]
    given = ps.Policy.parse("bf16,red=fp32,order=sequential;a:e=fp16;b:order=exact")
    assert [str(given.at(scope).reductions) for scope in "ab"] == ["fp32", "fp32"]
    assert [str(given.at(scope).reduction_order) for scope in "ab"] == ["sequential", "exact"]


def test_softmax_and_normalisation_hold_inside_them() -> None:
    policy = ps.Policy.parse("bf16,red=fp16,softmax=fp32,norm=tf32;head:fp16,softmax=none")
    found = {
        scope: (str(policy.at(scope).elementwise), str(policy.at(scope).reductions))
        for scope in (
            "attn/softmax/exp",
            "attn/LayerNorm_0",
            "attn/mul",
            "head/softmax",
            "head/ln_1",
        )
    }
    assert found == {
        "attn/softmax/exp": ("fp32", "fp32"),
        "attn/LayerNorm_0": ("tf32", "tf32"),
        "attn/mul": ("bf16", "fp16"),
        "head/softmax": ("fp16", "fp16"),
        "head/ln_1": ("tf32", "tf32"),
    }
    assert formats(policy.at("attn/softmax"))[:3] == formats(policy)[:3]


def test_a_policy_without_rules_is_its_own_everywhere() -> None:
    for name in PRESETS:
        policy = ps.Policy.parse(name)
        assert policy.at("any/scope") is policy
        assert ";" not in str(policy)
        assert "red=" not in str(policy)


FORMATS = ["fp32", "bf16", "fp16", "e4m3:rtz:saturate", "e5m2", "q3.8", "tf32", "float(e=6,p=10)"]
PRODUCTS = ["e4m3_e4m3_fp32", "h100:bf16", "fp16_fp16_fp16:pairwise", "raw_bf16_fp32[rtz]->bf16"]
VALUES = {
    **dict.fromkeys(("c", "acc", "o", "e", "red"), FORMATS),
    **dict.fromkeys(("fwd", "dgrad", "wgrad"), PRODUCTS),
    "softmax": ["none", *FORMATS],
    "norm": ["none", *FORMATS],
    "order": ["sequential", "pairwise", "blocked16", "kahan", "exact"],
    "tensor": ["none", "current"],
    "fn": ["platform", "portable"],
}
ONCE = {
    "p": FORMATS,
    "update": FORMATS,
    "opt": FORMATS,
    "mu": ["none", *FORMATS],
    "nu": ["none", *FORMATS],
    "scale": ["none", "1024", "dynamic@8"],
    "out": ["none", *FORMATS],
}
SCOPES = ["layer3", "attn*/scores", "*", "block[01]/?kv", "Model/*/Dense_0", "block 1", "häd"]


def settings(rng: random.Random, values: dict[str, list[str]], least: int) -> str:
    keys = rng.sample(sorted(values), rng.randint(least, 5))
    given = [f"{key}={rng.choice(values[key])}" for key in keys]
    preset = [rng.choice(sorted(PRESETS))] if rng.random() < 0.5 or not given else []
    return ",".join(preset + given)


def a_policy(rng: random.Random) -> str:
    rules = [f"{rng.choice(SCOPES)}:{settings(rng, VALUES, 0)}" for _ in range(rng.randint(0, 3))]
    return ";".join([settings(rng, VALUES | ONCE, 0), *rules])


@pytest.mark.parametrize("seed", range(10))
def test_round_trips_of_random_policies(seed: int) -> None:
    rng = random.Random(seed)
    count = 0
    while count < 12:
        text = a_policy(rng)
        try:
            policy = ps.Policy.parse(text)
        except ValueError:  # machines have accumulators of their own
            continue
        count += 1
        again = ps.Policy.parse(str(policy))
        assert (again, hash(again), str(again)) == (policy, hash(policy), str(policy)), text
        toml = ps.Policy.from_toml(policy.to_toml())
        assert (toml, toml.name) == (policy, policy.name), text
        built = replace(policy, rules=[Rule(r.scope, r.policy) for r in policy.rules])
        assert built == policy, text
        for scope in ("Model/layer3/Dense_0", "attn1/scores", "block1/qkv/softmax", ""):
            found = policy.at(scope)
            assert found == again.at(scope) == toml.at(scope)
            assert not found.rules
            assert found.at(scope) == found


def test_every_field_has_a_key() -> None:
    policy = ps.Policy.parse("fp32")
    changed: dict[str, Any] = {
        "params": "bf16",
        "elementwise": "bf16",
        "update": "bf16:sr",
        "optimizer_state": "bf16",
        "first_moment": "bf16",
        "second_moment": "fp16",
        "loss_scale": "8",
        "tensor_scaling": "current",
        "functions": "portable",
        "reductions": "fp16",
        "reduction_order": "kahan",
        "softmax": "bf16",
        "normalisation": "bf16",
        "output": "bf16",
        "rules": ("head:bf16",),
        **dict.fromkeys(("forward", "dgrad", "wgrad"), "bf16_bf16_fp32"),
    }
    assert set(changed) | {"name", "is_compensated"} == {f.name for f in fields(ps.Policy)}
    for name, value in changed.items():
        other = replace(policy, **{name: value})
        assert other != policy
        assert ps.Policy.parse(str(other)) == other


def test_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\npolicy = "bf16_mixed"\n\n[[rule]]\nscope = "layer3"\n'
        'policy = "fwd=e4m3_e4m3_fp32,e=bf16"\n[[rule]]\nscope = "scores"\npolicy = "fp32"\n'
        '[[rule]]\nscope = "head"\npolicy = "bf16"\n'
    )
    policy = ps.Policy.from_toml(file)
    assert policy == ps.Policy.parse(ISSUE) == ps.Policy.from_toml(str(file))
    assert policy.name == "mine"
    assert ps.Policy.from_toml(policy.to_toml()).name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bf16;layer3", "rule 'layer3' is not understood; a rule is SCOPE:SETTINGS, such as"),
        ("bf16;", "rule '' is not understood; a rule is SCOPE:SETTINGS"),
        ("bf16;layer3:", "rule 'layer3:' is not understood"),
        ("bf16;:fp32", "rule ':fp32' is not understood"),
        (
            "bf16;a//b:fp32",
            "scope of a rule is 'a//b'; allowed are names, or patterns with *, ? and",
        ),
        ("bf16;a,b:fp32", "scope of a rule is 'a,b'; allowed are names"),
        ("bf16;head:bf61", "rule 'head': unknown policy 'bf61'; did you mean 'bf16'?"),
        ("bf16;head:e=bf17", "rule 'head': unknown format 'bf17'; did you mean 'bf16'?"),
        (
            "bf16;head:ee=bf16",
            "rule 'head': policy setting 'ee=bf16' is not understood; keys are p, c",
        ),
        ("bf16;head:e=bf16,e=fp16", "gives 'e' twice"),
        (
            "bf16;head:p=bf16",
            "rule 'head': p= is given; p, update, opt, mu, nu, scale, out exist once and are",
        ),
        (
            "bf16;head:bf16,scale=2",
            "rule 'head': scale= is given; p, update, opt, mu, nu, scale, out exist",
        ),
        ("bf16,order=pairwize", "did you mean 'pairwise'?"),
        ("bf16,softmax=mxfp4", "softmax is"),
        (
            "bf16,red=fp64",
            "reductions (red=) is 'fp64'; allowed are formats whose values are float32",
        ),
    ],
)
def test_errors_of_rules(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as error:
        ps.Policy.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy in TOML has no 'policy'"),
        ("policy = 3", "policy in TOML: policy is 3; allowed is a string"),
        ('policy = "bf16', "policy in TOML cannot be read: "),
        ('polcy = "bf16"\npolicy = ""', "unknown key 'polcy'; did you mean 'policy'?"),
        ('policy = "bf16;a:bf16"', "'bf16;a:bf16' has a ';'; a rule is a table, [[rule]]"),
        ('policy = "bf16"\nrule = 3', "rule is 3; allowed are tables, [[rule]]"),
        ('policy = "bf16"\nrule = [3]', "rule 1 is 3; allowed is a table, [[rule]]"),
        ('policy = "bf16"\n[[rule]]\nscope = "a"', "policy in TOML, rule 1 has no 'policy'"),
        ('policy = "bf16"\n[[rule]]\nscope = "a"\npolicy = "bf61"', "did you mean 'bf16'?"),
        ("no/such.toml", "no/such.toml cannot be read: No such file"),
    ],
)
def test_errors_of_toml(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as error:
        ps.Policy.from_toml(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_of_rule_objects() -> None:
    with pytest.raises(
        ValueError, match=r"policy of rule 'a' has rules; allowed is a policy without"
    ):
        Rule("a", ps.Policy.parse(ISSUE))
    with pytest.raises(TypeError, match="rule is 3; allowed are a string or a Rule"):
        replace(ps.Policy.parse("bf16"), rules=(3,))
    with pytest.raises(TypeError, match="policy is 3; allowed are a string or a Policy"):
        Rule("a", 3)
