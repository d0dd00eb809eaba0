"""Every registered model has the parts that the loop asks for, and its page says what it is."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.data.registry import TASKS
from precsim.training.layers import Layers
from precsim.training.models.registry import MODELS
from tests.training.models.conftest import PROBLEMS, started

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "models.md"
BOTH = [(name, kind) for name, model in MODELS.items() for kind in model.reads]


def outputs(name: str, kind: str) -> Any:
    """Return the shape and dtype of what a model answers to two examples."""
    problem = PROBLEMS[kind]
    model, params, state = started(name, problem)
    inputs = jax.numpy.zeros((2, *problem.shape), problem.dtype)

    def run(params: Any) -> Any:
        if state is not None:
            return model.apply(params, inputs, state, True)[0]
        if MODELS[name].is_plain:
            return model.apply(params, inputs)
        policy = ps.Policy.parse("fp32")
        layers = Layers(policy=policy, backend="emulated", key=jax.random.key(0))
        return model.apply(params, inputs, layers)

    return jax.eval_shape(run, params)


@pytest.mark.long
@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_outputs_have_the_shape_of_the_targets(name: str, kind: str) -> None:
    problem, result = PROBLEMS[kind], outputs(name, kind)
    classes = (problem.classes,) if problem.classes else ()
    assert result.shape == (2, *problem.target_shape, *classes)
    assert result.dtype == np.float32


@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_weights_are_float32_and_decided_by_the_seed(name: str, kind: str) -> None:
    model, params, _ = started(name, PROBLEMS[kind])
    again = model.init(np.random.default_rng(0), PROBLEMS[kind])
    assert params.keys() == again.keys()
    for weight, w in params.items():
        assert isinstance(w, np.ndarray)
        assert w.dtype == np.float32
        assert w.tobytes() == again[weight].tobytes()


@pytest.mark.parametrize("name", ["lenet", "lstm", "encoder", "factorisation"])
def test_another_seed_gives_other_weights(name: str) -> None:
    problem = PROBLEMS[MODELS[name].reads[0]]
    model, params, _ = started(name, problem)
    others = model.init(np.random.default_rng(1), problem)
    assert any(np.any(others[weight] != w) for weight, w in params.items())


def test_a_model_that_reads_what_its_task_has_learns_it_by_default() -> None:
    for name, model in MODELS.items():
        if model.task in TASKS:
            assert TASKS[model.task].has in model.reads, name


def rows_of_the_page() -> dict[str, list[str]]:
    """Return the cells of the table's rows by the model's name."""
    table = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in table}


def test_page_lists_exactly_the_models() -> None:
    rows = rows_of_the_page()
    assert rows.keys() == MODELS.keys()
    for name, model in MODELS.items():
        assert rows[name][:2] == [", ".join(model.reads), f"`{model.task}`"], name


@pytest.mark.parametrize("name", MODELS)
def test_page_says_how_many_weights_a_model_has_on_its_task(name: str) -> None:
    if MODELS[name].task not in TASKS:
        pytest.skip("the task is being written")
    problem = TASKS[MODELS[name].task].load(0, "").problem
    params = MODELS[name].load().init(np.random.default_rng(0), problem)
    assert rows_of_the_page()[name][2] == f"{sum(w.size for w in params.values()):,}"


@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_page_names_each_layer_of_a_model(name: str, kind: str) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/]+)`", section))
    layers = {weight.rpartition("/")[0] or weight for weight in started(name, PROBLEMS[kind])[1]}
    if name == "transformer":  # the two blocks have the same layers
        layers = {part for layer in layers for part in layer.split("/")}
    assert layers - named == set()
