"""`ulp`: the distance between neighbours of a format."""

from functools import lru_cache
from typing import overload

import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray, NumPyLike, bitcast, namespace
from precsim._calls import call_elementwise
from precsim.formats.carrier import Carrier, as_carrier, compose, floor_log2, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.registry import get_format
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.kernel.limits import is_coarse, limits
from precsim.rounding.spec import RoundingSpec


@overload
def ulp(x: JaxArray, fmt: str | Format) -> JaxArray: ...
@overload
def ulp(x: NumPyLike, fmt: str | Format) -> np.ndarray: ...
@overload
def ulp(x: ArrayLike, fmt: str | Format) -> Array: ...
def ulp(x: ArrayLike, fmt: str | Format) -> Array:
    """Return the distance between the neighbours of a format around each element.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64, in the format or not.
    fmt : str, FloatFormat or FixedPointFormat
        The format.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        ``2**(max(floor(log2|x|), emin) - p + 1)`` for floating point, ``2**-fraction_bits`` for
        fixed point. At zero and below the smallest normal: the smallest subnormal. Beyond the
        largest finite value: the ulp of that value. NaN and infinity give NaN. Same library, shape
        and dtype as `x`.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format.

    Notes
    -----
    This is Goldberg's ulp (the gap above ``abs(x)`` at a power of two), as in IEEE 754 and Muller
    et al., *Handbook of Floating-Point Arithmetic*, 2nd edition, 2.3.2. Exact.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ulp([1.0, 1.99, 2.0, 0.0], "e4m3").tolist()
    [0.125, 0.125, 0.25, 0.001953125]
    """
    fmt = get_format(fmt)
    refuse_scaled(fmt, "fmt")
    x, carrier = as_carrier(x)
    _check(fmt, carrier)
    return call_elementwise(_ulp, fmt, x)


@lru_cache(maxsize=1024)
def _check(fmt: Format, carrier: Carrier) -> None:
    """Refuse a carrier that cannot hold the format; errors are not remembered."""
    limits(RoundingSpec(format=fmt), carrier)


def _ulp(fmt: Format, x: Array) -> Array:
    carrier = as_carrier(x)[1]
    bits = ulp_bits(bitcast(x, carrier.uint_dtype).reshape(-1), fmt, carrier)
    return bitcast(bits, carrier.float_dtype).reshape(x.shape)


def ulp_bits(bits: Array, fmt: Format, carrier: Carrier) -> Array:
    """Return the patterns of the ulps around patterns; NaN for infinity and NaN."""
    u = carrier.uint
    magnitude = bits & u(carrier.sign_bit - 1)
    unit = compose(magnitude * u(0) + u(1), _ulp_exponent(magnitude, fmt, carrier), carrier)
    return select(magnitude >= u(carrier.infinity), u(carrier.quiet_nan), unit)


def _ulp_exponent(magnitude: Array, fmt: Format, carrier: Carrier) -> Array:
    xp = namespace(magnitude)
    i = carrier.signed
    if isinstance(fmt, FixedPointFormat):
        return xp.full(magnitude.shape, -fmt.fraction_bits, carrier.int_dtype)
    exponent = floor_log2(magnitude, carrier)
    if fmt.exponent_bits is None:
        return xp.maximum(exponent - i(fmt.precision - 1), i(carrier.lsb_min))
    if is_coarse(RoundingSpec(format=fmt)):
        inside = xp.minimum(exponent, i(fmt.emax)) - i(fmt.precision - 1)
        return select(exponent < i(fmt.emin), i(fmt.emin), inside)
    return xp.clip(exponent, i(fmt.emin), i(max(fmt.emin, fmt.emax))) - i(fmt.precision - 1)
