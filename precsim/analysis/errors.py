"""What an error is: absolute, relative, in ulps, backward, and as a signal-to-noise ratio.

Everything is computed in float64 with NumPy on the host, so that XLA cannot flush a subnormal.
"""

import math

import numpy as np

from precsim._arrays import Array, ArrayLike, absolute, bitcast, is_traced, namespace
from precsim.arithmetic.elementwise import divide, subtract
from precsim.formats.arguments import axis_of
from precsim.formats.carrier import as_carrier, is_zero
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import AnyFormat, Format, get_format
from precsim.formats.scaled import scaled_format
from precsim.rounding.scaled.measures import scaled_ulp
from precsim.rounding.ulp import ulp


def absolute_error(computed: ArrayLike, exact: ArrayLike) -> np.ndarray:
    """Return ``|computed - exact|`` for each element.

    Parameters
    ----------
    computed : array_like of float, shape (...)
        What a computation returned: NumPy or JAX, any float dtype up to float64.
    exact : array_like of float, broadcastable with `computed`
        What it should have returned, in float64 or exactly representable there.

    Returns
    -------
    ndarray of float64, shape (...)
        Errors, in the unit of the values.

    Raises
    ------
    TypeError
        If an argument has a dtype that float64 does not contain.
    ValueError
        If the shapes do not broadcast.

    Notes
    -----
    Special values: equal infinities give 0; an infinity against anything else gives infinity; NaN
    in either gives NaN. Error: one rounding to float64, relative error at most 2**-53; exact where
    the values are within a factor of two of each other (Sterbenz), as they are whenever errors are
    small.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, 1.2.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.errors.absolute_error(ps.round_to([3.0, 3.1], "q3.4"), [3.0, 3.1])
    array([0.    , 0.0250])
    """
    return _distance(_float64(computed, "computed"), _float64(exact, "exact"))


def relative_error(computed: ArrayLike, exact: ArrayLike) -> np.ndarray:
    """Return ``|computed - exact| / |exact|`` for each element.

    Parameters
    ----------
    computed : array_like of float, shape (...)
        What a computation returned: NumPy or JAX, any float dtype up to float64.
    exact : array_like of float, broadcastable with `computed`
        What it should have returned, in float64 or exactly representable there.

    Returns
    -------
    ndarray of float64, shape (...)
        Errors, dimensionless.

    Raises
    ------
    TypeError
        If an argument has a dtype that float64 does not contain.
    ValueError
        If the shapes do not broadcast.

    Notes
    -----
    Special values: where `exact` is 0, the error is 0 if `computed` is 0 too (of either sign), else
    infinity. Equal infinities give 0; an infinity against anything else gives infinity; NaN in
    either gives NaN. Error: two roundings, relative error at most gamma(2, "fp64"), unless the
    quotient is subnormal.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, 1.2.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.relative_error(ps.round_to([3.0, 0.7, 1e-9], "e4m3"), [3.0, 0.7, 1e-9])
    array([0.        , 0.01785714, 1.        ])
    """
    exact = _float64(exact, "exact")
    return _ratio(_distance(_float64(computed, "computed"), exact), np.abs(exact))


