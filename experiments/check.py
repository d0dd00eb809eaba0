"""One published number beside ours, and the rules by which they match."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Results: TypeAlias = dict[str, np.ndarray]
Grade: TypeAlias = Literal["A", "B", "C"]
Kind: TypeAlias = Literal["exact", "digits", "relative", "absolute", "range"]

GRADES: dict[str, str] = {"A": "exact", "B": "mechanism", "C": "shape"}
"""A: every published digit. B: a number that follows from the mechanism. C: a range or a trend."""


@dataclass(frozen=True, slots=True)
class Check:
    """One published number beside ours, and the rule by which they match.

    `kind` is "exact" (equal), "digits" (equal when printed with `tolerance` digits after the
    first), "relative" or "absolute" (they differ by at most `tolerance`, relative to the published
    one), or "range" (`published` is the pair of the lowest and the highest allowed value).
    """

    name: str
    published: float | tuple[float, float]
    computed: float
    kind: Kind = "exact"
    tolerance: float = 0
    grade: Grade = "A"

    def __post_init__(self) -> None:
        """Refuse a rule that does not fit the published value."""
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
