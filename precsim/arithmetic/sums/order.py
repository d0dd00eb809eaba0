"""Orders of summation: sums of the same numbers that differ in their rounding errors."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from precsim.formats.arguments import integer, not_allowed


@dataclass(frozen=True, slots=True)
class Sequential:
    """From the first to the last: ``s = fl(s + x[k])``, k ascending (recursive summation).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 1.0, 1.0, 1.0], "fp16", order=ps.options.Sequential()).item()
    2048.0
    """

    def __str__(self) -> str:
        """Return the name."""
        return "sequential"


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Level by level, neighbours together: ``fl(x[0] + x[1]), fl(x[2] + x[3]), ...``.

    The last element of a level of odd length goes to the next level as it is.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 1.0, 1.0, 1.0], "fp16", order=ps.options.Pairwise()).item()
    2050.0
    """

    def __str__(self) -> str:
        """Return the name."""
        return "pairwise"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Blocks of `size` elements: each is summed sequentially from zero, then added to the total.

    Parameters
    ----------
    size : int
        Elements per block, at least 1.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 0.0, 1.0, 1.0], "fp16", order=ps.options.Blocked(2)).item()
    2050.0
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        object.__setattr__(self, "size", integer(self.size, "size of order 'blockedN'", 1))

    def __str__(self) -> str:
        """Return the name."""
        return f"blocked{self.size}"


@dataclass(frozen=True, slots=True)
class Kahan:
    """Sequential, with the error of each addition subtracted from the next element.

    ``y = fl(x[k] - e); t = fl(s + y); e = fl(fl(t - s) - y); s = t`` (Kahan 1965; Higham, *Accuracy
    and Stability*, algorithm 4.2).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 1.0, 1.0, 1.0], "fp16", order=ps.options.Kahan()).item()
    2052.0
    """

    def __str__(self) -> str:
        """Return the name."""
        return "kahan"


@dataclass(frozen=True, slots=True)
class TwoSum:
    """Sequential; the errors of all additions are added up and added at the end.

    Knuth's two-sum finds each error. Sum2 of Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26(6),
    2005.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 1.0, 1.0, 1.0], "fp16", order=ps.options.TwoSum()).item()
    2052.0
    """

    def __str__(self) -> str:
        """Return the name."""
        return "two_sum"


@dataclass(frozen=True, slots=True)
class Exact:
    """No order at all: the exact sum, rounded once (Kulisch's accumulator).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.accumulate([2048.0, 1.0, 1.0, 1.0], "fp16", order=ps.options.Exact()).item()
    2052.0
    """

    def __str__(self) -> str:
        """Return the name."""
        return "exact"


SEQUENTIAL = Sequential()
PAIRWISE = Pairwise()

Order: TypeAlias = Sequential | Pairwise | Blocked | Kahan | TwoSum | Exact

_NAMED: dict[str, Order] = {
    str(order): order for order in (SEQUENTIAL, PAIRWISE, Kahan(), TwoSum(), Exact())
}


def parse_order(order: str | Order) -> Order:
    """Return the order that a string stands for."""
    if isinstance(order, Order):
        return order
    if order in _NAMED:
        return _NAMED[order]
    if match := re.fullmatch(r"blocked(\d{1,18})", str(order)):
        return Blocked(int(match[1]))
    known = [*_NAMED, "blockedN"]
    raise not_allowed("order", order, known)