def ulp_error(
    computed: ArrayLike, exact: ArrayLike, fmt: str | AnyFormat, *, axis: int = -1
) -> Array:
    """Return ``|computed - exact| / ulp(exact)`` for each element, with the ulp of a format.

    Parameters
    ----------
    computed : array_like of float, shape (...)
        What a computation returned: NumPy or JAX, any float dtype up to float64.
    exact : array_like of float, broadcastable with `computed`
        What it should have returned, in float64 or exactly representable there.
    fmt : str, FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
        The format whose ulp is the unit; see `precsim.ulp`. For a block format the unit is the ulp
        of the element times the scale that its exact values have; for an affine format it is that
        scale.
    axis : int
        The axis along which the blocks of a block format run, as in `round_to`.

    Returns
    -------
    ndarray of float64, shape (...)
        Errors, in ulps of the exact values. A correctly rounded result has at most 0.5. Under jit a
        jax.Array of float32 (float64 if `exact` is).

    Raises
    ------
    TypeError
        If an argument has a dtype that float64 does not contain.
    ValueError
        If the carrier of `exact` cannot hold the format; "nvfp4" needs `exact` in float32.

    Notes
    -----
    At zero and below the smallest normal value the ulp is the smallest subnormal (with an unlimited
    exponent range, an exact 0 gives 0 or infinity). Beyond the largest finite value it is the ulp
    of that value, so saturation shows as many ulps. At a power of two it is the gap above.

    Special values: equal infinities give 0; an infinity against anything else gives infinity; NaN
    in either gives NaN. Error: that of `absolute_error`; the division is by a power of two, for
    NVFP4 and affine formats by a scale, and rounded. Under jit both roundings are to the dtype of
    the result.

    Source: Muller et al., *Handbook of Floating-Point Arithmetic*, 2nd edition, 2.3.2.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ulp_error(ps.round_to([1.05, 500.0], "e4m3:saturate"), [1.05, 500.0], "e4m3")
    array([0.4  , 1.625])
    """
    fmt = get_format(fmt)
    if is_traced(computed) or is_traced(exact):
        return _traced_ulp_error(computed, exact, fmt, axis)
    is_float32 = scaled_format(fmt) is not None and np.asarray(exact).dtype == np.float32
    exact, given = _float64(exact, "exact"), np.asarray(exact)
    unit = _float64(_unit(given if is_float32 else exact, fmt, axis), "unit")
    return _ratio(_distance(_float64(computed, "computed"), exact), unit)


def _unit(exact: Array, fmt: AnyFormat, axis: int) -> Array:
    """Return the ulp of a format at exact values; 0 at a zero of unlimited range."""
    scaled = scaled_format(fmt)
    if scaled is not None:
        return scaled_ulp(exact, scaled, axis_of(axis, exact.shape, "exact"))
    assert isinstance(fmt, Format)
    unit = ulp(exact, fmt)
    if isinstance(fmt, FloatFormat) and fmt.exponent_bits is None:
        unit = namespace(exact).where(_is_zero(exact), exact.dtype.type(0), unit)
    return unit


def _is_zero(x: Array) -> Array:
    """Return where an array of float32 or float64 is +0 or -0; a comparison under XLA may flush."""
    carrier = as_carrier(x)[1]
    return is_zero(bitcast(x, carrier.uint_dtype), carrier)


def _traced_ulp_error(computed: ArrayLike, exact: ArrayLike, fmt: AnyFormat, axis: int) -> Array:
    """Compute it under JAX by operations that round once and flush nothing."""
    import jax.numpy as jnp

    computed, exact = jnp.asarray(computed), jnp.asarray(exact)
    wide = "float64" if np.float64 in (computed.dtype, exact.dtype) else "float32"
    for argument, x in (("computed", computed), ("exact", exact)):
        if not np.can_cast(x.dtype, wide):
            raise TypeError(
                f"{argument} has dtype {x.dtype}; allowed under jit are floats up to {wide}"
            )
    _refuse_shapes(computed.shape, exact.shape)
    computed, exact = computed.astype(wide), exact.astype(wide)
    unit = _unit(exact, fmt, axis)
    distance = absolute(subtract(computed, exact, wide))
    ratio = divide(distance, unit, wide)
    equal = _is_zero(distance) | ((computed == exact) & jnp.isinf(exact))
    return jnp.where(equal, 0, jnp.where(jnp.isinf(distance), jnp.inf, ratio)).astype(wide)


