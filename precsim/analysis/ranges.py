"""How values lie in the range of a format: rates of range events, and exponents."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, count_true, is_jax, is_traced, namespace
from precsim.formats.arguments import axis_of
from precsim.formats.carrier import as_carrier, floor_log2, select
from precsim.formats.scaled import scaled_format
from precsim.rounding.events import Events, classify
from precsim.rounding.round_to import round_to
from precsim.rounding.scaled.measures import classify_scaled
from precsim.rounding.spec import RoundingSpec, SpecLike


class _Counts(Protocol):
    """What has counts of range events: `RangeRates`, and predictions of them."""

    @property
    def elements(self) -> Any: ...
    @property
    def nonzero(self) -> Any: ...
    @property
    def underflowed(self) -> Any: ...
    @property
    def subnormal(self) -> Any: ...
    @property
    def overflowed(self) -> Any: ...
    @property
    def saturated(self) -> Any: ...


class Shares:
    """Rates of range events, whose names say what they are a share of."""

    __slots__ = ()

    @property
    def underflow_of_all(self: _Counts) -> Any:
        """Underflowed elements as a share of all elements; zeros (as after a ReLU) dilute it."""
        return _share(self.underflowed, self.elements)

    @property
    def underflow_of_nonzero(self: _Counts) -> Any:
        """Underflowed elements as a share of those that could: the nonzero ones."""
        return _share(self.underflowed, self.nonzero)

    @property
    def subnormal_of_nonzero(self: _Counts) -> Any:
        """Subnormal results as a share of the nonzero inputs."""
        return _share(self.subnormal, self.nonzero)

    @property
    def overflow_of_all(self: _Counts) -> Any:
        """Overflowed elements as a share of all elements."""
        return _share(self.overflowed, self.elements)

    @property
    def saturation_of_all(self: _Counts) -> Any:
        """Saturated elements as a share of all elements."""
        return _share(self.saturated, self.elements)


class RangeRates(Shares, Events):
    """Counts of range events, and rates whose names say what they are a share of.

    The fields are those of `precsim.rounding.events.Events`, as integers. A share of nothing
    (0 / 0) is 0. A JAX pytree, so that a jitted function can return it.

    Examples
    --------
    >>> import precsim as ps
    >>> rates = ps.errors.range_rates([1e-3, 1e-9, -0.0, 500.0], "e4m3")
    >>> rates.nonzero, rates.underflowed, rates.overflowed
    (3, 1, 1)
    >>> rates.overflow_of_all
    0.25
    """

    __slots__ = ()


def _share(part: Any, whole: Any) -> Any:
    return part / (max(whole, 1) if isinstance(whole, int) else namespace(whole).maximum(whole, 1))


def range_rates(
    values: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None, axis: int = -1
) -> RangeRates:
    """Round values and count how many left the range of the format.

    Parameters
    ----------
    values : array_like of float, shape (...)
        Carrier values, float32 or float64, on any device.
    spec : str, Format or RoundingSpec
        Format and rule. The range of a block or affine format is that of the elements, by their
        scale.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.
    axis : int
        The axis along which the blocks of a block format run, as in `round_to`.

    Returns
    -------
    RangeRates
        Counts (int; int32 arrays under jit) and rates (float, 0 to 1).

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, or `random_bits` are missing in mode sr.
    TypeError
        If `values` are not float32 or float64.

    Notes
    -----
    Special values: -0 is a zero, before and after rounding. NaN inputs count in `elements` and
    `nan` only. Infinite inputs are nonzero; they saturate where they become finite, and never
    overflow. A number that rounds to the largest value with an unlimited exponent range too is not
    saturated. A finite element overflowed if a NaN or an infinity made its block NaN. Exact: the
    counts are integers found by integer comparisons, also for subnormals.

    Examples
    --------
    >>> import precsim as ps
    >>> rates = ps.errors.range_rates([1.0, 1e-9, 0.0, -0.0, 1e-2, 500.0], "e4m3")
    >>> rates.underflow_of_all, rates.underflow_of_nonzero
    (0.16666666666666666, 0.25)
    >>> rates.overflowed, rates.saturated, rates.subnormal
    (1, 0, 1)
    >>> rates = ps.errors.range_rates([1.0, 1e-9, 500.0], "mxfp4")
    >>> rates.underflow_of_nonzero  # 1 / 64 underflows too
    0.6666666666666666
    """
    spec = RoundingSpec.parse(spec)
    values, _ = as_carrier(values, "values")
    rounded = round_to(values, spec, random_bits=random_bits, axis=axis)
    if scaled_format(spec.format) is None:
        events = classify(values, rounded, spec)
    else:
        events = classify_scaled(values, rounded, spec, axis_of(axis, values.shape))
    return RangeRates(*map(_concrete, count_true(*events)))


def _concrete(count: Any) -> Any:
    """Return a count as int where it is known, under jit as it is."""
    return count if is_traced(count) else int(count)


class ExponentHistogram(NamedTuple):
    """How often each exponent occurs.

    Examples
    --------
    >>> import precsim as ps
    >>> histogram = ps.errors.exponent_histogram([1.0, 1.5, 0.25, 0.0])
    >>> histogram.exponents.tolist(), histogram.counts.tolist(), histogram.zeros
    ([-2, -1, 0], [1, 0, 2], 1)
    """

    exponents: np.ndarray
    """Consecutive integers, shape (n,)."""
    counts: Array
    """Elements with ``2**exponent <= |x| < 2**(exponent + 1)``, shape (n,)."""
    zeros: Any
    """Elements that are +0 or -0."""
    nonfinite: Any
    """Elements that are infinite or NaN."""


def exponent_histogram(values: ArrayLike) -> ExponentHistogram:
    """Count the elements in each binade.

    Parameters
    ----------
    values : array_like of float, shape (...)
        Carrier values, float32 or float64.

    Returns
    -------
    ExponentHistogram
        Tuple (exponents, counts, zeros, nonfinite): `exponents` runs from the smallest to the
        largest ``floor(log2(abs(x)))`` that occurs, both included (empty if all elements are zero
        or not finite), `counts` has the same shape (n,), and the rest are integers. Under jit no
        shape may depend on values, so `exponents` are all that the carrier has.

    Raises
    ------
    TypeError
        If `values` are not float32 or float64.

    Notes
    -----
    Special values: zeros, infinities and NaN are counted apart. Exact: the exponents are read from
    the bit patterns, so subnormals have their own, as if the exponent range were unlimited.

    Examples
    --------
    >>> import precsim as ps
    >>> values = [1.0, 1.9, 0.3, -0.0, 2.0**-1074]
    >>> exponents, counts, zeros, nonfinite = ps.errors.exponent_histogram(values)
    >>> exponents[[0, -1]].tolist(), counts[[0, -2, -1]].tolist(), zeros, nonfinite
    ([-1074, 0], [1, 0, 2], 1, 0)
    """
    values, carrier = as_carrier(values, "values")
    xp, u = namespace(values), carrier.uint
    magnitude = bitcast(values, carrier.uint_dtype).reshape(-1) & u(carrier.sign_bit - 1)
    is_zero, is_finite = magnitude == u(0), magnitude < u(carrier.infinity)
    exponents = np.arange(carrier.lsb_min, carrier.bias + 1)
    # What has no exponent is counted in one place more, and forgotten.
    place = floor_log2(magnitude, carrier) - carrier.signed(carrier.lsb_min)
    place = select(is_finite & ~is_zero, place, carrier.signed(exponents.size))
    # NumPy calls `minlength` what JAX, whose shapes are fixed, calls `length`.
    size = {"length" if is_jax(values) else "minlength": exponents.size + 1}
    counts = xp.bincount(place, **size)[:-1]
    zeros, nonfinite = (_concrete(n) for n in count_true(is_zero, ~is_finite))
    if not isinstance(zeros, int):
        return ExponentHistogram(exponents, counts, zeros, nonfinite)
    counts = np.asarray(counts)
    occurring = np.flatnonzero(counts)
    here = slice(occurring[0], occurring[-1] + 1) if occurring.size else slice(0)
    return ExponentHistogram(exponents[here], counts[here], zeros, nonfinite)
