"""`precsim train --devices`: options that do not fit are refused before work starts."""

from pathlib import Path

import pytest

from precsim.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "2"], "--shards is 1; allowed with --devices 2 are multiples of 2"),
        (["--devices", "2x2", "--shards", "3"], "--shards is 3; allowed with --devices 2x2"),
        (["--devices", "two"], "devices is 'two'; allowed is a number of devices"),
        (
            ["--coordinator", "nohost", "--processes", "2", "--process", "1"],
            "--coordinator is 'nohost'; allowed is HOST:PORT",
        ),
        (["--processes", "2"], "--processes is given without --coordinator"),
        (
            ["--coordinator", "a:1", "--processes", "2", "--process", "2"],
            "--process is 2; allowed are",
        ),
        (
            ["--devices", "2", "--shards", "2", "--verify-bits", "1"],
            "--devices is given with --verify-bits",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--policy", "bf16", "--steps", "1", "--out", str(out), *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not out.exists()
