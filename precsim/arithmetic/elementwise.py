"""Elementwise operations whose exact result is rounded once."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, is_jax, namespace
from precsim.arithmetic import exact
from precsim.formats.carrier import Carrier, as_carrier
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.kernel.limits import limits
from precsim.rounding.kernel.wide import Packed
from precsim.rounding.round_to import as_random_bits
from precsim.rounding.spec import RoundingMode, RoundingSpec, SpecLike


def add(x: Any, y: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
        If the operands are not float32 or float64, or differ in dtype, or `random_bits` are no integers.

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
    return _apply(exact.add_bits, operator.add, (x, y), spec, random_bits)


def subtract(x: Any, y: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
    return _apply(exact.subtract_bits, operator.sub, (x, y), spec, random_bits)


def multiply(x: Any, y: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
        The rounded product; error, gradient and exceptions as in `add`. About 100 integer operations
        per element.

    Notes
    -----
    Special values: 0 * infinity is NaN; the sign is the exclusive or of the signs. Products below or
    beyond the carrier's range are rounded from their exact value too.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.multiply(3.0, 0.34375, "e4m3").item()
    1.0
    """
    return _apply(exact.multiply_bits, operator.mul, (x, y), spec, random_bits)


def divide(x: Any, y: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
        The rounded quotient; error, gradient and exceptions as in `add`. About 150 integer operations
        per element, 7 (float32) or 10 (float64) of them integer divisions.

    Notes
    -----
    Special values: 0 / 0 and infinity / infinity are NaN; x / 0 is an infinity with the exclusive or of
    the signs (IEEE 754-2019, 7.3), then `round_to`'s rules for infinite inputs.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.divide(1.0, [3.0, 0.0], "bf16").tolist()
    [0.333984375, inf]
    """
    return _apply(exact.divide_bits, operator.truediv, (x, y), spec, random_bits)


def reciprocal(x: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
    return _apply(exact.reciprocal_bits, _unrounded_reciprocal, (x,), spec, random_bits)


def sqrt(x: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
    return _apply(exact.sqrt_bits, _unrounded_sqrt, (x,), spec, random_bits)


def fma(x: Any, y: Any, z: Any, spec: SpecLike, *, random_bits: Any = None) -> Array:
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
    Special values: 0 * infinity + z is NaN, also for a NaN z; infinities of opposite signs give NaN; an
    exact cancellation gives +0, or -0 in mode rtn (IEEE 754-2019, 5.4.1, 6.3, 7.2).

    Examples
    --------
    The product below is 30720, exactly half way between two values; the addend breaks the tie:

    >>> import precsim as ps
    >>> ps.fma(160.0, 192.0, -(2.0**-16), "e5m2").item()
    28672.0
    """
    return _apply(exact.fma_bits, _unrounded_fma, (x, y, z), spec, random_bits)


def _unrounded_reciprocal(x: Array) -> Array:
    return 1.0 / x


def _unrounded_sqrt(x: Array) -> Array:
    return namespace(x).sqrt(x)


def _unrounded_fma(x: Array, y: Array, z: Array) -> Array:
    return x * y + z


BitsFunction = Callable[..., Packed]


def _apply(
    function: BitsFunction,
    unrounded: Callable[..., Array],
    operands: tuple[Any, ...],
    spec: SpecLike,
    random_bits: Any,
) -> Array:
    """Bring operands to one carrier and one shape, run the operation, round."""
    spec = RoundingSpec.parse(spec)
    operands, carrier = common_carrier(operands)
    limits(spec, carrier)
    random_bits = as_random_bits(random_bits, operands, carrier, spec)
    if any(map(is_jax, (*operands, random_bits))):
        from precsim.arithmetic.compiled import apply_compiled

        return apply_compiled(function, unrounded, operands, random_bits, spec)
    return apply_operation(function, operands, random_bits, spec, carrier)


def call(function: Callable[..., Array], option: Any, *arrays: Array) -> Array:
    """Call a function of one hashable option and of arrays; compiled if one of them is JAX's."""
    if not any(map(is_jax, arrays)):
        return function(option, *arrays)
    from precsim.arithmetic.compiled import call_compiled

    return call_compiled(function, option, *arrays)


def common_carrier(operands: tuple[Any, ...]) -> tuple[tuple[Array, ...], Carrier]:
    """Return operands as arrays of one carrier, and that carrier."""
    typed = [x for x in operands if hasattr(x, "dtype")]
    if typed:
        # Python numbers take the dtype of the arrays beside them, when that is exact.
        dtype = typed[0].dtype
        operands = tuple(x if hasattr(x, "dtype") else exactly(x, dtype) for x in operands)
    pairs = [as_carrier(x, name) for x, name in zip(operands, "xyz", strict=False)]
    carriers = {carrier.name for _, carrier in pairs}
    if len(carriers) > 1:
        raise TypeError(
            f"operands have dtypes {', '.join(sorted(carriers))}; allowed is one carrier for all"
        )
    return tuple(array for array, _ in pairs), pairs[0][1]


def exactly(x: Any, dtype: Any) -> np.ndarray:
    """Return Python numbers as an array of a dtype that has them; refuse any other."""
    given = np.asarray(x)
    with np.errstate(over="ignore", under="ignore"):
        narrow = given.astype(np.float64).astype(dtype)
    # As Python objects, numbers of any type compare exactly; NaN differs from itself.
    given = given.astype(object)
    if not np.all((given == narrow.astype(object)) | (given != given)):  # noqa: PLR0124
        raise TypeError(
            f"{x!r} is not exact in the {dtype} of the other operands; convert it first"
        )
    return narrow


def apply_operation(
    function: BitsFunction,
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array:
    """Run an operation on bit patterns and round its exact result."""
    xp = namespace(*operands)
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    bits = [bitcast(xp.broadcast_to(x, shape), carrier.uint_dtype).reshape(-1) for x in operands]
    if random_bits is not None:
        random_bits = xp.broadcast_to(xp.asarray(random_bits), shape).reshape(-1)
    result = function(*bits, carrier, spec.mode is RoundingMode.TOWARD_NEGATIVE)
    rounded = round_bits(
        result.bits, spec, carrier, tail=result.tail, rest=result.rest, random_bits=random_bits
    )
    return bitcast(rounded, carrier.float_dtype).reshape(shape)
