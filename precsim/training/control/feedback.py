"""`Feedback`: formats raised where a training measures trouble, and lowered where it is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from precsim.formats.arguments import each_of, integer, not_allowed, shown
from precsim.formats.reals import real
from precsim.rounding.events import Events
from precsim.rounding.spec import RoundingSpec
from precsim.training.control.schedule import policy_text
from precsim.transform.policy import Policy, Rule

CORRECTIONS = ("kahan", "sr", "promote")
_ALL = "*"
"""In the state: the whole model, in which also what stands in no scope is."""
_UNNAMED = "model"
"""The place of what stands in no scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A control that raises and lowers the formats of places by what they measure.

    Parameters
    ----------
    levels : sequence of Policy or str
        From low to high precision, without rules. All places begin with the first one.
    every : int
        Steps in a window: after each, the control decides.
    lost : float
        A place is raised by a level if more than this share of its nonzero numbers became 0 in a
        window, or of all its numbers left the range, forward or backward.
    swallowed : float
        Updates are corrected if more than this share of the nonzero ones left their weight as it
        was; 1: never.
    correction : {"kahan", "sr", "promote"}
        How: by compensation, by stochastic rounding, or with weights of the next level. It stays.
    gap : float, optional
        The whole model is raised if the mean loss of a window exceeds that of `reference` by more.
    reference : sequence of float
        Loss of each step of another run, such as ``result.losses`` of float32.
    release : float
        A place is calm in a window in which it measures less than this fraction of a bound.
    patience : int
        A place is lowered by a level after this many calm windows in a row, and the next time after
        twice as many.

    Raises
    ------
    ValueError
        If a bound is out of range, a level has rules, or there are not at least two levels.

    Notes
    -----
    What stands in no scope is raised with the whole model. A raised place measures its new format,
    so calm says little of the lower one: the control tries it, and waits longer each time.
    Each decision has a line of reasons in `TrainResult.decisions`.

    Examples
    --------
    The hidden layer has been in trouble in one window, so it is in float32:

    >>> import precsim as ps
    >>> control = ps.Feedback(levels=("q3.4", "fp32"))
    >>> state = control.start() | {"level": {"hidden": 1}}
    >>> policy = control.policy(state, 50)
    >>> str(policy.at("hidden").forward), str(policy.at("output").forward)
    ('fp32_fp32_fp32', 'q3.4_q3.4_fp32->q3.4')
    """

    levels: tuple[Policy, ...] | Any
    every: int = 50
    lost: float = 0.05
    swallowed: float = 0.5
    correction: str = "kahan"
    gap: float | None = None
    reference: tuple[float, ...] | Any = ()
    release: float = 0.5
    patience: int = 3

    def __post_init__(self) -> None:
        """Parse the levels and check the bounds."""
        fill = object.__setattr__
        policies = "two policies or more, from low to high"
        fill(self, "levels", tuple(map(Policy.parse, each_of(self.levels, "levels", policies))))
        if len(self.levels) < 2:
            raise ValueError(f"levels are {len(self.levels)}; allowed are two policies or more")
        for level in self.levels:
            if level.rules:
                raise ValueError(f"level {level.name!r} has rules; allowed are policies without")
        for name in ("every", "patience"):
            fill(self, name, integer(getattr(self, name), name, 1))
        for name in ("lost", "swallowed", "release"):
            fill(self, name, float(real(getattr(self, name), name)))
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is between 0 and 1")
        if self.correction not in CORRECTIONS:
            raise not_allowed("correction", self.correction, CORRECTIONS)
        losses = np.ravel([*each_of(self.reference, "reference", "the losses of a run")]).tolist()
        fill(self, "reference", tuple(float(real(x, "a loss of reference")) for x in losses))
        if self.gap is not None:
            fill(self, "gap", float(real(self.gap, "gap")))
        if (self.gap is None) != (not self.reference):
            raise ValueError(
                f"gap is {shown(self.gap)}, reference has {len(self.reference)} losses; allowed are "
                "both or none"
            )

    @property
    def name(self) -> str:
        """Label, for tables."""
        return "feedback " + "<".join(map(policy_text, self.levels))

    def may_use(self) -> tuple[Policy, ...]:
        """Return the levels."""
        return self.levels

    def start(self) -> dict[str, Any]:
        """Return the state before the first step: all places at the first level."""
        return {"level": {}, "calm": {}, "lowered": {}, "corrected": 0, "reason": "first level"}

    def policy(self, state: Any, step: int) -> Policy:
        """Return the policy of a state: that of the whole model, with a rule for each place above.

        The rules of more parts come first, so that none hides behind another one.
        """
        level, base = state["level"], state["level"].get(_ALL, 0)
        places = sorted(set(level) - {_ALL}, key=lambda name: (-name.count("/"), name))
        rules = [Rule(name, self.levels[level[name]]) for name in places if level[name] > base]
        if not (rules or state["corrected"]):
            return cast("Policy", self.levels[base])
        stored = self._stored(base, state["corrected"])
        whole: Policy = replace(self.levels[base], name="", rules=tuple(rules), **stored)
        return whole

    def _stored(self, base: int, corrected: int) -> dict[str, Any]:
        """Return how weights are stored and updated."""
        policy = self.levels[base]
        if not corrected:
            return {}
        if self.correction == "promote":
            above = self.levels[max(base, min(corrected, len(self.levels) - 1))]
            names = ("params", "update", "is_compensated")
            return {name: getattr(above, name) for name in names}
        if self.correction == "kahan":
            return {"update": policy.params, "is_compensated": True}
        stochastic = RoundingSpec.parse(f"{policy.params.format}:sr")
        return {"update": stochastic, "is_compensated": False}

    def reason(self, state: Any, step: int) -> str:
        """Say what has been measured."""
        return str(state["reason"])

    def observe(self, state: Any, step: int, measured: Sequence[Any]) -> Any:
        """Return the state after a window."""
        new = {key: dict(x) if isinstance(x, dict) else x for key, x in state.items()}
        said: list[str] = []
        for place, (trouble, words) in self._troubles(step, measured).items():
            self._adjust(new, place, trouble, words, said)
        self._correct(new, measured, said)
        new["reason"] = "; ".join(said) or state["reason"]
        return new

    def _troubles(self, step: int, measured: Sequence[Any]) -> Mapping[str, tuple[float, str]]:
        """Return for each place what it measures, as a multiple of its bound, and in words."""
        found: dict[str, tuple[float, str]] = {}
        for place, counts in _by_place(measured).items():
            e = Events(*counts)
            shares = {
                "of nonzero numbers became 0": e.underflowed / max(e.nonzero, 1),
                "of numbers left the range": (e.overflowed + e.saturated) / max(e.elements, 1),
            }
            words, share = max(shares.items(), key=lambda pair: pair[1])
            name = _ALL if place == _UNNAMED else place
            text = f"{100 * share:.3g} % {words}, bound {100 * self.lost:g} %"
            found[name] = _multiple(share, self.lost), text
        if self.gap is not None:
            window = self.reference[step - len(measured) : step]
            mean = float(np.mean([m.loss for m in measured][: len(window)] or [0.0]))
            gap = mean - float(np.mean(window or [0.0]))
            gap = gap if np.isfinite(gap) else float("inf")
            text = f"loss is {gap:.3g} above the reference, bound {self.gap:g}"
            found[_ALL] = max(found.get(_ALL, (0.0, "")), (_multiple(gap, self.gap), text))
        return found

    def _adjust(self, state: Any, place: str, trouble: float, words: str, said: list[str]) -> None:
        """Raise a place in trouble, lower one that has been calm for long enough."""
        label = "all" if place == _ALL else place
        level, base = state["level"].get(place, 0), state["level"].get(_ALL, 0)
        level = max(level, base)
        state["calm"][place] = state["calm"].get(place, 0) + 1 if trouble < self.release else 0
        if trouble > 1 and level + 1 < len(self.levels):
            state["level"][place] = level + 1
            said.append(f"{label}: {words}: raised to {policy_text(self.levels[level + 1])}")
        elif level > (0 if place == _ALL else base):
            times = state["lowered"].get(place, 0)
            wanted = self.patience * 2**times
            if state["calm"][place] >= wanted:
                state["level"][place], state["calm"][place] = level - 1, 0
                state["lowered"][place] = times + 1
                lower = policy_text(self.levels[level - 1])
                said.append(f"{label}: calm for {wanted} windows: lowered to {lower}")

    def _correct(self, state: Any, measured: Sequence[Any], said: list[str]) -> None:
        """Correct the updates if too many are swallowed; a promotion may be repeated."""
        nonzero = sum(int(m.nonzero_updates) for m in measured)
        share = sum(int(m.swallowed_updates) for m in measured) / max(nonzero, 1)
        last = len(self.levels) - 1 if self.correction == "promote" else 1
        if share > self.swallowed and state["corrected"] < last:
            state["corrected"] += 1
            words = f"{100 * share:.3g} % of updates swallowed, bound {100 * self.swallowed:g} %"
            said.append(f"{words}: {self.correction}")


def _multiple(measured: float, bound: float) -> float:
    """Return how often a bound is in what was measured."""
    if bound > 0:
        return measured / bound
    return float("inf") if measured > bound else 0.0


def _by_place(measured: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return the events of a window by place, forward and backward together."""
    found: dict[str, np.ndarray] = {}
    for metrics in measured:
        for events in (metrics.forward_events, metrics.backward_events):
            for place, counts in events.items():
                found[place] = found.get(place, 0) + np.asarray(counts, np.int64)
    return found
