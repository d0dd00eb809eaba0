"""What a command prints, by the standard library alone: lines that fit, errors of one line."""

import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

Row = tuple[str, str | Sequence[tuple[str, str]]]
"""A label and what stands beside it: a text, or words, each with its colour."""

_QUOTED = re.compile(r"""(?<![^\s(])('[^']{61,}'|"[^"]{61,}")""")
_LEAST_WIDTH = 30


def columns() -> int:
    """Return the width of the terminal, or of COLUMNS; 80 if there is none."""
    return max(shutil.get_terminal_size().columns, _LEAST_WIDTH)


def print_words(text: str, *, first: str = "") -> None:
    """Print a text within the width of the terminal; `first` is the colour of its first word."""
    words = [(word, "") for word in text.split(" ")]
    words[0] = (words[0][0], first)
    print("\n".join(_wrapped(words, columns())))


def print_rows(rows: Sequence[Row], *, indent: int = 2, label: int = 12) -> None:
    """Print labels and, beside them, texts that are broken where the terminal ends."""
    for name, content in rows:
        words: Sequence[tuple[str, str]]
        words = [(w, "") for w in content.split(" ")] if isinstance(content, str) else content
        lead = f"{'':{indent}}{f'{name} ':<{label}}"
        for k, line in enumerate(_wrapped(words, columns() - len(lead))):
            print((" " * len(lead) if k else lead) + line)


def _wrapped(words: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Break words into lines, between words or inside one that is wider than a line."""
    lines: list[str] = [""]
    room = width
    for word, colour in words:
        is_first = not lines[-1]
        if not is_first and len(word) + 1 > room and (room < width // 3 or len(word) <= width):
            lines.append("")
            room, is_first = width, True
        if not is_first:
            lines[-1] += " "
            room -= 1
        rest = word
        while len(rest) > room:
            lines[-1] += _coloured(rest[:room], colour)
            rest = rest[room:]
            lines.append("")
            room = width
        lines[-1] += _coloured(rest, colour)
        room -= len(rest)
    return lines


def _coloured(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and text and _has_colours() else text


def is_terminal() -> bool:
    """Return whether standard output is a terminal, or is to be taken for one (FORCE_COLOR)."""
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout is not None and sys.stdout.isatty())


def _has_colours() -> bool:
    """Return whether standard output shows colours, and the user does not forbid them."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal() and (os.name != "nt" or "WT_SESSION" in os.environ)


def print_error(message: str) -> None:
    """Print one line to standard error, without endless words, with visible control characters.

    Of a long text in quotes, which is what somebody gave, the beginning is shown.
    """
    line = visible(" ".join(message.split()))
    line = _QUOTED.sub(lambda found: f"{found[0][:41]}...{found[0][0]}", line)
    words = [word if len(word) <= 300 else f"{word[:100]}..." for word in line.split()]
    with suppress(OSError):  # nobody can take it
        print(f"precsim: error: {' '.join(words)}", file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return a text whose control characters, except ends of lines, are written as escapes."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def print_note(text: str) -> None:
    """Print one line to standard error that nothing depends on."""
    with suppress(OSError):
        print(f"precsim: note: {' '.join(text.split())}", file=sys.stderr, flush=True)


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one of input or files, whose message says all."""
    return isinstance(error, (ValueError, OSError))


def describe(error: BaseException) -> str:
    """Return the message of an error; that of a defect begins with its kind, and is one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + ("" if error.filename is None else f": {error.filename}")
    if is_expected(error) and str(error):
        return str(error)
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def naming_options(options: Mapping[str, str]) -> Iterator[None]:
    """Let an error name the option of an argument: "steps is 0" becomes "--steps is 0"."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" is ")
        if name not in options:
            raise
        raise ValueError(f"{options[name]} is {rest}") from error


@contextmanager
def of_own_code(*names: str) -> Iterator[None]:
    """Let what MODULE:FUNCTION among the names raises be one line: it is no defect of precsim."""
    try:
        yield
    except Exception as error:
        own = any(":" in name for name in names)
        if not own or is_expected(error) or isinstance(error, ModuleNotFoundError):
            raise
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("raised by")]
        raise ValueError("; ".join([describe(error), *notes])) from error


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
