"""Analyse all tensors of some files, and go on where one is damaged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from precsim.analysis.files.finding import find_files, missing_tensors, open_tensors
from precsim.analysis.files.measure import measure
from precsim.analysis.files.outcome import TensorOutcome
from precsim.analysis.files.stored import Skipped
from precsim.rounding.spec import RoundingSpec


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
                        tensors.append(measure(tensor, specs, str(file), on_bytes))
                    except (ValueError, OSError) as error:
                        failures[name] = _reason(error)
        except (ValueError, OSError) as error:
            failures[str(file)] = _reason(error)
    return FileReport(
        formats=tuple(specs), tensors=tuple(tensors), skipped=tuple(skipped), failures=failures
    )


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that paths stand for, each once."""
    return list(dict.fromkeys(file for path in paths for file in find_files(path)))


def _reason(error: ValueError | OSError) -> str:
    return str(getattr(error, "strerror", None) or error)
