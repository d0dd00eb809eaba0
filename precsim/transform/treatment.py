"""How the operations of an emulated program were treated, and the record of one."""

import enum
from typing import NamedTuple


class How(enum.StrEnum):
    """How an operation of a program was treated."""

    MOVED = "moved"
    """Numbers are moved, chosen or compared; none is computed."""
    ROUNDED = "rounded once"
    """The exact result is rounded once."""
    COMPUTED = "float32, then rounded"
    """The platform computes it in the carrier; that result is rounded."""
    PRODUCT = "product"
    """A matrix product or a convolution, by its spec."""
    SUM = "sum"
    """Every partial sum is rounded, in a stated order."""
    STEPS = "step by step"
    """A textbook algorithm in place of the platform's; each of its operations is rounded."""
    CAST = "cast"
    """A conversion that the program itself asks for, rounded once."""
    AS_IS = "as it is"
    """The policy rounds nothing there: the program's own operation runs."""
    EXEMPT = "exempt"
    """Not for emulation: integers, random sampling, what precsim has computed already."""
    UNKNOWN = "unknown"
    """No rule says how to round it."""


class Record(NamedTuple):
    """One operation of a program: where it stands, and how it was treated."""

    primitive: str
    line: str
    scope: str
    is_backward: bool
    how: How
    dtype: str
    """What the program has there: dtypes of the operands that are floats, and of the result."""
    format: str
    """What the result is rounded to; where nothing is rounded, the format of its dtype."""
    times: int
    """How often it runs: the turns of the scans around it, multiplied."""
