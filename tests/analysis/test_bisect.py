"""Bisecting runs: a planted difference is found and named, in the operation or in the state."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import precsim as ps
from precsim.analysis.bisect import bisect_runs, find_divergence
from precsim.arithmetic import portable
from precsim.cli.main import main
from precsim.cli.run_directory import config_fields
from precsim.training.prepared import PreparedRun, prepare_run
from precsim.training.recipes import optimizers
from tests.training.test_loop import one_layer

CONFIG = ps.TrainConfig(
    policy=ps.Policy.parse("fp32,fn=portable"),
    steps=6,
    batch_size=8,
    optimizer="momentum",
    backend="native",
)
"""Products by the platform: they compile quickly, and what is planted is outside of them."""


def flipped(x: Any, at: tuple[int, ...]) -> Any:
    """The last bit of one element, the other way."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(bits.at[at].set(bits[at] ^ 1), jnp.float32)


@pytest.fixture(scope="module", autouse=True)
def small_model() -> Iterator[None]:
    """One layer, which compiles quickly."""
    with one_layer():
        yield


@pytest.fixture(scope="module")
def run(small_model: None) -> PreparedRun:
    return prepare_run(CONFIG)


@pytest.mark.slow
def test_a_flipped_bit_of_a_weight_is_found_in_the_state(run: PreparedRun) -> None:
    def disturbed(state: Any, *batch: Any) -> Any:
        new, rest = run.step(state, *batch)
        weights = new.params["w"]
        weights = jnp.where(state.step == 2, flipped(weights, (3, 1)), weights)
        return replace(new, params=new.params | {"w": weights}), rest

    batches = [run.batch(k) for k in range(5)]
    found = find_divergence(run.step, disturbed, run.state, batches)
    assert found is not None
    assert found.operation is None
    assert (found.where.step, found.where.tensor) == (3, "params/w")
    assert found.where.element == (3, 1)
    assert found.where.ours is not None
    assert found.where.ours ^ (found.where.theirs or 0) == 1


@pytest.mark.long
def test_one_operation_done_by_the_platform_is_named(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Momentum in XLA's own arithmetic, which joins a product and a sum: all before it is equal."""
    bare = SimpleNamespace(
        flush=portable.flush, multiply=lambda x, y: x * y, add=lambda x, y: x + y
    )

    def other(state: Any, *batch: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(optimizers, "p", bare)
            return prepare_run(CONFIG).step(state, *batch)

    found = find_divergence(run.step, other, run.state, [run.batch(k) for k in range(3)])
    assert found is not None
    assert found.where.step == 2  # the first momentum is zero
    assert found.operation is not None
    assert found.operation.startswith("new ")


def store(folder: Path, *, steps: int, flip_at: int | None = None, **settings: Any) -> Path:
    """Store a run, one of whose weights may be flipped after a step."""
    folder.mkdir()
    config = replace(CONFIG, steps=steps, **settings)
    run = prepare_run(config)
    about = {"policy": str(config.policy), "config": config_fields(config)}
    log = ps.replay.BitLog(every=1, folder=folder, about=about)
    step, state = jax.jit(run.step), run.state
    log(0, state)
    for k in range(steps):
        state = step(state, *run.batch(k))[0]
        if k + 1 == flip_at:
            weights = flipped(state.params["w"], (0, 7))
            state = replace(state, params=state.params | {"w": weights})
        log(k + 1, state)
    return folder


def test_stored_runs_are_replayed_to_the_step_that_was_disturbed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (
        store(tmp_path / name, steps=4, flip_at=flip) for name, flip in (("a", None), ("b", 3))
    )
    found = bisect_runs(ours, theirs)
    assert (found.last_equal, found.first_different) == (2, 3)
    assert found.departs == str(theirs)
    assert found.divergence is not None
    where = found.divergence.where
    assert (where.step, where.tensor, where.element) == (3, "params/w", (0, 7))
    assert bisect_runs(ours, ours).first_different is None
    assert main(["bisect", str(ours), str(theirs)]) == 1
    out = capsys.readouterr().out
    assert "equal at step 2, different at step 3" in out
    assert "params/w[0, 7] differs, 0x" in out


def test_runs_without_a_common_start_are_refused(tmp_path: Path) -> None:
    ours = store(tmp_path / "a", steps=1)
    other = tmp_path / "b"
    other.mkdir()
    content = json.loads((ours / "hashes.json").read_text())
    content["steps"] = {"9": content["steps"]["1"]}
    (other / "hashes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no hashes of the same step"):
        bisect_runs(ours, other)
    content["steps"] = {"0": {"": "0" * 64, "params/w": "0" * 64}}
    (other / "hashes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="differ at their first common step, 0"):
        bisect_runs(ours, other)


def test_runs_of_other_examples_are_refused(tmp_path: Path) -> None:
    """Defect: the second run, of another seed, was said to be no run of its own configuration."""
    model: dict[str, Any] = {
        "model": "linear",
        "task": "regression",
        "policy": "bf16",
    }  # starts at 0 for all seeds
    ours = store(tmp_path / "a", steps=2, **model)
    other = store(tmp_path / "b", steps=2, **model, seed=1)
    with pytest.raises(ValueError, match=r"take other examples in step 1: seed is 0 and 1$"):
        bisect_runs(ours, other)
    fewer = store(tmp_path / "c", steps=2, **model, batch_size=CONFIG.batch_size // 2)
    with pytest.raises(
        ValueError, match=r"take other examples in step 1: batch_size is \d+ and \d+$"
    ):
        bisect_runs(ours, fewer)


def test_folder_of_a_command_stands_for_its_only_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: what `train --verify-bits --out` had been given was no RUN, and no line said why."""
    (tmp_path / "a").mkdir()
    policy = store(tmp_path / "a" / "bf16", steps=1)
    assert main(["bisect", str(tmp_path / "a"), str(policy)]) == 0
    other = store(tmp_path / "a" / "fp16", steps=1)
    capsys.readouterr()
    assert main(["bisect", str(tmp_path / "a"), str(policy)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"which has several policies; allowed is one of {policy}, {other}")
