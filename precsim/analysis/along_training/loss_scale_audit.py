"""`audit_loss_scale`: which loss scales each step of a training would have borne."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim._arrays import Array
from precsim.analysis.along_training.cotangents import (
    EXPONENTS,
    counted_gradient,
    exponent_counts,
    widened,
)
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import shown
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import real
from precsim.formats.registry import get_format
from precsim.training.config import TrainConfig
from precsim.training.loop import prepare_run
from precsim.training.recipes.loss_scaling import LossScale, NoLossScale, as_loss_scale
from precsim.training.recipes.updates import apply_updates
from precsim.transform.policy import Policy
from precsim.transform.tags import with_tagged_values
from precsim.transform.tracing import check_function

_LISTED = 12
_NEVER = -(10**6)
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
        Infinities and NaN of each step, int64 of shape (steps,).
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
        without nonzero numbers bears every scale, and one with infinities or NaN none.
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
        alive = [each[step] for each in self.largest.values() if each[step] != _NEVER]
        return Window(2.0 ** (self._lowest() - min(kept, *alive)), 2.0**top)

    @property
    def window(self) -> Window:
        """The scales that all steps bear."""
        windows = self.windows
        smallest = max((w.smallest for w in windows), default=0.0)
        return Window(smallest, min((w.largest for w in windows), default=math.inf))

    def overflows(self, scale: float | np.ndarray | None = None) -> np.ndarray:
        """Return whether each step overflows with a scale: by default with the one used."""
        scales = self._scales(scale)
        largest = np.array([window.largest for window in self.windows])
        return np.asarray(scales > largest)

    def first_overflow(self, scale: float | None = None) -> int | None:
        """Return the first step, from 1 on, that overflows with a scale; None if none does."""
        steps = np.flatnonzero(self.overflows(scale))
        return int(steps[0]) + 1 if steps.size else None

    def underflow(self, scale: float | np.ndarray | None = None) -> np.ndarray:
        """Return the share of nonzero numbers that become 0 at each step; 0 for no numbers."""
        shifts = np.array([_exponent(s, "scale") for s in self._scales(scale)])
        is_lost = EXPONENTS + shifts[:, None] < self._lowest()
        lost = np.where(is_lost, self.counts, 0).sum(axis=1)
        return np.asarray(lost / np.maximum(self.counts.sum(axis=1), 1))

    def place_of_overflow(self, step: int) -> str:
        """Return the place with the largest number of a step, from 1 on."""
        return max(self.largest, key=lambda place: self.largest[place][step - 1])

    def _scales(self, scale: float | np.ndarray | None) -> np.ndarray:
        scales = self.used if scale is None else np.asarray(scale, np.float64)
        for each in np.unique(scales):
            _exponent(float(each), "scale")
        return np.broadcast_to(scales, self.used.shape)

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
        if window.smallest <= window.largest:
            text = f"all {steps} steps bear loss scales from {_power(window.smallest)} to "
            text += _power(window.largest)
        else:
            text = f"no loss scale suits all {steps} steps"
        first = self.first_overflow()
        if first is not None:
            place = self.place_of_overflow(first)
            return (
                f"{text}; {_power(self.used[first - 1])} overflows first at step {first}, {place}"
            )
        worst = int(np.argmax(self.underflow())) if steps else 0
        share = float(self.underflow()[worst]) if steps else 0.0
        return f"{text}; the one used never overflows, underflow is {100 * share:.2g} % at most"

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
                _power(windows[k].smallest),
                _power(windows[k].largest),
                _power(self.used[k]),
                "overflow" if overflows[k] else f"{100 * underflow[k]:.2g} % underflow",
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
                "underflow": self.underflow(),
                "exponent_of_amax": self.largest,
            }
        )

    def _repr_html_(self) -> str:
        """Return the sentence and the table for a notebook."""
        return html_table(self.sentence, _HEADER, self._rows())


_HEADER = ("step", "smallest", "largest", "used", "outcome", "largest number in")


def _power(scale: float) -> str:
    """Return a power of two as a reader writes it."""
    if not 0 < scale < math.inf:
        return "any" if scale == math.inf else str(scale)
    exponent = math.log2(scale)
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:.6g}"


def _exponent(scale: float, argument: str) -> int:
    """Return the exponent of a scale; refuse what is no power of two."""
    fraction, exponent = math.frexp(scale)
    if fraction != 0.5:
        raise ValueError(f"{argument} is {scale:.9g}; allowed are powers of two")
    return exponent - 1


def audit_loss_scale(
    loss_fn: Callable[..., Any] | TrainConfig,
    params: Any = None,
    batches: Iterable[tuple[Any, ...]] = (),
    policy: str | Policy = "fp16_mixed",
    *,
    optimizer: Any = None,
    loss_scale: LossScale | str | float | None = None,
    fmt: str | FloatFormat | None = None,
    underflow: float = 1e-3,
) -> LossScaleAudit:
    """Say which loss scales each step of a training bears, from one pass without any scale.

    Parameters
    ----------
    loss_fn : callable or TrainConfig
        ``loss_fn(params, *batch)`` returns a scalar, in plain JAX. Or the configuration of a run of
        `train`, which has all the rest.
    params : pytree of arrays, optional
        The first weights.
    batches : iterable of tuple
        The other arguments of each step.
    policy : str or Policy
        What the backward pass is computed in.
    optimizer : optax.GradientTransformation, optional
        What makes updates of gradients; they are added by the policy's rounding. Without it the
        weights stay as they are.
    loss_scale : LossScale, str or float, optional
        The scale used, as of `value_and_grad`; by default the policy's. A dynamic one is followed.
        Steps at which it overflows are skipped.
    fmt : str or FloatFormat, optional
        The format whose range counts; by default that of the policy's cotangents. Its largest
        numbers have to fill their binade, as in all IEEE formats, bf16 and e5m2.
    underflow : float
        Share of the nonzero numbers, 0 to 1; a scale is large enough if fewer become 0.

    Returns
    -------
    LossScaleAudit
        The window of scales of each step against the scale used. ``print(audit)`` shows them.

    Raises
    ------
    TypeError
        If `loss_fn` is neither a function nor a TrainConfig.
    ValueError
        If a format is not of that kind, `underflow` is not between 0 and 1, or a scale is no power
        of two.

    Notes
    -----
    The backward pass runs once a step, unscaled, with the precisions of the policy and the
    exponents of float32. Where no number is subnormal, a scale of 2**k multiplies each number of
    such a pass by 2**k exactly, so its overflow is known: it is that of the largest number, rounded
    to the format's precision. Counted are the cotangents of all operations and the gradients of all
    parameters. The forward pass has the exponents of float32 too: what it loses to its range is no
    matter of the loss scale.

    Underflow is counted by binades: a number is lost if it is below half the smallest number of the
    format. Exactly half of it, which rounds to 0, is not counted as lost. The shares are those of
    cotangents before they underflow: what becomes 0 early loses what follows from it, which is not
    counted anew.

    Cost: compiling the gradient, and a histogram of each cotangent at each step.

    Source: Micikevicius et al., "Mixed precision training", ICLR 2018.

    Examples
    --------
    Gradients that double from step to step, in fp16 with a scale of 2048:

    >>> import jax.numpy as jnp, precsim as ps
    >>> def loss(w, x):
    ...     return jnp.sum(w * x)
    >>> batches = [(jnp.full(3, 2.0**step),) for step in range(8)]
    >>> audit = ps.audit_loss_scale(loss, jnp.ones(3), batches, "fp16_mixed", loss_scale=2048)
    >>> audit.first_overflow(), audit.window
    (6, Window(smallest=2.98e-08, largest=256.0))
    """
    if isinstance(loss_fn, TrainConfig):
        policy = loss_fn.policy
    else:
        check_function(loss_fn)
    policy = Policy.parse(policy)
    chosen = _checked_format(policy.elementwise.format if fmt is None else get_format(fmt))
    threshold = float(real(underflow, "underflow"))
    if not 0 <= threshold <= 1:
        raise ValueError(f"underflow is {shown(underflow)}; allowed is between 0 and 1")
    scale = as_loss_scale(policy.loss_scale if loss_scale is None else loss_scale)
    _exponent(float(scale.factor), "loss_scale")
    if isinstance(loss_fn, TrainConfig):
        steps = _steps_of_run(loss_fn, chosen.precision)
    else:
        gradient = jax.jit(counted_gradient(loss_fn, widened(policy), chosen.precision))
        steps = _steps(gradient, params, batches, policy, optimizer)
    return _audited(steps, scale, chosen, threshold)


def _checked_format(fmt: Any) -> FloatFormat:
    is_full = isinstance(fmt, FloatFormat) and fmt.exponent_bits is not None
    if not is_full or fmt.max_finite != 2.0**fmt.emax * (2 - 2.0 ** (1 - fmt.precision)):
        raise ValueError(
            f"fmt is {fmt}; allowed are floating-point formats whose largest numbers fill their "
            "binade, such as fp16, bf16 and e5m2"
        )
    return fmt  # type: ignore[no-any-return]


Steps = Iterator[dict[str, np.ndarray]]
"""Yields the counts of each step by place, and is sent whether the step is to be taken."""


def _audited(steps: Any, scale: LossScale, fmt: FloatFormat, threshold: float) -> LossScaleAudit:
    """Follow a training with a loss scale and write down what its steps bear."""
    used: list[float] = []
    totals: list[np.ndarray] = []
    places: list[dict[str, int]] = []
    top = fmt.emax
    try:
        found = next(steps)
        while True:
            factor = float(scale.factor)
            shift = _exponent(factor, "loss_scale")
            total = np.asarray(np.sum(list(found.values()), axis=0, dtype=np.int64))
            largest = {name: _largest(counts) for name, counts in found.items()}
            used.append(factor)
            totals.append(total)
            places.append(largest)
            is_finite = not total[-1] and max(largest.values()) + shift <= top
            if not isinstance(scale, NoLossScale):
                scale = scale.adjust(is_finite)  # type: ignore[arg-type]
            found = steps.send(is_finite or isinstance(scale, NoLossScale))
    except StopIteration:
        pass
    if not used:
        raise ValueError("batches has no steps; allowed is one at least")
    counts = np.stack(totals)
    return LossScaleAudit(
        format=str(fmt),
        threshold=threshold,
        used=np.array(used),
        counts=counts[:, :-1],
        nonfinite=counts[:, -1],
        largest={name: np.array([each[name] for each in places]) for name in places[0]},
    )


def _largest(counts: np.ndarray) -> int:
    there = np.flatnonzero(counts[:-1])
    return int(EXPONENTS[there[-1]]) if there.size else _NEVER


def _steps(
    gradient: Callable[..., Any],
    params: Any,
    batches: Iterable[tuple[Any, ...]],
    policy: Policy,
    optimizer: Any,
) -> Any:
    """Train with the user's loss function."""
    state = None if optimizer is None else optimizer.init(params)
    for k, batch in enumerate(batches):
        _, grads, counts = gradient(params, *batch)
        is_taken = yield jax.device_get(counts)
        if optimizer is not None and is_taken:
            updates, state = optimizer.update(grads, state, params)
            key = jax.random.key(0)
            params = apply_updates(params, updates, rounding=policy.update, key=key, step=k)


