"""A training has the same bits however many devices share it out."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_the_state_of_a_model_is_averaged_in_every_float_type() -> None:
    """Defect: a state in bfloat16 was that of the first shard."""

    def init(key: Any, inputs: Any) -> Any:
        return {"w": np.zeros(1)}, {"narrow": jnp.zeros((), jnp.bfloat16), "wide": jnp.zeros(())}

    def apply(weights: Any, x: Any, state: Any) -> Any:
        mean = x.mean()
        return x * weights["w"], {"narrow": mean.astype(jnp.bfloat16), "wide": mean}

    x = np.arange(-8, 8, dtype=np.float32)[:, None] / 8
    seen: list[float] = []

    def on_state(step: int, state: Any) -> None:
        seen[:] = [float(leaf) for leaf in jax.tree.leaves(state.model_state)]

    config = ps.TrainConfig(
        policy=ps.Policy.parse("fp32"), steps=1, batch_size=16, shards=4, snapshots=1
    )
    ps.train(config, model=(init, apply), data=(x, 2 * x), loss="mse", on_state=on_state)
    assert seen == [-0.0625, -0.0625]


@pytest.mark.long
@pytest.mark.parametrize(
    ("shards", "accumulate"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.slow)]
)
def test_delayed_scales_are_those_of_the_program_that_runs(shards: int, accumulate: int) -> None:
    """Defect: KeyError, as operands were named by the program of the whole batch."""
    whole = ps.TrainConfig(policy=ps.Policy.parse("fp8_delayed"), batch_size=8, steps=1)
    run = ps.replay.prepare_run(replace(whole, shards=shards, accumulate=accumulate))
    state, _ = jax.eval_shape(run.step, run.state, *run.batch(0))
    assert state.tensor_scales.keys() == run.state.tensor_scales.keys()


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
        ps.replay.prepare_run(ps.TrainConfig(policy=ps.Policy.parse("bf16"), **fields))
