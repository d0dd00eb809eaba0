"""A training has the same bits however many devices share it out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from tests.training.parallel.several_devices import CASES, STEPS, own_model

SCRIPT = Path(__file__).with_name("several_devices.py")
SIMULATED = "--xla_force_host_platform_device_count=8"


def trained(case: str, *devices: str) -> dict[str, list[str]]:
    child = subprocess.run(
        [sys.executable, str(SCRIPT), case, *devices],
        env=os.environ | {"XLA_FLAGS": SIMULATED, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    found: dict[str, list[str]] = json.loads(child.stdout)
    return found


FAST = {"feedback": ("1", "2", "2x2"), "one shard": ("1", "1x2")}


@pytest.mark.parametrize("case", FAST)
def test_two_and_four_devices_have_the_bits_of_one(case: str) -> None:
    found = trained(case, *FAST[case])
    first, *others = found.values()
    assert len(set(first)) == STEPS + 2  # the state changes in every step
    assert all(other == first for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_numbers_of_devices_have_the_bits_of_one(case: str) -> None:
    most = CASES[case]["shards"]
    devices = [str(n) for n in (1, 2, 4, 8) if n <= most] + [
        f"{n}x2" for n in (1, 2, 4) if n <= most
    ]
    first, *others = trained(case, *devices).values()
    assert all(other == first for other in others)


HOW = ("doubling", "ring:bf16", "tree:fp16", "halving")


@pytest.mark.parametrize("how", HOW)
def test_the_gradient_is_the_all_reduce_of_gradients_computed_apart(how: str) -> None:
    """Each shard alone, as a batch of its own; then `all_reduce`; then one division."""
    own = own_model()
    x, y = own["data"]
    rows = np.arange(8)
    parts = []
    for part in (rows[:2], rows[2:4], rows[4:6], rows[6:]):
        result = ps.train(
            ps.TrainConfig(policy=ps.Policy.parse("bf16"), steps=1, batch_size=2, snapshots=1),
            **own | {"data": [(x[part], y[part])]},
        )
        parts.append(result.first_gradient)
    result = ps.train(
        ps.TrainConfig(
            policy=ps.Policy.parse("bf16"),
            steps=1,
            batch_size=8,
            snapshots=1,
            shards=4,
            all_reduce=how,
        ),
        **own | {"data": [(x[rows], y[rows])]},
    )
    names = sorted(parts[0])
    joined = np.stack([np.concatenate([p[name].reshape(-1) for name in names]) for p in parts])
    expected = np.asarray(ps.all_reduce(joined, how)) / np.float32(4)
    found = np.concatenate([result.first_gradient[name].reshape(-1) for name in names])
    np.testing.assert_array_equal(found, expected)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "divisor": ({"shards": 3}, "shards is 3; allowed are divisors of batch_size, 32"),
    "microbatches": (
        {"shards": 8, "accumulate": 8},
        "accumulate is 8; allowed are divisors of batch_size / shards, 4",
    ),
    "nothing to add": ({"all_reduce": "ring"}, "all_reduce is 'ring'; allowed with shards 1"),
    "algorithm": ({"shards": 2, "all_reduce": "star"}, "all_reduce is 'star'; allowed are"),
    "halving": ({"batch_size": 33, "shards": 3, "all_reduce": "halving"}, "powers of two"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shards_that_do_not_fit_are_refused(case: str) -> None:
    fields, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        ps.TrainConfig(policy=ps.Policy.parse("bf16"), **fields)
