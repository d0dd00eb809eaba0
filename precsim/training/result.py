"""`TrainResult`: what a training run measured."""

from dataclasses import dataclass, field

import numpy as np

from precsim.training.config import TrainConfig
from precsim.training.control.control import Decision
from precsim.training.replay.progress import Progress

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run measured, in NumPy arrays.

    Events are integers; their columns are those of `rounding.events.Events`. Each rounding of a
    step counts once: an operand of a product that a former rounding has put into the operand's
    format is not counted again. Of a model under `emulate`, operands in formats with scales (tensor
    scaling, MX, int8) are not counted. Backward counts of a model of `Layers` (mlp, cnn,
    transformer) are exact up to 2**24 per place and step.

    Parameters
    ----------
    config : TrainConfig
        The run's configuration.
    losses : np.ndarray
        Training loss of each step's batch, unscaled, shape (steps,).
    metric : str
        What `test_score` is: "accuracy", "perplexity", "rmse", or the name of a function.
    test_score : float
        The metric of the examples for testing, by the policy's own forward pass; NaN of none.
    taken : np.ndarray
        Whether each step was taken (not skipped for an overflow), shape (steps,).
    loss_scales : np.ndarray
        Factor on the loss at each step, shape (steps,).
    nonzero_updates : np.ndarray
        Nonzero weight updates of each step, shape (steps,).
    swallowed_updates : np.ndarray
        Those among them that left their weight as it was, shape (steps,).
    forward_events : dict[str, np.ndarray]
        Place -> event counts of each step, shape (steps, 7).
    backward_events : dict[str, np.ndarray]
        The same for the backward pass.
    first_gradient : Weights
        Unscaled gradient at the initial weights, on the first batch.
    last_gradient : Weights
        The same at the last step.
    snapshots : dict[int, Weights]
        Step -> weights; 0 is the start, the last step is the end.
    backend : str
        Which backend ran the products.
    compile_seconds : float
        Time to compile the step.
    run_seconds : float
        Time of all steps.
    decisions : tuple of Decision
        The policies of the run: first step, policy, reason.
    layer_scales : dict[str, np.ndarray]
        Scope of a layer whose own loss scale adapts -> that factor at each step, shape (steps,).

    Examples
    --------
    >>> import precsim as ps
    >>> result = ps.train(ps.TrainConfig(policy="fp16", steps=2))
    >>> sorted(result.weights)
    ['hidden/b', 'hidden/w', 'output/b', 'output/w']
    """

    config: TrainConfig
    losses: np.ndarray
    metric: str
    test_score: float
    taken: np.ndarray
    loss_scales: np.ndarray
    nonzero_updates: np.ndarray
    swallowed_updates: np.ndarray
    forward_events: dict[str, np.ndarray]
    backward_events: dict[str, np.ndarray]
    first_gradient: Weights
    last_gradient: Weights
    snapshots: dict[int, Weights]
    backend: str
    compile_seconds: float
    run_seconds: float
    decisions: tuple[Decision, ...] = ()
    layer_scales: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def test_accuracy(self) -> float:
        """Fraction of test examples that are classified correctly; NaN if not measured."""
        return self.test_score if self.metric == "accuracy" else float("nan")

    @property
    def weights(self) -> Weights:
        """The final weights."""
        return self.snapshots[max(self.snapshots)]

    @property
    def skipped_steps(self) -> int:
        """Steps skipped because a gradient was not finite."""
        return int((~self.taken).sum())


def result_of(progress: Progress, config: TrainConfig, metric: str, backend: str) -> TrainResult:
    """Return what a run has measured."""
    steps = progress.measured
    assert progress.score is not None
    return TrainResult(
        config=config,
        losses=steps.loss,
        metric=metric,
        test_score=progress.score,
        taken=steps.finite,
        loss_scales=steps.factor,
        nonzero_updates=steps.nonzero_updates,
        swallowed_updates=steps.swallowed_updates,
        forward_events={place: x.astype(np.int64) for place, x in steps.forward_events.items()},
        backward_events={place: x.astype(np.int64) for place, x in steps.backward_events.items()},
        first_gradient=progress.first_gradient,
        last_gradient=progress.last_gradient,
        snapshots=progress.snapshots,
        backend=backend,
        compile_seconds=progress.compile_seconds,
        run_seconds=progress.run_seconds,
        decisions=tuple(progress.controller.decisions),
        layer_scales=steps.layer_scales,
    )
