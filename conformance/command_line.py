"""Command lines of this folder: help that fits a terminal, and one line for what is refused."""

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

MOST = 10**9


class _Help(argparse.HelpFormatter):
    """Fills paragraphs, and leaves indented lines, the examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.strip("\n").split("\n\n")
        return "\n\n".join(
            part if part.startswith(" ") else textwrap.fill(" ".join(part.split()), width)
            for part in parts
        )

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "N" if action.type is int else super()._get_default_metavar_for_optional(action)


class CommandLine(argparse.ArgumentParser):
    """The parser of ``python -m MODULE``, whose help begins with the docstring of the module."""

    def __init__(self, module: str, text: str | None, **options: Any) -> None:
        """Take the name of a module, its docstring, and what `ArgumentParser` takes."""
        super().__init__(
            prog=f"python -m {module}", description=text, formatter_class=_Help, **options
        )

    def error(self, message: str) -> NoReturn:
        """Say in one line what is refused, and exit."""
        self.exit(2, f"error: {message}\n")

    def read(self, arguments: Sequence[str] | None, **least: int) -> argparse.Namespace:
        """Return the options; refuse counts below the least allowed, or above a billion."""
        args = self.parse_args(arguments)
        for name, lowest in least.items():
            given = getattr(args, name)
            if given is not None and not lowest <= given <= MOST:
                self.error(f"--{name} is {given}; allowed are integers from {lowest} to {MOST}")
        return args

    def check(self, what: str, given: Iterable[str], known: Iterable[str]) -> None:
        """Refuse names that are not known."""
        if unknown := sorted(set(given).difference(known)):
            self.error(f"unknown {what} {unknown[0]!r}; known are {', '.join(known)}")
