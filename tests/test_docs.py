"""Public names are documented in full; pages are narrow, in plain English, and name what exists."""

import functools
import hashlib
import inspect
import re
from pathlib import Path

import pytest

import precsim
from tests.public_names import public_objects

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md" and not {"_build", "generated"} & set(page.parts)
)
MAX_COLUMNS = 100
# Habits of our own that make a sentence hard to read, and the plain words for them.
HARD_TO_READ = {
    r"\btells? whether\b": "return whether",
    r"\bone to an? \w+": "one per ...",
    r"\bso many\b": "this many",
    r"\b(what|that|which) is no product\b": "everything that is not a product",
    r"\bbut for\b": "except",
}


def documented_objects() -> dict[str, object]:
    """Return the public functions and classes by name."""
    public = public_objects()
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
        yields = inspect.isgeneratorfunction(inspect.unwrap(value))  # a context manager
        required.add("Yields" if yields else "Returns")
        if inspect.signature(value).parameters:
            required.add("Parameters")
    docstring = inspect.getdoc(value) or ""
    missing = required - sections(docstring)
    if "Examples" in required - missing and ">>> " not in docstring:
        missing.add("a doctest under Examples")
    return missing


def listed_names(text: str) -> set[str]:
    """Return the names that a reference page lists: lines of one name inside a directive."""
    return set(re.findall(r"^ {3,}([A-Za-z_][\w.]*)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize(("name", "value"), sorted(documented_objects().items()))
def test_docstring_is_complete(name: str, value: object) -> None:
    assert missing_sections(value) == set()


def test_reference_lists_exactly_the_public_names() -> None:
    pages = [page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md")]
    listed = set().union(*map(listed_names, pages))
    assert listed == set(documented_objects())


def wide_lines(text: str) -> list[int]:
    """Return the numbers of lines that are too wide; tables, pictures and lone links may be."""
    may_be_wide = re.compile(r"\s*(\||!\[|\S*\]?\(?https?://\S+$|git clone )")
    return [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > MAX_COLUMNS and not may_be_wide.match(line)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_narrow_and_plain(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert wide_lines(text) == []
    found = [word for word in HARD_TO_READ if re.search(word, text, flags=re.IGNORECASE)]
    assert [f"{word}: say {HARD_TO_READ[word]!r}" for word in found] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Names in backticks that have a folder and an ending, below the root or below precsim/."""
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|c|csv|npz|txt|yml|toml|m))`", text))
    missing = [n for n in names if not (ROOT / n).exists() and not (ROOT / "precsim" / n).exists()]
    assert missing == []


def test_links_and_pictures_of_the_readme_exist() -> None:
    """Those of the pages below docs/ are checked where the documentation is built."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_that_a_page_uses_exist(page: Path) -> None:
    """``ps.NAME``, and references such as {py:func}`precsim.NAME`."""
    planned = {"emulate"}  # which decisions.md names early
    text = page.read_text(encoding="utf-8")
    used = set(re.findall(r"(?:\bps\.|\{py:\w+\}`precsim\.)(\w+(?:\.\w+)*)", text))
    missing = []
    for name in sorted(used - planned):
        try:
            functools.reduce(getattr, name.split("."), precsim)
        except AttributeError:
            missing.append(name)
    assert missing == []


COUNTED = {"models": precsim.list_models, "data": precsim.list_tasks}
NUMBERS = {12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen"}


@pytest.mark.parametrize("page", ["README.md", "docs/reference/cli.md"])
def test_models_and_data_sets_are_counted_right(page: str) -> None:
    """In the links to their pages: [fourteen](models.md)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, listed in COUNTED.items():
        said = re.findall(rf"\[(\w+)(?: \w+)*\]\((?:docs/reference/)?{name}\.md\)", text)
        assert NUMBERS[len(listed())] in said
        assert set(said) & set(NUMBERS.values()) == {NUMBERS[len(listed())]}


def test_hashes_are_the_digits_that_the_page_says() -> None:
    text = (ROOT / "docs/explanation/scale.md").read_text(encoding="utf-8")
    digits, of = re.findall(r"^Hash: the first (\d+) of the (\d+) digits", text, re.MULTILINE)[0]
    hashes = re.findall(r"^\| \w+_(?:bf16|fp8) \| (\w+) \|", text, re.MULTILINE)
    assert {len(digest) for digest in hashes} == {int(digits)}
    assert int(of) == hashlib.sha256().digest_size * 2


def test_costs_at_the_top_of_a_page_are_those_of_its_table() -> None:
    page = (ROOT / "docs/explanation/bit-exact-training.md").read_text(encoding="utf-8")
    opening = " ".join(page.partition("\n## ")[0].split())
    rows = re.findall(r"^\| .*, native, H100 \| .* <= (\d+) \| (\S+) \|$", page, re.MULTILINE)
    (goal, first), (_, second) = rows
    assert f"took {first} and {second} times as long as in float32" in opening
    assert f"the first misses the goal of {goal} " in opening
    assert float(second) <= float(goal) < float(first)
    limits = page.partition("\n## Limits\n")[2]
    assert "(scale.md#measured)" in limits
    assert "H200" in limits


def drawn_folders(text: str) -> set[str]:
    """Return the folders of the tree that a page draws between the lines ```text and ```."""
    tree = text.partition("```text\nprecsim/\n")[2].partition("```")[0]
    found, parent = set(), ""
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.findall(r"(\w+)/(?= |$)", line)
        if indent == 2 and names:
            parent = names[0]
        found |= {name if indent == 2 else f"{parent}/{name}" for name in names}
    return found


def test_design_draws_the_folders_that_are_there() -> None:
    package = ROOT / "precsim"
    there = {folder.parent.relative_to(package).as_posix() for folder in package.rglob("*.py")}
    drawn = drawn_folders((ROOT / "docs/explanation/design.md").read_text(encoding="utf-8"))
    assert drawn == there - {"."}


def test_faults_of_pages_are_noticed() -> None:
    assert wide_lines("x" * 101 + "\n| " + "x" * 101 + "\n" + "x" * 100) == [1]
    assert drawn_folders("```text\nprecsim/\n  a/   b\n    c/  d/  e\n```\n") == {"a", "a/c", "a/d"}


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
