"""The definitions run on Python alone, without any package, and return what they always return."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import precsim as ps
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS
from tests import definitions

HERE = Path(__file__).parent
ROOT = HERE.parent
BARE = [sys.executable, "-I", "-S"]  # neither site-packages nor PYTHONPATH


def run_bare(program: str) -> str:
    """Run statements with precsim and the standard library alone."""
    lines = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{program}"
    done = subprocess.run([*BARE, "-c", lines], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def bare() -> dict[str, object]:
    program = [*BARE, str(HERE / "definitions.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def full() -> dict[str, object]:
    return definitions.results()


@pytest.mark.long
@pytest.mark.parametrize(
    "part",
    [
        "formats",
        "codes",
        "roundings",
        "ulps",
        "operations",
        "products",
        "show",
        "walks",
        "strings",
        "errors",
    ],
)
def test_results_are_those_of_the_full_environment(
    part: str, bare: dict[str, object], full: dict[str, object]
) -> None:
    assert len(full[part]) >= 5  # type: ignore[arg-type]
    assert bare[part] == full[part]


def test_the_results_cover_every_machine_and_every_mode(full: dict[str, object]) -> None:
    text = json.dumps(full)
    for machine in (*MACHINES, *MATRIX_UNITS):
        assert f'"{machine}:' in text
    for mode in ps.RoundingMode:
        assert f":{mode}" in text


def test_a_bare_python_has_no_package() -> None:
    """The check can fail: what the other tests run without is really missing."""
    program = "import importlib.util\nprint(importlib.util.find_spec('numpy'))"
    assert run_bare(program) == "None"
    refused = subprocess.run(
        [*BARE, "-c", f"import runpy; runpy.run_path({str(HERE / 'definitions.py')!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode  # not run as a program, it finds no precsim


def test_what_needs_numpy_says_so() -> None:
    program = "import precsim\ntry: precsim.round_to\nexcept ImportError as e: print(e, e.name)"
    assert run_bare(program) == (
        "precsim.round_to needs numpy, which is not installed; Python alone runs formats, specs and "
        "precsim.oracle numpy"
    )


THEMES = ("oracle", "options")


@pytest.mark.parametrize("theme", THEMES)
def test_whole_themes_load(theme: str) -> None:
    program = f"import precsim\nprint(*sorted(vars(precsim.{theme})))"
    assert set(dir(getattr(ps, theme))) >= set(run_bare(program).split())
