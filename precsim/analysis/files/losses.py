"""`Losses`: range events and squared errors of a rounding, summed over numbers."""

from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim._calls import call
from precsim.analysis.files.rounded import EVENTS, Rounded, event_masks, round_numbers
from precsim.formats.carrier import as_carrier, select
from precsim.rounding.events import classify
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.spec import RoundingSpec

_ROWS, _COLUMNS = 1 << 7, 1 << 10
_CHUNK = _ROWS * _COLUMNS
"""Numbers that one call of a compiled program sums up. A column has fewer than 256 of them, so that
its counts fit a byte each."""


_LARGEST_POWER = 1000
"""Powers of two up to here, and from their inverses on, are normal float64 numbers."""


class Losses(NamedTuple):
    """What a rounding loses: how often each of `EVENTS` occurs, and the sum of squared errors."""

    counts: np.ndarray
    noise: float

    def plus(self, other: "Losses") -> "Losses":
        """Return the losses of both."""
        return Losses(self.counts + other.counts, self.noise + other.noise)


NONE = Losses(np.zeros(len(EVENTS), np.int64), 0.0)


def losses_of_numbers(
    x: np.ndarray,
    spec: RoundingSpec,
    power: int,
    events: tuple[str, ...] = EVENTS,
    least: float = 0.0,
) -> Losses:
    """Round numbers to a format of single numbers and sum up.

    Errors are in units of ``2**-power``; those of magnitudes below `least` are left out. Other
    events than `events` are known not to occur, or of no interest.
    """
    flat = x.reshape(-1)
    found = NONE
    whole = flat.size - flat.size % _CHUNK if abs(power) < _LARGEST_POWER else 0
    unit, end = np.float64(2.0**power if whole else 0.0), flat.dtype.type(least)
    for first in range(0, whole, _CHUNK):
        chunk = flat[first : first + _CHUNK].reshape(_ROWS, _COLUMNS)
        packed, noise = map(np.asarray, call(_sums, (spec, events), chunk, end, unit, x64=True))
        counts = [((packed >> (8 * k)) & 0xFF).sum() for k in range(len(EVENTS))]
        found = found.plus(Losses(np.array(counts, np.int64), float(noise.sum())))
    if whole < flat.size:
        found = found.plus(losses_of(round_numbers(flat[whole:], spec), power, least))
    return found


def losses_of(
    rounded: Rounded, power: int, least: float = 0.0, weights: np.ndarray | None = None
) -> Losses:
    """Sum up what a rounding did to numbers, each of which counts once or `weights` times."""
    counts = []
    for k in range(len(EVENTS)):
        bit = rounded.events & np.uint8(1 << k)
        counts.append(np.count_nonzero(bit) if weights is None else weights[bit != 0].sum())
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        error = np.subtract(rounded.after, rounded.before, dtype=np.float64)
        squares = np.square(np.ldexp(error, power) if power else error)
        if least:
            squares[np.abs(rounded.before) < least] = 0.0
        if weights is not None:  # filled-up zeros at the end have none
            squares = squares[: weights.size] * weights
        return Losses(np.array(counts, np.int64), float(squares.sum()))


def _sums(
    option: tuple[RoundingSpec, tuple[str, ...]], x: Array, least: Array, unit: Array
) -> tuple[Array, Array]:
    """Return for each column the counts, a byte each, and the squared errors, in one pass."""
    spec, events = option
    after = round_array(x, None, spec)
    masks = event_masks(classify(x, after, spec))
    packed: Any = namespace(x).zeros(x.shape, np.uint32)
    for k, name in enumerate(EVENTS):
        if name in events:
            mask = masks[k].reshape(x.shape).astype(np.uint32)
            packed = packed + mask * np.uint32(1 << (8 * k))
    carrier = as_carrier(x)[1]
    magnitude = bitcast(x, carrier.uint_dtype) & carrier.uint(carrier.sign_bit - 1)
    is_counted = magnitude >= bitcast(least, carrier.uint_dtype)
    before, after = (select(is_counted, n, carrier.float_dtype(0)) for n in (x, after))
    error: Any = (after.astype(np.float64) - before.astype(np.float64)) * unit
    return packed.sum(axis=0, dtype=np.uint32), (error * error).sum(axis=0)
