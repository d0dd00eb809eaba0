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
    by_number = {str(claim.number): claim for claim in claims()}
    names = list(by_number)
    found = []
    for word in words:
        if word not in by_number:
            allowed = f"{names[0]} to {names[-1]}, separated by spaces"
            raise ValueError(f"ROW is {word!r}; allowed are the numbers {allowed}")
        found.append(word)
    return [by_number[name] for name in dict.fromkeys(found) or names]
