"""What a figure is: a module with `compute`, perhaps `check` and `plot`, and facts about itself."""

import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from precsim.analysis.figures.check import GRADES, Check, Results
from precsim.analysis.figures.data_files import Tables
from precsim.analysis.figures.parameters import Parameter, Value, parameters_of
from precsim.formats.arguments import integer, not_allowed, shown


@dataclass(frozen=True, slots=True)
class Figure:
    """A module that defines a figure; what it does not say has a default."""

    module: ModuleType
    name: str
    title: str
    citation: str
    grade: str
    panels: int
    inputs: tuple[str, ...]
    """Names of files beside the module that it reads."""
    tables: tuple[str, ...]
    """Ends of the names of published data files, which `check` and `plot` take as `tables`."""
    needs: str
    """What it needs besides precsim, in words."""
    seconds: tuple[float, ...]
    """About how long it takes on two cores: fast, and full if that is known."""
    parameters: dict[str, Parameter]
    is_file: bool
    """Whether it was loaded from a file, and not by the name of a module."""

    @property
    def path(self) -> Path:
        """The file of the module."""
        return Path(str(self.module.__file__))

    def own(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Return the given parameters, checked; without those that have their default.

        Raises
        ------
        ValueError
            If there is no such parameter, or a value is not allowed.
        """
        found = {}
        for name, value in given.items():
            if name not in self.parameters:
                raise not_allowed(f"{self.name}: parameter", name, self.parameters)
            checked = self.parameters[name].checked(value)
            if checked != self.parameters[name].default:
                found[name] = checked
        return found

    def options(self, own: Mapping[str, Value]) -> list[str]:
        """Return parameters as words of the command line."""
        found = []
        for name, value in own.items():
            option = self.parameters[name].option
            if isinstance(value, bool):
                found.append(option if value else option.replace("--", "--no-"))
            else:
                found += [option, *map(str, value if isinstance(value, tuple) else (value,))]
        return found

    def compute(self, *, fast: bool, parameters: Mapping[str, Value]) -> Results:
        """Return the arrays of `compute`, and the given parameters as ``"parameter NAME"``.

        Raises
        ------
        ValueError
            If they are none.
        """
        takes_fast = "fast" in inspect.signature(self.module.compute).parameters
        with _no_exit(f"{self.name}: compute"):
            found = self.module.compute(**{"fast": fast} if takes_fast else {}, **parameters)
        is_dict = isinstance(found, Mapping)
        if not is_dict:
            raise ValueError(
                f"{self.name}: compute returned {shown(found)}; allowed is a dict of arrays"
            )
        results = {}
        for name, value in found.items():
            array = np.asarray(value)
            if array.dtype.isbuiltin == 2:  # of ml_dtypes, which a stored array would lose
                array = array.astype(np.float64)
            if not isinstance(name, str) or name.startswith("__") or array.dtype.hasobject:
                raise ValueError(
                    f"{self.name}: compute returned {shown(name)} of dtype {array.dtype}; allowed are "
                    "arrays of numbers or texts, by names that do not begin with '__'"
                )
            results[name] = array
        return results | {f"parameter {k}": np.asarray(v) for k, v in parameters.items()}

    def check(self, results: Results, tables: Tables) -> tuple[Check, ...]:
        """Return the comparisons of `check`, none if there is no such function.

        Raises
        ------
        ValueError
            If they are none.
        """
        if not hasattr(self.module, "check"):
            return ()
        returned = self._call("check", results, tables=tables)
        found = tuple(returned) if isinstance(returned, Iterable) else (returned,)
        if not isinstance(returned, Iterable) or not all(isinstance(e, Check) for e in found):
            raise ValueError(
                f"{self.name}: check returned {shown(returned)}; allowed is a list of ps.figures.Check"
            )
        return found

    def plot(self, results: Results, axes: list[Any], tables: Tables) -> None:
        """Draw, if there is a function `plot`."""
        self._call("plot", results, axes, tables=tables)

    def _call(self, function: str, *arguments: Any, tables: Tables) -> Any:
        call = getattr(self.module, function, None)
        further = {"tables": tables} if self.tables else {}
        with _no_exit(f"{self.name}: {function}"):
            return None if call is None else call(*arguments, **further)


def load(figure: str | Path) -> Figure:
    """Return the figure that a file, or the name of a module, defines.

    Raises
    ------
    ValueError
        If there is no such file, or what it defines is no figure.
    """
    is_file = isinstance(figure, Path) or figure.endswith(".py")
    with _no_exit(f"{Path(figure).name}: the file"):
        module = _module(Path(figure)) if is_file else import_module(str(figure))
    where = Path(str(module.__file__)).name
    for name, needed in (("compute", True), ("check", False), ("plot", False)):
        found = getattr(module, name, None)
        if not callable(found) and (needed or found is not None):
            raise ValueError(f"{where}: {name} is {shown(found)}; allowed is a function")
    grade = getattr(module, "CLASS", "C")
    if grade not in list(GRADES):
        raise not_allowed(f"{where}: CLASS", grade, GRADES)
    name = Path(where).stem
    about = (inspect.getdoc(module) or name).partition("\n")[0]
    return Figure(
        module=module,
        name=name,
        title=_text(module, where, "TITLE", about),
        citation=_text(module, where, "CITATION"),
        grade=grade,
        panels=integer(getattr(module, "PANELS", 1), f"{where}: PANELS", 1),
        inputs=_texts(module, where, "INPUTS"),
        tables=_texts(module, where, "TABLES"),
        needs=_text(module, where, "NEEDS"),
        seconds=_seconds(module, where),
        parameters=parameters_of(module.compute, where),
        is_file=is_file,
    )


def _module(path: Path) -> ModuleType:
    """Run a file as a module, with its folder on the path, as ``python FILE`` has it."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}; allowed are Python files, and names of figures")
    path = path.resolve()
    content = path.read_bytes()
    name = f"{path.stem}_{hashlib.sha256(content + bytes(path)).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise ValueError(f"{path.name}, line {error.lineno}: {error.msg}") from None
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _no_exit(what: str) -> Iterator[None]:
    """Take an exit for a failure: whoever runs figures decides when the program ends."""
    try:
        yield
    except SystemExit as done:
        raise ValueError(f"{what} exits with {shown(done.code)}; a figure has to go on") from done


def _text(module: ModuleType, where: str, name: str, default: str = "") -> str:
    found = getattr(module, name, default)
    is_text = isinstance(found, str)
    if not is_text:
        raise ValueError(f"{where}: {name} is {shown(found)}; allowed is a text")
    return str(found)


def _texts(module: ModuleType, where: str, name: str) -> tuple[str, ...]:
    found = getattr(module, name, ())
    if not isinstance(found, (tuple, list)) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{where}: {name} is {shown(found)}; allowed is a tuple of texts")
    return tuple(found)


def _seconds(module: ModuleType, where: str) -> tuple[float, ...]:
    found = getattr(module, "SECONDS", ())
    if not isinstance(found, (tuple, list)) or not all(isinstance(s, (int, float)) for s in found):
        raise ValueError(f"{where}: SECONDS is {shown(found)}; allowed is a tuple of numbers")
    return tuple(found)
