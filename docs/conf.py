"""Configuration of the documentation. Build: sphinx-build -W -b html docs docs/_build/html."""

import enum
import inspect
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import precsim
from precsim.explorer.site import build

if TYPE_CHECKING:  # the tests read this file where Sphinx is not installed
    from sphinx.application import Sphinx

_ROOT = Path(__file__).parent.parent
_PYPROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))
sys.path.append(str(_ROOT))  # for docs.extensions

project = "precsim"
author = "The precsim developers"
copyright = f"2026, {author}"  # noqa: A001
release = _PYPROJECT["project"]["version"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "docs.extensions.generated_tables",
    "docs.extensions.short_signatures",
    "docs.extensions.where_used",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # types stand in the docstrings, with shapes
numpydoc_show_class_members = False
numpydoc_validation_checks = set(_PYPROJECT["tool"]["numpydoc_validation"]["checks"])

# numpydoc checks public functions and classes, not their members, which are short. It skips
# enumerations, because it would take the arguments of `enum.EnumType` for their parameters, and
# named tuples whose fields have docstrings of their own.
_PUBLIC = {name: getattr(precsim, name) for name in precsim.__all__}
for _theme in [name for name, value in _PUBLIC.items() if inspect.ismodule(value)]:
    _PUBLIC |= {f"{_theme}.{name}": value for name, value in vars(_PUBLIC[_theme]).items()}
_CHECKED = [
    name.replace(".", r"\.")
    for name, value in _PUBLIC.items()
    if not (inspect.isclass(value) and issubclass(value, (enum.Enum, tuple)))
]
numpydoc_validation_exclude = {rf"^precsim\.(?!({'|'.join(_CHECKED)})$)"}

html_theme = "pydata_sphinx_theme"
html_title = f"precsim {release}"
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}


def _add_explorer(app: "Sphinx", error: Exception | None) -> None:
    """Write the explorer that runs in the reader's browser beside the pages."""
    if error is None and app.builder.format == "html":
        fault = build(Path(app.outdir) / "explore", _ROOT / "node_modules" / "pyodide")
        if fault:
            sys.stderr.write(f"explore/ is without Python: {fault}\n")


def setup(app: "Sphinx") -> None:
    """Add what this documentation does besides what its extensions do."""
    app.connect("build-finished", _add_explorer)
