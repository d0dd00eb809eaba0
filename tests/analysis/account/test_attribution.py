"""A transformer and its AdamW step: the shares sum to the change in every format and seed."""

from typing import Any

import jax
import numpy as np
import pytest

from tests.analysis.account import transformer
from tests.analysis.account.attribution_table import (
    EXPERIMENTS,
    POLICIES,
    Experiment,
    analysis_of,
    reports,
)
from tests.analysis.account.closing import open_accounts


def _head(p: Any, m: Any, v: Any, x: Any, y: Any) -> Any:
    h = transformer.normalised(p["words"][x], 1.1)
    return jax.nn.log_softmax(h @ p["head"]), y


@pytest.mark.long
def test_shares_at_the_midpoint_sum_to_the_change() -> None:
    rng = np.random.RandomState(0)
    args = transformer.weights(rng, 0), np.float32(0), np.float32(0), *transformer.batch(rng)
    head = Experiment("head", 0, _head, lambda result: transformer.surprise(*result))
    found = reports(analysis_of(head, "float(e=8,p=4)", args), args)
    assert open_accounts({"midpoint": found[1], "Simpson": found[3]}) == []
    assert abs(found[0].remainder) > 10 * abs(found[1].remainder)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_shares_of_a_transformer_sum_to_its_change(experiment: Experiment, policy: str) -> None:
    cases = [transformer.trained(seed, experiment.layers) for seed in range(5)]
    analysis = analysis_of(experiment, POLICIES[policy], cases[0])
    found = [reports(analysis, case) for case in cases]
    assert [every[1].obstacles for every in found if every[1].obstacles] == []
    closed = {f"seed {seed}": every["auto"] for seed, every in enumerate(found)}
    assert open_accounts(closed) == []
