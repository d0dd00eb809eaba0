"""What pages show in use: public names in Python snippets, outside the reference."""

import enum
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import precsim
from tests.public_names import public_objects

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_SNIPPET = re.compile(r"^(`{3,})(?:python|pycon|py)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_USED = re.compile(r"(?<!from )\b(?:ps|precsim)((?:\.\w+)+)")
_IMPORTED = re.compile(r"\bfrom precsim((?:\.\w+)*) import ([\w, ]+)")


def pages() -> list[Path]:
    """Return the pages that show names in use: all but the reference and what Sphinx makes."""
    made = {"_build", "generated", "reference"}
    found = [page for page in DOCS.rglob("*.md") if not made & set(page.parts)]
    return [ROOT / "README.md", *sorted(found)]


def used_names(text: str) -> set[str]:
    """Return the dotted names, without ``precsim.``, that the snippets of a page use."""
    found = set()
    for _, snippet in _SNIPPET.findall(text):
        found |= {name[1:] for name in _USED.findall(snippet)}
        for module, names in _IMPORTED.findall(snippet):
            found |= {f"{module}.{name.strip()}".lstrip(".") for name in names.split(",")}
    return found


def used_objects(names: Iterable[str]) -> list[object]:
    """Return each object that a dotted name goes through: of ``Report.from_json``, both."""
    found = []
    for name in names:
        value: object = precsim
        for part in name.split("."):
            value = getattr(value, part, None)
            found.append(value)
    return found


def annotated_classes(value: object, where: str) -> set[str]:
    """Return the public classes that a function takes ("parameters") or gives ("results").

    A class takes what its methods take, and gives what they return and what its fields hold.
    """
    texts = []
    for each in (value, *vars(value).values()) if inspect.isclass(value) else (value,):
        function = each.fget if isinstance(each, property) else inspect.unwrap(each)
        notes = dict(getattr(function, "__annotations__", {}))
        results = [notes.pop("return", "")]
        is_field = inspect.isclass(each) and each is value
        texts += results if where == "results" and not is_field else []
        texts += list(notes.values()) if (where == "results") == is_field else []
    words = set(re.findall(r"\w+", " ".join(map(str, texts))))
    return {
        name
        for name, public in public_objects().items()
        if inspect.isclass(public) and name.rpartition(".")[2] in words
    }


def results_only() -> set[str]:
    """Return the classes that a reader gets and never makes.

    No public function takes them, and they are none of the choices that specs are made of.
    """
    public = {n: v for n, v in public_objects().items() if not n.startswith("options.")}
    functions = [value for value in public.values() if not inspect.isclass(value)]
    taken = set().union(*(annotated_classes(value, "parameters") for value in functions))
    classes = {
        name
        for name, value in public.items()
        if inspect.isclass(value) and not issubclass(value, enum.Enum)
    }
    return classes - taken


def shown_names(texts: Iterable[str]) -> set[str]:
    """Return the public names that snippets use.

    A class that is only a result is in use where a function or class that gives it is.
    """
    public = public_objects()
    used = set(map(id, used_objects(set().union(*map(used_names, texts)))))
    shown = {name for name, value in public.items() if id(value) in used}
    results = results_only()
    while True:
        given = set().union(*(annotated_classes(public[name], "results") for name in shown))
        more = (given & results) - shown
        if not more:
            return shown
        shown |= more
