"""Replayed trainings: the hashes that an H100's tensor cores gave, emulated on this machine."""

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest

from conformance import drift, gpt124m, training
from conformance.training import CASES, FOLDER, main

STEPS = 50
DEFAULT: tuple[str, ...] = ()  # `.ci/run` replays all cases
STORED = sorted(path.stem for path in FOLDER.glob("*.json"))


def cases() -> list[object]:
    """Return the stored cases; those that take long are marked slow."""
    return [
        name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in STORED
    ]


@pytest.mark.parametrize("name", cases())
def test_first_steps_have_the_bits_of_the_tensor_cores(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--steps", str(STEPS)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    told = {int(line[3]): (line[4], line[5]) for line in lines if line[2] == "step"}
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    assert told == {k: (stored["steps"][str(k)][""][:16], "same") for k in (0, STEPS)}


def test_stored_runs_are_those_of_tensor_cores() -> None:
    assert {"mlp_bf16", "mlp_fp8", "cnn_bf16"} <= set(STORED) <= set(CASES)
    for name in STORED:
        stored = json.loads((FOLDER / f"{name}.json").read_text())
        assert stored["about"]["backend"] == "native"
        assert "H100" in stored["about"]["device"]
        assert {"0", str(STEPS)} <= set(stored["steps"])
        for hashes in stored["steps"].values():
            assert all(len(digits) == 64 for digits in hashes.values())


@pytest.mark.long
def test_one_other_bit_is_noticed_and_its_tensor_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another stored hash of one tensor, at the first step."""
    stored = json.loads((FOLDER / "mlp_bf16.json").read_text())
    start = stored["steps"]["0"]
    start["params/output/b"] = start[""] = "0" * 64
    (tmp_path / "mlp_bf16.json").write_text(json.dumps(stored))
    monkeypatch.setattr(training, "FOLDER", tmp_path)
    assert main(["mlp_bf16", "--steps", "1"]) == 1
    assert "differs from 0000000000000000, first in params/output/b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 100_000, "nested too deeply"), ('{"steps": {"NaN": {}}}', 'steps has "NaN"')],
)
def test_damaged_hashes_are_refused_in_one_line(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mlp_bf16.json").write_text(text)
    monkeypatch.setattr(training, "FOLDER", tmp_path)
    assert main(["mlp_bf16"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert f"mlp_bf16.json is not a file of hashes: {message}" in error


def test_damaged_distances_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("step,here\n0,0.0\n10,0.5\n")
    label, step, distance = drift.read(path)
    assert (label, step.tolist(), distance.tolist()) == ("here", [0, 10], [0, 0.5])
    for content in (b"", b"step\n", b"step,here\n0\n", b"step,here\n0,x\n", b"\xff"):
        path.write_bytes(content)
        assert drift.main(["draw", str(tmp_path / "d.svg"), str(path)]) == 2
        assert f"error: {path} is no table of step and distance" in capsys.readouterr().err
    assert not (tmp_path / "d.svg").exists()


def test_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mpl_bf16"])
    assert "unknown case 'mpl_bf16'; known are mlp_bf16" in capsys.readouterr().err


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(name: str, args: object) -> bool:
        raise AssertionError(f"{name} is trained")

    monkeypatch.setattr(training, "replay", begun)
    monkeypatch.setattr(gpt124m, "replay", lambda args: begun("gpt124m", args))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("case", "file"), [("mlp_bf16", "mlp_bf16.json"), ("gpt124m", "seed0-sequence256.json")]
)
def test_where_hashes_are_recorded_is_checked_before_the_work(
    case: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).touch()
    assert main([case, "--record", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / file} exists; name another folder\n"
    for record, why in ((tmp_path / file, "File exists"), (tmp_path / file / "a", "Not a dir")):
        assert main([case, "--record", str(record)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {record} cannot be written to: {why}")
        assert error.count("\n") == 1


def test_where_distances_are_written_is_checked_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drift, "weights_along", None)
    (tmp_path / "d.csv").touch()
    for path, why in (("d.csv", "exists; name another"), ("d.csv/a/d.csv", "Not a directory")):
        assert drift.main(["measure", str(tmp_path / path)]) == 2
        assert why in capsys.readouterr().err


def test_every_case_is_named_in_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """GPT-2 too: before its options, behind them, and beside another case."""
    said: list[str] = []

    def of_case(name: str, args: Namespace) -> bool:
        said.append(f"{name} {args.backend} {args.steps}")
        return True

    def of_gpt(args: Namespace) -> bool:
        said.append(f"gpt {args.backend} {args.steps} {args.seed} {args.sequence}")
        return True

    monkeypatch.setattr(training, "replay", of_case)
    monkeypatch.setattr(gpt124m, "replay", of_gpt)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    for words in ("gpt124m", "--steps 3 gpt124m --seed 0", "gpt124m --native mlp_fp8 --steps 4"):
        assert main(words.split()) == 0
    wanted = ["gpt emulated 2 0 256", "gpt emulated 3 0 256", "gpt native 4 0 256"]
    assert said == [*wanted, "mlp_fp8 native 4"]
    said.clear()
    assert main([]) == 0
    assert said == [f"{name} emulated None" for name in CASES]
    with pytest.raises(SystemExit):
        main(["mlp_bf16", "--seed", "1"])
    assert "--sequence and --seed are options of gpt124m alone" in capsys.readouterr().err


def test_help_keeps_its_lines_and_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "\n    python -m conformance.training gpt124m --steps 2 " in said
    assert f"{', '.join([*CASES, 'gpt124m'])} (default" in " ".join(said.split())
    assert "full speed" not in said


def test_a_file_of_hashes_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.json").touch()
    with pytest.raises(FileExistsError, match=r"x\.json exists; name another folder"):
        training.record(tmp_path / "x.json", "bf16", {}, {})


def test_products_of_the_platform_keep_the_operands_and_lose_the_order() -> None:
    import precsim as ps

    policy = ps.Policy.parse("h100_fp8")
    plain = training.with_platform_products(policy)
    assert str(plain.dgrad.lhs) == str(policy.dgrad.lhs)
    assert ps.kernels.resolve_backend(plain.forward, "native") == "native"
    with pytest.raises(ValueError, match="no native kernel"):
        ps.kernels.resolve_backend(policy.forward, "native")
