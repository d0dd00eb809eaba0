"""The pages about the lessons name all of them, their figures, and commands that work."""

import re
import shlex

import pytest

pytest.importorskip("marimo")

from lessons.__main__ import main, table
from lessons.frame import FOLDER, discover, figures, file_name, load
from precsim.cli.main import main as precsim

DOCS = FOLDER.parent / "docs" / "lessons"
TEACHERS = (DOCS / "teachers.md").read_text("utf-8")


def test_index_has_the_table_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out == table() + "\n"
    assert table() in (DOCS / "index.md").read_text("utf-8")


@pytest.mark.parametrize("name", discover())
def test_teachers_page_has_a_section_for_the_lesson(name: str) -> None:
    notebook = load(name)
    heading = f"### {int(name[:2])}. {notebook.LESSON.title}\n"
    assert TEACHERS.count(heading) == 1
    section = TEACHERS.partition(heading)[2].partition("\n### ")[0]
    for word in ("Timing", "Pitfalls", "On the blackboard", "Slides"):
        assert f"* **{word}**: " in section
    named = re.findall(r"`(\w+)\.svg`", section)
    assert named == [file_name(name, figure) for figure in figures(notebook)]
    timing = section.partition("**Timing**: ")[2].partition("* **Pitfalls**")[0]
    minutes = [int(number) for number in re.findall(r"\b(\d+)\b", timing)]
    assert notebook.LESSON.minutes == sum(minutes), minutes


def test_commands_for_the_blackboard_and_at_home_work(capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^precsim (.*)$", TEACHERS, flags=re.MULTILINE)
    lessons = "".join(path.read_text("utf-8") for path in FOLDER.glob("*_*.py"))
    lines += re.findall(r"`precsim ((?:show|walk) [^`]+)`", lessons)
    assert len(lines) >= 10
    for line in lines:
        assert precsim(shlex.split(line)) == 0
        assert capsys.readouterr().out
