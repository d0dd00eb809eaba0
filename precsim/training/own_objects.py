"""Objects of one's own, named in the shell as MODULE:FACTORY."""

import functools
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from precsim.formats.arguments import nearest, shown


def load_object(text: str, argument: str) -> Any:
    """Import a module and return what a function of no arguments in it returns.

    The module is looked for in the current folder first, which stays on ``sys.path``, and then
    where Python looks. What the module or the function raises is raised, with a note that says
    where.

    Parameters
    ----------
    text : str
        ``module:factory``; both may have dots.
    argument : str
        What gave the text, for messages: "--model".

    Raises
    ------
    ValueError
        If there is no such module or function; one line says which.

    Examples
    --------
    >>> load_object("collections:OrderedDict", "--data")
    OrderedDict()
    """
    module_name, colon, name = text.partition(":")
    if not (colon and all(map(str.isidentifier, f"{module_name}.{name}".split(".")))):
        raise ValueError(
            f"{argument} is {shown(text)}; allowed is MODULE:FACTORY, for example mine:make"
        )
    factory = _attribute(_module(module_name, text, argument), name, text, argument)
    if not callable(factory):
        raise ValueError(  # noqa: TRY004 (the text is the argument)
            f"{argument} is {shown(text)}, of type {type(factory).__name__}; allowed is a function of no "
            "arguments"
        )
    _refuse_arguments(factory, text, argument)
    try:
        return factory()
    except Exception as error:
        error.add_note(f"raised by {text}, which {argument} names")
        raise


def _module(name: str, text: str, argument: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            error.add_note(f"raised by the import of {name}, which {argument} names")
            raise
        raise ValueError(
            f"{argument} is {shown(text)}; there is no module {shown(error.name)} in the current "
            "folder, nor where Python looks for modules"
        ) from None
    except Exception as error:
        error.add_note(f"raised by the import of {name}, which {argument} names")
        raise


def _attribute(module: Any, name: str, text: str, argument: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        public = [each for each in vars(module) if not each.startswith("_")]
        near = nearest(name, public)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(
            f"{argument} is {shown(text)}; module {module.__name__!r} has no {shown(name)}{hint}"
        ) from None


def _refuse_arguments(factory: Any, text: str, argument: str) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # some functions written in C have none
    try:
        signature.bind()
    except TypeError as error:
        raise ValueError(
            f"{argument} is {shown(text)}; allowed is a function of no arguments ({error})"
        ) from None
