"""Analyse all tensors of some files, and go on where one is damaged."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from precsim.analysis.files.finding import find_files, missing_tensors, open_tensors
from precsim.analysis.files.measure import measure
from precsim.analysis.files.outcome import TensorOutcome
from precsim.analysis.files.stored import Skipped
from precsim.rounding.spec import RoundingSpec

_MOST_CORES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What formats would do to the tensors of files.

    `skipped` has what holds no floats, by file; `failures` says what could not be read, and why.
    """

    formats: tuple[str, ...]
    tensors: tuple[TensorOutcome, ...]
    skipped: tuple[tuple[str, Skipped], ...]
    failures: Mapping[str, str]


def analyse_files(
    paths: Sequence[Path],
    specs: Mapping[str, RoundingSpec],
    on_bytes: Callable[[float], None] = lambda count: None,
) -> FileReport:
    """Return what rounding would do to each tensor of the files and folders.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    specs : mapping of str to RoundingSpec
        What `parse_formats` returned.
    on_bytes : callable
        Called along the way with the bytes done since the last call.

    Returns
    -------
    FileReport
        All that could be read, and why the rest could not.

    Raises
    ------
    ValueError, OSError
        If a path does not exist or is of a kind that is not read.
    """
    files = files_of(paths)
    with ThreadPoolExecutor(_cores()) as pool:
        return _analysed(paths, files, specs, on_bytes, partial(_in_order, pool))


def _analysed(
    paths: Sequence[Path],
    files: Sequence[Path],
    specs: Mapping[str, RoundingSpec],
    on_bytes: Callable[[float], None],
    run: Callable[..., Iterable[Any]],
) -> FileReport:
    tensors: list[TensorOutcome] = []
    skipped: list[tuple[str, Skipped]] = []
    failures: dict[str, str] = {}
    for path in paths:
        failures |= missing_tensors(path)
    for file in files:
        if str(file) in failures and not file.exists():
            continue
        try:
            with open_tensors(file) as found:
                for tensor in found:
                    name = f"{file}:{tensor.name}" if tensor.name else str(file)
                    if isinstance(tensor, Skipped):
                        if tensor.is_fault:
                            failures[name] = tensor.reason
                        else:
                            skipped.append((str(file), tensor))
                        continue
                    try:
                        tensors.append(measure(tensor, specs, str(file), on_bytes, run))
                    except (ValueError, OSError) as error:
                        failures[name] = _reason(error)
        except (ValueError, OSError) as error:
            failures[str(file)] = _reason(error)
    return FileReport(
        formats=tuple(specs), tensors=tuple(tensors), skipped=tuple(skipped), failures=failures
    )


def _cores() -> int:
    """Return how many pieces are worked on side by side; each takes memory."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, _MOST_CORES)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], pieces: Iterable[Any]
) -> Iterator[Any]:
    """Apply a function to pieces side by side, few at a time; yield the results in order."""
    pieces = iter(pieces)
    first = list(islice(pieces, 2))
    if len(first) < 2:  # what is small needs no thread
        yield from map(function, first)
        return
    left: deque[Future[Any]] = deque(pool.submit(function, piece) for piece in first)
    del first
    for piece in pieces:
        if len(left) > _cores():
            yield left.popleft().result()
        left.append(pool.submit(function, piece))
    while left:
        yield left.popleft().result()


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that paths stand for, each once."""
    return list(dict.fromkeys(file for path in paths for file in find_files(path)))


def _reason(error: ValueError | OSError) -> str:
    return str(getattr(error, "strerror", None) or error)
