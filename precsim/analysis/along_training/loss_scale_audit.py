"""`LossScaleAudit`: which loss scales each step of a training would have borne."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from precsim.analysis.along_training.cotangents import EXPONENTS
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import integer
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import exponent_of_power
from precsim.formats.registry import get_format

_LISTED = 12
NEVER = -(10**6)
"""Exponent of the largest number of a place where there is none but zeros."""


class Window(NamedTuple):
    """Loss scales that a step bears: powers of two from `smallest` to `largest`.

    It is empty where `smallest` is above `largest`.
    """

    smallest: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossScaleAudit:
    """The backward passes of a training, and what each loss scale would have done to them.

    Parameters
    ----------
    format : str
        The format whose range counts.
    threshold : float
        Share of underflow among the nonzero numbers below which a scale is large enough.
    used : np.ndarray
        Loss scale of each step, float64 of shape (steps,).
    counts : np.ndarray
        How many numbers of the unscaled backward pass have each exponent, int64 of shape
        (steps, 277): columns are the exponents -149 to 127.
    nonfinite : np.ndarray
        Infinities and NaN of the unscaled backward pass of each step, int64 of shape (steps,): no
        loss scale mends such a step.
    largest : dict of str to np.ndarray
        Place -> exponent of its largest number at each step (amax trace), int64 of shape (steps,);
        -1000000 where all are zeros.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> def loss(w, x):
    ...     return jnp.sum(w * x)
    >>> x = jnp.float32([2.0**-20, 2.0**3])
    >>> audit = ps.audit_loss_scale(loss, jnp.ones(2), [(x,)], "fp16_mixed", loss_scale=8)
    >>> audit.windows, audit.first_overflow(2.0**13)
    ([Window(smallest=0.03125, largest=4096.0)], 1)
    """

    format: str
    threshold: float
    used: np.ndarray
    counts: np.ndarray = field(repr=False)
    nonfinite: np.ndarray = field(repr=False)
    largest: dict[str, np.ndarray] = field(repr=False)

    @property
    def windows(self) -> list[Window]:
        """The scales that each step bears: no overflow, less underflow than the threshold.

        Every place keeps a number, since one that loses all stops what follows from it. A step
        without nonzero numbers bears every scale, and one with infinities or NaN of its own none.
        """
        return [self._window(step) for step in range(len(self.used))]

    def _window(self, step: int) -> Window:
        if self.nonfinite[step]:
            return Window(math.inf, 0.0)
        there = np.flatnonzero(self.counts[step])
        if not there.size:
            return Window(0.0, math.inf)
        top = self._range().emax - int(EXPONENTS[there[-1]])
        below = np.cumsum(self.counts[step]) / self.counts[step].sum()
        # The lowest exponent that has to survive: what is below it is less than the threshold.
        kept = int(EXPONENTS[np.argmax(below >= max(self.threshold, 1e-300))])
        alive = [each[step] for each in self.largest.values() if each[step] != NEVER]
        return Window(2.0 ** (self._lowest() - min(kept, *alive)), 2.0**top)

    @property
    def window(self) -> Window:
        """The scales that all steps bear, but those with infinities or NaN of their own.

        It is empty where all steps have these.
        """
        windows = [w for w, bad in zip(self.windows, self.nonfinite, strict=True) if not bad]
        if self.nonfinite.size and not windows:
            return Window(math.inf, 0.0)
        smallest = max((w.smallest for w in windows), default=0.0)
        return Window(smallest, min((w.largest for w in windows), default=math.inf))

    def overflows(self, scale: float | np.ndarray | None = None) -> np.ndarray:
        """Return whether each step overflows with a scale: by default with the one used.

        A step with infinities or NaN of its own is none of these; `nonfinite` counts them.
        """
        scales = self._scales(scale)
        largest = np.array([window.largest for window in self.windows])
        return np.asarray((scales > largest) & (self.nonfinite == 0))

    def first_overflow(self, scale: float | None = None) -> int | None:
        """Return the first step, from 1 on, that overflows with a scale; None if none does.

        As of `overflows`, infinities and NaN of a step's own are not those of a scale.
        """
        steps = np.flatnonzero(self.overflows(scale))
        return int(steps[0]) + 1 if steps.size else None

    def underflow(self, scale: float | np.ndarray | None = None) -> np.ndarray:
        """Return the share of nonzero numbers that become 0 at each step; 0 for no numbers."""
        shifts = np.frexp(self._scales(scale))[1] - 1
        is_lost = EXPONENTS + shifts[:, None] < self._lowest()
        lost = np.where(is_lost, self.counts, 0).sum(axis=1)
        return np.asarray(lost / np.maximum(self.counts.sum(axis=1), 1))

    def place_of_overflow(self, step: int) -> str:
        """Return the place with the largest number of a step, from 1 on."""
        step = integer(step, "step", 1, len(self.used))
        return max(self.largest, key=lambda place: self.largest[place][step - 1])

    def _scales(self, scale: float | np.ndarray | None) -> np.ndarray:
        if scale is None:
            return self.used
        scales = np.ravel(np.asarray(scale, object))
        for each in scales:
            exponent_of_power(each, "scale")
        if scales.size not in (1, len(self.used)):
            raise ValueError(
                f"scale has {scales.size} numbers; allowed are 1 and {len(self.used)}, one for each "
                "step"
            )
        return np.broadcast_to(scales.astype(np.float64), self.used.shape)

    def _range(self) -> FloatFormat:
        fmt = get_format(self.format)
        assert isinstance(fmt, FloatFormat)
        return fmt

    def _lowest(self) -> int:
        """Return the exponent from which on numbers survive: half the smallest number, and more."""
        fmt = self._range()
        smallest = fmt.emin - (fmt.precision - 1 if fmt.has_subnormals else 0)
        return smallest - 1

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        window, steps = self.window, len(self.used)
        bad = np.flatnonzero(self.nonfinite)
        if bad.size == steps:
            every = "the one step has" if steps == 1 else f"all {steps} steps have"
            return f"{every} infinities or NaN at every loss scale"
        others = f" but {bad.size}" if bad.size else ""
        if window.smallest <= window.largest:
            every = "the one step bears" if steps == 1 else f"all {steps} steps{others} bear"
            text = f"{every} loss scales from {_power(window.smallest)} to "
            text += _power(window.largest)
        else:
            every = "the one step" if steps == 1 else f"all {steps} steps{others}"
            text = f"no loss scale suits {every}"
        if bad.size:
            text += f"; step {bad[0] + 1} is the first with infinities or NaN at every scale"
        first = self.first_overflow()
        if first is not None:
            place = self.place_of_overflow(first)
            return (
                f"{text}; {_power(self.used[first - 1])} overflows first at step {first}, {place}"
            )
        share = float(np.max(self.underflow()[self.nonfinite == 0], initial=0.0))
        used = "overflows at no other step, where" if bad.size else "never overflows,"
        return f"{text}; the one used {used} underflow is {100 * share:.2g} % at most"

    def __str__(self) -> str:
        """Return the sentence and a table of up to twelve steps."""
        return f"{self.sentence}\n\n{text_table(_HEADER, self._rows())}"

    def _rows(self) -> list[tuple[object, ...]]:
        steps = len(self.used)
        chosen = np.unique(np.linspace(0, max(steps - 1, 0), min(steps, _LISTED)).astype(int))
        windows, overflows, underflow = self.windows, self.overflows(), self.underflow()
        return [
            (
                int(k) + 1,
                "none" if self.nonfinite[k] else _power(windows[k].smallest),
                "none" if self.nonfinite[k] else _power(windows[k].largest),
                _power(self.used[k]),
                _outcome(self.nonfinite[k], overflows[k], underflow[k]),
                self.place_of_overflow(int(k) + 1),
            )
            for k in chosen
        ]

    def to_json(self) -> str:
        """Return scales, windows, overflow and underflow of each step, and amax traces as JSON."""
        return json_text(
            {
                "sentence": self.sentence,
                "format": self.format,
                "threshold": self.threshold,
                "used": self.used,
                "smallest": [window.smallest for window in self.windows],
                "largest": [window.largest for window in self.windows],
                "overflows": self.overflows(),
                "nonfinite": self.nonfinite,
                "underflow": self.underflow(),
                "exponent_of_amax": self.largest,
            }
        )

    def _repr_html_(self) -> str:
        """Return the sentence and the table for a notebook."""
        return html_table(self.sentence, _HEADER, self._rows())


_HEADER = ("step", "smallest", "largest", "used", "outcome", "largest number in")


def _outcome(nonfinite: int, overflows: bool, underflow: float) -> str:
    if nonfinite:
        return f"{nonfinite} infinite or NaN"
    return "overflow" if overflows else f"{100 * underflow:.2g} % underflow"


def _power(scale: float) -> str:
    """Return a power of two as a reader writes it."""
    if not 0 < scale < math.inf:
        return "any" if scale == math.inf else str(scale)
    exponent = math.log2(scale)
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:.6g}"
