"""`round_to`: the rounding kernel for users' arrays."""

from functools import partial
from typing import overload

import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray, NumPyLike
from precsim._calls import call_elementwise, straight_through
from precsim.formats.arguments import integer
from precsim.formats.carrier import as_carrier
from precsim.formats.scaled import scaled_format
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike


@overload
def round_to(
    x: JaxArray,
    spec: SpecLike,
    *,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: ArrayLike | None = None,
    axis: int = -1,
) -> JaxArray: ...
@overload
def round_to(
    x: NumPyLike,
    spec: SpecLike,
    *,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: NumPyLike | None = None,
    axis: int = -1,
) -> np.ndarray: ...
@overload
def round_to(
    x: ArrayLike,
    spec: SpecLike,
    *,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: ArrayLike | None = None,
    axis: int = -1,
) -> Array: ...
def round_to(
    x: ArrayLike,
    spec: SpecLike,
    *,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: ArrayLike | None = None,
    axis: int = -1,
) -> Array:
    """Round each element to a value of a format.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64. Narrower floats (float16, bfloat16, the 8-bit ones) are
        widened to float32. Python numbers and lists count as float64 and must be exact there.
        Integer, complex and masked arrays are refused. This rule holds for every function of
        numbers.
    spec : str, Format or RoundingSpec
        Format and rule, for example "e4m3", "e4m3:rtz:saturate" or "bf16:sr8".
    mode : RoundingMode or str, optional
        The mode, where the string of `spec` names none: rne, rna, rnz, rno, rnp, rnn, rtz, raz,
        rtp, rtn, rto or sr. It replaces that of a `RoundingSpec`.
    overflow : OverflowMode or str, optional
        The overflow, where the string of `spec` names none: infinity, infinity_or_max or saturate;
        for fixed point saturate, saturate_symmetric, saturate_zero or wrap.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element, of a type with at least `num_random_bits` bits. The
        low bits are used.
    axis : int
        The axis along which the blocks of a block format run; other formats ignore it. Block and
        affine formats give ``dequantize(quantize(x, spec, axis=axis))``, see there.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        Same library, shape and carrier as `x`; every element is in the format, or NaN.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, the string of `spec` names another `mode` or
        `overflow`, or `random_bits` are missing in mode sr, too narrow, or of a shape that does not
        fit. Nothing is raised because of the values of `x`.
    TypeError
        If `x` is of another dtype, or `random_bits` are not integers.

    Notes
    -----
    Special values: NaN stays NaN (payload dropped, sign kept where NaN has one), unless the spec's
    `nans` says otherwise for a format without NaN. -0 stays -0 where the format has it. Infinity:
    see `RoundingSpec`. Overflow is decided after rounding.

    Error: at most half an ulp to nearest, less than one ulp in the other modes, inside the range.

    Gradient: straight-through (the derivative is taken as 1 everywhere); see `jax.grad`.

    Cost: 10 to 25 integer operations per element, stochastic rounding about 50. NumPy arrays run
    compiled from 16,384 elements on, and smaller ones after as much work in earlier calls.

    Source: IEEE 754-2019, 4.3 and 7.4; OCP OFP8 1.0; IEEE P3109 v4.0, 4.6 (stochastic).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.round_to([3.14159, 500.0, 1e-3], "e4m3").tolist()
    [3.25, nan, 0.001953125]
    >>> ps.round_to(500.0, "e4m3:saturate").item(), ps.round_to(-3.14, "q3.4", mode="rtn").item()
    (448.0, -3.1875)
    """
    spec = RoundingSpec.parse_with(spec, mode=mode, overflow=overflow)
    axis = integer(axis, "axis")
    if scaled_format(spec.format) is not None:
        from precsim.rounding.scaled.quantize import round_scaled

        return round_scaled(x, spec, axis, random_bits)
    array, carrier = as_carrier(x)
    limits(spec, carrier)  # refuses before any work if the carrier cannot hold the format
    bits = as_random_bits(random_bits, (array,), carrier, spec, "element of x")
    return call_elementwise(_round, spec, array, bits)


def _round(spec: RoundingSpec, x: Array, random_bits: Array | None) -> Array:
    return straight_through(partial(_round_array, spec), x, random_bits)


def _round_array(spec: RoundingSpec, x: Array, random_bits: Array | None) -> Array:
    return round_array(x, random_bits, spec)
