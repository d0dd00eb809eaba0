"""The pages as Sphinx builds them: no warning, no dead link, and a search that finds.

The build of the whole site is slow; `.ci/run` asks for it by name.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.extensions.snippets import DOCS, ROOT

pytest.importorskip("sphinx")
Index = dict[str, Any]


def build(source: Path, target: Path) -> str:
    """Build a site; return what Sphinx warns of."""
    words = ["-m", "sphinx", "-q", "-b", "html", "-c", str(DOCS), str(source), str(target)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line))


def read_index(site: Path) -> Index:
    """Return the search index of a site."""
    text = (site / "searchindex.js").read_text("utf-8")
    index: Index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return index


def hits(index: Index, query: str) -> set[str]:
    """Return the pages that have all words of a query, as Sphinx's search in the browser does.

    Words are stemmed, and words that every page has are left out. A word that no page has stands
    for all words that contain it.
    """
    from sphinx.search.en import SearchEnglish

    language = SearchEnglish({})
    words = [w for w in re.findall(r"\w+", query.lower()) if w not in language.stopwords]
    found = []
    for word in map(language.stem, words):
        pages: set[int] = set()
        for terms in (index["terms"], index["titleterms"]):
            matching = [word] if word in terms else [t for t in terms if word in t]
            for term in matching:
                of_term = terms[term]
                pages |= {of_term} if isinstance(of_term, int) else set(of_term)
        found.append(pages)
    return {index["docnames"][number] for number in set.intersection(*found)}


@pytest.fixture(scope="module")
def index() -> Index:
    """Build the site, or what of it has changed, and return its search index."""
    site = DOCS / "_build" / "html"
    assert build(DOCS, site) == ""
    return read_index(site)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("flax", "how-to/linen"),
        ("flax", "how-to/nnx"),
        ("custom format", "faq"),
        ("which operation loses most", "tutorials/why-my-variance-fails"),
        ("which operation loses most", "faq"),
        ("unit roundoff", "explanation/words"),
        ("which tolerance", "how-to/tolerances-for-tests"),
        ("loss scale", "how-to/audit-a-loss-scale"),
        ("round_to", "reference/generated/precsim.round_to"),
    ],
)
def test_search_finds(index: Index, query: str, page: str) -> None:
    assert page in hits(index, query)


@pytest.mark.slow
def test_pages_ask_no_other_server(index: Index) -> None:
    """Scripts, styles, fonts and pictures are the site's own: it works offline."""
    site = DOCS / "_build" / "html"
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["'](https?:[^"']*)""")
    asked = {
        f"{page.relative_to(site)}: {address}"
        for page in site.rglob("*.html")
        for address in loaded.findall(page.read_text("utf-8"))
    }
    assert asked == set()


@pytest.mark.slow
def test_dead_links_are_warned_of(tmp_path: Path) -> None:
    """The build makes a warning an error; names of functions are checked in tests/test_docs.py."""
    dead = ["[a](gone.md)", "[a](other.md#gone)", "[a](#gone)", "![a](gone.svg)"]
    page = "\n\n".join(["# Here", *dead, "```{toctree}\nother\n```", ""])
    (tmp_path / "index.md").write_text(page, "utf-8")
    (tmp_path / "other.md").write_text("# Other\n", "utf-8")
    warned = build(tmp_path, tmp_path / "site")
    assert warned.count("[myst.xref_missing]") == 3
    assert warned.count("[image.not_readable]") == 1


def test_search_needs_all_words() -> None:
    index = {
        "docnames": ["a", "b"],
        "terms": {"oper": [0, 1], "lose": 0, "float16": 1},
        "titleterms": {"most": 0},
    }
    assert hits(index, "Which operations lose most") == {"a"}
    assert hits(index, "float") == {"b"}
    assert hits(index, "operations") == {"a", "b"}
    assert hits(index, "nothing operation") == set()
