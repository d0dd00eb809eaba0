"""Feedback: what raises a place, what lowers it, what corrects updates."""

from typing import Any, NamedTuple

import numpy as np
import pytest

import precsim as ps
from precsim.training.control.controller import begin
from precsim.training.control.feedback import Feedback

LEVELS: Any = ("q3.4", "bf16", "fp32")


class Measured(NamedTuple):
    """What the metrics of a step have, as far as a control looks at them."""

    forward_events: dict[str, Any]
    backward_events: dict[str, Any]
    loss: float = 1.0
    nonzero_updates: int = 100
    swallowed_updates: int = 0


def events(underflowed: int = 0, beyond: int = 0) -> np.ndarray:
    """Return the events of 100 numbers."""
    return np.array([100, 100, underflowed, 0, beyond, 0, 0])


def window(hidden: int = 0, **others: Any) -> list[Any]:
    return [Measured({"hidden": events(0)}, {"hidden": events(2 * hidden)}, **others)] * 2


def levels(control: Feedback, state: Any) -> dict[str, str]:
    policy = control.policy(state, 0)
    found = {place: policy.at(place) for place in ("hidden", "other")}
    names = {ps.Policy.parse(level).forward: level for level in LEVELS}
    return {place: names[each.forward] for place, each in found.items()}


def test_a_place_in_trouble_is_raised_and_lowered_with_growing_patience() -> None:
    control = Feedback(levels=LEVELS, every=2, lost=0.05, patience=2)
    state = control.start()
    assert levels(control, state) == {"hidden": "q3.4", "other": "q3.4"}
    state = control.observe(state, 2, window(hidden=6))
    assert levels(control, state) == {"hidden": "bf16", "other": "q3.4"}
    assert control.reason(state, 2) == (
        "hidden: 6 % of nonzero numbers became 0, bound 5 %: raised to bf16"
    )
    # Between release and bound nothing happens, and calm starts anew.
    for percent, expected in ((0, "bf16"), (4, "bf16"), (0, "bf16"), (0, "q3.4")):
        state = control.observe(state, 4, window(hidden=percent))
        assert levels(control, state)["hidden"] == expected
    # The second time it waits twice as long.
    state = control.observe(state, 12, window(hidden=9))
    waited = 0
    while levels(control, state)["hidden"] == "bf16":
        state, waited = control.observe(state, 14, window()), waited + 1
    assert waited == 4


def test_trouble_never_goes_beyond_the_last_level() -> None:
    control = Feedback(levels=LEVELS, every=2)
    state = control.start()
    for _ in range(5):
        state = control.observe(state, 2, window(hidden=50))
    assert levels(control, state) == {"hidden": "fp32", "other": "q3.4"}


def test_a_loss_gap_raises_the_whole_model() -> None:
    control = Feedback(levels=LEVELS, every=2, gap=0.1, reference=(0.5,) * 4, patience=1)
    state = control.observe(control.start(), 2, window(loss=0.55))
    assert levels(control, state) == {"hidden": "q3.4", "other": "q3.4"}
    state = control.observe(state, 4, window(loss=0.7))
    assert levels(control, state) == {"hidden": "bf16", "other": "bf16"}
    assert control.reason(state, 4).startswith("all: loss is 0.2 above the reference")
    state = control.observe(state, 4, window(loss=np.nan))
    assert levels(control, state)["other"] == "fp32"
    state = control.observe(state, 4, window(loss=0.5))
    assert levels(control, state)["other"] == "bf16"


@pytest.mark.parametrize(
    ("correction", "stored"),
    [("kahan", "update=kahan"), ("sr", "update=q3.4:sr"), ("promote", "p=bf16")],
)
def test_swallowed_updates_are_corrected(correction: str, stored: str) -> None:
    control = Feedback(levels=LEVELS, every=2, correction=correction)
    state = control.observe(control.start(), 2, window(swallowed_updates=40))
    assert state["corrected"] == 0
    state = control.observe(state, 4, window(swallowed_updates=60))
    policy = control.policy(state, 4)
    assert stored in str(policy).split(",")
    assert policy.forward == ps.Policy.parse("q3.4").forward
    assert control.reason(state, 4) == f"60 % of updates swallowed, bound 50 %: {correction}"


def test_what_stands_in_no_scope_raises_the_model_and_rules_hide_none() -> None:
    control = Feedback(levels=LEVELS, every=1)
    places = {"output": events(50), "block/output": events(50)}
    state = control.observe(control.start(), 1, [Measured(places, {})])
    assert [rule.scope for rule in control.policy(state, 1).rules] == ["block/output", "output"]
    state = control.observe(state, 2, [Measured({"model": events(50)}, {})])
    policy = control.policy(state, 2)
    assert policy.forward == ps.Policy.parse("bf16").forward
    assert policy.rules == ()


def test_decisions_are_logged_once_and_their_state_is_json() -> None:
    controller = begin(Feedback(levels=LEVELS, every=2))
    for step in range(6):
        controller.decide(step)
        measured = window(hidden=6 * (step == 1))
        controller.observe(step + 1, {2: measured}.__getitem__)
    assert [decision.step for decision in controller.decisions] == [0, 2]
    again = controller.after(controller.to_json())
    assert (again.state, again.decisions) == (controller.state, controller.decisions)
    last = ps.Policy.parse(again.decisions[-1].policy)
    assert last == controller.control.policy(controller.state, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": ("bf16",)}, "levels are 1; allowed are two policies or more"),
        ({"levels": ("bf16", "fp32;a:bf16")}, "has rules"),
        ({"lost": 2}, "lost is 2.0; allowed is between 0 and 1"),
        ({"every": 0}, "every is 0"),
        ({"correction": "hope"}, "correction"),
        ({"gap": 0.1}, "gap is 0.1, reference has 0 losses; allowed are both or none"),
    ],
)
def test_wrong_bounds_are_refused(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as raised:
        Feedback(**({"levels": LEVELS} | options))
    assert said in str(raised.value)
