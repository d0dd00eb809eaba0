"""All claims, by section and by number."""

from collections.abc import Iterable

from experiments.claims import (
    a_trained,
    b_mixed_precision,
    c_methods,
    d_models,
    e_cost,
    f_contradictions,
)
from experiments.claims.row import Claim

SECTIONS = tuple(
    part.SECTION
    for part in (a_trained, b_mixed_precision, c_methods, d_models, e_cost, f_contradictions)
)


def claims() -> list[Claim]:
    """Return all claims, by number."""
    found = [claim for section in SECTIONS for claim in section.claims]
    return sorted(found, key=lambda claim: claim.number)


def chosen(words: Iterable[str]) -> list[Claim]:
    """Return the claims of some numbers, once each and in their order; all for no numbers.

    Raises
    ------
    ValueError
        If a word is no number of a claim.
    """
    by_number = {claim.number: claim for claim in claims()}
    numbers = []
    for word in words:
        if not word.isdecimal() or int(word) not in by_number:
            allowed = f"{min(by_number)} to {max(by_number)}"
            raise ValueError(f"ROW is {word!r}; allowed are the numbers {allowed}")
        numbers.append(int(word))
    return [by_number[n] for n in dict.fromkeys(numbers)] or list(by_number.values())
