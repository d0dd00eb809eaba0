"""A sum, addition by addition: what each keeps and what it loses, in any order."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from precsim.analysis.walking.orders import Additions, ordered
from precsim.arithmetic.oracle import compute_exact
from precsim.arithmetic.sums.order import (
    Exact,
    Kahan,
    Order,
    Pairwise,
    Sequential,
    TwoSum,
    parse_order,
)
from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.said import Axis, Number, computed, error, near, rounded, same, short, stored
from precsim.formats.written import exact_text
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec
from precsim.rounding.threefry import Word, bits_at

MOST = 1000
"""Addends of a sum that is shown step by step."""
MOST_COMPARED = 200
"""Addends of a sum that is made in every order."""

ARRANGEMENTS: dict[str, Callable[[list[float]], list[float]]] = {
    "as given": list,
    "reversed": lambda x: x[::-1],
    "smallest first": lambda x: sorted(x, key=abs),
    "largest first": lambda x: sorted(x, key=abs, reverse=True),
}
METHODS = ("sequential", "pairwise", "blocked4", "blocked16", "kahan", "two_sum", "exact")


@dataclass
class Steps:
    """The additions of a sum so far."""

    spec: RoundingSpec
    seed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    """Roundings so far; each takes the next random integer of the seed's stream."""

    def compute(self, operation: str, x: Number, y: float) -> float:
        """Compute one operation, without a row."""
        draw = 0
        if self.spec.mode is RoundingMode.STOCHASTIC:
            draw = bits_at(Word(self.seed), self.count)
        self.count += 1
        return computed(compute_exact(operation, x, y, spec=self.spec, random_bits=draw).value)

    def plus(self, x: float, y: float, letter: str) -> float:
        """Add two numbers; sums are told, corrections stand beside the sum before them."""
        total = self.compute("add", x, y)
        if letter in _SUMS:
            self._tell(x, y, total, _SUMS[letter])
        elif letter == "t":
            self.rows[-1]["carried"] = short(total)
        return total

    def minus(self, x: float, y: float, letter: str) -> float:
        """Subtract two numbers."""
        rest = self.compute("subtract", x, y)
        if letter == "e":
            self.rows[-1]["carried"] = short(rest)
        return rest

    def _tell(self, x: float, y: float, total: float, group: str) -> None:
        finite = all(map(math.isfinite, (x, y, total)))
        lost = Fraction(x) + Fraction(y) - Fraction(total) if finite else None
        self.rows.append(
            {
                "at": str(len(self.rows) + 1),
                "group": group,
                "left": short(x),
                "right": short(y),
                "result": short(total),
                "value": total,
                "lost": "not finite" if lost is None else "0" if not lost else near(lost),
                "is_swallowed": bool(finite and y and total == x),
            }
        )


_SUMS = {"s": "", "b": "block", "r": "errors"}
"""Letters of additions that are told, and what they belong to."""


def summed(addends: list[float], order: Order, steps: Steps) -> float:
    """Add numbers in an order, as `accumulate` does, and tell every addition.

    Examples
    --------
    >>> steps = Steps(RoundingSpec.parse("fp16"))
    >>> summed([2048.0, 1.0, 1.0], parse_order("sequential"), steps)
    2048.0
    >>> [row["is_swallowed"] for row in steps.rows]
    [False, True, True]
    """
    if isinstance(order, Exact):
        return steps.compute("add", _exact_sum(addends), 0.0)
    return ordered(addends, order, Additions(0.0, steps.plus, steps.minus))


def _exact_sum(addends: list[float]) -> Number:
    if all(map(math.isfinite, addends)):
        return sum(map(Fraction, addends), Fraction(0)) or 0.0
    return computed(sum(x for x in addends if not math.isfinite(x)))


def _asked(asked: Asked, most: int) -> tuple[RoundingSpec, list[float], list[Number]]:
    """Return the rule, the addends as they are stored, and as they are given."""
    read.number_format(asked)
    spec, given = read.spec(asked), read.numbers(asked, "addends", most)
    return spec, [round_exact(x, _nearest(spec)).value for x in given], given


