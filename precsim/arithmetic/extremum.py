"""Minimum and maximum of two operands, chosen by their bit patterns."""

import numpy as np

from precsim._arrays import Array, ArrayLike, namespace
from precsim._calls import call_elementwise
from precsim.arithmetic.comparison import BitsPredicate, apply_predicate, is_in_order
from precsim.arithmetic.operation import common_carrier
from precsim.formats.carrier import Carrier, is_nan


def minimum(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the smaller of x and y; NaN if one of them is.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array, shape (...)
        One of the operands, so no rounding takes place; jax if one of the operands is.

    Raises
    ------
    TypeError
        If the operands have dtypes that `round_to` does not take, or differ in carrier.

    Notes
    -----
    Special values: NaN where an operand is NaN (quiet, no payload); -0 is below +0
    (IEEE 754-2019, 9.6, minimum).

    Gradient: that of the operand which is returned; of operands with the same bits, x. Zero where
    the result is NaN. Cost: about 10 integer operations per element.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.minimum([0.0, 1.0, 3.0], [-0.0, float("nan"), 2.0]).tolist()
    [-0.0, nan, 2.0]
    """
    return _choose(_minimum, x, y)


def maximum(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the larger of x and y; NaN if one of them is.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array, shape (...)
        As for `minimum`, also gradient, exceptions and cost.

    Notes
    -----
    Special values: NaN where an operand is NaN (quiet, no payload); -0 is below +0
    (IEEE 754-2019, 9.6, maximum).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.maximum([0.0, 1.0, 3.0], [-0.0, float("nan"), 2.0]).tolist()
    [0.0, nan, 3.0]
    """
    return _choose(_maximum, x, y)


def minimum_number(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the smaller of x and y; a number goes before NaN.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array, shape (...)
        As for `minimum`, also gradient, exceptions and cost.

    Notes
    -----
    Special values: a number where one operand is NaN, NaN where both are; -0 is below +0
    (IEEE 754-2019, 9.6, minimumNumber).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.minimum_number([0.0, 1.0, 3.0], [-0.0, float("nan"), 2.0]).tolist()
    [-0.0, 1.0, 2.0]
    """
    return _choose(_minimum_number, x, y)


def maximum_number(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the larger of x and y; a number goes before NaN.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array, shape (...)
        As for `minimum`, also gradient, exceptions and cost.

    Notes
    -----
    Special values: a number where one operand is NaN, NaN where both are; -0 is below +0
    (IEEE 754-2019, 9.6, maximumNumber).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.maximum_number([0.0, 1.0, 3.0], [-0.0, float("nan"), 2.0]).tolist()
    [0.0, 1.0, 3.0]
    """
    return _choose(_maximum_number, x, y)


def _choose(is_first: BitsPredicate, x: ArrayLike, y: ArrayLike) -> Array:
    operands, _ = common_carrier((x, y))
    return call_elementwise(_chosen, is_first, *operands)


def _chosen(is_first: BitsPredicate, x: Array, y: Array) -> Array:
    """Return x where `is_first` holds, else y; the canonical NaN for a NaN."""
    xp = namespace(x, y)
    chosen = xp.where(apply_predicate(is_first, x, y), x, y)
    return xp.where(apply_predicate(_is_nan, chosen, chosen), chosen.dtype.type(np.nan), chosen)


def _is_nan(x: Array, y: Array, carrier: Carrier) -> Array:
    return is_nan(x, carrier) | is_nan(y, carrier)


def _minimum(x: Array, y: Array, carrier: Carrier) -> Array:
    """Return where x is the result."""
    return is_nan(x, carrier) | (~is_nan(y, carrier) & is_in_order(x, y, carrier))


def _maximum(x: Array, y: Array, carrier: Carrier) -> Array:
    return is_nan(x, carrier) | (~is_nan(y, carrier) & is_in_order(y, x, carrier))


def _minimum_number(x: Array, y: Array, carrier: Carrier) -> Array:
    return is_nan(y, carrier) | (~is_nan(x, carrier) & is_in_order(x, y, carrier))


def _maximum_number(x: Array, y: Array, carrier: Carrier) -> Array:
    return is_nan(y, carrier) | (~is_nan(x, carrier) & is_in_order(y, x, carrier))
