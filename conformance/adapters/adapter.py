"""What the runner has to know of a library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from conformance.vector_file import Task

Arguments: TypeAlias = Mapping[str, Any]
"""Arrays by column: x, y, z in the library's input type, random_bits as uint32; NumPy's at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How a library is asked."""

    package: str
    """The package whose version is printed. If it is not installed, the library is skipped."""
    supports: Callable[[Task], bool]
    """Whether the library has this operation, format, mode and overflow rule, by its documentation."""
    compute: Callable[[Task, Arguments], Any]
    """From arguments to an array of results, or anything that becomes float64 without rounding."""
    inputs: tuple[str, ...] = ("float32", "float64")
    """The types of its arguments, one row of the table each. Others' values are left out of that row."""
    has_subnormals: bool = True
    """False if it documents to have none: inputs below the smallest normal value are then left out."""
