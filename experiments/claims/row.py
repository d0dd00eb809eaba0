"""One popular claim: what is said, what is true, and the numbers that decide it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from experiments.check import Check

Verdict: TypeAlias = Literal[
    "true", "false", "depends", "undefined", "cannot be tested", "not seen here"
]
Kind: TypeAlias = Literal["exact", "run", "gpu", "published"]
Measure: TypeAlias = Callable[[bool], list[Check]]

KINDS: dict[str, str] = {
    "exact": "arithmetic, the same digits on every machine",
    "run": "measured over seeds, the same within a stated range",
    "gpu": "measured once on a GPU, and recorded",
    "published": "published elsewhere, not measured here",
}
NOT_REPRODUCED = "not reproduced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim, and how it is settled.

    `verdict` holds as long as all numbers of `measure` are what is expected. `measure(full)`
    returns them; `full` asks for all seeds and the long runs.
    """

    section: str
    number: int
    says: str
    verdict: Verdict
    truth: str
    kind: Kind
    measure: Measure

    @property
    def command(self) -> str:
        """Return the command that measures it again."""
        return f"precsim claims {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A claim, and what measuring it gave."""

    claim: Claim
    checks: tuple[Check, ...]
    seconds: float

    @property
    def mismatches(self) -> list[Check]:
        """Return the numbers that are not what is expected."""
        return [check for check in self.checks if not check.matched]

    @property
    def verdict(self) -> str:
        """Return the verdict, which needs numbers that are all as expected."""
        if self.mismatches or not (self.checks or self.claim.verdict == "cannot be tested"):
            return NOT_REPRODUCED
        return self.claim.verdict


class Section:
    """The claims of one part of the list, in the order in which they are added."""

    def __init__(self, title: str) -> None:
        """Begin with none."""
        self.title = title
        self.claims: list[Claim] = []

    def add(
        self, number: int, says: str, verdict: Verdict, truth: str, kind: Kind = "exact"
    ) -> Callable[[Measure], Measure]:
        """Return a decorator that adds a claim which its function measures."""

        def added(measure: Measure) -> Measure:
            claim = Claim(
                section=self.title,
                number=number,
                says=says,
                verdict=verdict,
                truth=truth,
                kind=kind,
                measure=measure,
            )
            self.claims.append(claim)
            return measure

        return added


def settle(claim: Claim, *, full: bool = False) -> Outcome:
    """Measure a claim."""
    start = time.perf_counter()
    checks = tuple(claim.measure(full))
    return Outcome(claim=claim, checks=checks, seconds=time.perf_counter() - start)


def equal(*rows: tuple[str, float, float]) -> list[Check]:
    """Return checks of (name, expected, computed), which have to be equal."""
    return [Check(name, expected, float(computed)) for name, expected, computed in rows]


def digits(*rows: tuple[str, str, float]) -> list[Check]:
    """Return checks of (name, expected, computed), equal in the digits that are written."""
    checks = []
    for name, text, computed in rows:
        written = text.lower().partition("e")[0].lstrip("-").replace(".", "").lstrip("0")
        checks.append(Check(name, float(text), float(computed), "digits", len(written) - 1))
    return checks


def near(name: str, expected: float, computed: float, spread: float) -> Check:
    """Return the check of a measured number: `spread` is what seeds and machines may change."""
    return Check(name, expected, float(computed), "absolute", spread, "B")


def inside(name: str, low: float, high: float, computed: float) -> Check:
    """Return the check of a measured number of which a range is stated."""
    return Check(name, (low, high), float(computed), "range", grade="B")


def mean(name: str, expected: float, values: np.ndarray, spread: float) -> Check:
    """Return the check of the mean over seeds; how far these lie apart stands in the name."""
    values = np.asarray(values, np.float64)
    text = f"{name} (mean of {values.size} seeds, standard deviation {values.std():.2g})"
    return near(text, expected, values.mean(), spread)
