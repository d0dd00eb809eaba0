"""The runner: precsim is never wrong, a wrong library is named, arguments are checked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from conformance import score as score_module
from conformance.__main__ import main
from conformance.adapters import ADAPTERS
from conformance.adapters.adapter import Adapter, Arguments
from conformance.report import BEGIN, END
from conformance.score import score_all
from conformance.vector_file import Task, Vectors, read

FILES = dict(read())
# Each mode compiles for a fifth of a second, so this is a part; the slow test has the rest.
COMPILED = {
    "round/e4m3.any.txt": ("r",),
    "round/fp16.infinity.txt": ("rne", "rtp", "rto"),
    "round/e8m0.any.txt": ("rne", "rtn"),
    "round/binary6p3ue.satnone.txt": ("rna", "rtn"),
    "round/q7.8.wrap.txt": ("rno", "rnp"),
    "stochastic/bf16.txt": ("sr4:b", "sr8:c"),
    "operations/e5m2.fma.txt": ("rne",),
    "operations/bf16.divide.txt": ("rtz",),
}
"""Files and modes."""


def wrong(name: str, files: list[Vectors], modes: tuple[str, ...] = ()) -> list[str]:
    """Return the wrong scores of a library, and insist on some scores."""
    scores = list(score_all(name, ADAPTERS[name], files, modes))
    assert sum(score.cases for score in scores) > 20
    return [f"{s.task} {s.inputs}: {s.first_wrong}" for s in scores if not s.passed]


@pytest.mark.long
def test_precsim_numpy_is_right_on_all_vectors() -> None:
    assert wrong("precsim_numpy", list(FILES.values())) == []


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILED)
def test_precsim_jit_is_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = "float64" if name.startswith(("round/fp16", "stochastic")) else "float32"
    monkeypatch.setitem(ADAPTERS, "one", replace(ADAPTERS["precsim_jit"], inputs=(inputs,)))
    assert wrong("one", [FILES[name]], COMPILED[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("library", ["precsim_eager", "precsim_jit"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_precsim_jax_is_right_on_all_vectors(library: str, name: str) -> None:
    assert [s for s in score_all(library, ADAPTERS[library], [FILES[name]]) if not s.passed] == []


@pytest.mark.parametrize("name", ["numpy_float16", "ml_dtypes"])
def test_libraries_without_double_rounding_agree(name: str) -> None:
    """NumPy rounds float64 once; ml_dtypes float32, but for two numbers below E8M0's 2**-126."""
    scores = list(score_all(name, ADAPTERS[name], FILES.values(), ["rne"]))
    failures = [s for s in scores if not s.passed and s.task.format != "e8m0"]
    assert {s.inputs for s in failures} <= ({"float64"} if name == "ml_dtypes" else set())
    assert len({s.task.format for s in scores}) == (12 if name == "ml_dtypes" else 1)


