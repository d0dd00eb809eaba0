"""The command `precsim`: finds the module of a subcommand, and turns bad input into one line."""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from precsim import __version__
from precsim.cli.output import describe, flush_output, print_error
from precsim.formats.arguments import nearest, unknown

COMMANDS = {
    "train": "train one network under several policies, and tell what each lost",
    "sweep": "train many runs of a grid on workers, into one file; tell means over seeds",
    "soak": "kill workers and coordinators of a sweep, and compare with one that was left alone",
    "cost": "tell the bytes and operations of a training step under several policies",
    "analyze": "tell what formats would do to the tensors of files",
    "bisect": "find the first step and operation at which two stored runs part",
    "show": "show a number in several formats: bits, value, error, neighbours",
    "reproduce": "recompute published figures, or one of your own, and compare their numbers",
    "walk": "evaluate an expression step by step, and explain each rounding",
    "formats": "list the formats with their precision and range",
    "claims": "settle what articles say about low precision, by numbers",
    "explore": "open a page of formats, roundings, sums and tensor cores in the browser",
}
"""Command -> summary. `precsim.cli.<command>` has `add_arguments(parser)`, `run(args) -> int`.

One whose options depend on the words that follow has `add_options_of(words, parser)` too.
"""

_NUMBER = re.compile(r"-(\d|\.\d|\(|inf|nan|pi|e\b|\w+\()[\w.+/*^()\[\], =-]*\Z", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as an exception, so that one place prints all errors.

    A word such as ``-1/3`` or ``-sqrt(2)`` is a number to it, not an option; the beginning of an
    option is none.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take the arguments of `ArgumentParser`."""
        super().__init__(*args, **{"allow_abbrev": False, **options})
        self._negative_number_matcher = _NUMBER
        self.register("type", int, _whole)
        self.register("type", float, _real)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise ValueError(message)


def _whole(text: str) -> int:
    """Read an integer of an option; the command says which ones are allowed."""
    if not re.fullmatch(r"\s*[+-]?\d{1,100}\s*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number, such as 100")
    return int(text)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number, such as 0.01") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, or what the command returns; 2 for bad input, with one line on stderr; 130
        if interrupted; 141 if nobody reads the output any more.

    Examples
    --------
    >>> main(["show", "0.1", "e4m3"])
    0.1 = 1/10
    <BLANKLINE>
    e4m3: 8 bits, precision 4
      bits        0 0011 101 (sign, exponent, trailing significand)
      code        0x1d
      derived     (-1)**0 * 2**(3-7) * 1.101b = 0.1015625
      value       0.1015625
      hex float   0x1.ap-4
      exact       no
      error       0.001562 absolute, 0.01562 relative, 0.2 ulp
      neighbours  0.09375 below, 0.1015625 above
      flags       inexact
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_traceback = "--traceback" in arguments
    try:
        try:
            return _run(arguments)
        finally:
            flush_output()
    except SystemExit as done:  # --help and --version
        if isinstance(done.code, int | None):
            return int(done.code or 0)
        print_error(str(done.code))
        return 1
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        return 141
    except ModuleNotFoundError as error:
        if wants_traceback or error.name is None or error.name.startswith("precsim"):
            raise
        print_error(f"this needs {error.name}, which is not installed: pip install {error.name}")
        return 2
    except (ValueError, OSError) as error:
        if wants_traceback:
            raise
        print_error(describe(error))
        return 2


def _run(arguments: list[str]) -> int:
    command = next((a for a in arguments if not a.startswith("-")), None)
    words = arguments[arguments.index(command) + 1 :] if command is not None else []
    parser, options = _parser(command, words)
    args, rest = parser.parse_known_args(arguments)
    if "words" in args and not any(_is_option(word) for word in rest):
        args.words += rest  # argparse takes words up to the next option only
    elif rest:
        hints = (_hint(word.partition("=")[0], options) for word in rest if _is_option(word))
        raise ValueError(f"unrecognized arguments: {' '.join(rest)}{next(filter(None, hints), '')}")
    if command is None:
        raise ValueError(
            f"a command is missing; allowed are {', '.join(COMMANDS)} (see precsim --help)"
        )
    return int(_module(command).run(args))


def _hint(option: str, options: list[str]) -> str:
    if option in options:
        return f"; {option} stands after the command"
    near = nearest(option, options)
    return f"; did you mean {near!r}?" if near else ""


def _is_option(word: str) -> bool:
    return word.startswith("-") and not _NUMBER.match(word)


def _parser(command: str | None, words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser and the options; only the chosen command's module is loaded for them."""
    if command is not None and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    parser = _Parser(
        prog="precsim",
        description="What does a computation lose in a number format, where, and why?",
        epilog="Each command has --help. Exit status: 0; 1 if train --compare-bits or bisect finds a "
        "difference, analyze cannot read a part, or a number of claims or reproduce is not as expected; "
        "2 for bad input or a failure, with one line that says why; 130 if interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"precsim {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    usage = parser.format_usage()
    for name, summary in COMMANDS.items():
        chosen = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if name == command:
            module = _module(name)
            module.add_arguments(chosen)
            if hasattr(module, "add_options_of"):
                module.add_options_of(words, chosen)
            # Understood after the command too; without it there, the value given before it stays.
            hidden = argparse.SUPPRESS
            chosen.add_argument("--traceback", action="store_true", default=hidden, help=hidden)
            usage = chosen.format_usage()
    return parser, re.findall(r"--[\w-]+", usage)


def _module(command: str) -> Any:
    return import_module(f"precsim.cli.{command}")
