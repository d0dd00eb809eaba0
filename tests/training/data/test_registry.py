"""What is true of every task."""

import re
from pathlib import Path

import numpy as np
import pytest

from precsim.training.data import (
    files,
    image_folder,
    masked,
    movielens,
    ratings,
    regression,
    sentences,
    text,
)
from precsim.training.data.dataset import Data, kind_of, usual_loss
from precsim.training.data.registry import TASKS
from tests.training.data.small_files import WRITERS

KINDS = {"images", "characters", "masked characters", "sentences", "ratings", "numbers"}


def checked(task: str, data: Data) -> None:
    """Shapes, dtypes and ranges that models and losses rely on."""
    known, problem = TASKS[task], data.problem
    parts = ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets))
    for inputs, targets in parts:
        assert len(inputs) == len(targets) > 0
        assert inputs.shape[1:] == problem.shape
        assert targets.shape[1:] == problem.target_shape
        assert inputs.dtype.name == problem.dtype
        assert targets.dtype == (np.int32 if problem.classes else np.float32)
        assert np.isfinite(inputs).all()
        assert np.isfinite(targets).all()
        if problem.classes:
            least = -1 if known.has == "masked characters" else 0
            assert least <= targets.min() <= targets.max() < problem.classes
        if problem.ids:
            columns = inputs.reshape(-1, len(problem.ids))
            assert (columns >= 0).all()
            assert (columns < problem.ids).all()
    assert bool(problem.ids) == (problem.dtype == "int32")
    if known.has:
        assert kind_of(problem) == known.has.removeprefix("masked ")
        assert usual_loss(problem)[0] == known.loss.removeprefix("masked_")
        assert (known.metric == "rmse") == (known.loss == "mse")


@pytest.mark.parametrize("task", ["digits", "text", "masked", "ratings", "regression"])
def test_tasks_without_files(task: str) -> None:
    checked(task, TASKS[task].load(0, ""))


@pytest.mark.parametrize(("task", "form"), WRITERS)
def test_tasks_in_files(task: str, form: str, tmp_path: Path) -> None:
    WRITERS[task, form](tmp_path)
    data = TASKS[task].load(0, str(tmp_path))
    checked(task, data)
    again = TASKS[task].load(0, str(tmp_path))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(data[:4], again[:4], strict=True))


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.needs_folder])
def test_folders_that_are_not_there(task: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--data-dir is not given; allowed is the folder with"):
        TASKS[task].load(0, "")
    with pytest.raises(FileNotFoundError, match=r"^--data-dir is .*nowhere; there is no such"):
        TASKS[task].load(0, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"^--data-dir has .*" + re.escape(str(tmp_path))):
        TASKS[task].load(0, str(tmp_path))


def test_kinds_and_folders() -> None:
    assert {task.has for task in TASKS.values()} == KINDS | {""}
    assert {task for task, _ in WRITERS} == {n for n, task in TASKS.items() if task.reads_folder}
    assert all(task.reads_folder or not task.needs_folder for task in TASKS.values())


def test_the_page_has_a_row_and_a_section_for_each_task() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "data.md").read_text("utf-8")
    folders = {(False, False): "-", (True, False): "may be given", (True, True): "needed"}
    expected = [
        f"| `{name}` | {task.has or 'as the files say'} "
        f"| {folders[task.reads_folder, task.needs_folder]} "
        f"| {task.loss or 'by the targets'} | {task.metric or 'by the targets'} |"
        for name, task in TASKS.items()
    ]
    assert [line for line in page.splitlines() if re.match(r"\| `\w+` \|", line)] == expected
    titles = re.findall(r"^## (`.*)$", page, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(titles)) == list(TASKS)


def test_the_page_states_what_the_code_does() -> None:
    """Every number of the page that a module decides."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "data.md").read_text("utf-8")
    said = [
        f"Windows of {text.CONTEXT + 1} characters",
        f"{text.CLASSES} classes: 0 ends a line",
        f"{masked.MASKED} of their {text.CONTEXT} characters masked",
        f"where {masked.MASK} stands for a masked character",
        f"{ratings.RATINGS:,} synthetic ratings of {ratings.ITEMS} items by {ratings.USERS} users",
        f"{ratings.TRAIN:,} chosen at random for training, {ratings.RATINGS - ratings.TRAIN} for",
        f"standard deviation {ratings.NOISE}",
        f"{regression.TRAIN} chosen at random for training",
        f"resized to {image_folder.SIZE} by {image_folder.SIZE} pixels",
        f"the last {sentences.LENGTH} words",
        f"2 to {sentences.VOCABULARY - 1:,} are the words",
        f"{movielens.LOWEST:g} to {movielens.HIGHEST:g} stars",
        f"may have {files.MOST_BYTES >> 30} GiB",
    ]
    words = " ".join(page.split())
    assert [each for each in said if each not in words] == []
