"""The page: it only draws, it loads nothing from elsewhere, and its parts fit together."""

import posixpath
import re
from html.parser import HTMLParser

import pytest

from precsim.explorer.answers import QUESTIONS
from precsim.explorer.server import page_files

FILES = {path: content.decode() for path, content in page_files().items()}
SCRIPTS = {path: text for path, text in FILES.items() if path.endswith(".js")}

ARITHMETIC = {
    "a function of numbers": r"\b(Math|Number|BigInt|parseFloat|parseInt|toFixed|toPrecision)\b",
    "a product, a quotient, a power, a remainder": r"[\w)\]] *(\*\*?|/|%) *[\w(\[]",
    "a difference": r"[\w)\]] - [\w(\[]",
    "bits": r"[\w)\]] (<<|>>|&|\||\^) [\w(\[]",
    "a sum of more than a place and one": r"[\w)\]] \+ (?!1\b)",
    "a change of a number": r"(\+|-|\*|/)= (?!1;)|--\w|\w--",
    "a program in a text": r"\b(eval|Function)\(|innerHTML|insertAdjacentHTML|document\.write",
}
"""What would be arithmetic on values, or let a text become a program."""


def code(text: str) -> str:
    """Return a script without comments, and with its texts and patterns empty."""
    text = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text)
    text = re.sub(r"`[^`]*`", lambda found: " ".join(re.findall(r"\$\{([^}]*)\}", found[0])), text)
    return re.sub(r"(?<=[(,]) ?/[^/\n]+/\w*", '""', text)


@pytest.mark.parametrize("path", sorted(SCRIPTS))
def test_scripts_do_no_arithmetic(path: str) -> None:
    text = code(SCRIPTS[path])
    faults = {what: re.findall(f".*(?:{found}).*", text) for what, found in ARITHMETIC.items()}
    assert {what: lines for what, lines in faults.items() if lines} == {}


def test_the_search_for_arithmetic_can_find() -> None:
    for line in ("x = a * b;", "x = a - b;", "Math.max(1, 2)", "a ** 2", "x = y + 3", "x -= 2;"):
        text = code(line)
        assert any(re.search(found, text) for found in ARITHMETIC.values()), line


def test_nothing_comes_from_elsewhere() -> None:
    for path, text in FILES.items():
        known = text.replace('"http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|//\w+\.\w+|@import|url\(", known), path


def test_imports_name_files_of_the_page() -> None:
    for path, text in SCRIPTS.items():
        folder = path.rpartition("/")[0]
        for name in re.findall(r'from "(\.[^"]+)"', text):
            assert posixpath.normpath(posixpath.join(folder, name)) in FILES, (path, name)


def test_every_panel_is_a_file_and_every_file_a_panel() -> None:
    names = re.search(r"const NAMES = \[([^]]*)\]", SCRIPTS["app.js"])
    assert names is not None
    listed = re.findall(r'"([a-z-]+)"', names[1])
    files = [path for path in SCRIPTS if path.startswith("panels/")]
    assert sorted(f"panels/{name}.js" for name in listed) == sorted(files)
    assert len(listed) == 9


def test_scripts_ask_questions_that_there_are() -> None:
    texts = "\n".join(SCRIPTS.values())
    asked = set(re.findall(r'question: "(\w+)"', texts)) | set(
        re.findall(r'request\("(\w+)"\)', texts)
    )
    assert asked == set(QUESTIONS) - {"many"}


class Outline(HTMLParser):
    """Collects what the checks of the page's frame look at."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_frame_is_well_formed_and_labelled() -> None:
    outline = Outline()
    outline.feed(FILES["index.html"])
    tags = [tag for tag, _ in outline.tags]
    assert {"main", "nav", "header", "footer", "title"} <= set(tags)
    for tag, attributes in outline.tags:
        if tag == "img":
            assert "alt" in attributes
        if tag == "script":
            assert attributes.get("type") == "module"
            assert attributes.get("src")
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert ("html", {"lang": "en"}) in outline.tags


def test_lines_are_short() -> None:
    for path, text in FILES.items():
        assert [line for line in text.splitlines() if len(line) > 100] == [], path
