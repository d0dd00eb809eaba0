"""Run a library on vectors, and count what is wrong."""

import importlib.metadata
import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter
from conformance.vector_file import Task, Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a library made of one column of results."""

    library: str
    version: str
    inputs: str
    """Type of the arguments."""
    task: Task
    cases: int
    wrong: int
    zero_signs: int
    """Results that are wrong in nothing but the sign of a zero; not among `wrong`."""
    first_wrong: str = ""
    """Arguments, expected and got, in hexadecimal and decimal; or the exception that was raised."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, signs of zeros included."""
        return self.wrong == self.zero_signs == 0


@cache
def version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def score_all(
    name: str, adapter: Adapter, files: Iterable[Vectors], modes: Iterable[str] = ()
) -> Iterator[Score]:
    """Yield the scores of a library for all that it supports, in the modes asked for (all)."""
    wanted = tuple(modes)
    for vectors in files:
        given = {column: vectors.argument(column) for column in vectors.arguments}
        for task in vectors.tasks:
            if task.mode.startswith(wanted or "") and adapter.supports(task):
                expected = vectors.expected(task.mode)
                for inputs in adapter.inputs:
                    yield _score(name, adapter, task, given, expected, inputs)


def _score(
    name: str,
    adapter: Adapter,
    task: Task,
    given: dict[str, np.ndarray],
    expected: np.ndarray,
    inputs: str,
) -> Score:
    """Run one column of one file."""
    chosen = _in_scope(
        [x for c, x in given.items() if c != "random_bits"], expected, adapter, task, inputs
    )
    given = {column: x[chosen] for column, x in given.items()}
    expected = expected[chosen]
    typed = {
        column: x if column == "random_bits" else x.astype(inputs) for column, x in given.items()
    }
    report = partial(
        Score,
        library=name,
        version=version(adapter.package) or "",
        inputs=inputs,
        task=task,
        cases=len(expected),
    )
    try:
        got = _run(adapter, task, typed)
    except Exception as problem:  # noqa: BLE001 a library that cannot do what it documents is wrong
        text = " ".join(f"{type(problem).__name__}: {problem}".split())
        return report(wrong=len(expected), zero_signs=0, first_wrong=text[:200])
    is_equal = (got == expected) | (np.isnan(got) & np.isnan(expected))
    signs_differ = is_equal & (expected == 0) & (np.signbit(got) != np.signbit(expected))
    bad = signs_differ if is_equal.all() else ~is_equal
    first = ""
    if bad.any():
        k = int(np.argmax(bad))
        first = _case({column: x[k] for column, x in given.items()}, expected[k], got[k], task)
    return report(
        wrong=int(np.count_nonzero(~is_equal)),
        zero_signs=int(np.count_nonzero(signs_differ)),
        first_wrong=first,
    )


def _in_scope(
    values: list[np.ndarray], expected: np.ndarray, adapter: Adapter, task: Task, inputs: str
) -> np.ndarray:
    """Return which cases the library's input type has, without subnormals if it has none."""
    chosen = np.full(expected.shape, fill_value=True)
    with np.errstate(all="ignore"):
        for x in values:
            chosen &= (x.astype(inputs).astype(np.float64) == x) | np.isnan(x)
    fmt = ps.get_format(task.format)
    if not adapter.has_subnormals and isinstance(fmt, ps.FloatFormat):
        for x in values:
            chosen &= ~((np.abs(x) < fmt.min_normal) & (x != 0))
        # A result that was rounded up to the smallest normal value was subnormal before.
        chosen &= ~((np.abs(expected) <= fmt.min_normal) & (expected != 0))
    return chosen


def _run(adapter: Adapter, task: Task, arguments: dict[str, np.ndarray]) -> np.ndarray:
    """Return the library's results as float64, its warnings about overflow and NaN unheard."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.asarray(np.asarray(adapter.compute(task, arguments)).astype(np.float64))


def _case(arguments: dict[str, float], expected: float, got: float, task: Task) -> str:
    """Describe one case: numbers in hexadecimal (value and, in the format, code) and decimal."""
    given = ", ".join(
        f"{column} = {x}" if column == "random_bits" else f"{column} = {_number(x)}"
        for column, x in arguments.items()
    )
    return f"{given}: expected {_number(expected, task)}, got {_number(got, task)}"


def _number(x: float, task: Task | None = None) -> str:
    x = float(x)
    if not np.isfinite(x):
        return str(x)
    code = ""
    if task is not None:
        try:
            code = f", code 0x{int(ps.encode(x, task.format)):x}"
        except ValueError:
            code = f", not in {task.format}"
    fraction = re.sub(r"\.?0+p", "p", x.hex())
    return f"{fraction} ({x!r}{code})"