Plant = Callable[..., None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Return a function that adds a library named planted: precsim, but its results are changed."""

    def add(change: Callable[[Task, np.ndarray], Any], **options: Any) -> None:
        honest = ADAPTERS["precsim_numpy"]

        def compute(task: Task, arguments: Arguments) -> Any:
            return change(task, np.asarray(honest.compute(task, arguments)))

        made = Adapter(package="precsim", supports=honest.supports, compute=compute)
        monkeypatch.setitem(ADAPTERS, "planted", replace(made, **options))

    return add


def planted(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Run the command on the planted library; return its status and what it printed."""
    status = main(["--library", "planted", "--format", "e4m3", "--operation", "round", *more])
    return status, capsys.readouterr().out


def test_a_wrong_library_is_caught_and_named(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(lambda task, y: np.where((y == 0.875) & (task.mode == "rtz"), 0.9375, y))
    status, printed = planted(capsys)
    assert status == 0  # only rows of precsim decide
    first = "x = 0x1.cp-1 (0.875): expected 0x1.cp-1 (0.875, code 0x36), got 0x1.ep-1 (0.9375, code 0x37)"
    assert f"planted {ps.__version__}, float32, round e4m3 any rtz: {first}" in printed
    assert "round e4m3 any rne" not in printed


def test_values_outside_the_format_nan_and_signs(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(lambda task, y: np.where(y == 1.0, 1.01, y))
    assert "got 0x1.028f5c28f5c29p+0 (1.01, not in e4m3)" in planted(capsys, "--mode", "rne")[1]
    plant(lambda task, y: -y if np.isnan(y).all() else np.where(np.isnan(y), -np.nan, y))
    assert "expected" not in planted(capsys, "--mode", "rne")[1]
    plant(lambda task, y: np.where(y == 0, 0.0, y))
    printed = planted(capsys, "--mode", "rne")[1]
    row = next(line for line in printed.splitlines() if "float64" in line and "any" in line)
    wrong, signs = (int(cell) for cell in row.replace("\u2502", " ").split()[-2:])
    assert (wrong, signs > 3) == (0, True)
    assert "expected -0x0p+0 (-0.0, code 0x80), got 0x0p+0 (0.0, code 0x0)" in printed


def test_a_library_that_raises_has_all_cases_wrong(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(task: Task, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError("not\nyet")

    plant(fail, inputs=("float64",))
    assert "planted" in (printed := planted(capsys, "--mode", "rto")[1])
    assert "round e4m3 any rto: NotImplementedError: not yet" in printed


def test_a_wrong_precsim_gives_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--library", "precsim_numpy", "--format", "half", "--mode", "rne"]
    assert main(arguments) == 0
    broken = replace(ADAPTERS["precsim_numpy"], compute=lambda task, columns: columns["x"] * 0)
    monkeypatch.setitem(ADAPTERS, "precsim_numpy", broken)
    assert main(arguments) == 1
    assert (
        "float32, round fp16 any rne: x = -0x1.ffcp+15 (-65504.0): expected"
        in capsys.readouterr().out
    )


def test_subnormals_are_left_out_where_a_library_has_none(plant: Plant) -> None:
    plant(lambda task, y: np.where(np.abs(y) < 2.0**-14, 0.0 * y, y), has_subnormals=False)
    files = [FILES["round/fp16.any.txt"], FILES["operations/fp16.multiply.txt"]]
    scores = list(score_all("planted", ADAPTERS["planted"], files))
    assert all(score.passed for score in scores)
    assert {score.cases > 100 for score in scores} == {True}


def test_missing_library_is_skipped_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(ADAPTERS["gfloat_numpy"], package="no_such_package")
    monkeypatch.setitem(ADAPTERS, "gfloat_numpy", missing)
    arguments = ["--library", "gfloat_numpy", "numpy_float16", "--format", "fp16"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Skipped gfloat_numpy: no_such_package is not installed" in printed
    assert f"Versions: numpy {np.__version__}\n" in printed


def test_version_of_a_package() -> None:
    assert score_module.version("numpy") == np.__version__
    assert score_module.version("no_such_package") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--library", "ml_dtype"], "unknown library 'ml_dtype'; did you mean 'ml_dtypes'?"),
        (["--format", "fp99"], "unknown format 'fp99'; known are"),
        (["--format", "fp64"], "unknown format 'fp64'; did you mean"),
        (["--mode", "rnx"], "unknown mode 'rnx'; did you mean"),
        (["--operation", "sum"], "unknown operation 'sum'"),
        (["--operation", "add", "--format", "q3.4"], "no file of vectors has these"),
        (["--vectors", "nowhere"], "no vectors in nowhere"),
        (["--json", "nowhere/a.json"], "--json is nowhere/a.json; allowed are files in a folder"),
        (["--markdown", "nowhere/a.md"], "--markdown is nowhere/a.md; allowed are files in a"),
        (["--json", "docs"], "--json is docs; allowed are files"),
        (["--markdown", "README.md"], "has no lines '<!-- conformance: begin -->'"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")


def test_markdown_and_json(tmp_path: Path, plant: Plant) -> None:
    plant(lambda task, y: y + (task.mode == "raz"))
    page, data = tmp_path / "page.md", tmp_path / "scores.json"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    options = ["--library", "planted", "precsim_numpy", "--format", "q7.8", "--mode", "raz", "rtz"]
    assert main([*options, "--markdown", str(page), "--json", str(data)]) == 0
    text = page.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n\n| library |")
    assert text.endswith(f"|\n\n{END}\n\nThe end.\n")
    assert "old" not in text
    assert f"| `precsim_numpy` | {ps.__version__} | float64 | rtz raz | 1 | " in text
    cases = [line for line in text.splitlines() if "expected" in line]
    assert len(cases) == 1
    assert cases[0].startswith("| `planted` | float32 | q7.8 | ")
    assert "| raz | round raz, overflow any: x = -0x1p+7 (-128.0): expected -0x1p+7" in cases[0]
    scores = json.loads(data.read_text())["scores"]
    bad = [s for s in scores if s["wrong"]]
    assert {(s["library"], s["task"]["mode"]) for s in bad} == {("planted", "raz")}
    assert {s["wrong"] for s in bad} == {s["cases"] for s in bad}
    again = text
    main([*options, "--markdown", str(page)])
    assert page.read_text() == again


def test_generate_writes_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "round/e2m1.saturate.txt"
    chosen = {name: lambda: FILES[name]}
    monkeypatch.setattr("conformance.generate.files", lambda: chosen)
    assert main(["generate", "--vectors", str(tmp_path)]) == 0
    assert dict(read(tmp_path)) == {name: FILES[name]}
