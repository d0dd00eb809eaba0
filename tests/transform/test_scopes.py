"""Patterns of scopes, and what counts as a softmax or a normalisation."""

import pytest

from precsim.transform.scopes import check_pattern, kind_of, matches


@pytest.mark.parametrize(
    ("pattern", "scope", "expected"),
    [
        ("layer3", "Model/layer3/Dense_0", True),
        ("layer3", "layer3", True),
        ("layer3", "Model/layer30/Dense_0", False),
        ("layer3", "Model/layer3Dense", False),
        ("layer*", "Model/layer30/Dense_0", True),
        ("attn*/scores", "Model/attn1/scores/dot", True),
        ("attn*/scores", "Model/attn1/x/scores", False),
        ("Model/*/Dense_0", "Model/layer3/Dense_0", True),
        ("Model/*/Dense_0", "Model/Dense_0", False),
        ("*", "anything", True),
        ("*", "", False),
        ("*/*", "one", False),
        ("block[01]", "block1/qkv", True),
        ("block?", "block12/qkv", False),
        ("dense", "Dense", False),
        ("a/b/a", "a/b/b/a/b/a", True),
    ],
)
def test_parts_match_consecutive_parts(pattern: str, scope: str, expected: bool) -> None:
    assert matches(pattern, scope) is expected


@pytest.mark.parametrize("pattern", ["", "/", "a//b", "/a", "a/", "a:b", "a;b", "a,b", " a", "a\n"])
def test_what_names_no_scope_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^scope of a rule is .*; allowed are names, or patterns"):
        check_pattern(pattern)


def test_scopes_are_strings() -> None:
    with pytest.raises(TypeError, match="scope of a rule is 3; allowed is a string"):
        check_pattern(3)  # type: ignore[arg-type]


SOFTMAXES = ["softmax", "log_softmax", "logsumexp", "Softmax_0", "LogSumExp", "softmax 1"]
NORMALISATIONS = [
    *("LayerNorm", "LayerNorm_0", "layer_norm", "layer_norm 2", "post_attention_layernorm"),
    *("BatchNorm_1", "batch_norm", "RMSNorm", "rms_norm_3", "GroupNorm", "InstanceNorm_0"),
    *("ln", "ln_1", "ln_f", "ln2", "standardize"),
]
OTHERS = ["", "Dense_0", "max", "log", "exp", "norm", "normal", "inline", "lnorm", "cross_entropy"]


@pytest.mark.parametrize(
    ("names", "kind"),
    [(SOFTMAXES, "softmax"), (NORMALISATIONS, "normalisation"), (OTHERS, None)],
)
def test_kinds_by_name(names: list[str], kind: str | None) -> None:
    assert {name: kind_of(name) for name in names} == dict.fromkeys(names, kind)
    assert {kind_of(f"Model/{name}/mul") for name in names if name} == {kind}


def test_the_innermost_kind_counts() -> None:
    assert kind_of("LayerNorm_0/softmax") == "softmax"
    assert kind_of("softmax/LayerNorm_0/mul") == "normalisation"
