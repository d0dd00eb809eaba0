"""Several training runs on the same data, compared with the float32 run step by step."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from precsim.rounding.events import Events
from precsim.training.result import TrainResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySummary:
    """What a run lost. Percentages are 0 to 100; a share of nothing is 0.

    Parameters
    ----------
    policy : str
        Name of the policy.
    definition : str
        The policy, in the policy grammar.
    metric : str
        What `test_score` is: "accuracy", "perplexity", "rmse", ...
    test_score : float
        The metric of the examples for testing; NaN of none.
    test_accuracy_percent : float
        Test examples classified correctly; NaN where that is not the metric.
    final_loss : float
        Mean training loss over the last twentieth of the steps.
    loss_gap : float
        `final_loss` minus that of the reference run.
    gradient_underflow_percent : float
        Backward pass: share of nonzero numbers that a rounding made zero. Each rounding counts
        once: an operand of a product that a former rounding has put into the operand's format is
        not counted again.
    gradient_underflow_of_all_percent : float
        The same, as a share of all numbers that were rounded.
    gradient_subnormal_percent : float
        Backward pass: subnormal results as a share of nonzero numbers.
    overflow_percent : float
        Forward and backward: share of numbers that became infinite or NaN.
    saturation_percent : float
        Forward and backward: share of numbers clamped to the largest value.
    swallowed_updates_percent : float
        Share of nonzero weight updates that left their weight as it was.
    gradient_error : float
        Largest relative error ``||g - g_ref|| / ||g_ref||`` of a tensor's gradient in the first
        step.
    gradient_error_tensor : str
        The tensor with that error.
    weight_drift : float
        Relative distance of the final weights from the reference's.
    skipped_steps : int
        Steps skipped for an overflow.
    final_loss_scale : float
        Factor on the loss in the last step.
    backend : str
        Which backend ran the products.
    compile_seconds : float
        Time to compile the step.
    run_seconds : float
        Time of all steps.

    Examples
    --------
    `summarise` makes them:

    >>> import precsim as ps
    >>> run = ps.train(ps.TrainConfig(policy="fp16", steps=2))
    >>> ps.summarise(run, run).skipped_steps
    0
    """

    policy: str
    definition: str
    metric: str
    test_score: float
    test_accuracy_percent: float
    final_loss: float
    loss_gap: float
    gradient_underflow_percent: float
    gradient_underflow_of_all_percent: float
    gradient_subnormal_percent: float
    overflow_percent: float
    saturation_percent: float
    swallowed_updates_percent: float
    gradient_error: float
    gradient_error_tensor: str
    weight_drift: float
    skipped_steps: int
    final_loss_scale: float
    backend: str
    compile_seconds: float
    run_seconds: float

    @property
    def beyond_range_percent(self) -> float:
        """Forward and backward: share of numbers that overflowed or were clamped."""
        return self.overflow_percent + self.saturation_percent

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, with NaN and infinity as None (JSON has neither)."""
        values = asdict(self).items()
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values}


