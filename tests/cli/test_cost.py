"""`precsim cost`: the table, JSON, a number of parameters, bad input."""

import json
from pathlib import Path
from typing import Any

import pytest

from precsim.cli.main import main


def output(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["cost", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def cells(out: str, policy: str) -> list[str]:
    """Return the amounts of a policy's row, each number with its unit."""
    row = next(line for line in out.splitlines() if line.split()[:1] == [policy])
    parts = row.split()[1:]
    text = " ".join(parts).replace("B ", "B,").replace("0 ", "0,")
    return [part.strip() for part in text.split(",")]


def test_row_64_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--parameters 109482240 --optimizer adam --policy fp32 fp16_mixed fp16,opt=fp16"
    out = output(*options.split(), capsys=capsys)
    wanted = {"fp32": "1.75 GB", "fp16_mixed": "1.75 GB", "fp16,opt=fp16": "876 MB"}
    assert {policy: cells(out, policy)[-1] for policy in wanted} == wanted
    assert "operations" not in out.split("Bytes of a machine")[0].replace("-\n", "")


def test_a_model_has_activations_and_operations(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policy", "fp32", "bf16_mixed", "--batch-size", "1000000000", "--json"]
    found: Any = json.loads(output(*options, capsys=capsys))
    assert found["title"] == "A step of mlp on digits, batch of 1000000000, sgd"
    first, second = found["costs"]
    assert first["policy"] == "fp32"
    assert first["activations"] > second["activations"] > 3e11
    assert first["operations"] == second["operations"] > 1e13
    assert {row["role"] for row in first["rows"]} == {
        "forward",
        "dgrad",
        "wgrad",
        "other",
        "update",
    }


def test_a_model_and_data_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "import numpy as np",
        "model = lambda: ({'w': np.ones((4, 3), np.float32)}, lambda p, x: x @ p['w'])",
        "data = lambda: (np.ones((16, 4), np.float32), np.zeros(16, np.int32))",
    ]
    (tmp_path / "own_module_of_costs.py").write_text("\n".join(lines), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["--model", "own_module_of_costs:model", "--task", "own_module_of_costs:data"]
    options = [*names, "--batch-size", "8", "--policy", "bf16_mixed", "--json"]
    (found,) = json.loads(output(*options, capsys=capsys))["costs"]
    assert (found["weights"], found["masters"]) == (24, 48)


def test_table_of_a_model_fits_60_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = output("--policy", "p=fp32,c=bf16,o=fp32,wgrad=bf16_bf16_fp32", capsys=capsys)
    assert max(map(len, out.splitlines())) <= 60
    assert "…" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--parameters 9 --model mlp", "--model is given beside --parameters; allowed is one of"),
        ("--parameters 0", "--parameters is 0; allowed are integers from 1 on"),
        ("--model gpt", "--model is 'gpt'; allowed are '"),
        ("--batch-size 0", "--batch-size is 0; allowed are integers from 1 on"),
        ("--optimizer adm", "--optimizer is 'adm'; allowed are 'sgd'"),
        ("--policy bf17", "unknown policy 'bf17'"),
        ("--policy fp32;nowhere:bf16", "rule 'nowhere' of the policy matches no scope"),
    ],
)
def test_refusals(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"precsim: error: {message}")
    assert err.count("\n") == 1
