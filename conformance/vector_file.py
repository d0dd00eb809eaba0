"""A file of vectors: its text, and the numbers in it. README.md is the specification."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import precsim as ps

FOLDER = Path(__file__).parent / "vectors"
VERSION = "1"
ARGUMENTS = ("x", "y", "z", "random_bits")
"""The columns that are no results."""
FLAGS = {
    ps.oracle.Flags.INEXACT: "x",
    ps.oracle.Flags.UNDERFLOW: "u",
    ps.oracle.Flags.OVERFLOW: "o",
    ps.oracle.Flags.DIVIDE_BY_ZERO: "z",
    ps.oracle.Flags.INVALID: "i",
}
"""One letter for each exception of IEEE 754; none of them is a hexadecimal digit."""
RULES = {
    "any": "",
    "infinity": ":infinity:propagate",
    "saturate": ":saturate:propagate",
    "satfinite": ":saturate:saturate_infinity",
    "satpropagate": ":saturate:propagate_or_saturate",
    "satnone": ":infinity_or_max:propagate_or_saturate",
    "wrap": ":wrap",
}
"""The overflow rules of README.md in precsim's words."""
OPERANDS = {"round": 1, "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "sqrt": 1, "fma": 3}
"""Operations, and how many arguments they have besides random bits."""
_KEYS = {"conformance", "operation", "format", "rule", "arguments", "cases", "source"} | {
    *("width", "signed", "kind", "precision", "exponent_bits", "bias", "specials", "subnormals"),
    *("negative_zero", "max_finite", "min_normal", "fraction_bits"),
}
_MODE = re.compile("r(n[eazopn]|t[zpno]|az)|sr[1-9][0-9]?:[abc]")
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}")
_RESULT = re.compile(f"(nan|[0-9a-f]{{1,16}})[{''.join(FLAGS.values())}]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One column of results: what a library is asked to compute."""

    operation: str
    """round, add, subtract, multiply, divide, sqrt or fma"""
    format: str
    rule: str
    """What happens on overflow: infinity, saturate, satfinite, ... (README.md); any: nothing."""
    mode: str
    """rne, rna, ..., or sr8:b for stochastic rounding with 8 bits, variant b"""

    @property
    def spec(self) -> ps.RoundingSpec:
        """The same in precsim's words."""
        return ps.RoundingSpec.parse(f"{self.format}{RULES[self.rule]}:{self.mode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """One operation into one format under one overflow rule: arguments, results in every mode."""

    facts: dict[str, str]
    """The header."""
    arguments: dict[str, tuple[str, ...]]
    results: dict[str, tuple[str, ...]]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One task for each column of results."""
        operation, fmt, rule = (self.facts[key] for key in ("operation", "format", "rule"))
        return tuple(
            Task(operation=operation, format=fmt, rule=rule, mode=mode) for mode in self.results
        )

    def argument(self, name: str) -> np.ndarray:
        """Return a column of arguments: float64 values, or integers for `random_bits`."""
        codes = np.array([int(word, 16) for word in self.arguments[name]], np.uint64)
        if name == "random_bits":
            return np.asarray(codes.astype(np.uint32))
        if self.facts["arguments"] == "float64":
            return codes.view(np.float64)
        return self._decoded(codes)

    def expected(self, mode: str) -> np.ndarray:
        """Return a column of results as float64 values."""
        words = [word.rstrip("".join(FLAGS.values())) for word in self.results[mode]]
        is_nan = np.array([word == "nan" for word in words])
        codes = np.array([0 if word == "nan" else int(word, 16) for word in words], np.uint64)
        return np.where(is_nan, np.nan, self._decoded(codes))

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(ps.decode(codes, self.facts["format"]), np.float64)

    def text(self) -> str:
        """Return the contents of the file."""
        columns = {**self.arguments, **self.results}
        header = [f"{key}: {value}" for key, value in self.facts.items()]
        table = [" ".join(row) for row in zip(*columns.values(), strict=True)]
        return "\n".join([*header, "", " ".join(columns), *table, ""])


def words(values: Sequence[float], flags: Sequence[ps.oracle.Flags], fmt: str) -> tuple[str, ...]:
    """Return results as in a file: hexadecimal code or nan, and letters for exceptions."""
    is_nan = np.isnan(values)
    codes = ps.encode(np.where(is_nan, 1.0, values), fmt)
    digits = -(-(ps.get_format(fmt).width or 0) // 4)
    bare = ["nan" if n else f"{c:0{digits}x}" for n, c in zip(is_nan, codes.tolist(), strict=True)]
    letters = ["".join(letter for flag, letter in FLAGS.items() if flag in f) for f in flags]
    return tuple(word + letter for word, letter in zip(bare, letters, strict=True))


def parse(text: str) -> Vectors:
    """Read the text of a file; a ValueError says what is wrong with it."""
    header, _, table = text.partition("\n\n")
    facts: dict[str, str] = {}
    for line in header.splitlines():
        key, colon, value = line.partition(": ")
        if not colon or key not in _KEYS or key in facts:
            raise ValueError(
                f"the header has the line {line!r:.60}, which README.md does not allow"
            )

        facts[key] = value
    if facts.get("conformance") != VERSION:
        raise ValueError(f"version {facts.get('conformance')!r:.60}; allowed is {VERSION!r}")
    names, *rows = [line.split() for line in table.splitlines()] or [[]]
    if any(len(row) != len(names) for row in rows) or str(len(rows)) != facts.get("cases"):
        raise ValueError(f"not {facts.get('cases')!s:.20} rows of {len(names)} words")
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    if len(columns) != len(names):
        raise ValueError("a column stands twice")
    vectors = Vectors(
        facts=facts,
        arguments={name: column for name, column in columns.items() if name in ARGUMENTS},
        results={name: column for name, column in columns.items() if name not in ARGUMENTS},
    )
    _check(vectors)
    return vectors


def _check(vectors: Vectors) -> None:
    """Refuse what README.md does not allow; what is computed with is then within its range."""
    facts = vectors.facts
    kinds = ("float64", "codes")
    for key, allowed in (("operation", OPERANDS), ("rule", RULES), ("arguments", kinds)):
        if facts.get(key) not in allowed:
            raise ValueError(f"{key} is {facts.get(key)!r:.40}; allowed are {', '.join(allowed)}")
    fmt = ps.get_format(facts.get("format", ""))
    if not isinstance(fmt, (ps.FloatFormat, ps.FixedPointFormat)) or not 0 < (fmt.width or 0) <= 64:
        raise ValueError(f"format is {fmt}; allowed are formats of at most 64 bits without scales")
    if facts.get("width", str(fmt.width)) != str(fmt.width):
        raise ValueError(f"width is {facts['width']!r:.40}; {fmt} has {fmt.width} bits")
    is_random = any(mode.startswith("sr") for mode in vectors.results)
    wanted = [*"xyz"[: OPERANDS[facts["operation"]]], *(["random_bits"] if is_random else [])]
    if list(vectors.arguments) != wanted or not vectors.results:
        raise ValueError(
            f"the columns of arguments are {', '.join(vectors.arguments) or 'none'}; "
            f"wanted are {', '.join(wanted)}, and results"
        )
    code = 1 << (fmt.width or 0)
    for name, column in vectors.arguments.items():
        end = 1 << 32 if name == "random_bits" else 1 << 64
        _check_words(name, column, _HEXADECIMAL, code if facts["arguments"] == "codes" else end)
    for task in vectors.tasks:
        if not _MODE.fullmatch(task.mode):
            raise ValueError(f"a column is named {task.mode!r:.40}, which is no mode of README.md")
        _ = task.spec  # refuses a mode that the format has not
        _check_words(task.mode, vectors.results[task.mode], _RESULT, code)


def _check_words(name: str, column: Sequence[str], allowed: re.Pattern[str], end: int) -> None:
    for word in set(column):
        match = allowed.fullmatch(word)
        digits = word.rstrip("".join(FLAGS.values()))
        if match is None or (digits != "nan" and int(digits, 16) >= end):
            raise ValueError(
                f"column {name:.20} has {word!r:.40}; allowed are numbers below {end:#x}"
            )


def read(folder: Path = FOLDER) -> Iterator[tuple[str, Vectors]]:
    """Yield the name and the contents of every file, sorted by name."""
    for path in sorted(folder.glob("*/*.txt")):
        name = path.relative_to(folder).as_posix()
        try:
            text = path.read_text(encoding="ascii")
        except UnicodeDecodeError as problem:
            raise ValueError(f"{name}: not ASCII, {problem.reason}") from None
        try:
            yield name, parse(text)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from problem
