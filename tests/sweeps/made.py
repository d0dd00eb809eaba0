"""Runs that were never made, for tests of what is done with them."""

import json
from dataclasses import replace
from typing import Any

from precsim.sweeps.cell import Cell, versions
from precsim.sweeps.store import Run
from precsim.training.config import TrainConfig
from precsim.transform.policy import Policy

BASE = TrainConfig(policy=Policy.parse("fp32"), model="linear", steps=3, snapshots=1)
FACTS = json.dumps(versions(), sort_keys=True)


def cell_of(policy: str, seed: int) -> Cell:
    return Cell(replace(BASE, policy=Policy.parse(policy), seed=seed))


def run_of_cell(cell: Cell, score: float | None, seconds: float = 1.0) -> Run:
    """Return a finished run with this score and loss; None: its numbers are not finite."""
    metrics: dict[str, Any] = {
        "policy": cell.config.policy.name,
        "metric": "rmse",
        "test_score": score,
        "final_loss": score,
        "weight_drift": 0.5,
    }
    result = {"metrics": metrics, "weights_hash": f"{score}", "seconds": seconds, "provenance": {}}
    return Run(key=cell.key(versions()), cell=cell.text, facts=FACTS, result=result)


def failed_run(cell: Cell, error: str) -> Run:
    return Run(key=cell.key(versions()), cell=cell.text, facts=FACTS, result={"error": error})
