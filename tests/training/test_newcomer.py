"""What a stranger met who knew README and docs alone, each by its example."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

X: np.ndarray = (np.arange(24).reshape(8, 3) / 24).astype(np.float32)
train: Any = ps.train


def config(**settings: Any) -> ps.TrainConfig:
    whole: dict[str, Any] = {"policy": "fp32", "steps": 1, "batch_size": 8, "snapshots": 1}
    return ps.TrainConfig(**(whole | settings))


def test_outputs_in_another_order_are_not_reshaped() -> None:
    y = np.ones((8, 4), np.float32)
    model = ({"w": np.zeros((3, 4))}, lambda w, x: (x @ w["w"]).T)
    with pytest.raises(ValueError, match=r"outputs of the model have shape \(4, 8\)"):
        train(config(), model=model, data=(X, y, X, y))


def test_classes_of_places_in_another_order_are_refused() -> None:
    x, y = np.ones((8, 6, 3), np.float32), np.arange(48).reshape(8, 6) % 4
    model = ({"w": np.zeros((3, 4))}, lambda w, x: (x @ w["w"]).swapaxes(0, 1))
    with pytest.raises(ValueError, match=r"outputs of the model have shape \(6, 8, 4\)"):
        train(config(), model=model, data=(x, y, x, y))


def test_a_last_axis_of_one_may_be_left_out() -> None:
    model = ({"w": np.zeros((3, 1))}, lambda w, x: x @ w["w"])
    assert train(config(), model=model, data=(X, X[:, 0])).losses.shape == (1,)


def test_classes_below_zero_are_not_for_the_plain_cross_entropy() -> None:
    x, y = np.ones((8, 6, 3), np.float32), np.arange(48).reshape(8, 6) % 4 - 1
    model = ({"w": np.zeros((3, 4))}, lambda w, x: x @ w["w"])
    with pytest.raises(ValueError, match="allowed is 'masked_cross_entropy'"):
        train(config(), model=model, data=(x, y), loss="cross_entropy")


def test_a_factory_that_returns_nothing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing_made.py").write_text("def none(): return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TypeError, match="model is None; allowed are"):
        train(config(model="nothing_made:none"), data=(X, X[:, 0]))


def test_one_large_class_or_id_asks_for_no_memory() -> None:
    with pytest.raises(ValueError, match="y has class 975000000; allowed are 0 to 9999999"):
        train(config(), data=(np.ones((8, 8, 8, 1)), np.arange(8) * 975_000_000 // 7))
    pairs = np.arange(16).reshape(8, 2) * 10**8
    with pytest.raises(ValueError, match="has the id 1500000000; allowed are 0 to 9999999"):
        train(config(model="recommender"), data=(pairs, np.ones(8)))


def test_a_metric_of_ones_own_is_tried_on_one_batch() -> None:
    """Defect: the whole part for testing was computed once before the first step."""
    x = np.ones((600, 3), np.float32)
    model = ({"w": np.zeros(3, np.float32)}, lambda w, x: x @ w["w"])
    for least, expected in ((1, [256, 600]), (600, [256, 600, 600])):
        seen: list[int] = []

        def metric(outputs: Any, targets: Any, least: int = least, seen: list[int] = seen) -> float:
            seen.append(len(targets))
            assert len(targets) >= least
            return 0.0

        train(config(steps=1), data=(x, x[:, 0], x, x[:, 0]), model=model, metric=metric)
        assert seen == expected


def test_microbatches_divide_batches_of_ones_own() -> None:
    """Defect: `accumulate` had to divide `batch_size`, which such batches do not have."""
    model = ({"w": np.zeros(3, np.float32)}, lambda w, x: x @ w["w"])
    batches = [(X[k : k + 6], X[k : k + 6, 0]) for k in (0, 2)]
    run = train(config(steps=2, accumulate=3), data=batches, model=model)
    whole = train(config(steps=2), data=batches, model=model)
    assert np.allclose(run.losses, whole.losses, rtol=1e-5)
    with pytest.raises(ValueError, match="accumulate is 4; allowed are divisors of the batch, 6"):
        train(config(steps=2, accumulate=4), data=batches, model=model)
    with pytest.raises(ValueError, match="accumulate is 3; allowed are divisors of batch_size, 32"):
        train(config(steps=1, accumulate=3, batch_size=32), data=(X, X[:, 0]), model=model)


def test_a_metric_of_ones_own_fails_before_the_first_step() -> None:
    y = X @ np.array([1, 2, 3], np.float32)
    model = ({"w": np.zeros(3)}, lambda w, x: (x @ w["w"], x))
    steps: list[int] = []
    with pytest.raises((AttributeError, TypeError, ValueError)):
        train(
            config(steps=4),
            data=(X, y, X, y),
            model=model,
            loss=lambda o, t: jnp.mean((o[0] - t) ** 2),
            on_state=lambda done, _: steps.append(done),
        )
    assert steps == []
