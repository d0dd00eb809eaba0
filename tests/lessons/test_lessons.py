"""Every lesson: each cell runs, right answers pass, wrong ones get their hints, figures are whole.

`wrong_answers.py` has the wrong answers: at least two for every exercise, with words of the hint.
"""

import math
import re
import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

pytest.importorskip("marimo")

from lessons.__main__ import main
from lessons.answers import number
from lessons.exercises import Exercise, Verdict
from lessons.export import export
from lessons.frame import FOLDER, discover, exercises, faults_of, figures, find, load, predictions
from tests.lessons import wrong_answers, wrong_answers_7_to_12
from tests.picture_faults import picture_faults

pytestmark = pytest.mark.long
LESSONS = discover()
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]
UNREADABLE = SimpleNamespace(item=lambda: 1 / 0)
ANYTHING = [
    *(None, math.nan, math.inf, -math.inf, 0, -0.0, True, 1j, b"1", object(), UNREADABLE),
    *(
        "",
        " ",
        "\0",
        "\n",
        "nan",
        "-inf",
        "--",
        "e",
        "1e",
        "0x",
        "0x1p-4",
        "1if 2",
        "'\\d'",
        "²",
        chr(0x661),
    ),
    *("1e309", "1e4096", "-1e-4096", "2**4096", "2**-4096", "1e999999999", "9**9**9", "1/0"),
    *(
        10**309,
        10**5000,
        -(10**5000),
        2.0**-1074,
        "9" * 5000,
        "1" * 10**6,
        "x" * 10**6,
        "(" * 10**5,
    ),
    *([], [1], [[["a"]]], DEEP, {"a": 1}, {1}, (), range(10**9), np.arange(10**6), np.array(1.5)),
    *(np.float32("nan"), np.int64(3), np.str_("1e999999999"), int, print, Exception("1")),
]
HOSTILE = [
    "<script>alert(1)</script>",
    "`<script>alert(1)</script>`",
    "0 <img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "\n\n<iframe src='https://a.b'></iframe>\n\n",
    "<https://a.b>",
    "![x](https://a.b/c.png)",
    "</details><b>1</b>",
    "$\\href{javascript:alert(1)}{x}$",
    "1 **2** __3__ `4` &lt;b&gt;",
]
WRONG = wrong_answers.WRONG | wrong_answers_7_to_12.WRONG


@cache
def asked(name: str) -> dict[str, Exercise]:
    """Return the exercises of a lesson: they compute their right answers, which takes a while."""
    return exercises(load(name))


@cache
def ran(name: str) -> tuple[list[str], list[Figure]]:
    """Run a lesson once for several tests; return its faults and the figures that it shows."""
    shown: list[Figure] = []
    save = Figure.savefig

    def noted(figure: Figure, *options: Any, **named: Any) -> None:
        shown.append(figure)
        save(figure, *options, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", noted)
        return faults_of(load(name)), shown


@pytest.mark.parametrize("name", LESSONS)
def test_every_cell_runs_and_right_answers_pass(name: str) -> None:
    faults, _ = ran(name)
    assert faults == []


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_is_whole(name: str) -> None:
    notebook = load(name)
    found = asked(name)
    assert 4 <= len(found) <= 6
    assert 10 <= notebook.LESSON.minutes <= 20
    assert predictions(notebook)
    assert figures(notebook)
    for prediction in predictions(notebook).values():
        assert prediction.right in prediction.letters
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    for k, (key, exercise) in enumerate(found.items(), 1):
        assert exercise.question.startswith(f"**Exercise {k}.** ")
        assert exercise.hints
        assert exercise.why
        assert text.count(f"exercise_{key}()") == 3  # its definition, its question, its check
        assert f"@app.function(hide_code=True)\ndef exercise_{key}()" in text  # hides the answer


@pytest.mark.parametrize("name", LESSONS)
def test_wrong_answers_get_the_hint_that_fits(name: str) -> None:
    found = asked(name)
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
    for exercise in asked(name).values():
        for mistake in exercise.mistakes:
            verdict = exercise.check(mistake.answer)
            assert not verdict
            assert mistake.hint in verdict.message


@pytest.mark.parametrize("name", LESSONS)
def test_a_right_answer_passes_however_it_is_given(name: str) -> None:
    for key, exercise in asked(name).items():
        forms: list[object] = [exercise.right, str(exercise.right), f" {exercise.right} "]
        forms.append(re.sub("`(.*?)`.*", r"\1", exercise.solution(), flags=re.DOTALL))
        if not isinstance(exercise.right, str):
            x = float(exercise.right)
            forms += [x, np.float64(x), str(x), repr(x), f"{x:.17g}", x.hex()]
        for form in forms:
            assert exercise.check(form), (key, form)


@pytest.mark.parametrize("name", LESSONS)
def test_anything_gets_a_verdict_and_nothing_is_printed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(action="error"):
        for exercise in asked(name).values():
            for answer in ANYTHING:
                verdict = exercise.check(answer)
                assert len(str(verdict)) < 500
                assert verdict.message or verdict.more_hints
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", LESSONS)
def test_no_answer_is_obeyed_by_the_page(name: str) -> None:
    found = asked(name).values()
    for exercise, answer in ((each, answer) for each in found for answer in HOSTILE):
        verdict = exercise.check(answer)
        assert not verdict
        shown = verdict._repr_html_()
        assert not re.search(r"<(script|img|iframe|a|b)\b|javascript:|https?:|alert", shown), shown


@pytest.mark.parametrize("name", LESSONS)
def test_powers_are_no_bold_print(name: str) -> None:
    for exercise in asked(name).values():
        said: list[Exercise | Verdict] = [exercise, exercise.check("three")]
        said.append(exercise.check(exercise.right))
        said += [Verdict(is_right=False, message=each.hint) for each in exercise.mistakes]
        said += [Verdict(is_right=False, message=hint) for hint in exercise.hints]
        for each in said:
            bold = re.findall("<strong>(.*?)</strong>", each._repr_html_())
            assert all(re.fullmatch(r"[\w .]+", text) for text in bold), bold


def test_the_examples_of_numbers_are_shown_as_they_are_typed() -> None:
    with pytest.raises(ValueError, match="You can write") as caught:
        number("three")
    shown = Verdict(is_right=False, message=str(caught.value))._repr_html_()
    examples = re.findall("<code>(.*?)</code>", shown)
    assert examples[:4] == ["0.625", "5/8", "2**-3", "1.5 * 2**4"]
    assert [float(number(each)) for each in examples] == [
        0.625,
        0.625,
        0.125,
        24,
        1e-3,
        0.625,
        math.inf,
    ]


@pytest.mark.parametrize("name", LESSONS)
def test_figures_have_titles_and_labels_and_no_faults(name: str) -> None:
    _, shown = ran(name)
    assert len(shown) == len(figures(load(name)))
    for figure in shown:
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


@pytest.mark.parametrize("below", [False, True])
def test_a_file_is_no_folder_to_export_to(
    below: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "file").write_text("mine")
    folder = file / "folder" if below else file
    assert main(["2", "--to", "svg", "--export", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --export {folder} cannot be written: ")
    assert said.count("\n") == 1
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2", "--to", "html"], "--export DIR is missing"),
        (["--list", "2"], "--list lists all lessons"),
        (["--list", "--export", "x"], "--list lists all lessons"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


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
