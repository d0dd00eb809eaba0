"""Numerical-precision simulator and error-analysis toolkit for JAX and NumPy.

What does a computation lose in a format, where, and why? `precsim` answers with bit-exact emulation
of number formats, rounding, arithmetic and matrix products, with training loops that use them, and
with measurements of every loss.

The public names stand in `__init__.pyi`, one line each. They load on first use, so that
``import precsim`` stays fast. The themes `errors`, `figures`, `ieee`, `kernels`, `optax`,
`options`, `oracle`, `plots` and `replay` are modules of further names.
"""

import pkgutil
import re
from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def _names_in(file: str) -> dict[str, str]:
    """Map each name that a file of the package re-exports to the module that defines it."""
    text = (pkgutil.get_data(__name__, file) or b"").decode()
    lines = re.findall(r"^from (\S+) import (\w+) as \2$", text, flags=re.MULTILINE)
    return {name: module for module, name in lines}


_WHERE = _names_in("__init__.pyi")

__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _WHERE:
        raise AttributeError(f"module 'precsim' has no attribute {name!r}{_hint(name)}")
    module = _WHERE[name]
    try:
        if module == __name__:
            value: Any = import_module(f"{module}.{name}")
        else:
            value = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"precsim.{name} needs {error.name}, which is not installed; Python alone runs formats, specs "
            "and precsim.oracle",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    """Say in which theme a name is, or which name is near."""
    themes = [theme for theme, module in _WHERE.items() if module == __name__]
    further = {each: theme for theme in themes for each in _names_in(f"{theme}.py")}
    if name in further:
        return f"; it is precsim.{further[name]}.{name}"
    if name.startswith("_"):
        return ""
    near = import_module("precsim.formats.arguments").nearest(name, [*_WHERE, *further])
    if near is None:
        return ""
    return f"; did you mean {f'{further[near]}.{near}' if near in further else near!r}?"


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
