"""`Losses`: range events and squared errors of a rounding, summed over numbers."""

import math
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, bitcast
from precsim._calls import call
from precsim.analysis.files.rounded import EVENTS, Rounded, event_masks, round_numbers
from precsim.formats.carrier import as_carrier, select
from precsim.formats.floating import FloatFormat
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
    """What a rounding loses; squared errors apart for numbers above and below a threshold."""

    counts: np.ndarray
    """Of each of `EVENTS`."""
    noise: float
    noise_below: float

    def plus(self, other: "Losses") -> "Losses":
        """Return the losses of both."""
        return Losses(
            self.counts + other.counts,
            self.noise + other.noise,
            self.noise_below + other.noise_below,
        )


NONE = Losses(np.zeros(len(EVENTS), np.int64), 0.0, 0.0)


def losses_of_numbers(x: np.ndarray, spec: RoundingSpec, below: float, power: int) -> Losses:
    """Round numbers to a format of single numbers and sum up; errors are in units of 2**-power."""
    flat = x.reshape(-1)
    found = NONE
    whole = flat.size - flat.size % _CHUNK if abs(power) < _LARGEST_POWER else 0
    end = flat.dtype.type(below)
    for first in range(0, whole, _CHUNK):
        chunk = flat[first : first + _CHUNK].reshape(_ROWS, _COLUMNS)
        unit = np.float64(2.0**power)
        packed, noise, noise_below = call(_sums, spec, chunk, end, unit, x64=True)
        counts = [((np.asarray(packed) >> (8 * k)) & 0xFF).sum() for k in range(len(EVENTS))]
        sums = (float(np.asarray(part).sum()) for part in (noise, noise_below))
        found = found.plus(Losses(np.array(counts, np.int64), *sums))
    if whole < flat.size:
        rest = round_numbers(flat[whole:], spec)
        found = found.plus(losses_of(rest, below, power))
    return found


def losses_of(
    rounded: Rounded, below: float, power: int, weights: np.ndarray | None = None
) -> Losses:
    """Sum up what a rounding did to numbers, each of which counts once or `weights` times."""
    counts = []
    for k in range(len(EVENTS)):
        bit = rounded.events & np.uint8(1 << k)
        counts.append(np.count_nonzero(bit) if weights is None else weights[bit != 0].sum())
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        error = np.subtract(rounded.after, rounded.before, dtype=np.float64)
        squares = np.square(np.ldexp(error, power) if power else error)
        is_below = np.abs(rounded.before) < below
        if weights is not None:
            # Filled-up zeros at the end have no weight.
            squares, is_below = squares[: weights.size] * weights, is_below[: weights.size]
        noise_below = float(squares[is_below].sum())
        noise = float(squares[~is_below].sum())
    return Losses(np.array(counts, np.int64), noise, noise_below)


def _sums(spec: RoundingSpec, x: Array, below: Array, unit: Array) -> tuple[Array, Array, Array]:
    """Return for each column the counts, a byte each, and the squared errors, in one pass."""
    after = round_array(x, None, spec)
    masks = event_masks(classify(x, after, spec))
    packed: Any = 0
    for k, mask in enumerate(masks):
        packed = packed + mask.reshape(x.shape).astype(np.uint32) * np.uint32(1 << (8 * k))
    error = (after.astype(np.float64) - x.astype(np.float64)) * unit
    squares, carrier = error * error, as_carrier(x)[1]
    u = carrier.uint
    magnitude = bitcast(x, carrier.uint_dtype) & u(carrier.sign_bit - 1)
    is_below = magnitude < bitcast(below, carrier.uint_dtype)
    zero: Any = squares.dtype.type(0)
    return (
        packed.sum(axis=0, dtype=np.uint32),
        select(is_below, zero, squares).sum(axis=0),
        select(is_below, squares, zero).sum(axis=0),
    )


def threshold(spec: RoundingSpec) -> float:
    """Return the magnitude from which on a larger scale changes no relative error."""
    fmt = spec.format
    if isinstance(fmt, FloatFormat):
        return 0.0 if fmt.exponent_bits is None else float(fmt.min_normal)
    return math.inf