def _steps_of_run(config: TrainConfig, precision: int) -> Any:
    """Train as `train` does, with the exponents of float32."""
    config = replace(config, policy=widened(config.policy))
    run = prepare_run(config, is_guarded=False)
    step, state = _counted_step(run.step, precision), run.state
    for k in range(config.steps):
        new, counts, untrusted = step(state, *run.batch(k))
        if untrusted:  # rare: products beyond the range where their short way is exact
            step = _counted_step(prepare_run(config).step, precision)
            new, counts, _ = step(state, *run.batch(k))
        is_taken = yield jax.device_get(counts)
        state = new if is_taken else replace(state, step=new.step)


def _counted_step(step: Any, precision: int) -> Callable[..., Any]:
    """Return a compiled step with the counts of its cotangents."""

    def counted(state: Any, *batch: Any) -> tuple[Any, dict[str, Array], Array]:
        names, run_with_values = with_tagged_values(step, state, *batch)
        (new, metrics), values = run_with_values(state, *batch)
        found = dict(zip(names, values, strict=True))
        # Cotangents of the loss and other functions stay in float32, outside of the policy.
        places = [f"gradient of {name}" for name in (*metrics.backward_events, *metrics.gradient)]
        there = [name for name in places if name in found]  # the data have no cotangent
        counts = {name: exponent_counts(found[name], precision) for name in there}
        return new, counts, metrics.untrusted

    return jax.jit(counted)
