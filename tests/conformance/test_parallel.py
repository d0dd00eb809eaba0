"""The comparison of trainings on several devices finds what differs."""

from typing import Any

import numpy as np
import pytest

from conformance import parallel


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parallel.main(["mlp_bf17"])
    assert "unknown case 'mlp_bf17'; known are mlp_bf16," in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--devices", "1", "2"], ["--platform"]])
def test_checkpoints_of_one_row_are_no_proof_for_another(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: the second row took the finished state of the first, and was "the same"."""
    with pytest.raises(SystemExit):
        parallel.main(["mlp_bf16", "--checkpoints", "kept", *more])
    assert "--checkpoints goes with one of --devices" in capsys.readouterr().err


@pytest.mark.parametrize("differs", [False, True])
def test_other_bits_on_other_devices_are_told(
    differs: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(case: str, devices: str, how: str, args: Any) -> tuple[str, Any, float]:
        is_other = differs and devices == "2"
        return ("b" if is_other else "a") * 64, {"w": np.array([3, 4 + is_other], np.float32)}, 0.5

    monkeypatch.setattr(parallel, "train", train)
    monkeypatch.setenv("XLA_FLAGS", "")
    assert parallel.main(["mlp_bf16", "--devices", "1", "2"]) == differs
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert ("differs" in rows[1]) == differs
    assert ("apart by 2.0e-01" in rows[1]) == differs
