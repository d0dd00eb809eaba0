"""Rounding of float32 arrays to nearest by two float32 additions, for loops that round often.

With S = 2**(e + 24 - p), where 2**e is the leading power of two of |x|, the last place of S is that
of a number with precision p, and so ``(|x| + S) - S`` is |x| rounded to p bits, ties to even. Below
the smallest normal number e stays. The integer kernel remains the definition: this returns its bits
for every x that is a multiple of 2**-126 (nothing that a processor may flush to zero) and either
below `limit` or not finite.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array, absolute
from precsim._calls import kept_apart
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.kernel.limits import is_coarse, limits
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec

_U, _I = np.uint32, np.int32
_SIGNIFICAND = (1 << FLOAT32.trailing) - 1


@lru_cache
def applies(spec: RoundingSpec) -> bool:
    """Return whether `round_by_adding` covers a spec: rne, with signed zeros and subnormals."""
    fmt = spec.format
    if not isinstance(fmt, FloatFormat) or spec.mode is not RoundingMode.TIES_TO_EVEN:
        return False
    # S must be at least twice |x|, and precision 1 has rules of its own.
    if not 2 <= fmt.precision <= 22 or not (fmt.is_signed and fmt.has_negative_zero):
        return False
    if fmt.exponent_bits is not None and fmt.emin < FLOAT32.emin:
        return False
    if not fmt.has_zero or is_coarse(spec) or spec.subnormals is not SubnormalMode.GRADUAL:
        return False
    # One pattern for all that is too large, infinities included (a format without bounds has
    # infinities).
    far = np.array([FLOAT32.infinity - 1, FLOAT32.infinity], _U)
    magnitudes = _rounded(np.concatenate([far, far | _U(FLOAT32.sign_bit)]), spec)
    magnitudes &= _U(FLOAT32.sign_bit - 1)
    nan = _rounded(np.array([FLOAT32.quiet_nan], _U), spec)[0]
    return bool((magnitudes == magnitudes[0]).all()) and nan > FLOAT32.infinity


def _rounded(bits: np.ndarray, spec: RoundingSpec) -> np.ndarray:
    return np.asarray(round_array(bits.view(np.float32), None, spec)).view(_U)


def too_large(spec: RoundingSpec) -> np.float32:
    """Return what stands for every positive number beyond the format's range."""
    return np.float32(_rounded(np.array([FLOAT32.infinity], _U), spec).view(np.float32)[0])


def limit(spec: RoundingSpec) -> int:
    """Return n, where |x| has to be below 2**n unless it is not finite."""
    assert isinstance(spec.format, FloatFormat)
    return FLOAT32.bias - (FLOAT32.precision - spec.format.precision)


def round_by_adding(x: Array, spec: RoundingSpec, *, has_negative_zero: bool = True) -> Array:
    """Round a float32 array under JAX; NaN keeps its payload, where the kernel returns one pattern.

    6 (bf16, tf32) to 9 operations; 2 for fp16 on a CPU, whose own conversion rounds. A caller that
    knows of no -0 in x saves two of the 6.
    """
    if spec != RoundingSpec(format=get_format("fp16")):
        return by_adding(x, spec, has_negative_zero=has_negative_zero)

    def converted(x: Array) -> Array:
        # The barrier keeps the pair of conversions, which XLA would else be free to leave out.
        return kept_apart(x.astype(jnp.float16)).astype(jnp.float32)

    rounded: Array = lax.platform_dependent(x, cpu=converted, default=lambda x: by_adding(x, spec))
    return rounded


def by_adding(x: Array, spec: RoundingSpec, *, has_negative_zero: bool = True) -> Array:
    """Round by additions on every platform."""
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    shift = _U((FLOAT32.precision - fmt.precision) << FLOAT32.trailing)
    beyond = too_large(spec)
    has_float32_range = fmt.exponent_bits is None or (
        fmt.emax == FLOAT32.bias and fmt.emin == FLOAT32.emin
    )
    if has_float32_range and beyond == np.inf:
        # Nothing to compare with: S takes the sign of x. Of infinities and NaN the sum makes some
        # small number of the other sign, which does not change them.
        power = lax.bitcast_convert_type((bits & ~_U(_SIGNIFICAND)) + shift, jnp.float32)
        result = (x + power) - power
        if not has_negative_zero:
            return result  # nothing that is not zero becomes zero
    else:
        # Signed integers: vectors of unsigned ones have no maximum before AVX-512.
        lead = lax.bitcast_convert_type(bits & _U(FLOAT32.infinity), jnp.int32)
        lead = jnp.maximum(lead, _I((fmt.emin + FLOAT32.bias) << FLOAT32.trailing))
        power = lax.bitcast_convert_type(
            lax.bitcast_convert_type(lead, jnp.uint32) + shift, jnp.float32
        )
        result = (absolute(x) + power) - power
        largest = np.array(limits(spec, FLOAT32).max_positive, _U).view(np.float32)
        result = jnp.where(result > largest, beyond, result)  # no NaN is larger
    # A zero has lost its sign in the sum.
    sign = bits & _U(FLOAT32.sign_bit)
    return lax.bitcast_convert_type(
        lax.bitcast_convert_type(result, jnp.uint32) | sign, jnp.float32
    )
