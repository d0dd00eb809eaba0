"""What a lesson is, how it is found, and how it is run without a browser."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import marimo

from lessons.exercises import Exercise, Lesson, Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent


class Notebook(Protocol):
    """A module ``NN_topic.py``: a marimo notebook.

    Besides, it has functions without parameters, which its cells call: ``exercise_NAME``,
    ``prediction_NAME`` and ``figure_NAME``.
    """

    LESSON: Lesson
    app: marimo.App


def discover() -> list[str]:
    """Return the names of the lessons, in order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9]*_*.py"))


def find(word: str) -> str:
    """Return the lesson that a word names: 01, 1 or 01_what_a_float_is."""
    found = [name for name in discover() if word in (name, name[:2], name[:2].lstrip("0"))]
    if not found:
        raise LookupError(f"no lesson {word!r}; there are {', '.join(discover())}")
    return found[0]


def load(name: str) -> Notebook:
    """Return the notebook of a lesson."""
    return cast("Notebook", importlib.import_module(f"lessons.{name}"))


def _made(notebook: Notebook, prefix: str) -> dict[str, Callable[[], Any]]:
    functions = {k: v for k, v in vars(notebook).items() if k.startswith(prefix)}
    return {name.removeprefix(prefix): function for name, function in functions.items()}


def exercises(notebook: Notebook) -> dict[str, Exercise]:
    """Return the exercises of a lesson by name, in order."""
    return {name: make() for name, make in _made(notebook, "exercise_").items()}


def predictions(notebook: Notebook) -> dict[str, Prediction]:
    """Return the predictions of a lesson by name, in order."""
    return {name: make() for name, make in _made(notebook, "prediction_").items()}


def figures(notebook: Notebook) -> dict[str, Callable[[], "Figure"]]:
    """Return the functions that draw the figures of a lesson, by name, in order."""
    return dict(_made(notebook, "figure_"))


def run(notebook: Notebook) -> list[Any]:
    """Run every cell from the top, as a script would, and return what the cells show."""
    outputs, _ = notebook.app.run()
    return [output for output in outputs if output is not None]


def faults_of(notebook: Notebook) -> list[str]:
    """Run a lesson; list what breaks and which right answers do not pass."""
    try:
        run(notebook)
    except Exception as problem:  # noqa: BLE001 a cell may raise anything
        return [f"a cell raises {type(problem).__name__}: {problem}"]
    return [
        f"the right answer of {name} does not pass"
        for name, exercise in exercises(notebook).items()
        if not exercise.check(exercise.right)
    ]


def file_name(name: str, figure: str) -> str:
    """Return the name of the file of a figure, such as 01_number_line."""
    return f"{re.split('_', name)[0]}_{figure}"
