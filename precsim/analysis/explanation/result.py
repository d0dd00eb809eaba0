"""What `explain` returns: the arithmetics that were tried, and what they say."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from precsim.analysis.differences import Flat, equal_share, relative_distance
from precsim.analysis.tables import html_table, json_text, text_table

_LISTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One arithmetic that was compared with `got`.

    Parameters
    ----------
    name : str
        A spec of a product or a policy, or "fun" for the function itself.
    meaning : str
        What it does, in words.
    equal : float
        Share of the compared elements that have the bits of `got`; 1 only if all have.
    distance : float
        ``||attempt - got|| / ||got||`` in the 2-norm.
    is_want : bool
        Whether the compared elements have the bits of `want`.

    Examples
    --------
    >>> import precsim as ps
    >>> found = ps.explain(0.5, 0.7, candidates={"half": lambda: 0.5, "third": lambda: 1 / 3})
    >>> [(attempt.name, attempt.equal) for attempt in found.attempts]
    [('half', 1.0), ('third', 0.0)]
    """

    name: str
    meaning: str
    equal: float
    distance: float
    is_want: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How two results differ, and which arithmetic made the first.

    Parameters
    ----------
    elements, different : int
        Numbers compared, and those whose bits differ.
    distance : float
        ``||got - want|| / ||want||`` in the 2-norm.
    ulps : float
        Largest difference, in ulps of `format` at the value of `want`.
    format : str
        The narrowest of bf16, fp16, fp32, fp64 that has all values of `got`.
    share_of_bound : float, optional
        Largest difference as a share of what two orders of the sums can differ by; None where no
        bound is known. Up to 1 the order of the sums alone can explain the difference.
    attempts : tuple of Attempt
        The arithmetics that were tried: bit-equal ones first, then the nearest ones.
    untried : int
        Candidates that were left out, since one before them had the bits already.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> found = ps.explain(np.float32([1.0, 3.01]), np.float32([1.0, 3.0]))
    >>> found.different, found.by, found.share_of_bound
    (1, (), None)
    """

    elements: int
    different: int
    distance: float
    ulps: float
    format: str
    share_of_bound: float | None
    attempts: tuple[Attempt, ...]
    untried: int

    @property
    def by(self) -> tuple[str, ...]:
        """The arithmetics with all bits of `got`; more than one are not distinguished."""
        return tuple(each.name for each in self.attempts if each.equal == 1)

    @property
    def nearest(self) -> Attempt | None:
        """The arithmetic with the smallest distance from `got`."""
        return self.attempts[0] if self.attempts else None

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        return f"{self._difference()}{self._within()}; {self._cause()}"

    def _difference(self) -> str:
        if not self.different:
            return f"got has the bits of want in all {self.elements} elements"
        return (
            f"got differs from want in {self.different} of {self.elements} elements, by up to "
            f"{self.ulps:.3g} ulps of {self.format} (relative distance {self.distance:.2g})"
        )

    def _within(self) -> str:
        share = self.share_of_bound
        if share is None or not self.different:
            return ""
        if share <= 1:
            return f", {100 * share:.2g} % of what the order of the sums alone may do"
        return f", {share:.3g} times what the order of the sums alone may do"

    def _cause(self) -> str:
        equal = [each for each in self.attempts if each.equal == 1]
        if equal:
            text = f"it has the bits of '{equal[0].name}' ({equal[0].meaning})"
            others = [f"'{each.name}'" for each in equal[1:]]
            more = f" and {len(others) - 4} more" if len(others) > 4 else ""
            listed = f", not distinguished here from {', '.join(others[:4])}{more}"
            return text + (listed if others else "")
        near = self.nearest
        if near is None:
            return "no arithmetic was tried"
        return (
            f"none of {len(self.attempts)} arithmetics has its bits; nearest is '{near.name}' "
            f"({near.meaning}): {100 * near.equal:.3g} % equal bits, relative distance "
            f"{near.distance:.2g}"
        )

    def __str__(self) -> str:
        """Return the sentence, and a table of the nearest arithmetics."""
        listed = text_table(_HEADER, self._rows()[:_LISTED])
        left = len(self.attempts) - _LISTED
        rest = [f"and {left} farther ones"] if left > 0 else []
        more = [f"{self.untried} further candidates were not needed"] if self.untried else []
        return "\n".join([self.sentence, "", listed, *rest, *more])

    def _rows(self) -> list[tuple[object, ...]]:
        return [
            (x.name, 100 * x.equal, x.distance, "yes" if x.is_want else "", x.meaning)
            for x in self.attempts
        ]

    def to_json(self) -> str:
        """Return all fields and the sentence as JSON."""
        return json_text({"sentence": self.sentence, **asdict(self)})

    def _repr_html_(self) -> str:
        """Return the sentence and the table for a notebook."""
        return html_table(self.sentence, _HEADER, self._rows()[:_LISTED])


_HEADER = ("arithmetic", "% equal", "distance", "= want", "meaning")


Try = Callable[[], list[Attempt]]
"""Computes one candidate; several attempts if it has several outputs."""


def attempt(name: str, meaning: str, result: np.ndarray, ours: Flat, theirs: Flat) -> Attempt:
    """Compare the numbers of a candidate with both results."""
    return Attempt(
        name=name,
        meaning=meaning,
        equal=equal_share(result, ours.values),
        distance=relative_distance(result, ours.values),
        is_want=equal_share(result, theirs.values) == 1,
    )
