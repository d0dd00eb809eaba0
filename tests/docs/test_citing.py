"""The citing page says what CITATION.cff and the package say."""

import re

import precsim
from docs.extensions.snippets import DOCS, ROOT


def test_page_and_file_agree_with_the_package() -> None:
    page = " ".join((DOCS / "citing.md").read_text("utf-8").replace(">", " ").split())
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    fields = dict(re.findall(r'^(\w+): "?(.+?)"?$', citation, re.MULTILINE))
    assert fields["version"] == precsim.__version__.partition("+")[0]
    assert fields["title"] in page.replace("*", "")
    assert page.count(f"version {fields['version']}") == 1
    assert f"version = {{{fields['version']}}}" in page
    assert page.count(f"{fields['license']} license") == 1
