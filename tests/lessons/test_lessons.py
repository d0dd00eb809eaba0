"""Every lesson: each cell runs, right answers pass, wrong ones get their hints, figures are whole.

`wrong_answers.py` has the wrong answers: at least two for every exercise, with words of the hint.
"""

from pathlib import Path

import pytest

pytest.importorskip("marimo")

from lessons.__main__ import main
from lessons.export import export
from lessons.frame import FOLDER, discover, exercises, faults_of, figures, find, load, predictions
from tests.lessons import wrong_answers, wrong_answers_7_to_12
from tests.picture_faults import picture_faults

LESSONS = discover()
WRONG = wrong_answers.WRONG | wrong_answers_7_to_12.WRONG


@pytest.mark.parametrize("name", LESSONS)
def test_every_cell_runs_and_right_answers_pass(name: str) -> None:
    assert faults_of(load(name)) == []


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_is_whole(name: str) -> None:
    notebook = load(name)
    found = exercises(notebook)
    assert 4 <= len(found) <= 6
    assert 10 <= notebook.LESSON.minutes <= 20
    assert predictions(notebook)
    assert figures(notebook)
    for prediction in predictions(notebook).values():
        assert prediction.right in prediction.letters
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    for number, (key, exercise) in enumerate(found.items(), 1):
        assert exercise.question.startswith(f"**Exercise {number}.** ")
        assert exercise.hints
        assert exercise.why
        assert text.count(f"exercise_{key}()") == 3  # its definition, its question, its check
        assert f"@app.function(hide_code=True)\ndef exercise_{key}()" in text  # hides the answer


@pytest.mark.parametrize("name", LESSONS)
def test_wrong_answers_get_the_hint_that_fits(name: str) -> None:
    found = exercises(load(name))
    assert WRONG[name[:2]].keys() == found.keys()
    for key, exercise in found.items():
        wrong = WRONG[name[:2]][key]
        assert len(wrong) >= 2
        for answer, words in wrong.items():
            verdict = exercise.check(answer)
            assert not verdict, (key, answer)
            assert words in verdict.message, (key, answer)


@pytest.mark.parametrize("name", LESSONS)
def test_every_mistake_gets_its_own_hint(name: str) -> None:
    for exercise in exercises(load(name)).values():
        for mistake in exercise.mistakes:
            verdict = exercise.check(mistake.answer)
            assert not verdict
            assert mistake.hint in verdict.message


@pytest.mark.parametrize("name", LESSONS)
def test_figures_have_titles_and_labels_and_no_faults(name: str) -> None:
    for draw in figures(load(name)).values():
        figure = draw()
        for axes in figure.axes:
            assert axes.get_title()
            assert axes.get_xlabel()
            assert axes.get_ylabel()
        assert picture_faults(figure) == []


def test_a_lesson_is_found_by_its_number() -> None:
    assert find("1") == find("01") == find("01_what_a_float_is") == "01_what_a_float_is"
    with pytest.raises(LookupError, match="no lesson '99'; there are 01_what_a_float_is"):
        find("99")


def test_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["99"]) == 2
    assert "no lesson '99'" in capsys.readouterr().err


def test_command_runs_a_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["1"]) == 0
    assert "every cell ran, every right answer passes" in capsys.readouterr().out


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    (page,) = export("01_what_a_float_is", tmp_path, ["html"])
    text = page.read_text("utf-8")
    assert "<h2>Answers</h2>" in text
    assert "<img alt=" in text
    assert "marimo-" not in text
    assert "<script" not in text
    assert 'src="http' not in text


def test_figures_are_written_as_svg(tmp_path: Path) -> None:
    files = export("01_what_a_float_is", tmp_path, ["svg"])
    assert [path.name for path in files] == ["01_number_line.svg", "01_table.svg"]
    assert all(path.stat().st_size > 1000 for path in files)


def test_jupyter_notebook_has_outputs_and_no_dead_fields(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    (path,) = export("01_what_a_float_is", tmp_path, ["ipynb"])
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "exercise_binary_fraction().check(" in notebook.cells[0].source
    outputs = [str(o) for cell in notebook.cells for o in cell.get("outputs", [])]
    assert len(outputs) > 5
    assert not any("marimo-" in output for output in outputs)
    assert sum("<strong>Exercise " in output for output in outputs) == 6
    assert any("Open it when you have predicted" in output for output in outputs)
