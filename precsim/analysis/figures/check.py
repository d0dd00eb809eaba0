"""One published number beside ours, and the rules by which they match."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from precsim.formats.arguments import not_allowed
from precsim.formats.reals import real

Results: TypeAlias = dict[str, np.ndarray]
Grade: TypeAlias = Literal["A", "B", "C"]
Kind: TypeAlias = Literal["exact", "digits", "relative", "absolute", "range"]

GRADES: dict[str, str] = {"A": "exact", "B": "mechanism", "C": "shape"}
"""A: every published digit. B: a number that follows from the mechanism. C: a range or a trend."""


@dataclass(frozen=True, slots=True)
class Check:
    """One published number beside ours, and the rule by which they match.

    Parameters
    ----------
    name : str
        What the number is.
    published : float or (float, float)
        The published number; the lowest and the highest allowed one for `kind` "range".
    computed : float
        Ours.
    kind : str
        "exact" (equal), "digits" (equal when printed with `tolerance` digits after the first),
        "relative" or "absolute" (they differ by at most `tolerance`, relative to the published
        one), or "range" (inside `published`).
    tolerance : float
        What `kind` asks for.
    grade : str
        "A" (every published digit), "B" (follows from the mechanism) or "C" (a range, a trend).

    Raises
    ------
    ValueError
        If kind and published value do not fit, or kind or grade is none of those above.

    Examples
    --------
    >>> import precsim as ps
    >>> total = ps.accumulate([1.0] * 300, "bf16").item()
    >>> check = Check("300 ones in bf16", 256, total, grade="B")
    >>> check.matched, check.rule
    (True, 'equal')
    >>> Check("pi", 3.14159, 3.1416, "digits", 4).matched
    True
    """

    name: str
    published: float | tuple[float, float]
    computed: float
    kind: Kind = "exact"
    tolerance: float = 0
    grade: Grade = "A"

    def __post_init__(self) -> None:
        """Refuse a rule that does not fit the published value."""
        numbers = self.published if isinstance(self.published, tuple) else (self.published,)
        for argument, number in (
            *((f"{self.name}: published", number) for number in numbers),
            (f"{self.name}: computed", self.computed),
            (f"{self.name}: tolerance", self.tolerance),
        ):
            real(number, argument)
        for argument, value, allowed in (
            (f"{self.name}: kind", self.kind, get_args(Kind)),
            (f"{self.name}: grade", self.grade, GRADES),
        ):
            if value not in allowed:
                raise not_allowed(argument, value, allowed)
        if (self.kind == "range") != isinstance(self.published, tuple):
            raise ValueError(f"{self.name}: kind {self.kind!r} does not fit {self.published!r}")

    @property
    def matched(self) -> bool:
        """Return whether our number is the published one."""
        if isinstance(self.published, tuple):
            low, high = self.published
            return low <= self.computed <= high
        if self.kind == "digits":
            ours, theirs = (f"{x:.{int(self.tolerance)}e}" for x in (self.computed, self.published))
            return ours == theirs
        if self.kind == "exact" or self.computed == self.published:
            return self.computed == self.published
        scale = abs(self.published) if self.kind == "relative" else 1.0
        return abs(self.computed - self.published) <= self.tolerance * scale

    @property
    def rule(self) -> str:
        """Return the rule in words."""
        return {
            "exact": "equal",
            "digits": f"equal in {self.tolerance + 1:g} digits",
            "relative": f"within {self.tolerance:g}, relative",
            "absolute": f"within {self.tolerance:g}",
            "range": "inside",
        }[self.kind]
