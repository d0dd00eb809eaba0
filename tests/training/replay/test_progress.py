"""How far a run has come: written and read again as it was, and never for another run."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.training import loop, prepared
from precsim.training.control.controller import Controller, begin
from precsim.training.control.schedule import Schedule
from precsim.training.replay import progress
from precsim.training.replay.checkpoint import save_checkpoint
from precsim.training.replay.progress import Checkpoints, Progress, load_progress
from tests.training.conftest import single
from tests.training.test_loop import config, one_layer

RUN = {"policy": "bf16", "steps": 3, "data": "0123"}
STATE = {"params": {"hidden/w": single([1, 2])}, "key": jax.random.key(0)}
CONTROLLER = begin(Schedule.parse("fp32@0"))
START = Progress(state=STATE, run=RUN, controller=CONTROLLER)


def after(controller: Controller) -> Any:
    return STATE


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
        controller=CONTROLLER,
        run=RUN,
        recent=[measured(k) for k in range(done)],
        snapshots={0: {"hidden/w": single([0, 0])}, done: {"hidden/w": single([1, 2])}},
        first_gradient={"hidden/w": single([3, np.nan])},
        last_gradient={"hidden/w": single([5, -0.0])},
        compile_seconds=1.5,
        run_seconds=0.25,
    )


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def test_progress_comes_back_as_it_was(tmp_path: Path) -> None:
    assert load_progress(tmp_path, START, Measured, after) is None
    before = some(2)
    before.save(Checkpoints(folder=tmp_path, every=1))
    found = load_progress(tmp_path, START, Measured, after)
    assert found is not None
    assert found.done == 2
    assert type(found.measured) is Measured
    assert found.measured.loss.tolist() == [1, 0.5]
    for name in ("measured", "snapshots", "first_gradient", "last_gradient"):
        assert same(getattr(found, name), getattr(before, name)), name
    assert list(found.snapshots) == [0, 2]
    assert (found.compile_seconds, found.run_seconds, found.score) == (1.5, 0.25, None)


def test_a_score_keeps_each_bit(tmp_path: Path) -> None:
    for score in (0.1 + 0.2, float("nan")):
        before = some(3)
        before.score = score
        before.save(Checkpoints(folder=tmp_path, every=1))
        found = load_progress(tmp_path, START, Measured, after)
        assert found is not None
        assert repr(found.score) == repr(score)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    some(1).save(Checkpoints(folder=tmp_path, every=1))
    for state in (STATE, {"other": 0}):
        longer = Progress(state=state, controller=CONTROLLER, run=RUN | {"steps": 30})
        with pytest.raises(ValueError, match=r"of a run whose steps is 3; this one has 30 \(name"):
            load_progress(tmp_path, longer, Measured, after)
    other = tmp_path / "own"
    save_checkpoint(other, STATE, about={"step": 1})
    with pytest.raises(ValueError, match="of a run whose policy is None; this one has 'bf16'"):
        load_progress(other, START, Measured, after)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"step": 3}, "its measures are not those of 3 steps"),
        ({"step": 2}, "'first'"),
    ],
)
def test_a_checkpoint_that_lies_is_one_line(
    about: dict[str, Any], message: str, tmp_path: Path
) -> None:
    said = {"environment": progress._environment(), "control": {"state": None, "decisions": []}}
    arrays = {"measured/loss": single([1, 2]), "measured/finite": np.ones(2, bool)}
    save_checkpoint(tmp_path, STATE, about=about | {"run": RUN} | said, arrays=arrays)
    with pytest.raises(ValueError, match=f"no checkpoint of a training: {message}"):
        load_progress(tmp_path, START, Measured, after)


def test_other_versions_go_on_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_environment", lambda: {"jax": "0.1"})
        some(1).save(Checkpoints(folder=tmp_path, every=1))
    with pytest.warns(UserWarning, match=r"written with precsim None, and .* goes on: bits may"):
        assert load_progress(tmp_path, START, Measured, after) is not None


def test_wrong_fields(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every is 0; allowed are integers from 1 on"):
        Checkpoints(folder=tmp_path, every=0)


class Killed(Exception):
    """Ends a training in the middle of it."""


def until(step: int) -> Callable[[int, Any], None]:
    def on_state(done: int, state: Any) -> None:
        if done == step:
            raise Killed

    return on_state


Train: TypeAlias = partial[ps.TrainResult]


def own_model(policy: str, **settings: Any) -> Train:
    """A network of functions, batches one by one, an optimizer with a schedule."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 4, 2)).astype(np.float32)
    batches = [(x, x @ single([[2], [-1]])) for x in inputs]
    model = (lambda key: {"w": np.zeros((2, 1), np.float32)}, lambda weights, x: x @ weights["w"])
    rule = optax.adam(optax.cosine_decay_schedule(0.1, 7))
    own = {"model": model, "data": lambda: batches, "optimizer": rule}
    return partial(ps.train, config(policy, steps=7, batch_size=4, **settings), **own)


