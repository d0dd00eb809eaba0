"""The bibliography holds each source that is cited, once, and none that is not."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from docs.extensions.snippets import DOCS, ROOT

BIBLIOGRAPHY = DOCS / "bibliography.md"
REACH = 250
"""Characters after an author's name in which a citation has a year, a title or a number."""
NUMBER = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})|doi(?:\.org/|:? )?(10\.\d{4,}/[\w.-]*\w)")


def flat(text: str) -> str:
    """Return a text with single spaces, small letters and neither stars, quotes nor hash signs."""
    return re.sub(r"\s+", " ", re.sub(r'[*#"“”]', " ", text)).casefold()


def entries(text: str) -> dict[str, str]:
    """Map the key of each entry to its text; an entry may go on in lines that are indented."""
    found = re.findall(r"^\* \*\*(.+?)\*\*: (.*(?:\n  .*)*)", text, re.MULTILINE)
    assert len(dict(found)) == len(found), "a key stands twice"
    return dict(found)


def numbers(text: str) -> set[str]:
    """Return the arXiv numbers and DOIs of a text."""
    return {a or b for a, b in NUMBER.findall(re.sub(r"\s+", " ", text))}


def is_cited(key: str, entry: str, text: str) -> bool:
    """Return whether a flat text cites an entry.

    It has a number of it; or its first author and, soon after, the year or the beginning of the
    title. An entry whose key has no year is cited by its key.
    """
    if any(number.casefold() in text for number in numbers(entry)):
        return True
    year = re.search(r"(.+?),? (\d{4})$", key)
    if year is None:
        return key.casefold() in text
    author = re.split(r" and | et al", year[1])[0].casefold()
    second = re.search(r" and (\w+)", year[1])
    title = re.search(r"\*(.+?)\*", entry, re.DOTALL)
    start = flat(title[1])[:16] if title else ""
    for place in re.finditer(rf"\b{re.escape(author)}\b", text):
        near = text[place.end() : place.end() + REACH]
        if second and second[1].casefold() not in near[:60]:
            continue
        if year[2] in near or (start and start in near):
            return True
    return False


@cache
def cited_texts() -> dict[str, str]:
    """Return what cites: pages, docstrings and strings of the package, the experiments."""
    left_out = {"_build", "generated"}
    found = {
        page.relative_to(ROOT).as_posix(): page.read_text("utf-8")
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        if not left_out & set(page.parts) and page != BIBLIOGRAPHY
    }
    for module in [*(ROOT / "precsim").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        tree = ast.parse(module.read_text("utf-8"))
        strings = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        found[module.relative_to(ROOT).as_posix()] = "\n\n".join(strings)
    return found


def sources(text: str) -> list[str]:
    """Return the statements of sources, each to the end of its paragraph."""
    return re.findall(r"\bSources?(?: of the idea)?: ((?:.+\n?)+)", text)


ENTRIES = entries(BIBLIOGRAPHY.read_text("utf-8"))


def test_no_entry_is_an_orphan() -> None:
    everything = flat("\n\n".join(cited_texts().values()))
    assert [key for key, entry in ENTRIES.items() if not is_cited(key, entry, everything)] == []


def test_every_number_is_in_the_bibliography() -> None:
    known = numbers(BIBLIOGRAPHY.read_text("utf-8"))
    missing = {name: numbers(text) - known for name, text in cited_texts().items()}
    assert {name: found for name, found in missing.items() if found} == {}


def test_every_stated_source_is_in_the_bibliography() -> None:
    unknown = [
        f"{name}: {statement[:70]}"
        for name, text in cited_texts().items()
        for statement in sources(text)
        if not statement.startswith(("see ", "as `", "the page of", "the topics of"))
        and not any(is_cited(key, entry, flat(statement)) for key, entry in ENTRIES.items())
    ]
    assert unknown == []


def test_no_number_stands_twice() -> None:
    text = BIBLIOGRAPHY.read_text("utf-8")
    found = NUMBER.findall(re.sub(r"\s+", " ", text))
    assert len(found) == len(set(found))
    assert len(ENTRIES) > 70


@pytest.mark.parametrize(
    ("key", "entry", "text", "cited"),
    [
        ("Kahan 1965", "W. Kahan, *Further remarks*, 1965", "as in (Kahan 1965)", True),
        ("Kahan 1965", "W. Kahan, *Further remarks*, 1965", "Kahan's sum", False),
        ("Wang 2018", "N. Wang, *Training*, arXiv 1812.08011", "see arXiv:1812.08011", True),
        ("Higham 2002", "*Accuracy and Stability of*", "Higham, *Accuracy and\nStability*", True),
        ("Higham and Mary 2019", "*A New Approach*", "Higham and Pranesh 2019", False),
        ("OFP8", "Open Compute Project", "OFP8 1.0, Tables 1 and 2", True),
    ],
)
def test_citations_are_found(key: str, entry: str, text: str, cited: bool) -> None:
    assert is_cited(key, entry, flat(text)) is cited


def test_sources_end_with_their_paragraph(tmp_path: Path) -> None:
    assert sources("Source: A,\nB.\n\nMore. Sources: C.") == ["A,\nB.\n", "C."]
