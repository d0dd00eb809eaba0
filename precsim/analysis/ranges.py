"""How values lie in the range of a format: rates of range events, and exponents."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import bitcast, namespace
from precsim.formats.carrier import as_carrier, bit_length
from precsim.rounding.events import classify
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec, SpecLike


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRates:
    """Counts of range events, and rates whose names say what they are a share of.

    A share of nothing (0 / 0) is 0.

    Parameters
    ----------
    elements : int
        All elements.
    nonzero : int
        Inputs other than +0, -0 and NaN.
    underflowed : int
        Nonzero inputs that became +0 or -0.
    subnormal : int
        Results between zero and the smallest normal value.
    overflowed : int
        Finite inputs that became infinity or NaN, or wrapped around.
    saturated : int
        Inputs beyond the range that became the nearest end of the range.
    nan : int
        Inputs that were NaN.
    """

    elements: int
    nonzero: int
    underflowed: int
    subnormal: int
    overflowed: int
    saturated: int
    nan: int

    @property
    def underflow_of_all(self) -> float:
        """Underflowed elements as a share of all elements; zeros (as after a ReLU) dilute it."""
        return _share(self.underflowed, self.elements)

    @property
    def underflow_of_nonzero(self) -> float:
        """Underflowed elements as a share of those that could: the nonzero ones."""
        return _share(self.underflowed, self.nonzero)

    @property
    def subnormal_of_nonzero(self) -> float:
        """Subnormal results as a share of the nonzero inputs."""
        return _share(self.subnormal, self.nonzero)

    @property
    def overflow_of_all(self) -> float:
        """Overflowed elements as a share of all elements."""
        return _share(self.overflowed, self.elements)

    @property
    def saturation_of_all(self) -> float:
        """Saturated elements as a share of all elements."""
        return _share(self.saturated, self.elements)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def range_rates(values: Any, spec: SpecLike, *, random_bits: Any = None) -> RangeRates:
    """Round values and tell how many left the range of the format.

    Parameters
    ----------
    values : array_like of float, shape (...)
        Carrier values, float32 or float64, on any device; not under jit (use
        `precsim.rounding.events.count_events` there).
    spec : str, Format or RoundingSpec
        Format and rule.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    RangeRates
        Counts (int) and rates (float, 0 to 1).

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, or `random_bits` are missing in mode sr.
    TypeError
        If `values` are not float32 or float64.

    Notes
    -----
    Special values: -0 is a zero, before and after rounding. NaN inputs count in `elements` and `nan`
    only. Infinite inputs are nonzero; they saturate where they become finite, and never overflow.
    Numbers that round back to the largest value, as in the whole range, are not saturated. Exact: the
    counts are integers found by integer comparisons, also for subnormals.

    Examples
    --------
    >>> import precsim as ps
    >>> rates = ps.range_rates([1.0, 1e-9, 0.0, -0.0, 1e-2, 500.0], "e4m3")
    >>> rates.underflow_of_all, rates.underflow_of_nonzero
    (0.16666666666666666, 0.25)
    >>> rates.overflowed, rates.saturated, rates.subnormal
    (1, 0, 1)
    """
    spec = RoundingSpec.parse(spec)
    values, _ = as_carrier(values, "values")
    events = classify(values, round_to(values, spec, random_bits=random_bits), spec)
    count = namespace(events.nonzero).count_nonzero
    return RangeRates(**{name: int(count(mask)) for name, mask in events._asdict().items()})


class ExponentHistogram(NamedTuple):
    """How often each exponent occurs."""

    exponents: np.ndarray
    """Consecutive integers, shape (n,)."""
    counts: np.ndarray
    """Elements with ``2**exponent <= |x| < 2**(exponent + 1)``, shape (n,)."""
    zeros: int
    """Elements that are +0 or -0."""
    nonfinite: int
    """Elements that are infinite or NaN."""


def exponent_histogram(values: Any) -> ExponentHistogram:
    """Count the elements in each binade.

    Parameters
    ----------
    values : array_like of float, shape (...)
        Carrier values, float32 or float64; not under jit.

    Returns
    -------
    ExponentHistogram
        Tuple (exponents, counts, zeros, nonfinite): `exponents` runs from the smallest to the largest
        ``floor(log2(abs(x)))`` that occurs, both included (empty if all elements are zero or not
        finite), `counts` has the same shape (n,), and the rest are integers.

    Raises
    ------
    TypeError
        If `values` are not float32 or float64.

    Notes
    -----
    Special values: zeros, infinities and NaN are counted apart. Exact: the exponents are read from the
    bit patterns, so subnormals have their own, as if the exponent range were unlimited.

    Examples
    --------
    >>> import precsim as ps
    >>> exponents, counts, zeros, nonfinite = ps.exponent_histogram([1.0, 1.9, 0.3, -0.0, 2.0**-1074])
    >>> exponents[[0, -1]].tolist(), counts[[0, -2, -1]].tolist(), zeros, nonfinite
    ([-1074, 0], [1, 0, 2], 1, 0)
    """
    values, carrier = as_carrier(values, "values")
    bits = bitcast(np.asarray(values), carrier.uint_dtype).reshape(-1)
    magnitude = bits & carrier.uint(carrier.sign_bit - 1)
    is_zero = magnitude == 0
    is_finite = magnitude < carrier.uint(carrier.infinity)
    magnitude = magnitude[is_finite & ~is_zero]
    field = (magnitude >> carrier.uint(carrier.trailing)).astype(np.int64)
    subnormal = bit_length(magnitude, carrier) + (carrier.lsb_min - 1)
    found = np.where(field == 0, subnormal, field - carrier.bias)
    first = int(found.min()) if found.size else 0
    counts = np.bincount(found - first) if found.size else np.zeros(0, np.int64)
    return ExponentHistogram(
        exponents=first + np.arange(counts.size),
        counts=counts,
        zeros=int(np.count_nonzero(is_zero)),
        nonfinite=int(np.count_nonzero(~is_finite)),
    )
