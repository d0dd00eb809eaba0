"""Orders of summation: sums of the same numbers that differ in their rounding errors."""

import difflib
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sequential:
    """From the first to the last: ``s = fl(s + x[k])``, k ascending (recursive summation)."""

    def __str__(self) -> str:
        """Return the name."""
        return "sequential"


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Level by level, neighbours together: ``fl(x[0] + x[1]), fl(x[2] + x[3]), ...``.

    The last element of a level of odd length goes to the next level as it is.
    """

    def __str__(self) -> str:
        """Return the name."""
        return "pairwise"


SEQUENTIAL = Sequential()
PAIRWISE = Pairwise()

Order: TypeAlias = Sequential | Pairwise

_ORDERS: dict[str, Order] = {str(order): order for order in (SEQUENTIAL, PAIRWISE)}


def parse_order(order: str | Order) -> Order:
    """Return the order that a string stands for."""
    if isinstance(order, (Sequential, Pairwise)):
        return order
    if order in _ORDERS:
        return _ORDERS[order]
    near = difflib.get_close_matches(str(order), _ORDERS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"order is {order!r}; allowed are {', '.join(map(repr, _ORDERS))}{hint}")
