"""`precsim train` under policies with rules: in a string, in a TOML file, and refused."""

import json
from pathlib import Path

import pytest

import precsim as ps
from precsim.cli.main import main
from tests.training.test_loop import one_layer

RULES = "p=fp32,c=q3.8;input:fp32;output:bf16,fwd=e4m3_e4m3_fp32;logits:bf16"
"""The base has products without a native kernel, and the one layer has none of them."""


@pytest.mark.long
def test_a_string_and_a_file_train_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n' + ps.Policy.parse(RULES).to_toml().partition("\n")[2])
    out = tmp_path / "run"
    words = ["train", "--policy", RULES, str(file), "--verify-bits", "1", "--steps", "2", "--json"]
    words += ["--backend", "native"]
    with one_layer():
        assert main([*words, "--out", str(out)]) == 0
    first, second = json.loads(capsys.readouterr().out)["policies"]
    assert (first["name"], second["name"]) == (RULES, "mine")
    assert first["hashes"] == second["hashes"]
    assert first["policy"] == second["policy"]
    assert first["result"]["backend"] == "native"
    assert ps.Policy.parse(first["policy"]) == ps.Policy.parse(RULES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bf16;layer3:fp32"], "rule 'layer3' of the policy decides nothing: it matches no place"),
        (["bf16;layer3:fp32"], "places are 'input', 'hidden', 'output', 'logits', and for fn="),
        (
            ["bf16;head:p=bf16"],
            "rule 'head': p= is given; p, update, opt, mu, nu, scale, out exist once",
        ),
        (["bf16;head:bf61"], "rule 'head': unknown policy 'bf61'; did you mean 'bf16'?"),
        (["bf16;head"], "rule 'head' is not understood; a rule is SCOPE:SETTINGS"),
        (["no/such.toml"], "no/such.toml cannot be read: No such file"),
        (["fp32;hidden:q3.8", "--backend", "native"], "no native kernel computes 'q3.8_q3.8_fp32"),
    ],
)
def test_bad_rules_are_one_line_and_leave_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--policy", *words]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_two_policies_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "bf16"\npolicy = "fp16"\n')
    assert main(["train", "--policy", "bf16", str(file)]) == 2
    assert "--policy gives two policies of the name 'bf16'" in capsys.readouterr().err
