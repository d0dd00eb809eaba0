"""`precsim reproduce`: published figures, and one's own, recomputed and compared."""

import argparse
import itertools
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rich import progress

from precsim.analysis.figures.definition import load
from precsim.analysis.figures.parameters import Parameter
from precsim.analysis.figures.record import missing_device
from precsim.analysis.figures.run import Outcome
from precsim.analysis.figures.run import run as run_figure
from precsim.cli.console import PlainConsole
from precsim.cli.experiments_package import figure_names, find_figure, load_experiments
from precsim.cli.figure_processes import side_by_side
from precsim.cli.figure_tables import CLASSES, listing, mismatches, summary
from precsim.cli.numbers import real, whole
from precsim.cli.output import describe, is_expected, print_error, print_words, visible
from precsim.formats.arguments import integer, nearest, number_within, shown

ALL = "all"
_OUT = "figures"
_PARAMETER = "parameter "
"""Begins the names under which the parser keeps the parameters of a figure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that all figures have."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"g03, g03_euler, 3, {ALL}, or a Python file of your own such as ./my_figure.py; they stand "
        "before the options (default: a list of what there is)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="published sizes, not the fast ones")
    parser.add_argument("--force", action="store_true", help="compute finished results again")
    parser.add_argument("--jobs", type=whole, metavar="N", help="figures side by side (default: 1)")
    parser.add_argument(
        "--data-dir", metavar="FOLDER", help="clones of published data to compare with"
    )
    parser.add_argument(
        "--width", type=real, metavar="CM",
        help="of the pictures: 8.5 for one column of a page (default: 8.5 with one panel, else 17)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FOLDER", help=f"for the results (default: {_OUT})")


def add_options_of(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Declare the parameters of the figure that is named, as options."""
    parser.set_defaults(command=shlex.join(["precsim", "reproduce", *words]))
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if words and not names:
        _refuse_without_name(words, parser)
    if len(names) != 1 or names[0] == ALL:
        return
    try:
        figure = load(_source(names[0]))
    except Exception as error:
        if is_expected(error) or isinstance(error, ImportError):
            raise
        raise ValueError(_named(_name(_source(names[0])), describe(error))) from error
    group = parser.add_argument_group(f"parameters of {figure.name}")
    for parameter in figure.parameters.values():
        try:
            group.add_argument(parameter.option, **_option(parameter))
        except argparse.ArgumentError:
            raise ValueError(
                f"{figure.name}: compute has the parameter {parameter.name!r}, which is an option of "
                "precsim reproduce; allowed are other names"
            ) from None


