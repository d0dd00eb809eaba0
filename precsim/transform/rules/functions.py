"""Elementary functions: correctly rounded where that is proved, else by the platform, then rounded.

For a format of at most 16 bits a function of one variable is a table: one entry for each code. Its
entries are proved when the table is made: the bounds of the double-precision result round alike.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.special

from precsim._arrays import Array, bitcast
from precsim._calls import on_cpu
from precsim.arithmetic.elementary import elementary
from precsim.formats.carrier import FLOAT32, as_carrier
from precsim.formats.codec import code_dtype, decode, encode_bits
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec
from precsim.transform.operation import Operation, rule
from precsim.transform.rounded import alone, random_bits, with_gradient_of
from precsim.transform.treatment import How
from precsim.transform.values import Value, has_all_of, is_float

_DOUBLE: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "logistic": scipy.special.expit,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "one_minus_square": lambda x: 1 - x * x,  # of JAX from 0.11 on
}
"""Functions in double precision, with relative errors far below `_DOUBLE_ERROR`."""

_DOUBLE_ERROR = 2.0**-46
_BF16: Format = get_format("bf16")

_INTEGER: dict[str, Callable[..., Array]] = {
    "exp": elementary.exp,
    "log": elementary.log,
    "tanh": elementary.tanh,
    "erf": elementary.erf,
    "logistic": elementary.sigmoid,
    "rsqrt": elementary.rsqrt,
}
"""Correctly rounded for every format of at most 24 bits, in integer arithmetic."""

_PLATFORM = (
    "atan2",
    "pow",
    "rem",
    "nextafter",
    "erf_inv",
    "lgamma",
    "digamma",
    "polygamma",
    "igamma",
    "igammac",
    "igamma_grad_a",
    "random_gamma_grad",
    "regularized_incomplete_beta",
    "bessel_i0e",
    "bessel_i1e",
    "zeta",
    "cumlogsumexp",
    "scatter-mul",
    "psum",
    "psum_invariant",
    "reduce_scatter",
    "eigh",
    "svd",
    "schur",
    "hessenberg",
    "tridiagonal",
    "tridiagonal_solve",
    "geqp3",
)
"""The platform computes these in the carrier, in its own order where there are several steps."""


@rule(*_DOUBLE, "integer_pow")
def correctly_rounded(op: Operation) -> list[Value]:
    """Round the exact value of a function of one variable, as far as that is proved."""
    spec = op.spec
    if op.rounds_nothing(spec) and not op.is_exact_everywhere:
        op.record(How.AS_IS)
        return op.as_it_is()
    x = op.brought(0, spec)

    def unrounded(x: Array) -> Array:
        return op.bind(x)[0]

    table = _table(op.name, spec, op.params.get("y")) if x.dtype == np.float32 else None
    if table is not None:
        op.record(How.ROUNDED, spec)
        looked_up = with_gradient_of(unrounded, lambda _, x: _looked_up(table, x, spec))
        y = looked_up(op.context.key, x)
        if op.is_watched:
            op.note(unrounded(x), y, spec)
        return [op.result(y, spec.format, cotangent=spec)]
    if op.name in _INTEGER and _is_provable(spec):
        op.record(How.ROUNDED, spec)
        bits = random_bits(spec, op.place, x.shape)
        y = alone(_INTEGER[op.name](x, spec, random_bits=bits))
        if op.is_watched:
            op.note(unrounded(x), y, spec)
        return [op.result(y, spec.format, cotangent=spec)]
    op.record(How.COMPUTED, spec)
    return [op.rounded(unrounded(x), spec)]


@rule(*_PLATFORM)
def computed(op: Operation) -> list[Value]:
    """Let the platform compute, then round."""
    spec = op.spec
    if op.rounds_nothing(spec):
        op.record(How.AS_IS)
        return op.as_it_is()
    op.record(How.COMPUTED, spec)
    arrays = [op.brought(n, spec) if is_float(x) else x for n, x in enumerate(op.arrays)]
    return [
        op.rounded(y, spec, n) if is_float(y) else Value(y) for n, y in enumerate(op.bind(*arrays))
    ]


def _is_provable(spec: RoundingSpec) -> bool:
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return spec.overflow is not OverflowMode.WRAP
    return fmt.precision <= elementary.MAX_PRECISION


@lru_cache(maxsize=256)
def _table(name: str, spec: RoundingSpec, exponent: int | None = None) -> np.ndarray | None:
    """Return the function's values for all codes, in float32; None where they are not proved."""
    fmt = spec.format
    width = fmt.width
    is_small = width is not None and width <= 16 and fmt.fits(FLOAT32)
    if not is_small or spec.mode is RoundingMode.STOCHASTIC:
        return None
    function, error = _DOUBLE.get(name, np.square), _DOUBLE_ERROR
    if exponent is not None:
        function = lambda x: x ** float(exponent)
        bits = exponent * (fmt.width if isinstance(fmt, FixedPointFormat) else fmt.precision)
        error = 0.0 if 0 < bits <= 53 else error
    with on_cpu(x64=True), np.errstate(all="ignore"):
        indices = _indices_of(fmt)
        codes = np.arange(1 << 16, dtype=np.uint16).astype(code_dtype(indices))
        x = np.asarray(decode(codes[: 1 << (indices.width or 16)], indices), np.float64)
        value = np.asarray(function(x), np.float64)
        low, high = (round_to(value * (1 + e), spec) for e in (-error, error))
        rounded = round_to(value, spec)
        own = round_to(x, RoundingSpec(format=fmt))
    is_alike = (low == high) | (np.isnan(low) & np.isnan(high)) | (own != x)
    return np.asarray(rounded, np.float32) if np.all(is_alike) else None


def _indices_of(fmt: Format) -> Format:
    """Return the format whose codes are the indices: bf16's, which are cheap, if it has all."""
    return _BF16 if has_all_of(_BF16, fmt) else fmt


def _looked_up(table: np.ndarray, x: Array, spec: RoundingSpec) -> Array:
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype)
    if _indices_of(spec.format) is _BF16:
        codes = bits >> np.uint32(16)
    else:
        codes = encode_bits(bits, spec.format, carrier)
    entries: Array = jnp.asarray(table).at[codes].get(mode="promise_in_bounds")
    return entries
