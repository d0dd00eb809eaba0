"""The folder that any static server serves: what is in it, and what must not be in it."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from precsim.explorer import site

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Return a folder with the files of the runtime, which only their names make one."""
    folder = tmp_path / "pyodide"
    folder.mkdir()
    for name in site.RUNTIME:
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "package.json").write_text(json.dumps({"version": site.PYODIDE}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("package") / "precsim.zip"
    site.write_package(file)
    return file


def loaded_at_once(text: str) -> set[str]:
    """Return the packages that a module imports when it is loaded, thus outside functions."""
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        left += ast.iter_child_nodes(node)
    return found


@pytest.mark.long
def test_package_has_no_module_that_loads_numpy_or_jax(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
    assert {"precsim/__init__.pyi", "precsim/explorer/answers.py"} <= set(names)
    assert "precsim/rounding/kernel/kernel.py" not in names  # it needs NumPy
    allowed = {"precsim", *sys.stdlib_module_names}
    found = {name: loaded_at_once(text) - allowed for name, text in texts.items()}
    assert {name: packages for name, packages in found.items() if packages} == {}


def test_the_check_finds_imports_outside_functions() -> None:
    text = "import os\nif os.name:\n    import jax.numpy\ndef f(): import numpy\n"
    assert loaded_at_once(text) == {"os", "jax"}


def test_a_bare_python_answers_from_the_package(package: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from precsim.explorer.answers import answer;"
        "print(answer({'question': 'number', 'value': '3.14159', 'format': 'e4m3'})['value'])"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3.25"


def test_package_has_equal_bytes_from_equal_sources(package: Path, tmp_path: Path) -> None:
    site.write_package(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == package.read_bytes()


def test_folder_has_the_page_the_package_and_the_runtime(runtime: Path, tmp_path: Path) -> None:
    folder = tmp_path / "explore"
    site.write_page(folder)
    assert site.copy_runtime(runtime, folder / "pyodide") is None
    site.write_facts(folder, None)
    assert {p.name for p in folder.iterdir()} >= {p.name for p in site.PAGE.iterdir()}
    assert {p.name for p in (folder / "pyodide").iterdir()} == set(site.RUNTIME)
    transport = (folder / "transport.js").read_text("utf-8")
    assert transport == (site.TAB / "transport.js").read_text("utf-8")
    made = json.loads((folder / "made.json").read_text("utf-8"))
    sizes = [(folder / "pyodide" / name).stat().st_size for name in site.FETCHED]
    assert made == {"bytes": sum(sizes) + (folder / "precsim.zip").stat().st_size, "fault": None}


def _lacks_a_file(folder: Path) -> None:
    (folder / "pyodide.asm.wasm").unlink()


def _is_of_another_version(folder: Path) -> None:
    (folder / "package.json").write_text('{"version": "0.1.2"}', encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shutil.rmtree, "has no pyodide-lock.json"),
        (_lacks_a_file, "has no pyodide.asm.wasm"),
        (_is_of_another_version, "is pyodide 0.1.2"),
    ],
)
def test_a_runtime_that_is_none_leaves_the_page_which_says_so(
    change: Callable[[Path], None],
    said: str,
    runtime: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(runtime)
    folder = tmp_path / "explore"
    assert site.main([str(folder), "--runtime", str(runtime)]) == 1
    line = capsys.readouterr().err
    assert said in line
    assert f"pyodide@{site.PYODIDE}" in line
    assert (folder / "index.html").is_file()
    assert list((folder / "pyodide").iterdir()) == []
    assert said in json.loads((folder / "made.json").read_text("utf-8"))["fault"]


def test_both_transports_have_the_same_functions() -> None:
    def exported(folder: Path) -> list[str]:
        text = (folder / "transport.js").read_text("utf-8")
        return sorted(re.findall(r"^export (?:async )?function (\w+)", text, re.MULTILINE))

    assert exported(site.TAB) == exported(site.PAGE) == ["ask", "connect"]


def test_the_page_names_no_other_host() -> None:
    """Pictures' name spaces are names and no addresses."""
    files = [p for folder in (site.PAGE, site.TAB) for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 4
    for path in files:
        found = re.findall(r"https?://[^\s\"'`)]+", path.read_text("utf-8"))
        assert [url for url in found if not url.startswith("http://www.w3.org/")] == [], path.name


def test_npm_brings_the_version_that_the_page_is_built_with() -> None:
    package = json.loads((ROOT / "package.json").read_text("utf-8"))
    locked = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    assert package["devDependencies"]["pyodide"] == site.PYODIDE
    for name, version in package["devDependencies"].items():
        assert locked[f"node_modules/{name}"]["version"] == version
        assert locked[f"node_modules/{name}"]["integrity"].startswith("sha512-")
