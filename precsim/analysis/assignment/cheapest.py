"""The cheapest choice of one option per place under a bound on the sum of their losses."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MOST = 20_000
"""Choices that are kept at once; of more, those next to each other are thinned out."""


class Option(NamedTuple):
    """What a place costs, and loses, in one format."""

    cost: float
    loss: float


class Choice(NamedTuple):
    """An option for each place, by its number, with the sums of what they cost and lose."""

    cost: float
    loss: float
    options: tuple[int, ...]


def front(places: Sequence[Sequence[Option]]) -> list[Choice]:
    """Return all choices that no other one beats in both cost and loss, the cheapest first.

    Exact unless more than `MOST` are left after some place; then every second one is dropped there,
    but for the cheapest and the one that loses least.
    """
    found = [Choice(0.0, 0.0, ())]
    for options in places:
        joined = [
            Choice(choice.cost + option.cost, choice.loss + option.loss, (*choice.options, n))
            for choice in found
            for n, option in enumerate(options)
        ]
        found = _unbeaten(joined)
        while len(found) > MOST:
            found = [*found[:-1:2], found[-1]]
    return found


def _unbeaten(choices: list[Choice]) -> list[Choice]:
    kept: list[Choice] = []
    for choice in sorted(choices):
        if not kept or choice.loss < kept[-1].loss:
            kept.append(choice)
    return kept


def cheapest(
    places: Mapping[str, Sequence[Option]],
    *,
    loss: float = float("inf"),
    cost: float = float("inf"),
) -> Choice:
    """Return the cheapest choice that loses at most `loss`; of several within `cost`, the best one.

    With a bound on the loss the cost is as small as it can be; with a bound on the cost alone, the
    loss is.

    Raises
    ------
    ValueError
        If no choice keeps the bounds; the message has the nearest one.
    """
    choices = front(list(places.values()))
    within = [choice for choice in choices if choice.loss <= loss and choice.cost <= cost]
    if not within:
        least, lowest = choices[-1], choices[0]
        raise ValueError(
            f"no assignment has a gap of at most {loss:.3g} at a cost of at most {cost:.6g}; the "
            f"smallest gap is {least.loss:.3g} at {least.cost:.6g}, the smallest cost {lowest.cost:.6g} at "
            f"a gap of {lowest.loss:.3g}"
        )
    return within[0] if loss < float("inf") else within[-1]
