"""`calibrate`: a scale for arrays to come, from a sample of their numbers."""

import numpy as np

from precsim._arrays import ArrayLike, bitcast
from precsim.formats.affine import AffineFormat
from precsim.formats.arguments import not_allowed, shown
from precsim.formats.carrier import FLOAT32, as_carrier
from precsim.formats.registry import AnyFormat
from precsim.formats.storage import has_one_scale
from precsim.formats.tile import TileFormat
from precsim.rounding.scaled.quantized import quantize_array
from precsim.rounding.scaled.scale import Scale, with_scale
from precsim.rounding.scaled.tile import factors_of
from precsim.rounding.spec import RoundingSpec

METHODS = ("minmax", "percentile", "mse")
_PARTS = 64
"""Ranges that "mse" tries: k / 64 of the whole one."""


def calibrate(
    x: ArrayLike,
    fmt: str | AnyFormat | RoundingSpec,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
) -> Scale:
    """Choose the scale (and zero point) of a format from a sample.

    Parameters
    ----------
    x : array_like of float, shape (...)
        The sample, finite numbers, rounded to float32; not traced.
    fmt : str, AffineFormat, TileFormat or RoundingSpec
        A format with one scale for the whole array: "int8", "uint4", "e4m3:scale=tensor".
    method : {"minmax", "percentile", "mse"}
        "minmax": from the smallest to the largest number. "percentile": from percentile
        ``100 - percentile`` to `percentile` of the numbers; of symmetric and floating-point
        formats, up to `percentile` of the magnitudes. "mse": of 64 parts of the range of "minmax",
        the one with the least sum of squared errors; the larger of equal ones.
    percentile : float
        For that method, 50 to 100.

    Returns
    -------
    Scale
        For `matmul`'s `scales`; NumPy arrays. The format's own rule makes it from the range.

    Raises
    ------
    ValueError
        If the format has several scales, a number is not finite, or the method is unknown.
    TypeError
        If `x` has a dtype that `round_to` does not take.

    Notes
    -----
    Percentiles are numpy.percentile's in float64 (linear between neighbours), rounded to float32.
    Errors are float64 sums. Cost: as 64 calls of `quantize` for "mse".

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> x = np.float32([-1.0, 0.0, 0.5, 3.0])
    >>> round(ps.calibrate(x, "int4_symmetric").scale.item() * 7, 6)
    3.0
    >>> int(ps.calibrate(x, "uint8").zero_point)
    64
    """
    spec = RoundingSpec.parse(fmt)
    if not has_one_scale(spec.format):
        raise ValueError(
            f"fmt is {spec.format}; allowed are formats with one scale for the whole array, for example "
            "'int8', 'e4m3:scale=tensor'"
        )
    if method not in METHODS:
        raise not_allowed("method", method, METHODS)
    if not 50 <= percentile <= 100:
        raise ValueError(f"percentile is {shown(percentile)}; allowed are 50 to 100")
    sample, _ = as_carrier(x)
    with np.errstate(over="ignore"):
        sample = np.asarray(sample, np.float32).reshape(-1)
    if not np.isfinite(sample).all():
        raise ValueError("x has numbers that are not finite; allowed is a sample without them")
    both = isinstance(spec.format, AffineFormat) and not spec.format.is_symmetric
    low, high = _ends(sample, both, percentile if method == "percentile" else 100.0)
    if method != "mse":
        return _of_range(low, high, spec)
    parts = [np.float32(k / _PARTS) for k in range(_PARTS, 0, -1)]
    candidates = [_of_range(low * part, high * part, spec) for part in parts]
    errors = [_squared_error(sample, spec, scale) for scale in candidates]
    return candidates[int(np.argmin(errors))]


def _ends(sample: np.ndarray, both: bool, percentile: float) -> tuple[np.float32, np.float32]:
    """Return the smallest and the largest number that keep their place; 0 is between them."""
    wide = sample.astype(np.float64)
    if not wide.size:
        return np.float32(0), np.float32(0)
    if not both:
        high = np.float32(np.percentile(np.abs(wide), percentile))
        return -high, high
    low, high = np.percentile(wide, [100 - percentile, percentile])
    return np.float32(min(low, 0.0)), np.float32(max(high, 0.0))


def _of_range(low: np.float32, high: np.float32, spec: RoundingSpec) -> Scale:
    """Return the scale that the format's rule makes from the two ends of a range."""
    ends = np.array([low, high], np.float32)
    if isinstance(spec.format, TileFormat):
        amax = bitcast(np.abs(ends).max(keepdims=True), np.uint32)
        patterns = factors_of(amax, spec.format, FLOAT32)
        factor, scale = (bitcast(x, np.float32).reshape(()) for x in patterns)
        return Scale(scale=scale, factor=factor)
    q = quantize_array(ends, None, spec, -1)
    zero = None if q.zero_points is None else np.asarray(q.zero_points).reshape(())
    return Scale(scale=np.asarray(q.scales).reshape(()), zero_point=zero)


def _squared_error(sample: np.ndarray, spec: RoundingSpec, given: Scale) -> float:
    elements, scale = with_scale(sample, spec, given)
    values = np.asarray(elements, np.float64) * np.float64(np.asarray(scale).item())
    return float(np.sum((values - sample.astype(np.float64)) ** 2))
