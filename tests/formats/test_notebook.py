"""What notebooks show: well-formed HTML in one style, escaped, with the facts."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.formats import notebook

HOSTILE = "<script>alert('1')</script>&"
SHOWN: dict[str, Any] = {
    **{name: ps.get_format(name) for name in ps.list_formats()},
    "float(e=15,p=50)": ps.get_format("float(e=15,p=50)"),
    "float(e=inf,p=5)": ps.get_format("float(e=inf,p=5)"),
    "e4m3:scale=1x128": ps.get_format("e4m3:scale=1x128"),
    "hostile": ps.FloatFormat(name=HOSTILE, precision=3, exponent_bits=3, source=HOSTILE),
    "rounding": ps.RoundingSpec.parse("e4m3:rtz:saturate"),
    "machine": ps.MatmulSpec.parse("h100:e4m3:promote128"),
    "policy": ps.Policy.parse("bf16_mixed;head:fp32"),
    "walk": ps.walk("0.1 + 0.2", "fp16"),
    "core": ps.walk("dot([2**12, 1], [2**12, 0.75])", "h100:fp16"),
    "value": ps.oracle.round_exact(1e6, "fp16"),
    "explanation": ps.explain(np.array([1.0, 3.01], "f4"), np.array([1.0, 3.0], "f4")),
}


class Page(HTMLParser):
    """Reads HTML; refuses what is not closed, and collects tags, words and what is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "onclick"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


@pytest.mark.parametrize("name", SHOWN)
def test_html_is_well_formed_and_needs_nothing(name: str) -> None:
    text = SHOWN[name]._repr_html_()
    page = Page(text)
    assert text.count("<style>") == 1
    assert notebook.STYLE in text
    assert not {"script", "link", "iframe", "img"} & page.tags
    assert "url(" not in text
    assert "None" not in page.words


FACTS = {
    "fp16": ("fp16", "65504", "2**-14", "2**-24", "16", "yes"),
    "e4m3": ("448", "2**-9", "fn"),
    "q3.12": ("-8", "7.999755859375", "16"),
    "mxfp4": ("e2m1", "e8m0", "32", "floor"),
    "int8": ("-128", "127", "tensor"),
    "rounding": ("e4m3:rtz:saturate", "rtz", "saturate"),
    "machine": ("h100:e4m3:promote128", "fused32x13@-131:promote128"),
    "policy": (str(ps.Policy.parse("bf16_mixed;head:fp32")), "platform"),
    "walk": ("r1 = 0.1 + 0.2", "0.2998046875", "0 01101 0011001100"),
    "core": ("term of s1", "1 * 0.75", "kept, in 2**-1", "0.25"),
    "value": ("inf", "inexact, overflow"),
    "hostile": (HOSTILE,),
}


@pytest.mark.parametrize("name", FACTS)
def test_html_has_the_facts(name: str) -> None:
    words = Page(SHOWN[name]._repr_html_()).words
    missing = [fact for fact in FACTS[name] if fact not in words]
    assert missing == []


def test_tables_are_escaped_and_numbers_stand_to_the_right() -> None:
    text = notebook.table([HOSTILE, "n"], [["<b>", "1"]], numeric=["n"])
    assert Page(text).words == [HOSTILE, "n", "<b>", "1"]
    assert '<td class="n">1</td>' in text


def test_there_is_one_style_sheet() -> None:
    """Defect: reports and pages of files had one each, notebooks none."""
    package = Path(notebook.__file__).parent.parent
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [path.name for path, text in texts.items() if "<style>" in text] == ["notebook.py"]
