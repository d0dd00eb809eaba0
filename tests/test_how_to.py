"""Each how-to page has one complete script, of under 40 lines, that runs and warns of nothing.

Where a page shows what its script prints, it prints that. A page of a library that is not installed
is skipped by name.
"""

import contextlib
import importlib.util
import io
import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
MAX_LINES = 40


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language of a page."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_script_runs_and_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    (script,) = blocks(page, "python")
    assert len(script.splitlines()) < MAX_LINES
    missing = [name for name in imported(script) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    path = tmp_path / f"{page.stem}_script.py"
    path.write_text(script, "utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(path), run_name="__main__")
    printed = output.getvalue()
    assert printed
    for shown in blocks(page, "text"):
        assert len(shown.split()) == len(printed.split()), printed
        pairs = zip(shown.split(), printed.split(), strict=True)
        assert all(is_alike(*pair) for pair in pairs), printed


def test_index_lists_every_page() -> None:
    index = (FOLDER / "index.md").read_text("utf-8")
    listed = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.MULTILINE | re.DOTALL)[0].split()
    assert sorted(listed) == [page.stem for page in PAGES]


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
