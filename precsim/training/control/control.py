"""`Control`: what decides the policy of each step, and the log of its decisions."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from precsim.formats.arguments import shown
from precsim.training.control.schedule import Schedule
from precsim.transform.policy import Policy


@runtime_checkable
class Control(Protocol):
    """What decides the policy of each step: a schedule, or what the steps before measured.

    Its state is made of numbers, strings, lists and dicts, as JSON has them. Its string says all
    that decides it: a run goes on only under the same one.
    """

    @property
    def name(self) -> str:
        """Label, for tables."""

    @property
    def every(self) -> int:
        """Steps between two observations; 0: none are made."""

    def may_use(self) -> tuple[Policy, ...]:
        """Return the policies that it chooses from, without its rules, the first one first."""

    def start(self) -> Any:
        """Return the state before the first step."""

    def policy(self, state: Any, step: int) -> Policy:
        """Return the policy of a step, the first of which is 0."""

    def reason(self, state: Any, step: int) -> str:
        """Say why, in a line."""

    def observe(self, state: Any, step: int, measured: Sequence[Any]) -> Any:
        """Return the state after `step` steps, of which the last `every` ones have measured this.

        `measured` has a `Metrics` of NumPy arrays for each of them.
        """


class Decision(NamedTuple):
    """A change of the policy in a training.

    Examples
    --------
    >>> import precsim as ps
    >>> config = ps.TrainConfig(policy="fp32", model="logistic", steps=1)
    >>> ps.train(config, control="bf16@0,fp32@500").decisions
    (Decision(step=0, policy='bf16', reason='schedule'),)
    """

    step: int
    """The first step under the policy."""
    policy: str
    """The policy, in its grammar."""
    reason: str
    """Why."""


def as_control(given: Any) -> Control:
    """Return a control: one as it is, or the schedule that a string stands for."""
    if isinstance(given, str):
        return Schedule.parse(given)
    if not isinstance(given, Control):
        raise TypeError(
            f"control is {shown(given)}; allowed are the string of a Schedule, a Schedule, a Feedback, "
            "or an object with their methods"
        )
    return given


def checked_policies(control: Control) -> tuple[Policy, ...]:
    """Return the policies that a control chooses from; refuse some that share no state."""
    policies = control.may_use()
    functions = list(dict.fromkeys(policy.functions for policy in policies))
    if len(functions) > 1:
        raise ValueError(
            f"policies of {control.name!r} have functions {' and '.join(functions)}; allowed is one "
            "of them in a training, since their optimizers have other states"
        )
    return policies
