"""`audit_loss_scale`: one pass of a training without a loss scale, which tells what each does."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array
from precsim.analysis.along_training.batches import arguments_of_steps
from precsim.analysis.along_training.cotangents import (
    EXPONENTS,
    counted_gradient,
    exponent_counts,
    widened,
)
from precsim.analysis.along_training.loss_scale_audit import NEVER, LossScaleAudit
from precsim.formats.arguments import shown
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import exponent_of_power, real
from precsim.formats.registry import get_format
from precsim.training.config import TrainConfig
from precsim.training.prepared import prepare_run
from precsim.training.recipes.loss_scaling import LossScale, NoLossScale, as_loss_scale
from precsim.training.recipes.updates import apply_updates
from precsim.transform.policy import Policy
from precsim.transform.tags import with_tagged_values
from precsim.transform.tracing import check_function


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
        If `loss_fn` is neither a function nor a TrainConfig, or `batches` has no tuples.
    ValueError
        If a format is not of that kind, `underflow` is not between 0 and 1, a scale is no power of
        two, or there are no steps.

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
    exponent_of_power(float(scale.factor), "loss_scale")
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


Steps = Generator[dict[str, np.ndarray], bool, None]
"""Yields the counts of each step by place, and is sent whether the step is to be taken."""


def _audited(steps: Steps, scale: LossScale, fmt: FloatFormat, threshold: float) -> LossScaleAudit:
    """Follow a training with a loss scale and write down what its steps bear."""
    used: list[float] = []
    totals: list[np.ndarray] = []
    places: list[dict[str, int]] = []
    top = fmt.emax
    try:
        found = next(steps)
        while True:
            factor = float(scale.factor)
            shift = exponent_of_power(factor, "loss_scale")
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
    return int(EXPONENTS[there[-1]]) if there.size else NEVER


def _steps(
    gradient: Callable[..., Any],
    params: Any,
    batches: Iterable[tuple[Any, ...]],
    policy: Policy,
    optimizer: Any,
) -> Steps:
    """Train with the user's loss function."""
    state = None if optimizer is None else optimizer.init(params)
    for k, batch in enumerate(arguments_of_steps(batches)):
        _, grads, counts = gradient(params, *batch)
        is_taken = yield jax.device_get(counts)
        if optimizer is not None and is_taken:
            updates, state = optimizer.update(grads, state, params)
            key = jax.random.key(0)
            params = apply_updates(params, updates, rounding=policy.update, key=key, step=k)


def _steps_of_run(config: TrainConfig, precision: int) -> Steps:
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