def _nearest(spec: RoundingSpec) -> RoundingSpec:
    """Return the rule by which addends are stored: that of the sum, without chance."""
    if spec.mode is not RoundingMode.STOCHASTIC:
        return spec
    return RoundingSpec(format=spec.format)


def sum_steps(asked: Asked) -> dict[str, Any]:
    """Describe a sum step by step."""
    spec, addends, given = _asked(asked, MOST)
    arranged = ARRANGEMENTS[read.choice(asked, "arrangement", ARRANGEMENTS)](addends)
    order = _order(read.text(asked, "order"), spec)
    steps = Steps(spec, read.whole(asked, "seed", 0, 0, 2**32 - 1))
    total = summed(arranged, order, steps)
    exact = _exact_sum(addends)
    has_path = isinstance(order, (Sequential, Kahan, TwoSum))
    path = _path(arranged, [row["value"] for row in steps.rows], total) if has_path else None
    swallowed = sum(row["is_swallowed"] for row in steps.rows)
    return {
        "spec": str(spec),
        "count": len(addends),
        "are_rounded": not all(map(same, addends, given)),
        "rows": [{k: v for k, v in row.items() if k != "value"} for row in steps.rows],
        "swallowed": swallowed,
        "path": path,
        "result": stored(total, spec.format),
        "exact": exact_text(exact),
        "near": near(exact),
        "once": rounded(exact, spec)["short"],
        "errors": error(total, exact, spec.format),
    }


def _order(name: str, spec: RoundingSpec) -> Order:
    """Return an order; in mode sr one that needs one random integer per addend at most."""
    order = parse_order(name)
    if not _is_possible(order, spec):
        raise ValueError(
            f"order is '{order}'; allowed in mode 'sr' are 'sequential', 'pairwise' and 'exact'"
        )
    return order


def _is_possible(order: Order, spec: RoundingSpec) -> bool:
    few = isinstance(order, (Sequential, Pairwise, Exact))
    return few or spec.mode is not RoundingMode.STOCHASTIC


def _path(addends: list[float], sums: list[float], total: float) -> dict[str, Any] | None:
    """Return the running sum and the exact one, as places on a drawing."""
    exact = Fraction(0)
    exacts = []
    for x in addends:
        if not math.isfinite(x):
            return None
        exact += Fraction(x)
        exacts.append(exact)
    kept = [Fraction(x) for x in sums[: len(addends)] if math.isfinite(x)]
    ends = [Fraction(0), *exacts, *kept]
    low, high = min(ends), max(ends)
    if low == high or len(kept) < len(addends):
        return None
    across, up = Axis(Fraction(0), Fraction(len(addends))), Axis(low, high)
    return {
        "exact": [[across.place(Fraction(k)), up.place(x)] for k, x in enumerate(exacts, 1)],
        "sums": [[across.place(Fraction(k)), up.place(x)] for k, x in enumerate(kept, 1)],
        "low": near(low),
        "high": near(high),
        "count": len(addends),
    }


def sum_orders(asked: Asked) -> dict[str, Any]:
    """Compare the orders of one sum."""
    spec, addends, _ = _asked(asked, MOST_COMPARED)
    exact = _exact_sum(addends)
    ways = [(name, "sequential") for name in ARRANGEMENTS]
    ways += [("as given", method) for method in METHODS[1:]]
    seed = read.whole(asked, "seed", 0, 0, 2**32 - 1)
    rows = []
    for arrangement, method in ways:
        order = parse_order(method)
        if not _is_possible(order, spec):
            continue
        arranged = ARRANGEMENTS[arrangement](addends)
        total = summed(arranged, order, Steps(spec, seed))
        said = error(total, exact, spec.format)
        rows.append(
            {
                "arrangement": arrangement,
                "order": method,
                "result": short(total),
                "error": None if said is None else said["ulp"],
            }
        )
    return {"rows": rows, "near": near(exact)}