def summarise(result: TrainResult, reference: TrainResult) -> PolicySummary:
    """Compare a run with the reference run (same seed, model, data order and steps).

    Parameters
    ----------
    result : TrainResult
        The run.
    reference : TrainResult
        The float32 run.

    Returns
    -------
    PolicySummary
        The numbers of the table.

    Examples
    --------
    >>> import precsim as ps
    >>> run = ps.train(ps.TrainConfig(policy="fp16", steps=2))
    >>> summary = ps.summarise(run, run)
    >>> summary.loss_gap, summary.gradient_error, summary.backend
    (0.0, 0.0, 'emulated')
    """
    backward = _total(result.backward_events)
    both = backward + _total(result.forward_events)
    b, a = Events(*backward), Events(*both)
    errors = gradient_errors(result, reference)
    worst = max(errors, key=lambda name: (np.isnan(errors[name]), errors[name]))
    _, drifts = weight_drift(result, reference)
    final, reference_final = final_loss(result), final_loss(reference)
    return PolicySummary(
        policy=result.config.policy.name,
        definition=_definition(result),
        metric=result.metric,
        test_score=result.test_score,
        test_accuracy_percent=100 * result.test_accuracy,
        final_loss=final,
        loss_gap=final - reference_final,
        gradient_underflow_percent=_percent(b.underflowed, b.nonzero),
        gradient_underflow_of_all_percent=_percent(b.underflowed, b.elements),
        gradient_subnormal_percent=_percent(b.subnormal, b.nonzero),
        overflow_percent=_percent(a.overflowed, a.elements),
        saturation_percent=_percent(a.saturated, a.elements),
        swallowed_updates_percent=_percent(
            result.swallowed_updates.sum(), result.nonzero_updates.sum()
        ),
        gradient_error=errors[worst],
        gradient_error_tensor=worst,
        weight_drift=float(drifts[-1]),
        skipped_steps=result.skipped_steps,
        final_loss_scale=float(result.loss_scales[-1]),
        backend=result.backend,
        compile_seconds=result.compile_seconds,
        run_seconds=result.run_seconds,
    )


def _definition(result: TrainResult) -> str:
    """Return the policy, or those of a schedule with their steps."""
    if len(result.decisions) < 2:
        return str(result.config.policy)
    return ",".join(f"{each.policy}@{each.step}" for each in result.decisions)


def final_loss(result: TrainResult) -> float:
    """Return the mean training loss over the last twentieth of the steps (one step at least)."""
    return float(np.mean(result.losses[-max(len(result.losses) // 20, 1) :]))


def gradient_errors(result: TrainResult, reference: TrainResult) -> dict[str, float]:
    """Return, for each tensor, the relative error of its first-step gradient.

    ``||g - g_ref|| / ||g_ref||`` in float64; both runs start from the same weights, except that
    each rounds them to its policy's storage format. NaN if a gradient is not finite.
    """
    pairs = ((n, g, reference.first_gradient[n]) for n, g in result.first_gradient.items())
    return {name: relative_distance(g, exact) for name, g, exact in pairs}


def weight_drift(result: TrainResult, reference: TrainResult) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and there the relative distance of all weights from the reference's."""
    steps = np.array(sorted(set(result.snapshots) & set(reference.snapshots)))
    values = [
        relative_distance(_flat(result.snapshots[k]), _flat(reference.snapshots[k])) for k in steps
    ]
    return steps, np.array(values)


def event_rates(result: TrainResult) -> dict[str, dict[str, float]]:
    """Return, for each place and direction ("hidden backward"), its event rates in percent."""
    rates = {}
    for direction in ("forward", "backward"):
        for place, events in getattr(result, f"{direction}_events").items():
            e = Events(*events.sum(axis=0, dtype=np.int64))
            rates[f"{place} {direction}"] = {
                "underflow": _percent(e.underflowed, e.nonzero),
                "subnormal": _percent(e.subnormal, e.nonzero),
                "overflow": _percent(e.overflowed, e.elements),
                "saturation": _percent(e.saturated, e.elements),
            }
    return rates


def relative_distance(x: np.ndarray, exact: np.ndarray) -> float:
    """Return ``||x - exact|| / ||exact||`` in the 2-norm; 0 / 0 is 0."""
    x, exact = x.astype(np.float64).ravel(), exact.astype(np.float64).ravel()
    if not (np.isfinite(x).all() and np.isfinite(exact).all()):
        return float("nan")
    difference, norm = np.linalg.norm(x - exact), np.linalg.norm(exact)
    return float(difference / norm) if norm else float("inf") if difference else 0.0


def _flat(weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([weights[name].ravel() for name in sorted(weights)])


def _total(events: dict[str, np.ndarray]) -> np.ndarray:
    none = np.zeros(len(Events._fields), np.int64)
    return sum((e.sum(axis=0, dtype=np.int64) for e in events.values()), none)


def _percent(part: float, whole: float) -> float:
    return float(100 * part / whole) if whole else 0.0
