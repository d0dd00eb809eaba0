"""What the tests of arithmetic share: exact results as rational numbers, and comparison of bits.

Nothing here uses array arithmetic or the rounding kernel. An exact result is a `Fraction` or one of
the floats 0.0, -0.0, inf, -inf, nan. ``Fraction(0)`` is the zero of an exact cancellation, whose
sign depends on the rounding mode (IEEE 754-2019, 6.3); a zero of known sign is a float.
"""

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import gmpy2  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from precsim.arithmetic.elementwise import add, divide, fma, multiply, reciprocal, sqrt, subtract
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

Exact: TypeAlias = float | Fraction
Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]

CARRIERS = {"float32": FLOAT32, "float64": FLOAT64}
OPERATIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "add": (add, 2),
    "subtract": (subtract, 2),
    "multiply": (multiply, 2),
    "divide": (divide, 2),
    "reciprocal": (reciprocal, 1),
    "sqrt": (sqrt, 1),
    "fma": (fma, 3),
}
"""Each operation, and its number of operands."""
MPFR: dict[str, Callable[..., Any]] = {
    "add": gmpy2.add,
    "subtract": gmpy2.sub,
    "multiply": gmpy2.mul,
    "divide": gmpy2.div,
    "sqrt": gmpy2.sqrt,
    "fma": gmpy2.fma,
}
"""The same operations of MPFR; the context in force says how they round."""
_POSITIVE = [0.0, 1.0, 1.5, math.inf, 2.0**-126, 2.0**-149, 3 * 2.0**-149, 2.0**127]
SPECIAL_VALUES = np.array([*_POSITIVE, *(-v for v in _POSITIVE), math.nan])
DETERMINISTIC = tuple(mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC)


def exact_add(x: float, y: float) -> Exact:
    if not (math.isfinite(x) and math.isfinite(y)):
        return x + y
    if x == 0 and y == 0 and math.copysign(1, x) == math.copysign(1, y):
        return x
    return Fraction(x) + Fraction(y)


def exact_multiply(x: float, y: float) -> Exact:
    if x == 0 or y == 0 or not (math.isfinite(x) and math.isfinite(y)):
        return x * y
    return Fraction(x) * Fraction(y)


def exact_divide(x: float, y: float) -> Exact:
    if math.isnan(x) or math.isnan(y):
        return math.nan
    sign = math.copysign(1, x) * math.copysign(1, y)
    if y == 0:
        return math.nan if x == 0 else math.copysign(math.inf, sign)
    if x == 0 or math.isinf(x) or math.isinf(y):
        return x / y
    return Fraction(x) / Fraction(y)


def exact_sqrt(x: float) -> Exact:
    """Return the root, or a rational number between the same two multiples of 2**-200 of it.

    That is enough to round the root: no format here is finer, and no value of one lies between.
    """
    if math.isnan(x) or x < 0:
        return math.nan
    if x == 0 or math.isinf(x):
        return x
    # Twice the exponent of a float64 is below 2**12, so the scaled integer root has over 200 bits.
    radicand = Fraction(x) * (1 << 4096)
    root = math.isqrt(radicand.numerator)
    is_exact = root * root == radicand.numerator
    return Fraction(2 * root + (not is_exact), 1 << 2049)


def exact_fma(x: float, y: float, z: float) -> Exact:
    product = exact_multiply(x, y)
    if isinstance(product, float):
        return product + z if math.isnan(product) else exact_add(product, z)
    return product + Fraction(z) if math.isfinite(z) else z


EXACT: dict[str, Callable[..., Exact]] = {
    "add": exact_add,
    "subtract": lambda x, y: exact_add(x, -y),
    "multiply": exact_multiply,
    "divide": exact_divide,
    "reciprocal": lambda x: exact_divide(1.0, x),
    "sqrt": exact_sqrt,
    "fma": exact_fma,
}


def rounded(exact: Exact, spec: RoundingSpec, random_bits: int = 0) -> float:
    """Round an exact result by the oracle."""
    if isinstance(exact, Fraction) and exact == 0:
        exact = -0.0 if spec.mode is RoundingMode.TOWARD_NEGATIVE else 0.0
    return round_exact(exact, spec, random_bits=random_bits).value


@lru_cache(maxsize=64)
def _within(spec: RoundingSpec, carrier: Carrier, is_tiny: bool) -> RoundingSpec:
    """Give a format of unlimited range the carrier's range, all that the carrier can hold."""
    p = spec.format.precision if isinstance(spec.format, FloatFormat) else 0
    bits, bias = carrier.exponent_bits, carrier.bias
    if is_tiny:  # p bits, or as many as the carrier's subnormals still have
        bias = 2 - carrier.lsb_min - p
    limited = FloatFormat(name="limited", precision=p, exponent_bits=bits, bias=bias)
    return RoundingSpec(
        format=limited,
        mode=spec.mode,
        num_random_bits=spec.num_random_bits,
        stochastic_variant=spec.stochastic_variant,
    )


