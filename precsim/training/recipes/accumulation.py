"""Gradient accumulation: a batch in microbatches, their gradients added up in a stated format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim._loops import as_varying
from precsim.arithmetic.elementwise import add, divide
from precsim.formats.arguments import shown
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec, SpecLike
from precsim.training.recipes.leaves import is_trained, map_joined, widened
from precsim.training.recipes.loss_scaling import all_finite
from precsim.training.recipes.updates import apply_updates
from precsim.transform.noise import fold_in

_PLACE = np.uint32(0x6163636D)
"""Folded into the key of a step: an accumulator shares no random bits with the update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulator:
    """How the gradients of microbatches become one.

    Parameters
    ----------
    rounding : RoundingSpec or str
        Format and rule of every partial sum.
    is_compensated : bool
        Whether the sum is Kahan-compensated, with a buffer in the same format.
    divides_first : bool
        Whether each gradient is divided by the number of microbatches, and rounded to nearest in
        the format, before it is added. Otherwise the sum is divided, rounded once to float32.

    Notes
    -----
    As a string: a rounding, then ``:kahan`` and ``:first`` where they are wanted, such as
    ``bf16:sr`` or ``fp16:kahan:first``.

    Examples
    --------
    >>> from precsim.training.recipes.accumulation import Accumulator
    >>> str(Accumulator.parse("bf16:kahan")), Accumulator.parse("fp16:first").divides_first
    ('bf16:kahan', True)
    """

    rounding: RoundingSpec
    is_compensated: bool = False
    divides_first: bool = False

    def __post_init__(self) -> None:
        """Parse the rounding; refuse formats with scales, and stochastic compensation."""
        rounding: SpecLike = self.rounding
        spec = RoundingSpec.parse(rounding)
        refuse_scaled(spec.format, "accumulator")
        if self.is_compensated and spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(f"accumulator is '{spec}:kahan'; allowed is one of sr and kahan")
        object.__setattr__(self, "rounding", spec)

    @classmethod
    def parse(cls, text: "str | Accumulator") -> "Accumulator":
        """Return the accumulator that a string stands for."""
        if isinstance(text, Accumulator):
            return text
        if not isinstance(text, str):
            raise TypeError(f"accumulator is {shown(text)}; allowed are a string or an Accumulator")
        parts = text.split(":")
        options = [part for part in parts if part in ("kahan", "first")]
        rest = ":".join(part for part in parts if part not in options)
        return cls(
            rounding=RoundingSpec.parse(rest),
            is_compensated="kahan" in options,
            divides_first="first" in options,
        )

    def __str__(self) -> str:
        """Return a string that parses to this accumulator."""
        kahan, first = ":kahan" * self.is_compensated, ":first" * self.divides_first
        return f"{self.rounding}{kahan}{first}"


FLOAT32_SUM = Accumulator.parse("fp32")
"""Partial sums in float32, the sum divided."""


class Measured(NamedTuple):
    """What microbatches measure besides the gradient, each a tree of arrays."""

    summed: Any
    """The loss, and counts of events: their sums are kept."""
    largest: Any = ()
    """Largest magnitudes, such as an amax: the largest of all microbatches is kept."""
    passed_on: Any = ()
    """What the next microbatch starts from, such as running means: the last is kept."""


def accumulate_gradients(
    run: Callable[[Any, Array, Any], tuple[Measured, Any]],
    batch: Any,
    count: int,
    accumulator: Accumulator = FLOAT32_SUM,
    *,
    key: Array | None = None,
    passed_on: Any = (),
) -> tuple[Measured, Any, Array]:
    """Return what the microbatches of a batch measure, their mean gradient, and if all are finite.

    Parameters
    ----------
    run : callable
        ``run(microbatch, n, passed_on)`` returns what the n-th one measures, and the gradient of
        its mean loss, a tree of float32 arrays (others, such as float0, stay as they are). Under
        loss scaling it is the scaled gradient, and so is the mean: unscale it, test it, clip it.
    batch : pytree of arrays
        Examples along the first axis; the first B / `count` of them are the first microbatch.
    count : int
        Number of microbatches.
    accumulator : Accumulator
        Arithmetic of the sum: from +0, ``s = fl(s + g)``, microbatch by microbatch.
    key : jax.Array, optional
        That of the step, for mode sr: noise depends on (key, microbatch, path of the leaf, element
        index).
    passed_on : pytree of arrays
        What the first microbatch starts from.

    Returns
    -------
    tuple
        (measured, mean gradient, finite): sums, not means, of what is summed; `finite` says whether
        the gradient of each microbatch is finite, and the mean, so that a saturating accumulator
        hides nothing.

    Raises
    ------
    ValueError
        If `count` does not divide the number of examples.

    Notes
    -----
    One loop, so that a microbatch is compiled once.
    """
    for x in jax.tree.leaves(batch):
        if x.shape[0] % count:
            raise ValueError(
                f"accumulate is {count}; allowed are divisors of the batch, {x.shape[0]} examples"
            )
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(run, first, jnp.int32(0), passed_on)
    measured, like = jax.tree.map(_zeros, shapes)
    total = widened(_trained(like))
    noise = None if key is None else fold_in(key, _PLACE)
    share = np.float32(count)

    def body(state: _State, part: Any) -> tuple[_State, None]:
        measured, gradient = run(part, state.n, state.measured.passed_on)
        finite = all_finite(gradient)
        new = widened(_trained(gradient))
        if accumulator.divides_first:
            nearest = RoundingSpec(format=accumulator.rounding.format)
            new = map_joined(lambda x: divide(x, share, nearest), new)
        added = apply_updates(
            state.total,
            new,
            rounding=accumulator.rounding,
            key=noise,
            step=state.n,
            compensation=state.lost,
        )
        total, lost = added if accumulator.is_compensated else (added, None)
        summed = jax.tree.map(_plus, state.measured.summed, measured.summed)
        largest = jax.tree.map(jnp.maximum, state.measured.largest, measured.largest)
        all_so_far = Measured(summed, largest, measured.passed_on)
        return _State(state.n + 1, all_so_far, state.finite & finite, total, lost), None

    lost = total if accumulator.is_compensated else None
    measured = measured._replace(passed_on=passed_on)
    start = _State(jnp.int32(0), measured, jnp.asarray(True), total, lost)
    start = as_varying(lambda state: body(state, first)[0], start)
    last, _ = lax.scan(body, start, parts)
    total = last.total
    if not accumulator.divides_first:
        total = map_joined(lambda x: divide(x, share, "fp32"), total)
    gradient = jax.tree.map(lambda other, mean: other if mean is None else mean, like, total)
    return last.measured, gradient, last.finite & all_finite(gradient)


class _State(NamedTuple):
    """What goes from microbatch to microbatch."""

    n: Array
    measured: Measured
    finite: Array
    total: Any
    lost: Any
    """Kahan buffers, or None."""


def _zeros(shape: Any) -> Any:
    is_float0 = shape.dtype == jax.dtypes.float0
    return np.zeros(shape.shape, shape.dtype) if is_float0 else jnp.zeros(shape.shape, shape.dtype)


def _trained(gradient: Any) -> Any:
    """Return a gradient without the leaves that have none."""
    return jax.tree.map(lambda x: x if is_trained(x) else None, gradient)


def _plus(x: Array, y: Array) -> Array:
    """Add; in float32 with one rounding and subnormals on every device."""
    return add(x, y, "fp32") if x.dtype == np.float32 else x + y
