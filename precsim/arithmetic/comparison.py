"""Comparisons, on bit patterns: XLA flushes float32 subnormals in its own ones on the CPU."""

from collections.abc import Callable

from precsim._arrays import Array, ArrayLike, bitcast, common_shape, namespace
from precsim._calls import call_elementwise
from precsim.arithmetic.operation import common_carrier
from precsim.formats.carrier import Carrier, as_carrier, is_nan, select


def equal(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x = y, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        The truth of it for each pair; jax if one of the operands is.

    Raises
    ------
    TypeError
        If the operands have dtypes that `round_to` does not take, or differ in carrier.

    Notes
    -----
    Special values: -0 equals +0; NaN equals nothing, not even itself (IEEE 754-2019, 5.11,
    compareQuietEqual). Exact, also for subnormals; not differentiable.
    Cost: about 10 integer operations per element.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.equal([0.0, 1.0, float("nan")], [-0.0, 2.0, float("nan")]).tolist()
    [True, False, False]
    """
    return _compare(_equal, x, y)


def not_equal(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x and y differ, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    Special values: true where an operand is NaN (IEEE 754-2019, 5.11, compareQuietNotEqual).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.not_equal([0.0, 1.0, float("nan")], [-0.0, 2.0, float("nan")]).tolist()
    [False, True, True]
    """
    return _compare(_not_equal, x, y)


def less(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x < y, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    Special values: false where an operand is NaN; -0 is not below +0 (IEEE 754-2019,
    5.11, compareQuietLess).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.less([-0.0, 1.0, 2.0**-149], [0.0, float("nan"), 2.0**-148]).tolist()
    [False, False, True]
    """
    return _compare(_less, x, y)


def less_equal(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x <= y, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    Special values: false where an operand is NaN; +0 <= -0 (IEEE 754-2019,
    5.11, compareQuietLessEqual).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.less_equal([0.0, 1.0], [-0.0, float("nan")]).tolist()
    [True, False]
    """
    return _compare(_less_equal, x, y)


def greater(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x > y, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    Special values: false where an operand is NaN; +0 is not above -0 (IEEE 754-2019,
    5.11, compareQuietGreater).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.greater([0.0, 1.0, 3.0], [-0.0, float("nan"), 2.0]).tolist()
    [False, False, True]
    """
    return _compare(_greater, x, y)


def greater_equal(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x >= y, elementwise.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    Special values: false where an operand is NaN; -0 >= +0 (IEEE 754-2019,
    5.11, compareQuietGreaterEqual).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.greater_equal([-0.0, 1.0], [0.0, float("nan")]).tolist()
    [True, False]
    """
    return _compare(_greater_equal, x, y)


def total_order(x: ArrayLike, y: ArrayLike) -> Array:
    """Return whether x comes before y, or is the same, in the total order of IEEE 754.

    Parameters
    ----------
    x, y : array_like of float, shapes that broadcast to (...)
        Carrier values of one dtype, float32 or float64 (a Python number takes the other's dtype).

    Returns
    -------
    ndarray or jax.Array of bool, shape (...)
        As for `equal`, also exceptions and cost.

    Notes
    -----
    The order (IEEE 754-2019, 5.10): quiet NaN with sign, signalling NaN with sign, -infinity,
    negative numbers, -0, +0, positive numbers, +infinity, signalling NaN, quiet NaN. Of two NaN of
    one sign and kind, the one of larger payload is farther from zero. It is true both ways only for
    the same bits.

    Examples
    --------
    >>> import precsim as ps
    >>> nan = float("nan")
    >>> ps.ieee.total_order([-0.0, 0.0, 1.0, -nan], [0.0, -0.0, nan, 1.0]).tolist()
    [True, False, True, True]
    """
    return _compare(is_in_order, x, y)


BitsPredicate = Callable[[Array, Array, Carrier], Array]


def _compare(predicate: BitsPredicate, x: ArrayLike, y: ArrayLike) -> Array:
    operands, _ = common_carrier((x, y))
    return call_elementwise(apply_predicate, predicate, *operands)


def apply_predicate(predicate: BitsPredicate, x: Array, y: Array) -> Array:
    """Apply a predicate of bit patterns to carrier values."""
    carrier = as_carrier(x)[1]
    xp = namespace(x, y)
    shape = common_shape(x, y)
    x, y = (bitcast(xp.broadcast_to(v, shape), carrier.uint_dtype).reshape(-1) for v in (x, y))
    return predicate(x, y, carrier).reshape(shape)


def _order(bits: Array, carrier: Carrier) -> Array:
    """Return unsigned integers in the total order of the patterns."""
    sign = carrier.uint(carrier.sign_bit)
    return select(bits >= sign, ~bits, bits | sign)


def _value_order(bits: Array, carrier: Carrier) -> Array:
    """Return unsigned integers in the order of the values: -0 as +0."""
    sign = carrier.uint(carrier.sign_bit)
    return _order(select(bits == sign, carrier.uint(0), bits), carrier)


def _is_unordered(x: Array, y: Array, carrier: Carrier) -> Array:
    return is_nan(x, carrier) | is_nan(y, carrier)


def _equal(x: Array, y: Array, carrier: Carrier) -> Array:
    same = _value_order(x, carrier) == _value_order(y, carrier)
    return same & ~_is_unordered(x, y, carrier)


def _not_equal(x: Array, y: Array, carrier: Carrier) -> Array:
    return ~_equal(x, y, carrier)


def _less(x: Array, y: Array, carrier: Carrier) -> Array:
    below = _value_order(x, carrier) < _value_order(y, carrier)
    return below & ~_is_unordered(x, y, carrier)


def _less_equal(x: Array, y: Array, carrier: Carrier) -> Array:
    not_above = _value_order(x, carrier) <= _value_order(y, carrier)
    return not_above & ~_is_unordered(x, y, carrier)


def _greater(x: Array, y: Array, carrier: Carrier) -> Array:
    return _less(y, x, carrier)


def _greater_equal(x: Array, y: Array, carrier: Carrier) -> Array:
    return _less_equal(y, x, carrier)


def is_in_order(x: Array, y: Array, carrier: Carrier) -> Array:
    """Return where x is not after y in the total order, for bit patterns."""
    return _order(x, carrier) <= _order(y, carrier)
