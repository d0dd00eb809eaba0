"""A lesson as a page that needs no server, as a Jupyter notebook, and its figures as SVG."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import marimo

import precsim as ps
from lessons.exercises import folded
from lessons.frame import FOLDER, exercises, figures, file_name, load, run

KINDS = ("html", "ipynb", "svg")
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid #bbb; padding: .2rem .6rem; text-align: left }
pre { background: #f3f3f3; padding: .6rem; overflow-x: auto }
details > :last-child { margin-bottom: 0 }
.paragraph { display: block; margin: .8rem 0 }
details { border: 1px solid #bbb; border-radius: .3rem; padding: .4rem .8rem; margin: .6rem 0 }
"""
_IN_JUPYTER = """In Jupyter the fields of this notebook do nothing. Give your answers in a cell, such as
`exercise_{name}().check("1/2")`; the functions `prediction_...` and `figure_...` work too."""


def export(name: str, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write a lesson to a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if "html" in kinds:
        files.append(folder / f"{name}.html")
        files[-1].write_text(page(name), "utf-8")
    if "ipynb" in kinds:
        files.append(folder / f"{name}.ipynb")
        write_jupyter(name, files[-1])
    if "svg" in kinds:
        for figure, draw in figures(load(name)).items():
            files += ps.plots.save_figure(draw(), folder / f"{file_name(name, figure)}.svg")
    return files


def page(name: str) -> str:
    """Return a whole HTML page: what the cells show, then the answers, folded."""
    notebook = load(name)
    shown = [_without_fields(marimo.as_html(output).text) for output in run(notebook)]
    answers = [
        folded(f"Answer {number}", marimo.md(exercise.solution()).text)
        for number, exercise in enumerate(exercises(notebook).values(), 1)
    ]
    title = html.escape(notebook.LESSON.title)
    body = "\n".join([*shown, "<h2>Answers</h2>", *answers])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _without_fields(text: str) -> str:
    """Remove what only marimo's own page can show: fields to type into."""
    return re.sub(r"<marimo-ui-element.*?</marimo-ui-element>", "", text, flags=re.DOTALL)


def write_jupyter(name: str, path: Path) -> None:
    """Write a Jupyter notebook with its outputs, made by marimo; its fields are left out."""
    source, to = str(FOLDER / f"{name}.py"), ["--include-outputs", "--force", "-o", str(path)]
    to += ["--", "--fold"]  # figures stand folded, as nobody can choose a letter
    python_path = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    subprocess.run(
        [sys.executable, "-m", "marimo", "-q", "export", "ipynb", source, *to],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path)},
        check=True,
    )
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for kind, lines in output.get("data", {}).items():
                output["data"][kind] = _without_fields("".join(lines))
        if "outputs" in cell:  # fields that stand alone, such as sliders
            cell["outputs"] = [each for each in cell["outputs"] if "marimo-" not in str(each)]
    note = _IN_JUPYTER.format(name=next(iter(exercises(load(name)))))
    first = {"cell_type": "markdown", "id": "jupyter", "metadata": {}, "source": note}
    notebook["cells"].insert(0, first)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
