"""Characters as data, and a transformer that learns from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.training.data import text
from precsim.training.models import transformer
from tests.training.conftest import forget_compiled

TEXT = "".join(chr(32 + k % 95) for k in range(1000)) + "\n"


def config(**settings: Any) -> ps.TrainConfig:
    return ps.TrainConfig(**{"policy": "fp32", "model": "transformer", "task": "text", **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def test_printable_characters_and_ends_of_lines_come_back() -> None:
    everything = "\n" + "".join(map(chr, range(32, 127)))
    tokens = text.encode(everything)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == list(range(text.CLASSES))
    assert text.decode(tokens) == everything


def test_other_characters_are_question_marks() -> None:
    assert text.decode(text.encode("a\té\u2028🙂\x7fb")) == "a?????b"
    assert text.encode("").shape == (0,)


def test_targets_are_the_next_characters(folder: Path) -> None:
    data = text.load(str(folder))
    assert data.classes == 96
    assert data.train_inputs.shape == (27, text.CONTEXT)
    assert data.test_inputs.shape == (3, text.CONTEXT)
    for images, labels in (
        (data.train_inputs, data.train_targets),
        (data.test_inputs, data.test_targets),
    ):
        assert np.array_equal(images[:, 1:], labels[:, :-1])
    whole = np.concatenate([data.train_inputs, data.train_targets[:, -1:]], axis=1)
    assert text.decode(whole) == TEXT[: 27 * 33]
    assert text.decode(data.test_inputs[0]) == TEXT[27 * 33 : 27 * 33 + 32]


def test_a_text_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("x" * 659)
    with pytest.raises(ValueError, match=r"the text has 659 characters; allowed are 660 or more"):
        text.load(str(tmp_path))
    (tmp_path / "text.txt").write_text("x" * 660)
    assert len(text.load(str(tmp_path)).test_inputs) == 2


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--data-dir has no text\.txt \(looked for"):
        text.load(str(tmp_path))


def test_without_a_folder_the_topics_of_python() -> None:
    data = text.load("")
    assert len(data.train_inputs) > 10_000
    assert len(data.test_inputs) == 256
    assert text.decode(data.train_inputs[0]).isascii()
    assert "assert" in text.decode(data.train_inputs[:30])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "digits"}, "for task 'digits', which has images, are 'mlp', 'cnn', 'logistic'"),
        (
            {"model": "mlp"},
            "for task 'text', which has characters, are 'transformer', 'gru', 'lstm'",
        ),
        ({"model": "cnn", "task": "mnist5k", "data_dir": "x"}, "task 'mnist5k' reads no files"),
    ],
)
def test_models_and_tasks_have_to_fit(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r"allowed for task|reads no files") as error:
        config(**settings)
    assert message in str(error.value)


def test_weights_of_the_transformer() -> None:
    weights = transformer.init(np.random.default_rng(0), text.load("").problem)
    assert weights["places"].shape == (32, transformer.WIDTH)
    assert weights["output/w"].shape == (transformer.WIDTH, 96)
    assert all(w.dtype == np.float32 for w in weights.values())
    assert all((w == 1).all() for name, w in weights.items() if name.endswith("gain"))
    assert abs(weights["block1/contract/w"].std() * 16 - 1) < 0.05  # variance 1 / fan_in


@pytest.fixture
def one_block(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half the transformer, which compiles in half the time."""
    monkeypatch.setattr(transformer, "BLOCKS", ("block0",))
    forget_compiled()
    yield
    forget_compiled()


def learns(settings: dict[str, Any]) -> None:
    """The loss starts near log(96) = 4.6 and falls."""
    options = {"steps": 12, "batch_size": 2, "optimizer": "adam", "learning_rate": 0.01}
    run = ps.train(config(snapshots=1, **options, **settings))
    assert np.isfinite(run.losses).all()
    assert 4 < run.losses[0] < 6.5
    assert run.losses[-3:].mean() < run.losses[0] - 0.7
    parts = ("qkv", "scores", "values", "projection", "expand", "contract")
    places = {f"{block}/{part}" for block in transformer.BLOCKS for part in parts}
    assert set(run.forward_events) == set(run.backward_events) == places | {"output", "logits"}
    assert 0 <= run.test_accuracy <= 1


@pytest.mark.slow  # CI replays three trainings of the transformer
@pytest.mark.usefixtures("one_block")
def test_one_block_learns_a_short_text(folder: Path) -> None:
    learns({"data_dir": str(folder), "backend": "native"})


@pytest.mark.slow
def test_transformer_learns_a_short_text(folder: Path) -> None:
    learns({"data_dir": str(folder)})
