"""What a command prints: the user's words as they are, and each error in one line."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """A console to which ``[rtz]`` and ``:sr:`` are text, not markup and not pictures."""

    def __init__(self, *, stderr: bool = False, highlight: bool = True, wraps: bool = True) -> None:
        """Write to standard output, or to standard error."""
        super().__init__(
            stderr=stderr, markup=False, emoji=False, highlight=highlight, soft_wrap=not wraps
        )

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to `main`, which treats all commands alike."""
        raise BrokenPipeError


def print_error(message: str) -> None:
    """Print one line to standard error, without control characters and endless words."""
    line = "".join(c if c.isprintable() else " " for c in message)
    words = [word if len(word) <= 300 else f"{word[:100]}..." for word in line.split()]
    with suppress(OSError):  # nobody can take it
        print(f"precsim: error: {' '.join(words)}", file=sys.stderr, flush=True)


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one of input or files, whose message says all."""
    return isinstance(error, (ValueError, OSError))


def describe(error: BaseException) -> str:
    """Return the message of an error; that of a defect begins with its kind, and is one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + ("" if error.filename is None else f": {error.filename}")
    if is_expected(error):
        return str(error)
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def reported(what: str, failures: dict[str, str], *, with_traceback: bool) -> Iterator[None]:
    """Let the rest go on after something fails: print one line, and keep it in `failures`."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 whatever it is, finished work is not lost
        if with_traceback:
            traceback.print_exc()
        failures[what] = describe(error)
        print_error(f"{what}: {failures[what]}")


def flush_output() -> None:
    """Hand over what is printed; what nobody can take is dropped, so that no later flush fails."""
    if sys.stdout is None:  # the shell closed it
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