@pytest.fixture(
    scope="module", params=["layered", "own", pytest.param("all state", marks=pytest.mark.slow)]
)
def train(request: pytest.FixtureRequest) -> Iterator[Train]:
    match request.param:
        case "layered":
            with one_layer():
                settings = {"steps": 7, "snapshots": 3, "optimizer": "adam", "learning_rate": 0.1}
                policy = "p=bf16,update=bf16:sr,scale=dynamic"
                yield partial(ps.train, config(policy, backend="native", **settings))
        case "own":
            yield own_model("p=bf16,update=kahan", clip_norm=1.0, delay=1)
        case _:
            policy = "fp8_delayed,p=bf16,update=kahan,scale=dynamic"
            yield own_model(policy, accumulate=2, delay=2)


@pytest.fixture(scope="module")
def whole(train: Train) -> tuple[ps.TrainResult, str]:
    """What is never interrupted: the result, and the hash of the state at its end."""
    states = {}
    result = train(on_state=lambda done, state: states.update({done: ps.replay.hash_state(state)}))
    return result, states[7][""]


def measures(result: ps.TrainResult) -> Any:
    found = {name: value for name, value in asdict(result).items() if name != "config"}
    del found["compile_seconds"], found["run_seconds"]
    return found


@pytest.mark.long
@pytest.mark.parametrize("kills", [(1,), (2, 5), (6,), (3, 3, 7)])
def test_a_killed_run_ends_with_the_same_bits(
    train: Train, whole: tuple[ps.TrainResult, str], kills: tuple[int, ...], tmp_path: Path
) -> None:
    result, final = whole
    compiled = prepared._compiled_step.cache_info().misses
    kept = Checkpoints(folder=tmp_path, every=2)
    for step in kills:
        with pytest.raises(Killed):
            train(checkpoints=kept, on_state=until(step))
    seen: dict[int, Any] = {}
    resumed = train(
        checkpoints=kept, on_state=lambda k, s: seen.update({k: ps.replay.hash_state(s)})
    )
    assert min(seen) == (max(kills) - 1) // 2 * 2
    assert seen[7][""] == final
    again = train(checkpoints=kept, on_state=until(7))  # which makes no step
    for one in (resumed, again):
        assert repr(list(measures(one))) == repr(list(measures(result)))
        assert same(measures(one), measures(result))
        assert list(one.forward_events) == list(result.forward_events)
    assert prepared._compiled_step.cache_info().misses == compiled


def test_another_run_does_not_take_the_folder(train: Train, tmp_path: Path) -> None:
    kept = Checkpoints(folder=tmp_path, every=1)
    with pytest.raises(Killed):
        train(checkpoints=kept, on_state=until(2))
    other = partial(train.func, config("fp32", steps=9), *train.args[1:], **train.keywords)
    with pytest.raises(ValueError, match=f"^{tmp_path}.* is of a run whose policy is 'p=bf16"):
        other(checkpoints=kept)


@pytest.mark.long
def test_bits_that_cannot_be_trusted_are_never_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has left the fast range goes on with guards, also after it was killed."""
    backends = []
    made = prepared.compiled_for

    def untrusted(setup: Any, backend: str, *arguments: Any) -> Any:
        backends.append(backend)
        step = made(setup, "native:unguarded", *arguments)
        if not backend.endswith("unguarded"):
            return step

        def marked(state: Any, *batch: Any) -> Any:
            state, metrics = step(state, *batch)
            return state, metrics._replace(untrusted=metrics.untrusted + (state.step == 4))

        return marked

    monkeypatch.setattr(loop, "compiled_for", untrusted)
    kept = Checkpoints(folder=tmp_path, every=3)
    with one_layer():
        run = partial(ps.train, config("fp32", steps=7, backend="native"), checkpoints=kept)
        result = run()
        assert run().losses.tolist() == result.losses.tolist()
    assert backends == ["native:unguarded", "native"]
    assert ps.replay.load_checkpoint(tmp_path / "unguarded").about["step"] == 3
    assert ps.replay.load_checkpoint(tmp_path / "guarded").about["step"] == 7
