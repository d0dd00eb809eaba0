"""Links from the page of each public name to the pages that show the name in use."""

from typing import Any

from docs.extensions.snippets import DOCS, pages, shown_names
from tests.public_names import public_objects


def places_of_use() -> dict[str, list[str]]:
    """Map each public name to the pages whose snippets use it."""
    found: dict[str, list[str]] = {name: [] for name in public_objects()}
    for page in pages():
        if DOCS in page.parents:
            text = page.read_text(encoding="utf-8")
            place = page.relative_to(DOCS).with_suffix("").as_posix()
            for name in shown_names([text]):
                found[name].append(place)
    return found


def section(places: list[str]) -> str:
    """Return the section of reStructuredText that lists pages.

    Examples
    --------
    >>> print(section(["how-to/adamw"]))
    <BLANKLINE>
    .. rubric:: Shown in use
    <BLANKLINE>
    * :doc:`/how-to/adamw`
    <BLANKLINE>
    """
    if not places:
        return ""
    return "\n".join(
        ["", ".. rubric:: Shown in use", "", *(f"* :doc:`/{place}`" for place in places), ""]
    )


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    places: dict[str, list[str]] = {}

    def read_source(app: Any, name: str, source: list[str]) -> None:
        folder, _, last = name.rpartition("/")
        if folder.endswith("generated"):
            if not places:
                places.update(places_of_use())
            source[0] += section(places.get(last.removeprefix("precsim."), []))

    app.connect("source-read", read_source)
    return {"parallel_read_safe": True}
