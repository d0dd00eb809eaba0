"""The control of one run: its state, and its decisions so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from precsim.training.config import TrainConfig
from precsim.training.control.control import Control, Decision, as_control, checked_policies
from precsim.training.control.schedule import Schedule, policy_text
from precsim.training.data.dataset import Problem
from precsim.training.setup import Setup, for_policies, setup_of
from precsim.transform.policy import Policy


@dataclass(slots=True)
class Controller:
    """A control in use."""

    control: Control
    state: Any
    decisions: list[Decision]

    def decide(self, step: int) -> Policy:
        """Return the policy of a step, and log it if it differs from the one before."""
        policy = self.control.policy(self.state, step)
        text = policy_text(policy)
        if not self.decisions or self.decisions[-1].policy != text:
            reason = self.control.reason(self.state, step)
            self.decisions.append(Decision(step, text, reason))
        return policy

    def observe(self, step: int, last: Callable[[int], Sequence[Any]]) -> None:
        """Show the control what the last steps measured, where it is time."""
        every = self.control.every
        if every and step % every == 0:
            self.state = self.control.observe(self.state, step, last(every))

    def setups(self, setup: Setup) -> list[Setup]:
        """Return the setups of the policies so far."""
        return [setup.under(Policy.parse(each.policy)) for each in self.decisions]

    def last(self, setup: Setup) -> Setup:
        """Return the setup of the last step; the one given before the first step."""
        return self.setups(setup)[-1] if self.decisions else setup

    def to_json(self) -> dict[str, Any]:
        """Return state and decisions."""
        return {"state": self.state, "decisions": [list(each) for each in self.decisions]}

    def after(self, stored: Mapping[str, Any]) -> "Controller":
        """Return the controller that a stored state and its decisions make of this one."""
        decisions = [Decision(*each) for each in stored["decisions"]]
        return Controller(self.control, stored["state"], decisions)


def controlled(
    given: Any, config: TrainConfig, problem: Problem, own: Mapping[str, Any]
) -> tuple[Setup, Control]:
    """Return the setup of the first step, and what decides the policies; by default the config."""
    if given is None:
        fixed = Schedule(starts=(0,), policies=(config.policy,))
        return setup_of(config, problem, **own), fixed
    control = as_control(given)
    policies = checked_policies(control)
    first = replace(policies[0], name=control.name)
    setup = setup_of(replace(config, policy=first), problem, **own)
    return for_policies(setup, policies, problem), control


def begin(control: Control) -> Controller:
    """Return the controller of a run before its first step."""
    return Controller(control, control.start(), [])
