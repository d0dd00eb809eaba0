"""The package `experiments`, which has the published figures: in a clone, or in an installation."""

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from precsim.formats.arguments import unknown


def load_experiments() -> ModuleType:
    """Return the package `experiments` of this precsim; from then on it can be imported.

    A wheel carries it in ``precsim/shipped``; in a clone it lies beside the package.

    Returns
    -------
    module
        The package, whose modules are the figures.

    Raises
    ------
    ValueError
        If it is not there, or another package of that name is loaded already.
    """
    package = Path(__file__).resolve().parents[1]
    folder = package / "shipped"
    if not (folder / "experiments").is_dir():
        folder = package.parent
        if not all((folder / name).exists() for name in ("experiments", "pyproject.toml")):
            raise ValueError(
                f"the published figures are not beside {package}; a wheel of precsim has them, and so has a clone"
            )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # processes that this one starts get the same path
    found = import_module("experiments")
    where = Path(next(iter(found.__path__))).resolve()
    if where != folder / "experiments":
        raise ValueError(
            f"a package 'experiments' from {where} is loaded; the figures of precsim are that of {folder}"
        )
    return found


def figure_names() -> list[str]:
    """Return the names of the published figures: ``g01_formats``, ..."""
    found = (module.name for module in pkgutil.iter_modules(load_experiments().__path__))
    return sorted(name for name in found if re.match(r"g\d\d_", name))


def find_figure(word: str) -> str:
    """Return the published figure that a word stands for: g03_euler, G03, g3 or 3.

    Raises
    ------
    ValueError
        If it stands for none.
    """
    names = figure_names()
    key = word.lower()
    number = re.fullmatch(r"g?(\d+)", key)
    for name in names:
        if key == name or (number and int(number[1]) == int(name[1:3])):
            return name
    raise unknown("figure", word, names)
