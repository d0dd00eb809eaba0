"""How far a run has come: written and read again as it was, and never for another run."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from precsim.training.replay import progress
from precsim.training.replay.checkpoint import save_checkpoint
from precsim.training.replay.progress import Checkpoints, Progress, load_progress
from tests.training.conftest import single

RUN = {"policy": "bf16", "steps": 3, "data": "0123"}
STATE = {"params": {"hidden/w": single([1, 2])}, "key": jax.random.key(0)}


class Measured(NamedTuple):
    """As the metrics of a step."""

    loss: Any
    finite: Any
    events: dict[str, Any]
    gradient: dict[str, Any]


def measured(k: int) -> Measured:
    events = {"block0/scores": np.arange(3, dtype=np.int32) + k, "head": np.zeros(3, np.int32)}
    return Measured(np.float32(1 / (k + 1)), np.bool_(k % 2), events, {})


def some(done: int) -> Progress:
    return Progress(
        state=STATE,
        history=[measured(k) for k in range(done)],
        snapshots={0: {"hidden/w": single([0, 0])}, done: {"hidden/w": single([1, 2])}},
        first_gradient={"hidden/w": single([3, np.nan])},
        last_gradient={"hidden/w": single([5, -0.0])},
        seconds={"compile": 1.5, "run": 0.25},
    )


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def test_progress_comes_back_as_it_was(tmp_path: Path) -> None:
    assert load_progress(tmp_path, STATE, RUN, Measured) is None
    before = some(2)
    before.save(Checkpoints(folder=tmp_path, every=1), RUN)
    found = load_progress(tmp_path, STATE, RUN, Measured)
    assert found is not None
    assert found.done == 2
    assert [type(m) for m in found.history] == [Measured, Measured]
    for name in ("history", "snapshots", "first_gradient", "last_gradient"):
        assert same(getattr(found, name), getattr(before, name)), name
    assert list(found.snapshots) == [0, 2]
    assert (found.seconds, found.score) == (before.seconds, None)


def test_a_score_keeps_each_bit(tmp_path: Path) -> None:
    for score in (0.1 + 0.2, float("nan")):
        before = some(3)
        before.score = score
        before.save(Checkpoints(folder=tmp_path, every=1), RUN)
        found = load_progress(tmp_path, STATE, RUN, Measured)
        assert found is not None
        assert repr(found.score) == repr(score)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    some(1).save(Checkpoints(folder=tmp_path, every=1), RUN)
    with pytest.raises(ValueError, match=r"of a run whose steps is 3; this one has 30 \(name an"):
        load_progress(tmp_path, STATE, RUN | {"steps": 30}, Measured)
    other = tmp_path / "own"
    save_checkpoint(other, STATE, about={"step": 1})
    with pytest.raises(ValueError, match="of a run whose policy is None; this one has 'bf16'"):
        load_progress(other, STATE, RUN, Measured)


def test_other_versions_go_on_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_environment", lambda: {"jax": "0.1"})
        some(1).save(Checkpoints(folder=tmp_path, every=1), RUN)
    with pytest.warns(UserWarning, match=r"written with precsim None, and .* goes on: bits may"):
        assert load_progress(tmp_path, STATE, RUN, Measured) is not None


def test_wrong_fields(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every is 0; allowed are integers from 1 on"):
        Checkpoints(folder=tmp_path, every=0)
