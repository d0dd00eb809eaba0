"""Elementwise operations whose exact result is rounded once."""

import operator

from precsim._arrays import Array, ArrayLike, namespace
from precsim.arithmetic import exact
from precsim.arithmetic.operation import apply
from precsim.arithmetic.signatures import binary, ternary, unary
from precsim.rounding.spec import SpecLike


@binary
def add(
    x: ArrayLike, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
) -> Array:
    """Return x + y, rounded once.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded sum, in the operands' dtype; jax if one of the operands is.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, or `random_bits` are missing in mode sr.
    TypeError
        If the operands have dtypes that `round_to` does not take, or differ in carrier, or
        `random_bits` are not integers.

    Notes
    -----
    The operands are taken as they are, in the format or not; the exact sum is rounded once, so no
    double rounding occurs, whatever the carrier.

    Special values: infinity - infinity is NaN; an exact cancellation gives +0, or -0 in mode rtn
    (IEEE 754-2019, 6.1 to 6.3); then `round_to`'s rules.

    Error: that of one rounding. Gradient: that of the unrounded operation (straight-through).
    Cost: about 150 integer operations per element.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.add(2048.0, 1.0, "fp16").item(), ps.add(2048.0, 3.0, "fp16").item()
    (2048.0, 2052.0)
    """
    return apply(exact.add_bits, operator.add, (x, y), spec, random_bits)


@binary
def subtract(
    x: ArrayLike, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
) -> Array:
    """Return x - y, rounded once.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded difference; special values, error, gradient, cost and exceptions as in `add`.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.subtract(1.0, 2**-12, "fp16").item(), ps.subtract(1.0, 2**-12, "fp16:rtz").item()
    (1.0, 0.99951171875)
    """
    return apply(exact.subtract_bits, operator.sub, (x, y), spec, random_bits)


@binary
def multiply(
    x: ArrayLike, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
) -> Array:
    """Return x * y, rounded once.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded product; error, gradient and exceptions as in `add`. About 100 integer
        operations per element.

    Notes
    -----
    Special values: 0 * infinity is NaN; the sign is the exclusive or of the signs. Products below
    or beyond the carrier's range are rounded from their exact value too.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.multiply(3.0, 0.34375, "e4m3").item()
    1.0
    """
    return apply(exact.multiply_bits, operator.mul, (x, y), spec, random_bits)


@binary
def divide(
    x: ArrayLike, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
) -> Array:
    """Return x / y, rounded once.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded quotient; error, gradient and exceptions as in `add`. About 150 integer
        operations per element, 7 (float32) or 10 (float64) of them integer divisions.

    Notes
    -----
    Special values: 0 / 0 and infinity / infinity are NaN; x / 0 is an infinity with the exclusive
    or of the signs (IEEE 754-2019, 7.3), then `round_to`'s rules for infinite inputs.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.divide(1.0, [3.0, 0.0], "bf16").tolist()
    [0.333984375, inf]
    """
    return apply(exact.divide_bits, operator.truediv, (x, y), spec, random_bits)


@unary
def reciprocal(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return 1 / x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded reciprocal, the same bits as ``divide(1.0, x, spec)``; special values, error,
        gradient, cost and exceptions as there.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.reciprocal([3.0, -0.0], "fp16").tolist()
    [0.333251953125, -inf]
    """
    return apply(exact.reciprocal_bits, _unrounded_reciprocal, (x,), spec, random_bits)


@unary
def sqrt(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return the square root of x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded root; error, gradient and exceptions as in `add`. About 900 (float32) or 1,300
        (float64) integer operations per element.

    Notes
    -----
    Special values: the root of a negative number is NaN, of -0 it is -0 (IEEE 754-2019, 6.3, 7.2).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.sqrt(2.0, "fp16").item(), ps.sqrt(2.0, "fp16:rtp").item()
    (1.4140625, 1.4150390625)
    """
    return apply(exact.sqrt_bits, _unrounded_sqrt, (x,), spec, random_bits)


@ternary
def fma(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    spec: SpecLike,
    *,
    random_bits: ArrayLike | None = None,
) -> Array:
    """Return x * y + z, rounded once (fused multiply-add).

    Parameters
    ----------
    x, y, z : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result; error, gradient and exceptions as in `add`. About 250 integer operations
        per element.

    Notes
    -----
    Special values: 0 * infinity + z is NaN, also for a NaN z; infinities of opposite signs give
    NaN; an exact cancellation gives +0, or -0 in mode rtn (IEEE 754-2019, 5.4.1, 6.3, 7.2).

    Examples
    --------
    The product below is 30720, exactly half way between two values; the addend breaks the tie:

    >>> import precsim as ps
    >>> ps.fma(160.0, 192.0, -(2.0**-16), "e5m2").item()
    28672.0
    """
    return apply(exact.fma_bits, _unrounded_fma, (x, y, z), spec, random_bits)


def _unrounded_reciprocal(x: Array) -> Array:
    return 1.0 / x


def _unrounded_sqrt(x: Array) -> Array:
    return namespace(x).sqrt(x)


def _unrounded_fma(x: Array, y: Array, z: Array) -> Array:
    return x * y + z
