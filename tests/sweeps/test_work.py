"""What a worker returns: the numbers of the run table, the hash of the weights, or an error."""

import json
from dataclasses import replace
from typing import Any

import pytest

import precsim as ps
from precsim.sweeps import work
from precsim.sweeps.cell import Cell, versions
from precsim.training.config import TrainConfig
from precsim.transform.policy import Policy
from tests.sweeps.made import cell_of

FACTS = json.dumps(versions())


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    cells = [cell_of("fp32", 1), cell_of("p=fp32,update=bf16", 1)]
    return [json.loads(work.run(cell.text, FACTS)) for cell in cells]


def test_weights_are_those_of_train(rows: list[dict[str, Any]]) -> None:
    config = TrainConfig(policy=Policy.parse("fp32"), model="linear", steps=3, seed=1)
    result = ps.train(config)
    assert rows[0]["weights_hash"] == ps.replay.hash_state(result.weights)[""]
    assert rows[0]["weights_hash"] != rows[1]["weights_hash"]


def test_metrics_are_the_columns_of_the_run_table(rows: list[dict[str, Any]]) -> None:
    reference, other = (row["metrics"] for row in rows)
    assert (reference["loss_gap"], reference["weight_drift"]) == (0, 0)
    assert other["weight_drift"] > 0
    assert other["loss_gap"] == other["final_loss"] - reference["final_loss"]
    assert set(reference) == set(ps.PolicySummary.__dataclass_fields__)
    assert {"host", "device", "platform", "python", "cores", "date"} == set(rows[0]["provenance"])
    assert rows[0]["seconds"] > 0


def test_error_of_a_run_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise MemoryError("cannot allocate 9 GB\nfor x")

    monkeypatch.setattr(work, "train_on", fail)
    found = json.loads(work.run(cell_of("bf16", 7).text, FACTS))
    assert found["error"] == "MemoryError: cannot allocate 9 GB"
    assert "train_on" in found["traceback"]


def test_worker_with_other_versions_is_refused() -> None:
    found = json.loads(work.run(cell_of("bf16", 0).text, json.dumps({**versions(), "jax": "0"})))
    assert "has jax" in found["error"]
    assert "allowed are workers with the same versions" in found["error"]


def test_check_tells_what_cannot_be_trained() -> None:
    config = cell_of("bf16", 0).config
    assert "batch_size is 5000" in work.check(Cell(replace(config, batch_size=5000)).text)
    own = Cell(replace(config, model="no_such_module:make"))
    assert "there is no module" in work.check(own.text)
