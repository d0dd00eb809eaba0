"""The folders are the architecture (docs/explanation/design.md): each rule, read from source."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import precsim

ROOT = Path(__file__).parent.parent
LAYERS = (
    "_lax_arrays",
    "_arrays",
    "_loops",
    "_calls",
    "_linear",
    "formats",
    "rounding",
    "arithmetic",
    "products",
    "transform",
    "training",
    "analysis",
    "sweeps",
    "explorer",
    "cli",
)
OUTER = ("benchmarks", "conformance", "experiments", "lessons")
THEMES = (
    "errors",
    "figures",
    "ieee",
    "kernels",
    "options",
    "optax",
    "oracle",
    "plots",
    "replay",
)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES = 400
PLOTS = "precsim/analysis/plots/"

PUBLIC = {*precsim.__all__, "__version__"}

# From a path and a text to the faults found in it.
Rule: TypeAlias = Callable[[str, str], list[str]]


def sources(folder: str) -> dict[str, str]:
    """Map the path of each module under a folder to its text."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {f.relative_to(ROOT).as_posix(): f.read_text(encoding="utf-8") for f in files}


def imported_modules(text: str) -> Iterator[tuple[int, str]]:
    """Yield the level (number of leading dots) and the full name of everything imported."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, f"{node.module or ''}.{a.name}") for a in node.names)


def layer_faults(path: str, text: str) -> list[str]:
    """List imports of a higher layer, and modules that belong to no layer."""
    parts = path.removesuffix(".py").split("/")
    if len(parts) == 2 and parts[1] in ("__init__", "__main__", *THEMES):
        return []  # the front of the package: above all layers
    if parts[1] not in LAYERS:
        return [f"{path}: {parts[1]} is not a layer"]
    own = LAYERS.index(parts[1])
    faults = []
    for _, name in imported_modules(text):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package != "precsim" or target == "__version__":
            continue
        if target not in LAYERS:
            faults.append(f"{path}: imports {name}; inside precsim, import the module itself")
        elif LAYERS.index(target) > own:
            faults.append(f"{path}: layer {parts[1]} imports the higher layer {target}")
    return faults


def relative_import_faults(path: str, text: str) -> list[str]:
    """List relative imports."""
    return [f"{path}: relative import of {n}" for level, n in imported_modules(text) if level]


def size_faults(path: str, text: str) -> list[str]:
    """List modules that are too long."""
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, more than {MAX_LINES}"] if lines > MAX_LINES else []


def name_faults(path: str, text: str) -> list[str]:
    """List modules and folders whose names do not say why they exist."""
    names = {part.strip("_") for part in path.removesuffix(".py").split("/")}
    return [f"{path}: the name {name} says nothing" for name in sorted(names & VAGUE_NAMES)]


def matplotlib_faults(path: str, text: str) -> list[str]:
    """List imports of matplotlib outside the one folder that plots."""
    names = [n for _, n in imported_modules(text) if n.partition(".")[0] == "matplotlib"]
    return [f"{path}: imports {name}" for name in names if not path.startswith(PLOTS)]


def circle_faults(modules: dict[str, str]) -> list[str]:
    """List the files of a layer that import each other, in functions or for type checking too."""
    names = {path.removesuffix(".py").replace("/", "."): path for path in modules}
    imports = {
        name: {
            part
            for _, target in imported_modules(modules[path])
            for part in (target, target.rpartition(".")[0])
            if part in names and part != name and not part.endswith("__init__")
        }
        for name, path in names.items()
    }

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            new = imports[left.pop()] - seen
            seen |= new
            left += new
        return seen

    return [f"{names[n]}: imports itself, by way of others" for n in names if n in reached(n)]


def mirror_faults(tests: set[str], package: set[str]) -> list[str]:
    """List folders of tests that mirror no folder of the package, and folders without tests."""
    layers = {folder for folder in tests if folder.partition("/")[0] in LAYERS}
    faults = [f"tests/{folder} mirrors no folder" for folder in sorted(layers - package)]
    return faults + [f"precsim/{folder} has no tests" for folder in sorted(package - layers)]


def folders_of(modules: dict[str, str]) -> set[str]:
    """Return the folders, below the first, that hold a module with code."""
    parts = [path.split("/")[1:-1] for path in modules if not path.endswith("__init__.py")]
    return {"/".join(folder) for folder in parts if folder}


def public_use_faults(path: str, text: str) -> list[str]:
    """List what code outside the package uses of precsim beyond its public names."""
    tree = ast.parse(text)
    faults, aliases = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "precsim":
                    aliases.add(alias.asname or "precsim")
                elif alias.name.startswith("precsim."):
                    faults.append(f"{path}: import {alias.name}")
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module == "precsim":
                private = [a.name for a in node.names if a.name not in PUBLIC]
                faults += [f"{path}: from precsim import {name}" for name in private]
            elif node.module.startswith("precsim."):
                faults.append(f"{path}: from {node.module} import")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in aliases:
                if attr not in PUBLIC:
                    faults.append(f"{path}: precsim.{attr} is not a public name")
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id=name), attr=theme), attr=attr
            ) if name in aliases and theme in THEMES:
                if attr not in vars(getattr(precsim, theme)):
                    faults.append(f"{path}: precsim.{theme}.{attr} is not a public name")
    return faults


RULES = (layer_faults, relative_import_faults, size_faults, name_faults, matplotlib_faults)


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_package(rule: Rule) -> None:
    modules = sources("precsim")
    assert len(modules) > 5
    assert [fault for path, text in modules.items() for fault in rule(path, text)] == []


@pytest.mark.long
def test_no_circles() -> None:
    assert circle_faults(sources("precsim")) == []


def test_tests_mirror_the_package() -> None:
    assert mirror_faults(folders_of(sources("tests")), folders_of(sources("precsim"))) == []


@pytest.mark.parametrize("folder", [*OUTER, "tests", "docs"])
def test_outer_folders_have_telling_names_and_short_modules(folder: str) -> None:
    for path, text in sources(folder).items():
        is_notebook = re.match(r"lessons/\d", path)  # a document, read from top to bottom
        assert name_faults(path, text) + ([] if is_notebook else size_faults(path, text)) == []


@pytest.mark.parametrize("folder", OUTER)
def test_outer_folders_use_public_names_only(folder: str) -> None:
    for path, text in sources(folder).items():
        assert public_use_faults(path, text) == []


# Each rule can fail: (rule, path, source that breaks it, source that keeps it).
BROKEN_AND_KEPT = [
    (layer_faults, "precsim/formats/codec.py", "import precsim.rounding.round_to", "import math"),
    (
        layer_faults,
        "precsim/rounding/kernel.py",
        "def f():\n    from precsim.products import emulated",
        "from precsim.formats import codec",
    ),
    (layer_faults, "precsim/products/spec.py", "import precsim", "from precsim import _arrays"),
    (
        layer_faults,
        "precsim/cli/main.py",
        "from precsim import round_to",
        "import precsim.analysis",
    ),
    (layer_faults, "precsim/_arrays.py", "from precsim.formats import codec", "import sys"),
    (
        relative_import_faults,
        "precsim/formats/codec.py",
        "from . import x",
        "import precsim._arrays",
    ),
    (relative_import_faults, "precsim/formats/codec.py", "from .x import y", "from x import y"),
    (size_faults, "precsim/formats/codec.py", "x = 1\n" * 401, "x = 1\n" * 400),
    (
        matplotlib_faults,
        "precsim/analysis/report.py",
        "def f():\n    import matplotlib.pyplot as plt",
        "import matplotlibrary",
    ),
    (matplotlib_faults, "precsim/cli/train.py", "from matplotlib import cm", "import rich"),
    (public_use_faults, "experiments/g.py", "import precsim.analysis.plots", "import precsim"),
    (
        public_use_faults,
        "experiments/g.py",
        "from precsim.formats import x",
        "import precsim as ps",
    ),
    (
        public_use_faults,
        "experiments/g.py",
        "from precsim import analysis",
        "from precsim import ulp",
    ),
    (
        public_use_faults,
        "experiments/g.py",
        "import precsim as ps\nps.analysis.plots.draw()",
        "import precsim as ps\nps.round_to(1.0, 'bf16')",
    ),
    (
        public_use_faults,
        "experiments/g.py",
        "import precsim as ps\nps.errors.hidden(1.0)",
        "import precsim as ps\nps.errors.sqnr(1.0, 1.0)",
    ),
]


@pytest.mark.parametrize(("rule", "path", "broken", "kept"), BROKEN_AND_KEPT)
def test_each_rule_can_fail(rule: Rule, path: str, broken: str, kept: str) -> None:
    assert rule(path, broken)
    assert not rule(path, kept)


def test_module_name_rules_can_fail() -> None:
    assert layer_faults("precsim/extras/x.py", "")
    assert layer_faults("precsim/tools.py", "")
    for path in ("precsim/utils.py", "precsim/products/_helpers.py", "tests/common/test_x.py"):
        assert name_faults(path, "")
    assert not name_faults("precsim/products/schedules.py", "")
    assert matplotlib_faults("precsim/analysis/report.py", "import matplotlib")
    assert not matplotlib_faults(f"{PLOTS}figures.py", "import matplotlib")


def test_circle_rule_can_fail() -> None:
    here, there = "precsim/rounding/a.py", "precsim/rounding/b.py"
    lazy = "def f():\n    from precsim.rounding.a import x"
    for text in (lazy, "from precsim.rounding import a", "import precsim.rounding.a"):
        assert len(circle_faults({here: "from precsim.rounding.b import y", there: text})) == 2
    assert circle_faults({here: "from precsim.rounding.b import y", there: "import math"}) == []
    third = {"precsim/rounding/c.py": "from precsim.rounding.a import x"}
    ring = {here: "from precsim.rounding.b import y", there: "from precsim.rounding.c import z"}
    assert len(circle_faults(ring | third)) == 3


def test_mirror_rule_can_fail() -> None:
    assert mirror_faults({"rounding/kernel"}, {"rounding/kernel"}) == []
    assert mirror_faults({"rounding/gone"}, set()) == ["tests/rounding/gone mirrors no folder"]
    assert mirror_faults(set(), {"rounding/new"}) == ["precsim/rounding/new has no tests"]
    assert mirror_faults({"benchmarks"}, set()) == []
