"""Tables that are made while the pages are built hold all that the code has."""

from pathlib import Path

import pytest

import precsim as ps
from docs.extensions.generated_tables import fill
from docs.extensions.snippets import DOCS


@pytest.mark.parametrize("kind", ["float", "fixed", "block", "affine"])
def test_formats_stand_in_the_table_of_their_kind(kind: str) -> None:
    table = fill(f"% table: {kind}_formats", Path())
    named = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert named == list(ps.list_formats(kind=kind))


def test_formats_page_has_each_table() -> None:
    page = fill((DOCS / "reference" / "formats.md").read_text("utf-8"), DOCS)
    assert [name for name in ps.list_formats() if page.count(f"| `{name}` |") != 2] == []


def test_policies_stand_with_what_they_round() -> None:
    page = fill((DOCS / "reference" / "recipes.md").read_text("utf-8"), DOCS)
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert rows.keys() >= set(ps.list_policies())
    assert [str(ps.Policy.parse(n).forward) in rows[n] for n in ("bf16_mixed", "fp8_block")] == [
        True,
        True,
    ]


def test_gallery_has_a_card_for_each_page() -> None:
    page = fill("% table: gallery", DOCS)
    assert [
        p.stem for p in (DOCS / "gallery").glob("g*.md") if f":link: {p.stem}" not in page
    ] == []


def test_table_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        fill("% table: nothing", DOCS)
