"""`precsim train --schedule`: runs whose policy changes."""

import json
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from precsim.cli import train as command
from precsim.cli.main import main
from tests.cli.test_train import replace_train


def test_schedules_are_further_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has its own name; without --policy they are compared with fp32 alone."""
    replace_train(monkeypatch, draws=False)
    controls: dict[str, Any] = {}
    made_results: Any = vars(command)["train_on"]

    def train_on(data: Any, config: ps.TrainConfig, **options: Any) -> Any:
        controls[config.policy.name] = options["control"]
        return made_results(data, config, **options)

    monkeypatch.setattr(command, "train_on", train_on)
    texts = ["bf16@0,fp32@1", "ramp[2]:bf16<fp32"]
    words = ["--schedule", *texts, "--steps", "2", "--json", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [p["policy"] for p in content["policies"]] == ["fp32", *texts]
    assert controls == {"fp32": None} | {text: ps.Schedule.parse(text) for text in texts}


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--schedule", "bf16@1"], "allowed are steps that ascend from 0"),
        (["--schedule", "bf16"], "--schedule is 'bf16'; allowed is POLICY@STEP"),
        (["--schedule", "bf16@0", "--verify-bits", "1"], "--schedule is given with --verify-bits"),
        (["--schedule", "bf16@0,bf16;nowhere:fp32@1"], "rule 'nowhere' of the policy decides"),
    ],
)
def test_wrong_schedules_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--steps", "2"]) == 2
    assert message in capsys.readouterr().err