def expected_in(exact: Exact, spec: RoundingSpec, carrier: Carrier, random_bits: int = 0) -> float:
    """Round an exact result as far as a carrier can tell: like `rounded`, but for two cases.

    A format of unlimited range ends where the carrier ends. Wrapping a result too large for the
    carrier to know its low bits gives NaN (`OverflowMode.WRAP`): beyond ``2**p`` steps of the
    format (p: the carrier's precision), and inexact even with as many bits more as the carrier is
    wide.
    """
    fmt = spec.format
    if isinstance(exact, Fraction) and exact != 0:
        if isinstance(fmt, FloatFormat) and fmt.exponent_bits is None:
            is_tiny = abs(exact) < Fraction(2) ** carrier.emin
            return rounded(exact, _within(spec, carrier, is_tiny), random_bits)
        if spec.overflow is OverflowMode.WRAP and isinstance(fmt, FixedPointFormat):
            size = abs(exact)
            lead = size.numerator.bit_length() - size.denominator.bit_length()
            lead -= Fraction(2) ** lead > size
            lsb = max(lead, carrier.emin) - carrier.trailing
            is_known = (exact / Fraction(2) ** (lsb - carrier.width)).denominator == 1
            if lead > carrier.bias or (lsb > -fmt.fraction_bits and not is_known):
                return math.nan
    return rounded(exact, spec, random_bits)


def mpfr_context(fmt: FloatFormat, rounding: int = gmpy2.RoundToNearest) -> Any:
    """Return a context of MPFR with the precision, exponents and subnormals of a format."""
    if fmt.exponent_bits is None:
        return gmpy2.context(precision=fmt.precision, round=rounding)
    # MPFR's significands lie in [1/2, 1), so its exponents are one larger.
    return gmpy2.context(
        precision=fmt.precision,
        emax=fmt.emax + 1,
        emin=fmt.emin - fmt.precision + 2,
        subnormalize=True,
        round=rounding,
    )


def bits_of(x: Any) -> Floats:
    """Return the patterns of an array of carrier values; every NaN as the same one."""
    x = np.asarray(x)
    unsigned = np.uint32 if x.dtype == np.float32 else np.uint64
    return np.where(np.isnan(x), np.iinfo(unsigned).max, x.view(unsigned))


def assert_same_bits(got: Any, expected: Any, *operands: Any, note: object = "") -> None:
    """Compare bits (NaN equals NaN), and name the first input that differs."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    differ = np.flatnonzero(bits_of(got) != bits_of(expected))
    if differ.size:
        k = differ[0]
        inputs = [float(np.broadcast_to(x, got.shape).flat[k]).hex() for x in operands]
        raise AssertionError(
            f"{note} {differ.size} of {got.size} differ, first {inputs}: got "
            f"{float(got.flat[k]).hex()}, expected {float(expected.flat[k]).hex()}"
        )


def patterns(rng: np.random.Generator, size: int, dtype: Any) -> Floats:
    """Return random bit patterns of float16, float32 or float64: all exponents, infinities, NaN."""
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    whole: Floats = rng.integers(0, np.iinfo(unsigned).max, size, dtype=unsigned, endpoint=True)
    return whole.view(dtype)


def finite_values(fmt: str) -> Floats:
    """Return every finite value of a narrow format in order of codes, float64; -0 included."""
    codes = np.arange(1 << (ps.get_format(fmt).width or 0), dtype=np.uint32)
    values: Floats = ps.decode(codes, fmt)
    return np.asarray(values[np.isfinite(values)], np.float64)


@lru_cache(maxsize=1 << 17)
def _rounded_pattern(pattern: int, spec: RoundingSpec) -> float:
    """Round a float64 given by its bits, since +0 and -0 are equal but not the same."""
    return rounded(struct.unpack("d", struct.pack("Q", pattern))[0], spec)


def round_each(exact: Floats, spec: RoundingSpec, quotients: Sequence[Floats] = ()) -> Floats:
    """Round exact float64 results by the oracle, each distinct one once.

    With `quotients` (x, y), `exact` are the float64 quotients, which then only serve to find equal
    ones.
    """
    _, first, inverse = np.unique(exact.view(np.uint64), return_index=True, return_inverse=True)
    results = [
        rounded(exact_divide(*(float(x.flat[k]) for x in quotients)), spec)
        if len(quotients)
        else _rounded_pattern(int(exact.view(np.uint64).flat[k]), spec)
        for k in first
    ]
    return np.array(results)[inverse].reshape(exact.shape)


def everywhere(function: Callable[..., Any], x: Floats, y: Floats) -> dict[str, Any]:
    """Results by NumPy, eager JAX, NumPy beside JAX, and jit of vmap."""
    with jax.enable_x64(x.dtype == np.float64):
        a, b = jnp.asarray(x), jnp.asarray(y)
        results = {
            "eager": function(a, b),
            "mixed": function(a, y),
            "jit(vmap)": jax.jit(jax.vmap(function))(a, b),
        }
        assert all(isinstance(v, jax.Array) for v in results.values())
        return {"numpy": function(x, y), **{way: np.asarray(v) for way, v in results.items()}}
