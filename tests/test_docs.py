"""Every public function and class is documented in full, and has its place in docs/reference."""

import inspect
import re
from pathlib import Path

import pytest

import precsim

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def documented_objects() -> dict[str, object]:
    """Return the public functions and classes by name."""
    public = {name: getattr(precsim, name) for name in precsim.__all__}
    return {
        name: value
        for name, value in public.items()
        if inspect.isclass(value) or (callable(value) and hasattr(value, "__name__"))
    }


def sections(docstring: str) -> set[str]:
    """Return the titles of a numpydoc docstring: lines underlined with hyphens."""
    titles = re.findall(r"^(\w[\w ]*)\n-{3,}$", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {title.strip() for title in titles}


def missing_sections(value: object) -> set[str]:
    """Return the sections that a public function or class should have and has not."""
    required = {"Examples"}
    if not inspect.isclass(value) and callable(value):
        required.add("Returns")
        if inspect.signature(value).parameters:
            required.add("Parameters")
    docstring = inspect.getdoc(value) or ""
    missing = required - sections(docstring)
    if "Examples" in required - missing and ">>> " not in docstring:
        missing.add("a doctest under Examples")
    return missing


def listed_names(text: str) -> set[str]:
    """Return the names that a reference page lists: lines of one name inside a directive."""
    return set(re.findall(r"^ {3,}([A-Za-z_]\w*)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", sorted(documented_objects()))
def test_docstring_is_complete(name: str) -> None:
    assert missing_sections(getattr(precsim, name)) == set()


def test_reference_lists_exactly_the_public_names() -> None:
    pages = [page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md")]
    listed = set().union(*map(listed_names, pages))
    assert listed == set(documented_objects())


def test_missing_sections_are_noticed() -> None:
    def undocumented(x: int) -> int:
        return x

    def documented(x: int) -> int:
        """Return x.

        Parameters
        ----------
        x : int
            A number.

        Returns
        -------
        int
            The same number.

        Examples
        --------
        >>> 1
        1
        """
        return x

    def without_doctest() -> None:
        """Do nothing.

        Returns
        -------
        None

        Examples
        --------
        None yet.
        """

    assert missing_sections(undocumented) == {"Parameters", "Returns", "Examples"}
    assert missing_sections(documented) == set()
    assert missing_sections(without_doctest) == {"a doctest under Examples"}
    assert listed_names(".. autosummary::\n   :toctree: generated\n\n   ulp\n") == {"ulp"}
