"""The cheapest choice against all choices."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precsim.analysis.assignment import cheapest as module
from precsim.analysis.assignment.cheapest import Choice, Option, cheapest, front

OPTIONS = st.lists(
    st.builds(Option, st.integers(0, 20).map(float), st.integers(0, 20).map(float)),
    min_size=1,
    max_size=4,
)


def all_choices(places: list[list[Option]]) -> list[Choice]:
    found = []
    for numbers in itertools.product(*(range(len(options)) for options in places)):
        chosen = [options[n] for options, n in zip(places, numbers, strict=True)]
        costs, losses = [x.cost for x in chosen], [x.loss for x in chosen]
        found.append(Choice(sum(costs), sum(losses), numbers))
    return found


@given(st.lists(OPTIONS, min_size=1, max_size=5), st.integers(0, 60), st.integers(0, 60))
def test_it_is_the_best_of_all(places: list[list[Option]], loss: int, cost: int) -> None:
    named = {str(n): options for n, options in enumerate(places)}
    choices = all_choices(places)
    within = [c for c in choices if c.loss <= loss]
    if within:
        found = cheapest(named, loss=loss)
        assert found in choices
        assert (found.cost, found.loss) == min((c.cost, c.loss) for c in within)
    else:
        with pytest.raises(ValueError, match="no assignment has a gap of at most"):
            cheapest(named, loss=loss)
    affordable = [c for c in choices if c.cost <= cost]
    if affordable:
        found = cheapest(named, cost=cost)
        assert (found.loss, found.cost) == min((c.loss, c.cost) for c in affordable)


def test_many_places_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice is still a choice, and both ends stay."""
    monkeypatch.setattr(module, "MOST", 16)
    places = [[Option(2.0**n, 0.0), Option(0.0, 2.0**n)] for n in range(12)]
    found = front(places)
    assert len(found) <= 16
    assert found[0][:2] == (0, 2**12 - 1)
    assert found[-1][:2] == (2**12 - 1, 0)
    assert all(choice.cost + choice.loss == 2**12 - 1 for choice in found)
