"""`Schedule`: the policy of each step as a function of the step."""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from precsim.formats.arguments import each_of, integer, shown
from precsim.transform.policy import Policy

_STEP = re.compile(r"@(\d{1,18})(?:,|\Z)")
_TAKE_NUMBERS = ("dynamic", "cotangents")
"""Ends of a policy after which "@" and a number belong to it: "scale=dynamic@1024"."""
_LADDER = re.compile(r"\s*(ramp|cyclic)\[(\d{1,18})\]:(.*)", re.DOTALL)
_BRACES = re.compile(r"\{(\d{1,3})\.\.(\d{1,3})\}")
_MOST = 64
"""Policies of a ladder, at most."""
_ALLOWED = (
    "allowed are POLICY@STEP,POLICY@STEP,..., with a last @PERIOD or not, ramp[STEPS]:LADDER and "
    "cyclic[STEPS]:LADDER, where a ladder is POLICY<POLICY<... or a policy with {A..B}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Policies of a training by step.

    Parameters
    ----------
    starts : sequence of int
        First step of each policy, from 0 on, ascending.
    policies : sequence of Policy or str
        As many policies.
    period : int, optional
        After this many steps the first policy comes again. None: the last one stays.
    name : str
        Label. Not compared.

    Raises
    ------
    ValueError
        If `starts` do not ascend from 0, or there are not as many policies.

    Notes
    -----
    As a string: ``POLICY@STEP`` for each policy, joined by ",". A last ``@STEP`` without a policy
    is the period. The number in ``scale=dynamic@1024`` or ``tensor=cotangents@8`` belongs to the
    policy; one that ends before that number takes a comma: ``fp16,scale=dynamic,@0``. Two shapes
    have strings of their own, for policies P[0] < ... < P[n-1] from low to high precision:

    * ``ramp[N]:P<P<...``: each for N / n steps, and the last one from there on;
    * ``cyclic[N]:P<P<...``: P[i] at step t with i the nearest integer to
      ``(n - 1) / 2 * (1 - cos(pi * t / N))``, and again from the start after N steps.

    ``q3.{4..8}`` stands for ``q3.4<q3.5<q3.6<q3.7<q3.8``. Several braces in one policy count
    together. ``Schedule.parse(str(schedule)) == schedule``.

    Source: Fu et al., "CPT: Efficient Deep Neural Network Training via Cyclic Precision", ICLR
    2021, (1), for the cosine.

    Examples
    --------
    >>> import precsim as ps
    >>> schedule = ps.Schedule.parse("bf16@0,fp32@500")
    >>> schedule.at(499).name, schedule.at(500).name
    ('bf16', 'fp32')
    >>> print(ps.Schedule.parse("cyclic[100]:q3.{4..8}"))
    q3.4@0,q3.5@24,q3.6@42,q3.7@59,q3.8@77,@100
    """

    starts: tuple[int, ...] | Any
    policies: tuple[Policy, ...] | Any
    period: int | None = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Parse the policies and check the steps."""
        fill = object.__setattr__
        policies = each_of(self.policies, "policies", "policies, one for each of starts")
        fill(self, "policies", tuple(map(Policy.parse, policies)))
        steps = each_of(self.starts, "starts", "steps that ascend from 0")
        starts = tuple(integer(x, "a step of the schedule", 0) for x in steps)
        fill(self, "starts", starts)
        if self.period is not None:
            fill(self, "period", integer(self.period, "period", 1))
        ends = starts if self.period is None else (*starts, self.period)
        if len(starts) != len(self.policies):
            raise ValueError(
                f"starts are {len(starts)}, policies {len(self.policies)}; allowed are as many"
            )
        if not starts or starts[0] or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(
                f"starts are {shown(starts)}, period is {self.period}; allowed are steps that ascend "
                "from 0, below the period"
            )
        if not self.name:
            fill(self, "name", str(self))

    @classmethod
    def parse(cls, text: "str | Schedule") -> "Schedule":
        """Return the schedule that a string stands for."""
        if isinstance(text, Schedule):
            return text
        if not isinstance(text, str):
            raise TypeError(f"schedule is {shown(text)}; allowed are a string or a Schedule")
        shaped = _LADDER.fullmatch(text)
        if shaped:
            shape, steps, ladder = shaped.groups()
            make = cls.ramp if shape == "ramp" else cls.cyclic
            return make(_ladder(ladder), int(steps), name=text)
        phases, end = [], 0
        for step in _STEP.finditer(text):
            if not text.endswith(_TAKE_NUMBERS, end, step.start()):
                phases.append((text[end : step.start()], step[1]))
                end = step.end()
        is_whole = end == len(text) and not text.endswith(",")
        period = int(phases.pop()[1]) if len(phases) > 1 and not phases[-1][0].strip() else None
        if not phases or not is_whole:
            raise ValueError(f"schedule is {shown(text)}; {_ALLOWED}")
        policies, starts = zip(*phases, strict=True)
        return cls(
            starts=tuple(map(int, starts)),
            policies=tuple(policy.strip() for policy in policies),
            period=period,
            name=text,
        )

    @classmethod
    def ramp(cls, policies: Sequence[Policy | str], steps: int, *, name: str = "") -> "Schedule":
        """Return a schedule that goes through policies once, each for as many steps."""
        steps, count = integer(steps, "steps of a ramp", len(policies)), len(policies)
        starts = tuple(-(-n * steps // count) for n in range(count))
        return cls(starts=starts, policies=tuple(policies), name=name)

    @classmethod
    def cyclic(cls, policies: Sequence[Policy | str], period: int, *, name: str = "") -> "Schedule":
        """Return a schedule that goes through policies again and again, along a cosine."""
        last, period = len(policies) - 1, integer(period, "period", 1)
        bounds = (1 - (2 * n - 1) / last for n in range(1, last + 1))
        turns = (period * math.acos(bound) / math.pi for bound in bounds)
        starts = (0, *(math.ceil(turn - 1e-9) for turn in turns))
        return cls(
            starts=starts,
            policies=tuple(policies),
            period=period,
            name=name,
        )

    def at(self, step: int) -> Policy:
        """Return the policy of a step, the first of which is 0."""
        step = step if self.period is None else step % self.period
        return self.policies[bisect_right(self.starts, step) - 1]

    def __str__(self) -> str:
        """Return a string that parses to this schedule."""
        pairs = zip(self.policies, self.starts, strict=True)
        phases = [f"{_phase_text(policy)}@{step}" for policy, step in pairs]
        return ",".join(phases if self.period is None else [*phases, f"@{self.period}"])

    every = 0
    """It observes nothing."""

    def start(self) -> dict[str, Any]:
        """Return the state before the first step, of which there is none."""
        return {}

    def may_use(self) -> tuple[Policy, ...]:
        """Return the policies that can decide a step, the first one first."""
        return self.policies

    def policy(self, state: Any, step: int) -> Policy:
        """Return the policy of a step."""
        return self.at(step)

    def reason(self, state: Any, step: int) -> str:
        """Say why."""
        return "schedule"

    def observe(self, state: Any, step: int, measured: Sequence[Any]) -> Any:
        """Return the state after some steps: as it was."""
        return state


def first_policy(text: str) -> Policy:
    """Return the first policy of a schedule, under the schedule's name."""
    schedule = Schedule.parse(text)
    return replace(schedule.policies[0], name=schedule.name)


def schedule_from(policy: Policy) -> Schedule | None:
    """Return the schedule of which `first_policy` returned a policy; None for any other one."""
    try:
        schedule = Schedule.parse(policy.name)
    except ValueError:
        return None
    return schedule if schedule.policies[0] == policy else None


def policy_text(policy: Policy) -> str:
    """Return the name of a policy, if that parses to it, or its string."""
    name = policy.name.strip()
    try:
        is_good = Policy.parse(name) == policy
    except ValueError:
        return str(policy)
    return name if is_good else str(policy)


def _phase_text(policy: Policy) -> str:
    """Return the text of a policy, which a comma ends where "@" and a number would belong to it."""
    text = policy_text(policy)
    return f"{text}," if text.endswith(_TAKE_NUMBERS) else text


def _ladder(text: str) -> tuple[str, ...]:
    """Return the policies of a ladder, from low to high."""
    rungs = [part.strip() for part in text.split("<")]
    braces = _BRACES.findall(text)
    if braces and len(rungs) == 1:
        ranges = [_range(int(first), int(last)) for first, last in braces]
        if len({len(each) for each in ranges}) > 1:
            raise ValueError(f"ladder is {shown(text)}; allowed are braces of the same length")
        parts = _BRACES.sub("\0", rungs[0]).split("\0")
        rungs = [
            "".join(f"{part}{number}" for part, number in zip(parts, [*column, ""], strict=True))
            for column in zip(*ranges, strict=True)
        ]
    if len(rungs) < 2 or not all(rungs):
        raise ValueError(f"ladder is {shown(text)}; {_ALLOWED}")
    return tuple(rungs)


def _range(first: int, last: int) -> range:
    if not 0 < last - first < _MOST:
        raise ValueError(
            f"ladder has {{{first}..{last}}}; allowed are two to {_MOST} numbers that ascend"
        )
    return range(first, last + 1)