def _refuse_without_name(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse options alone; a name after them is fine if all of them are those of all figures."""
    known, rest = parser.parse_known_args(words)
    options = re.findall(r"--[\w-]+", parser.format_usage())
    is_misspelt = any(nearest(word.partition("=")[0], options) for word in rest)
    if (rest or not known.names) and not is_misspelt:
        raise ValueError(
            f"a NAME is missing before {words[0]}; allowed are figures (precsim reproduce lists them), "
            f"Python files, and {ALL}"
        )


def _option(parameter: Parameter) -> dict[str, Any]:
    default = parameter.default
    is_tuple = isinstance(default, tuple)
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    about = f"{parameter.about} (default: {text})".strip().replace("%", "%%")
    kept: dict[str, Any] = {
        "dest": _PARAMETER + parameter.name, "default": argparse.SUPPRESS, "help": about,
    }  # fmt: skip
    if parameter.kind is bool:
        return kept | {"action": argparse.BooleanOptionalAction}

    def read(word: str) -> Any:
        try:
            return parameter.read(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    metavar = {int: "N", float: "X", str: "TEXT"}[parameter.kind]
    return kept | {"type": read, "metavar": metavar, "nargs": "+" if is_tuple else None}


def _source(word: str) -> str | Path:
    """Return the file or the module that a word stands for."""
    if word.endswith(".py") or "/" in word or "\\" in word:
        return Path(word)
    return f"{load_experiments().__name__}.{find_figure(word)}"


def _different(sources: Iterable[str | Path]) -> list[str | Path]:
    """Return sources, each once; refuse two whose results would go to one folder."""
    found: dict[str, str | Path] = {}
    for source in sources:
        stem = Path(_name(source)).stem
        first = found.setdefault(stem, source)
        if first != source and Path(first).resolve() != Path(source).resolve():
            raise ValueError(
                f"{_word(first)} and {_word(source)} would both be recorded as {stem}; allowed are "
                "different names, or two commands with different --out"
            )
    return list(found.values())


def run(args: argparse.Namespace) -> int:
    """Run the figures; 1 if a number of class A does not match, or a figure fails."""
    console = PlainConsole(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    if not args.names:
        figures = [load(_source(name)) for name in figure_names()]
        console.print(listing(figures))
        print_words(f"Classes: {CLASSES}. Seconds on two cores, about; ? is not measured.")
        print_words(f"`precsim reproduce NAME...` computes some, `precsim reproduce {ALL}` all.")
        print_words("`precsim reproduce NAME --help` says what the options of one are.")
        return 0
    words = figure_names() if args.names == [ALL] else args.names
    out = _OUT if args.out is None else args.out
    if not out or (Path(out).exists() and not Path(out).is_dir()):
        raise ValueError(f"--out is {shown(out)}; allowed are folders, also new ones")
    sources = _different(map(_source, words))
    jobs = 1 if args.jobs is None else integer(args.jobs, "--jobs", 1)
    if args.width is not None:
        number_within(args.width, "--width", 5, 100)
    if args.data_dir is not None and not (args.data_dir and Path(args.data_dir).is_dir()):
        raise ValueError(f"--data-dir is {shown(args.data_dir)}; allowed are folders")
    if (missing := missing_device()) is not None:
        raise ValueError(missing)
    given = {k.removeprefix(_PARAMETER): v for k, v in vars(args).items() if _PARAMETER in k}
    attempt = partial(
        _attempt,
        with_traceback=args.traceback,
        out=out,
        fast=not args.full,
        force=args.force,
        parameters={k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
        data_dir=args.data_dir,
        width=args.width,
        command=args.command,
    )
    outcomes: list[Outcome | str] = []
    try:
        with closing(_run_all(attempt, sources, jobs)) as running:
            for outcome in running:
                outcomes.append(outcome)
                if isinstance(outcome, str):
                    print_error(outcome)
    finally:
        finished = sorted((o for o in outcomes if isinstance(o, Outcome)), key=lambda o: o.name)
        _print(console, finished, args)
    return int(any(isinstance(o, str) or o.failed for o in outcomes))


def _print(console: PlainConsole, outcomes: list[Outcome], args: argparse.Namespace) -> None:
    """Print what is finished."""
    if not outcomes:
        return
    console.print(summary(outcomes))
    if any(outcome.mismatches for outcome in outcomes):
        console.print(mismatches(outcomes))
    for outcome in outcomes:
        if outcome.absent:
            files = ", ".join(outcome.absent)
            print_words(
                f"{outcome.name} is compared with the numbers typed in its source only: no file {files} "
                f"under --data-dir ({args.data_dir or 'not given'})"
            )
        if outcome.parameters:
            pairs = outcome.parameters.items()
            own = ", ".join(f"{name.rstrip('_')} = {value}" for name, value in pairs)
            print_words(
                f"{outcome.name} has own parameters ({own}): not compared with the published numbers"
            )
    print_words(f"Figures, data and provenance: {outcomes[0].folder.parent}")


def _attempt(source: str | Path, *, with_traceback: bool, **options: Any) -> Outcome | str:
    """Run one figure; a broken one gives a line that says why, and the others go on."""
    try:
        return run_figure(source, **options)
    except Exception as error:  # noqa: BLE001 whatever it is, finished figures are not lost
        if with_traceback:
            print(visible(traceback.format_exc()), file=sys.stderr)
        return _named(_name(source), describe(error))


def _named(name: str, message: str) -> str:
    """Return a message that begins with the name of a figure or a file, once."""
    has_name = re.match(rf"{re.escape(Path(name).stem)}(\.py)?[:,]", message)
    return message if has_name else f"{name}: {message}"


def _word(source: str | Path) -> str:
    return str(source) if isinstance(source, Path) else f"the published {_name(source)}"


def _name(source: str | Path) -> str:
    return source.name if isinstance(source, Path) else source.rpartition(".")[2]


def _run_all(
    attempt: Callable[[str | Path], Outcome | str], sources: list[str | Path], jobs: int
) -> Generator[Outcome | str, None, None]:
    """Yield outcomes as they come, with a progress bar on a terminal."""
    console = PlainConsole(stderr=True)
    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("figures", total=len(sources))
        if jobs == 1 or len(sources) == 1:
            for source in sources:
                bar.update(task, description=_name(source))
                yield attempt(source)
                bar.advance(task)
            return
        with closing(side_by_side(attempt, sources, jobs, _lost)) as outcomes:
            for outcome in outcomes:
                yield outcome
                bar.advance(task)


def _lost(source: str | Path, code: int | None) -> str:
    return f"{_name(source)}: its process ended with exit code {code}"
