"""What is true of every task."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
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
from precsim.training.models.registry import MODELS
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
        of_classes = ("cross_entropy", "accuracy") if problem.classes else ("mse", "rmse")
        is_masked = known.has == "masked characters"
        expected = ("masked_cross_entropy", "accuracy") if is_masked else of_classes
        assert usual_loss(problem) == expected


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
        f"| {folders[task.reads_folder, task.needs_folder]} |"
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


FITTING = [
    (model, task)
    for model, each in MODELS.items()
    for task, known in TASKS.items()
    if each.is_plain and task != "mnist5k" and (known.has or "images") in each.reads
]


@pytest.mark.parametrize(("model", "task"), FITTING)
def test_models_read_the_tasks_of_their_kinds(model: str, task: str, tmp_path: Path) -> None:
    """Outputs have an axis of classes more than the targets, or their shape; shapes only."""
    form = next((form for form in WRITERS if form[0] == task), None)
    if form is not None:
        WRITERS[form](tmp_path)
    data = TASKS[task].load(0, "" if form is None else str(tmp_path))
    module, problem = MODELS[model].load(), data.problem
    weights = module.init(np.random.default_rng(0), problem)
    state = module.init_state(weights) if hasattr(module, "init_state") else None

    def outputs_of(x: Any) -> Any:
        if state is None:
            return module.apply(weights, x)
        return module.apply(weights, x, state, is_training=True)[0]

    outputs = jax.eval_shape(outputs_of, data.train_inputs[:2])
    classes = (problem.classes,) if problem.classes else ()
    assert outputs.shape == (2, *problem.target_shape, *classes)


def test_models_of_the_registry_refuse_data_of_other_kinds() -> None:
    data = (np.array([[1, 2]]), np.array([1.5]))
    with pytest.raises(
        ValueError, match="model is 'mlp', which reads images; the data are ratings"
    ):
        ps.train(ps.TrainConfig(policy=ps.Policy.parse("fp32")), data=data)


def test_tasks_that_need_a_folder_are_refused_before_anything_is_read() -> None:
    message = "data_dir is ''; allowed for task 'mnist' is the folder with its files"
    with pytest.raises(ValueError, match=message):
        ps.TrainConfig(policy=ps.Policy.parse("fp32"), task="mnist")
