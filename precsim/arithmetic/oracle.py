"""The definition of the operations, one result at a time, in exact rational arithmetic.

This is the text to read first: it says in a few lines which results, and which exceptions of IEEE
754, every array operation of precsim stands for.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from precsim.formats.arguments import not_allowed
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.reals import Real, RealLike, is_infinite, is_nan, is_negative, real
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import Flags, Rounded, round_exact
from precsim.rounding.spec import RoundingSpec, SpecLike


class Exact(NamedTuple):
    """An exact result, before it is rounded, and the exceptions that the operands signal."""

    value: Real
    flags: Flags = Flags.NONE


def compute_exact(
    operation: str, *operands: RealLike, spec: SpecLike, random_bits: int = 0
) -> Rounded:
    """Compute one operation, exactly as the standards define it.

    Parameters
    ----------
    operation : str
        One of "add", "subtract", "multiply", "divide", "reciprocal", "sqrt", "fma".
    *operands : float, int, Fraction or Decimal
        One, two or three numbers, in the format or not; -0, infinity and NaN too, and scalars of
        NumPy and JAX.
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : int
        R of mode "sr"; only its low `num_random_bits` bits are used.

    Returns
    -------
    Rounded
        Pair (value, flags).

    Raises
    ------
    ValueError
        If there is no such operation, or the number of operands is wrong.
    TypeError
        If an operand is no number.

    Notes
    -----
    Flags (IEEE 754-2019, clause 7): INVALID for 0 * infinity, infinity - infinity, 0 / 0, infinity
    / infinity and the root of a negative number; DIVIDE_BY_ZERO for x / 0 with a finite x other
    than 0; then those of `round_exact`: OVERFLOW, UNDERFLOW (tininess after rounding), INEXACT, and
    INVALID where the format has no such value. NaN operands are quiet: they signal nothing, also
    not in fma(0, infinity, NaN), where the standard leaves the choice (7.2 c).

    Error: none before the one rounding; the root is an integer square root with a sticky bit.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.oracle.compute_exact("divide", 1.0, 3.0, spec="fp16")
    Rounded(value=0.333251953125, flags=<Flags.INEXACT: 1>)
    >>> ps.oracle.compute_exact("divide", 1.0, 0.0, spec="fp16")
    Rounded(value=inf, flags=<Flags.DIVIDE_BY_ZERO: 8>)
    >>> ps.oracle.compute_exact("sqrt", -1.0, spec="fp16").flags.name
    'INVALID'
    """
    spec = RoundingSpec.parse(spec)
    exact = unrounded(operation, *operands, spec=spec)
    value, flags = round_exact(exact.value, spec, random_bits=random_bits)
    return Rounded(value, flags | exact.flags)


def unrounded(operation: str, *operands: RealLike, spec: RoundingSpec) -> Exact:
    """Return what `compute_exact` rounds; of a root the leading bits, and a sticky one.

    Examples
    --------
    >>> unrounded("divide", 1, 3, spec=RoundingSpec.parse("fp16")).value
    Fraction(1, 3)
    """
    refuse_scaled(spec.format, "spec")
    if operation not in _OPERATIONS:
        raise not_allowed("operation", operation, _OPERATIONS)
    function, arity = _OPERATIONS[operation]
    if len(operands) != arity:
        raise ValueError(f"{operation} got {len(operands)} operands; allowed are {arity}")
    numbers = [real(x, f"operand {k}") for k, x in enumerate(operands, 1)]
    return Exact(math.nan) if any(map(is_nan, numbers)) else function(*numbers, spec)


def _add(x: Real, y: Real, spec: RoundingSpec) -> Exact:
    if is_infinite(x) and is_infinite(y) and x != y:
        return _INVALID
    if is_infinite(x) or is_infinite(y):
        return Exact(x if is_infinite(x) else y)
    if x == 0 == y and is_negative(x) == is_negative(y):
        return Exact(x)
    total = Fraction(x) + Fraction(y)
    # An exact cancellation has no sign of its own (6.3).
    zero = -0.0 if spec.mode is RoundingMode.TOWARD_NEGATIVE else 0.0
    return Exact(total or zero)


def _subtract(x: Real, y: Real, spec: RoundingSpec) -> Exact:
    return _add(x, -y, spec)


def _multiply(x: Real, y: Real, spec: RoundingSpec) -> Exact:
    if (is_infinite(x) and y == 0) or (x == 0 and is_infinite(y)):
        return _INVALID
    if is_infinite(x) or is_infinite(y):
        return Exact(_signed(math.inf, x, y))
    return Exact(Fraction(x) * Fraction(y) or _signed(0.0, x, y))


def _divide(x: Real, y: Real, spec: RoundingSpec) -> Exact:
    if (x == 0 == y) or (is_infinite(x) and is_infinite(y)):
        return _INVALID
    if is_infinite(x):
        return Exact(_signed(math.inf, x, y))
    if y == 0:
        return Exact(_signed(math.inf, x, y), Flags.DIVIDE_BY_ZERO)
    if x == 0 or is_infinite(y):
        return Exact(_signed(0.0, x, y))
    return Exact(Fraction(x) / Fraction(y))


def _reciprocal(x: Real, spec: RoundingSpec) -> Exact:
    return _divide(Fraction(1), x, spec)


def _sqrt(x: Real, spec: RoundingSpec) -> Exact:
    if x == 0:
        return Exact(x)
    if is_negative(x):
        return _INVALID
    if is_infinite(x):
        return Exact(x)
    x = Fraction(x)
    # With this many bits after the binary point every value of the format, every half way point
    # and every threshold of 32 random bits is an integer.
    exponent = (x.numerator.bit_length() - x.denominator.bit_length()) // 2
    fraction_bits = spec.format.fraction_bits if isinstance(spec.format, FixedPointFormat) else 0
    bits = 128 + max(0, fraction_bits, -exponent)
    scaled = x * 4**bits
    root = math.isqrt(math.floor(scaled))
    sticky = root * root != scaled
    return Exact(Fraction(2 * root + sticky, 2 << bits))


def _fma(x: Real, y: Real, z: Real, spec: RoundingSpec) -> Exact:
    product = _multiply(x, y, spec)
    return product if product is _INVALID else _add(product.value, z, spec)


_INVALID = Exact(math.nan, Flags.INVALID)
_OPERATIONS: dict[str, tuple[Callable[..., Exact], int]] = {
    "add": (_add, 2),
    "subtract": (_subtract, 2),
    "multiply": (_multiply, 2),
    "divide": (_divide, 2),
    "reciprocal": (_reciprocal, 1),
    "sqrt": (_sqrt, 1),
    "fma": (_fma, 3),
}


def _signed(size: float, x: Real, y: Real) -> float:
    """Give a result the exclusive or of the operands' signs."""
    return -size if is_negative(x) != is_negative(y) else size
