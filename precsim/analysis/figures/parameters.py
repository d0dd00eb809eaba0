"""Parameters of a figure: what a user may vary, read strictly, formats and specs checked early."""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

from precsim.formats.arguments import integer, member, shown
from precsim.formats.registry import get_format
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.policy import Policy

Scalar: TypeAlias = str | int | float
Value: TypeAlias = Scalar | tuple[Scalar, ...]

_KINDS = {bool: "True or False", int: "integers", float: "finite numbers", str: "texts"}
_READERS: tuple[Callable[[str], object], ...] = (
    get_format,
    RoundingSpec.parse,
    MatmulSpec.parse,
    Policy.parse,
    lambda text: member(RoundingMode, text, "mode"),
)
"""What understands texts: the first that does the default has to do what is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One quantity that a user may vary."""

    name: str
    default: Value
    about: str = ""
    """A sentence of the docstring."""

    @property
    def kind(self) -> type:
        """The type of the value, or of its elements."""
        kinds = set(map(type, _elements(self.default)))
        return float if kinds == {int, float} else kinds.pop()

    @property
    def option(self) -> str:
        """The option of the command line; ``format_`` is ``--format``."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    def read(self, text: str) -> Scalar:
        """Return the value, or one element of it, that a word of the command line means.

        Raises
        ------
        ValueError
            If it means none.
        """
        if self.kind is str:
            return self._checked(text)
        pattern = r"[+-]?\d+" if self.kind is int else r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{shown(text)} is given; allowed are {_KINDS[self.kind]}")
        return self._checked(self.kind(text))

    def checked(self, value: Any) -> Value:
        """Return a value given from Python.

        Raises
        ------
        ValueError
            If it has not the type of the default, or is a text that its parser does not know.
        """
        try:
            if not isinstance(self.default, tuple):
                return self._checked(value)
            if not isinstance(value, (tuple, list)) or not value:
                raise ValueError(
                    f"{shown(value)} is given; allowed are tuples of {_KINDS[self.kind]}"
                )
            return tuple(map(self._checked, value))
        except ValueError as error:
            raise ValueError(f"parameter {self.name!r}: {error}") from None

    def _checked(self, value: Any) -> Scalar:
        refusal = ValueError(f"{shown(value)} is given; allowed are {_KINDS[self.kind]}")
        if self.kind is int:
            try:
                return integer(value, self.name)
            except ValueError:
                raise refusal from None
        if self.kind is float:
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise refusal
            return float(value)
        if self.kind is bool and isinstance(value, bool):
            return value
        if self.kind is not str or not isinstance(value, str):
            raise refusal
        if (reader := _reader(self)) is not None:
            reader(value)
        return value


def _elements(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _reader(parameter: Parameter) -> Callable[[str], object] | None:
    """Return what understands the default, None if it is any text."""
    readers = (Policy.parse,) if "polic" in parameter.name else _READERS
    for reader in readers:
        try:
            for text in _elements(parameter.default):
                reader(str(text))
        except ValueError:
            continue
        return reader
    return None


def parameters_of(compute: Callable[..., Any], where: str) -> dict[str, Parameter]:
    """Return the keyword-only parameters of a function `compute`, without `fast`.

    Raises
    ------
    ValueError
        If another parameter has to be given, or a default is no plain value.
    """
    found = {}
    for name, parameter in inspect.signature(compute).parameters.items():
        if name == "fast":
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise ValueError(
                f"{where}: compute takes {name!r} by position; allowed are `fast`, and parameters "
                "with a default after `*`"
            )
        default = parameter.default
        kinds = set(map(type, _elements(default)))
        is_plain = kinds <= {int, float} or (len(kinds) == 1 and kinds <= set(_KINDS))
        is_finite = all(math.isfinite(each) for each in _elements(default) if type(each) is float)
        if not kinds or not is_plain or not is_finite:
            given = "missing" if default is inspect.Parameter.empty else shown(default)
            raise ValueError(
                f"{where}: the default of {name!r} of compute is {given}; allowed are str, int, finite "
                "float, bool, or a tuple of one of them"
            )
        about = _about(compute.__doc__ or "", name)
        found[name] = Parameter(name=name, default=default, about=about)
    return found


def _about(docstring: str, name: str) -> str:
    """Return the first sentence that a numpydoc docstring has about a parameter."""
    text = inspect.cleandoc(docstring)
    entry = re.search(rf"^(?:\w+, )*{name}(?:, \w+)* :.*\n((?: +.*\n?)+)", text, re.MULTILINE)
    if entry is None:
        return ""
    return re.split(r"(?<=\.)\s", " ".join(entry[1].split()), maxsplit=1)[0].removesuffix(".")