def backward_error(c: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """Return the componentwise backward error of a matrix product, max ``|c - a b| / (|a| |b|)``.

    Parameters
    ----------
    c : array_like of float, shape (..., m, n)
        The computed product.
    a : array_like of float, shape (..., m, k)
        Left operand.
    b : array_like of float, shape (..., k, n)
        Right operand; shapes as in `numpy.matmul`.

    Returns
    -------
    float
        The maximum over all components, dimensionless; 0 if there are none. A product with k
        products and sums in unit roundoff u has at most ``gamma(k, u)``.

    Raises
    ------
    TypeError
        If an argument has a dtype that float64 does not contain.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Special values: 0 / 0 counts as 0, anything else over 0 as infinity, equal infinities as 0. NaN
    in `c`, or in the exact product, gives NaN; another mismatch of infinities gives infinity.

    Error: ``a b`` and ``|a| |b|`` are computed in float64, so the result differs from the true eta
    by at most ``gamma(3 * k + 2, "fp64") * (1 + eta)``, about 4e-13 for k = 1000, as long as no
    product or sum overflows or underflows in float64. Do not use it to judge float64 products.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, 3.1 and 3.5;
    there it is the smallest eps with ``c = a b + E``, ``|E| <= eps |a| |b|``.

    Examples
    --------
    >>> import precsim as ps
    >>> a, b = [[1.0, 2.0]], [[3.0], [-1.0]]
    >>> ps.backward_error([[1.25]], a, b)
    0.05
    """
    a, b, c = _float64(a, "a"), _float64(b, "b"), _float64(c, "c")
    try:
        with np.errstate(all="ignore"):
            exact = np.asarray(a @ b)
            scale = np.asarray(np.abs(a) @ np.abs(b))
    except ValueError:
        raise ValueError(
            f"a has shape {a.shape}, b {b.shape}; allowed are shapes that numpy.matmul multiplies"
        ) from None
    if c.shape != exact.shape:
        raise ValueError(f"c has shape {c.shape}; allowed is that of a @ b, {exact.shape}")
    return float(np.max(_ratio(_distance(c, exact), scale), initial=0.0))


def sqnr(computed: ArrayLike, exact: ArrayLike) -> float:
    """Return the signal-to-quantization-noise ratio, ``10 log10(sum(exact**2) / sum(error**2))``.

    Parameters
    ----------
    computed : array_like of float, shape (...)
        What a computation returned: NumPy or JAX, any float dtype up to float64.
    exact : array_like of float, broadcastable with `computed`
        What it should have returned, in float64 or exactly representable there.

    Returns
    -------
    float
        Ratio of powers over all elements, in decibel (dB). Six more dB are one more bit.

    Raises
    ------
    TypeError
        If an argument has a dtype that float64 does not contain.
    ValueError
        If the shapes do not broadcast.

    Notes
    -----
    Special values: infinity where there is no error at all, also if the signal is 0 or empty; minus
    infinity for an error of a zero signal, or an infinite one; NaN if any element is NaN or `exact`
    has an infinity. Error: for N elements at most (N + 3) * 1e-15 dB, plus 1e-15 relative; sums of
    squares are scaled by powers of two, so they neither overflow nor underflow.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.sqnr([1.0, 2.0], [1.0, 2.2])
    21.6435285578
    """
    exact = _float64(exact, "exact")
    distance = _distance(_float64(computed, "computed"), exact)
    exact = np.broadcast_to(exact, distance.shape)
    if np.isnan(distance).any() or np.isinf(exact).any():
        return math.nan
    if not distance.any():
        return math.inf
    if not exact.any() or np.isinf(distance).any():
        return -math.inf
    (signal, s), (noise, n) = _sum_of_squares(exact), _sum_of_squares(distance)
    return 10.0 * (math.log10(signal / noise) + 2 * (s - n) * math.log10(2.0))


def _sum_of_squares(x: np.ndarray) -> tuple[float, int]:
    """Return (s, e): the sum is s * 2**(2e), and s is between 1/4 and the number of elements."""
    exponent = math.frexp(float(np.max(np.abs(x))))[1]
    return float(np.sum(np.square(np.ldexp(x, -exponent)))), exponent


def _distance(computed: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return |computed - exact|, with 0 between equal infinities."""
    _refuse_shapes(computed.shape, exact.shape)
    with np.errstate(all="ignore"):
        return np.where(computed == exact, 0.0, np.abs(computed - exact))


def _refuse_shapes(computed: tuple[int, ...], exact: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(computed, exact)
    except ValueError:
        raise ValueError(
            f"computed has shape {computed}, exact {exact}; allowed are shapes that broadcast to one"
        ) from None


def _ratio(distance: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return distance / unit, with 0 / 0 = 0, and infinity for an infinite distance."""
    with np.errstate(all="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / unit)
    return np.where(np.isinf(distance), np.inf, ratio)


def _float64(x: ArrayLike, argument: str) -> np.ndarray:
    """Return `x` as a float64 array if that is exact."""
    if is_traced(x):
        raise TypeError(
            f"{argument} is a value that JAX traces; allowed are arrays: this measure is float64 of "
            "NumPy and does not run under jax.jit"
        )
    return np.asarray(as_carrier(x, argument)[0]).astype(np.float64)
