"""The matrix of models and policies: a cell is a run against its float32 run."""

import csv
import json
from pathlib import Path

import pytest

import precsim as ps
from experiments import training_matrix

SETTINGS = {"steps": 2, "snapshots": 1}
CELLS = [("linear", "fp32"), ("linear", "bf16_mixed"), ("gru", "fp32"), ("linear", "q3.8")]


@pytest.mark.long
def test_a_row_is_a_run_against_its_float32_run(tmp_path: Path) -> None:
    results = {cell: training_matrix.run(*cell, SETTINGS) for cell in CELLS[:2]}
    failures = {("linear", "q3.8"): "ValueError: why"}
    found = training_matrix.rows(CELLS, results, failures, {})
    assert [row["policy"] for row in found] == ["fp32", "bf16_mixed", "q3.8"]
    assert found[0]["loss gap"] == "+0.000"
    summary = ps.summarise(results["linear", "bf16_mixed"], results["linear", "fp32"])
    assert found[1]["test score"] == f"{summary.test_score:.4g}"
    assert found[2]["metric"] == "ValueError: why"
    training_matrix.write(tmp_path, found)
    with (tmp_path / "training_matrix.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[1]["policy"] == "bf16_mixed"
    lines = (tmp_path / "training_matrix.md").read_text().splitlines()
    assert len(lines) == 2 + len(found)
    kept = training_matrix.read(tmp_path)
    assert list(kept) == CELLS[:2]  # what failed is run again
    assert training_matrix.rows(CELLS, {}, {}, kept) == found[:2]


def test_all_models_and_policies_are_the_default() -> None:
    options = training_matrix._parser().parse_args([])
    assert sorted(options.models) == sorted(ps.list_models())
    assert set(ps.list_policies()) - set(options.policies) == set(training_matrix.ALIASES)


@pytest.mark.long
def test_a_table_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--models", "linear", "--steps", "2", "--jobs", "1", "--out", str(tmp_path)]
    table = tmp_path / "training_matrix.csv"
    assert training_matrix.main([*arguments, "--policies", "bf16_mixed"]) == 0
    first = table.read_text()
    assert training_matrix.main([*arguments, "--resume", "--policies", "bf16_mixed"]) == 0
    assert table.read_text() == first
    assert capsys.readouterr().err.splitlines() == ["1/2 linear fp32", "2/2 linear bf16_mixed"]
    (tmp_path / "settings.json").unlink()
    arguments[arguments.index("2")] = "3"
    assert training_matrix.main([*arguments, "--resume", "--policies", "fp16_mixed"]) == 0
    assert table.read_text().startswith(first)
    assert [row.split(",")[2] for row in table.read_text().splitlines()[3:]] == ["fp16_mixed"]
    said = capsys.readouterr().err
    assert "of other settings, or of another machine" in said
    assert "2/2 linear fp16_mixed" in said
    assert f"{tmp_path} has no settings.json: settings of its rows are unknown" in said


def test_other_settings_are_no_settings_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is run: each setting is changed in turn."""
    options = training_matrix._parser().parse_args(["--out", str(tmp_path)])
    settings = {name: getattr(options, name) for name in training_matrix.SETTINGS}
    training_matrix.write(tmp_path, [])
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    others = {"steps": 7, "batch_size": 7, "learning_rate": 0.5, "optimizer": "sgd", "seed": 7}
    assert list(others) == list(settings)
    for name, given in others.items():
        option = f"--{name.replace('_', '-')}"
        with pytest.raises(SystemExit):
            training_matrix.main(["--resume", "--out", str(tmp_path), option, str(given)])
        last = capsys.readouterr().err.splitlines()[-1]
        expected = f"{option} is {given!r}; allowed with --resume is {settings[name]!r}, as in "
        assert expected in last
    assert not training_matrix._other_settings(tmp_path, settings)
    (tmp_path / "settings.json").write_text("[")
    with pytest.raises(SystemExit):
        training_matrix.main(["--resume", "--out", str(tmp_path)])
    assert "settings.json is not understood" in capsys.readouterr().err


def test_no_table_is_no_table_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        training_matrix.main(["--resume", "--out", str(tmp_path)])


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(SystemExit):
        training_matrix.main(["--model", "mlp", "--speed", "fast"])
