"""Each how-to page has complete scripts, of under 40 lines, that run and warn of nothing.

Where a page shows what a script prints, below it, it prints that. A script of a library that is not
installed is skipped by name.
"""

import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from precsim.cli.main import main

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
COMMANDS = FOLDER.parent / "reference" / "cli.md"
MAX_LINES = 40


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language of a page."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def scripts(page: Path) -> list[tuple[str, list[str]]]:
    """Return the scripts of a page, each with what the page shows below it, before the next one."""
    pattern = r"^```(python|text)\n(.*?)^```"
    found: list[tuple[str, list[str]]] = []
    for kind, text in re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if kind == "python":
            found.append((text, []))
        else:
            found[-1][1].append(text)
    return found


def imported(script: str) -> list[str]:
    """Return the packages that a script imports."""
    return sorted(set(re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE)))


def is_alike(shown: str, printed: str) -> bool:
    """Return whether a word was printed as shown; numbers may differ by 1 in the last digit."""
    if shown == printed:
        return True
    try:
        distance = abs(float(shown) - float(printed))
    except ValueError:
        return False
    return distance < 1.5 * 10.0 ** -len(shown.partition(".")[2])


def named_scripts() -> dict[str, tuple[str, list[str]]]:
    """Return all scripts: that of a page by its name, further ones by their numbers."""
    return {
        page.stem + (f"-{number}" if number > 1 else ""): script
        for page in PAGES
        for number, script in enumerate(scripts(page), 1)
    }


SCRIPTS = named_scripts()


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if (FOLDER / f"{n}.md").exists() else pytest.mark.slow)
        for n in SCRIPTS
    ],
)
def test_script_runs_and_prints_what_the_page_shows(name: str, tmp_path: Path) -> None:
    script, results = SCRIPTS[name]
    assert len(script.splitlines()) < MAX_LINES
    missing = [each for each in imported(script) if importlib.util.find_spec(each) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    path = tmp_path / f"{name}_script.py"
    path.write_text(script, "utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(path), run_name="__main__")
    printed = output.getvalue()
    assert printed
    for shown in results:
        assert len(shown.split()) == len(printed.split()), printed
        pairs = zip(shown.split(), printed.split(), strict=True)
        assert all(is_alike(*pair) for pair in pairs), printed


def test_each_page_has_a_script() -> None:
    assert SCRIPTS.keys() | {"cluster", "sweep"} >= {page.stem for page in PAGES}


@pytest.mark.long
def test_line_of_the_shell_trains_a_model_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = FOLDER / "train-your-own-model.md"
    (module,), (line,) = blocks(page, "py"), blocks(page, "sh")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(module, "utf-8")
    assert main(line.split()[1:]) == 0
    assert "bf16_kahan" in capsys.readouterr().out
    assert (tmp_path / "lines").is_dir()


@pytest.mark.slow
def test_tasks_of_a_job_array_are_run_resumed_and_merged(tmp_path: Path) -> None:
    page = FOLDER / "cluster.md"
    (array,), (merge,) = blocks(page, "bash"), blocks(page, "py")
    (tmp_path / "array.sh").write_text(array, "utf-8")
    (tmp_path / "merge.py").write_text(merge, "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    here = {**os.environ, "PATH": path, "PYTHONPATH": str(FOLDER.parent.parent)}

    def run(*words: str, task: str = "") -> str:
        settings = {**here, "SLURM_ARRAY_TASK_ID": task}
        return subprocess.run(
            words, cwd=tmp_path, env=settings, check=True, capture_output=True, text=True
        ).stdout

    options = ("--model", "linear", "--policy", "bf16", "--steps", "4")
    for task in ("0", "1"):
        run("bash", "array.sh", *options, task=task)
    run("bash", "array.sh", *options, task="1")  # preempted, and started again
    (tmp_path / "runs" / "seed-2").mkdir()  # never begun
    printed = run(sys.executable, "merge.py", "runs").split("\n")
    assert [line.partition(" ")[0] for line in printed] == ["fp32", "bf16", ""]
    assert all(line.endswith("(2 runs)") for line in printed[:2])
    table = (tmp_path / "runs" / "merged.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[:2] for row in table[1:]] == [
        [f"seed-{task}", policy] for task in (0, 1) for policy in ("fp32", "bf16")
    ]


@pytest.mark.long
def test_figure_of_ones_own_is_run_by_the_lines_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = FOLDER / "own-figure.md"
    (module,), (lines,), (script,) = (blocks(page, kind) for kind in ("python", "bash", "py"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counting.py").write_text(module, "utf-8")
    printed = []
    for line in lines.splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0
        printed.append(capsys.readouterr().out)
    assert "3/3" in printed[0]
    assert "3/3" in printed[1]
    assert "--formats TEXT [TEXT ...]" in printed[2]
    assert "own parameters" in printed[3]
    (tmp_path / "use.py").write_text(f"import precsim as ps\n{script}", "utf-8")
    runpy.run_path(str(tmp_path / "use.py"), run_name="__main__")
    assert (tmp_path / "figures" / "counting,n=9" / "figure.svg").is_file()


@pytest.mark.parametrize(
    "page", [p for p in (*PAGES, COMMANDS) if blocks(p, "console")], ids=lambda p: p.stem
)
def test_console_blocks_show_what_is_printed(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for block in blocks(page, "console"):
        line, _, shown = block.partition("\n")
        prompt, program, *words = shlex.split(line)
        assert (prompt, program) == ("$", "precsim")
        assert main(words) == 0
        assert capsys.readouterr().out == shown


def test_index_lists_every_page() -> None:
    index = (FOLDER / "index.md").read_text("utf-8")
    groups = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^[a-z0-9-]+$", "\n".join(groups), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in PAGES)


@pytest.mark.parametrize(
    ("shown", "alike", "other"), [("0.64", "0.65", "0.66"), ("82", "83", "84"), ("nan", "nan", "1")]
)
def test_what_a_page_may_show(shown: str, alike: str, other: str) -> None:
    assert is_alike(shown, alike)
    assert not is_alike(shown, other)


def test_packages_of_a_script() -> None:
    assert imported("import jax\nimport jax.numpy as jnp\nfrom flax import nnx\n") == [
        "flax",
        "jax",
    ]
