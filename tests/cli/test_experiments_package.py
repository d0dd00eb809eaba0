"""The figures are found in a clone and in an installed wheel; nothing else is taken for them."""

import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import experiments
from precsim.cli.experiments_package import load_experiments

ROOT = Path(__file__).parents[2]


def test_a_clone_has_them_beside_the_package() -> None:
    assert load_experiments() is experiments
    assert str(ROOT) in sys.path


def test_the_wheel_carries_them_where_they_are_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["precsim", "experiments"]
    assert wheel["sources"] == {"experiments": "precsim/shipped/experiments"}


def found_from(site: Path) -> str:
    """Return what a precsim in this folder finds, beside whatever else is importable there."""
    names = ("__init__.py", "__init__.pyi", "cli/__init__.py", "formats/__init__.py")
    for name in (*names, "cli/experiments_package.py", "formats/arguments.py"):
        copy = site / "precsim" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / "precsim" / name).read_bytes())
    text = (
        "from precsim.cli.experiments_package import load_experiments as f; print(f().__path__[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=site,
        env={"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout or done.stderr).splitlines()[-1]


def test_an_installation_has_them_inside_the_package(tmp_path: Path) -> None:
    shipped = tmp_path / "precsim" / "shipped" / "experiments"
    for folder in (shipped, tmp_path / "experiments"):  # a package of others beside precsim
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    assert found_from(tmp_path) == str(shipped)


def test_a_package_of_others_is_not_taken_for_them(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    assert "ValueError: the published figures are not beside" in found_from(tmp_path)


def test_a_package_of_others_that_is_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("experiments")
    other.__path__ = ["elsewhere/experiments"]
    monkeypatch.setitem(sys.modules, "experiments", other)
    with pytest.raises(ValueError, match=r"a package 'experiments' from .*elsewhere.* is loaded"):
        load_experiments()
