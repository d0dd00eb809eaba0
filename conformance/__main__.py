"""``python -m conformance`` scores libraries with vectors; ``... generate`` writes the vectors.

``... --emit hex | testfloat | c`` writes vectors for hardware; ``--emit --help`` explains it.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

import precsim as ps
from conformance import generate, report
from conformance.adapters import ADAPTERS
from conformance.command_line import CommandLine
from conformance.emission import command
from conformance.score import Score, score_all, version
from conformance.vector_file import FOLDER, Vectors, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 1 if precsim is wrong, 2 if the arguments are, 130 if it was interrupted."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(words: Sequence[str]) -> int:
    if any(word.partition("=")[0] == "--emit" for word in words):
        return command.main(words)
    options = _parser().parse_args(words)
    try:
        if options.command == "generate":
            return _generate(options.vectors)
        libraries = [_known(n, ADAPTERS, "library") for n in options.library] or list(ADAPTERS)
        files = _chosen([vectors for _, vectors in read(options.vectors)], options)
        for name in ("json", "markdown"):
            path = getattr(options, name)
            if path and (path.is_dir() or not path.parent.is_dir()):
                raise ValueError(f"--{name} is {path}; allowed are files in a folder that exists")
        if options.markdown:
            report.around(options.markdown)  # refuses before the work is done
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return _score(libraries, files, options)


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine("conformance", __doc__)
    parser.add_argument("command", nargs="?", choices=("score", "generate"), default="score")
    for name, text in (
        ("library", f"score only these: {', '.join(ADAPTERS)}"),
        ("format", "only these formats, by any of their names"),
        ("mode", "only modes that begin so: rne, sr, sr8:b, ..."),
        ("operation", "only these operations: round, add, ..."),
    ):
        parser.add_argument(
            f"--{name}", nargs="+", action="extend", default=[], metavar="NAME", help=text
        )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all scores to a file")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write tables into a file")
    parser.add_argument(
        "--vectors", type=Path, default=FOLDER, metavar="DIR", help="where vectors are"
    )
    return parser


def _generate(folder: Path) -> int:
    console = Console(stderr=True)
    total = len(generate.files())
    names = generate.write(folder)
    for _ in track(names, "vectors", total, console=console, disable=not console.is_terminal):
        pass
    print(f"{total} files in {folder}")
    return 0


def _score(libraries: list[str], files: list[Vectors], options: argparse.Namespace) -> int:
    skipped = [name for name in libraries if version(ADAPTERS[name].package) is None]
    scores: list[Score] = []
    console = Console(stderr=True)
    for name in track(libraries, "libraries", console=console, disable=not console.is_terminal):
        if name not in skipped:
            scores += score_all(name, ADAPTERS[name], files, options.mode)
    if options.json:
        options.json.write_text(report.as_json(scores, skipped) + "\n", encoding="utf-8")
    if options.markdown:
        report.insert(options.markdown, report.markdown(scores, skipped))
    _print(scores, skipped)
    return int(any(s.library.startswith("precsim") and not s.passed for s in scores))


def _chosen(files: list[Vectors], options: argparse.Namespace) -> list[Vectors]:
    """Return the files of the formats and operations asked for; check the modes."""
    if not files:
        raise ValueError(f"no vectors in {options.vectors}")
    formats = {vectors.facts["format"] for vectors in files}
    operations = {vectors.facts["operation"] for vectors in files}
    modes = {mode for vectors in files for mode in vectors.results}
    wanted = {_known(ps.get_format(name).name, formats, "format") for name in options.format}
    asked = {_known(name, operations, "operation") for name in options.operation}
    for name in options.mode:
        if not any(mode.startswith(name) for mode in modes):
            _known(name, modes, "mode")
    chosen = [
        vectors
        for vectors in files
        if vectors.facts["format"] in (wanted or formats)
        and vectors.facts["operation"] in (asked or operations)
    ]
    if not chosen:
        raise ValueError("no file of vectors has these formats and operations together")
    return chosen


def _known(name: str, names: Iterable[str], kind: str) -> str:
    known = list(names)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")


def _print(scores: Sequence[Score], skipped: Sequence[str]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(report.table(scores))
    for line in report.first_cases(scores):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    versions = dict.fromkeys(f"{ADAPTERS[s.library].package} {s.version}" for s in scores)
    console.print(f"Versions: {', '.join(versions)}", highlight=False)
    for name in skipped:
        console.print(f"Skipped {name}: {ADAPTERS[name].package} is not installed", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
