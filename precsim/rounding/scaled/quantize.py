"""`quantize` and `dequantize`: formats with scales for users' arrays."""

from functools import partial
from typing import Any, TypeAlias

from precsim._arrays import Array, ArrayLike
from precsim._calls import call, straight_through
from precsim.formats.arguments import axis_of
from precsim.formats.carrier import FLOAT64, as_carrier
from precsim.formats.registry import AnyFormat
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.scaled.grouping import go_together
from precsim.rounding.scaled.quantized import Quantized, dequantize_array, quantize_array
from precsim.rounding.spec import RoundingSpec

_STEPS, _PATIENCE = 4, 16
"""`quantize` is long in NumPy, and its compilation takes a second or two."""

_Option: TypeAlias = tuple[RoundingSpec, int]
"""Spec and negative axis."""


def quantize(
    x: ArrayLike,
    fmt: str | AnyFormat | RoundingSpec,
    *,
    axis: int = -1,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: ArrayLike | None = None,
) -> Quantized:
    """Choose scales and round an array to codes of a block, affine or tile format.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64, at least one axis.
    fmt : str, BlockFormat, AffineFormat, TileFormat or RoundingSpec
        Format, and rule of the elements, for example "mxfp4", "mxfp8_e4m3_rceil", "nvfp4:sr8",
        "int4_symmetric_block32", "e4m3:scale=1x128", "dynamic8_block256".
    axis : int
        The axis along which blocks and the vectors of tiles run or, with granularity "channel",
        channels lie. Vectors lie side by side along the last other axis.
    mode : RoundingMode or str, optional
        The mode in which elements are rounded, where the string of `fmt` names none. Scales follow
        their own rule.
    overflow : OverflowMode or str, optional
        The overflow of elements, where the string of `fmt` names none: "saturate" by default.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    Quantized
        Codes and scales.

    Raises
    ------
    ValueError
        If `fmt` is a format of single numbers, or its string names another `mode` or `overflow`;
        if `axis` is out of range, the carrier cannot hold the format (the rules of NVFP4 are
        float32 arithmetic and take float32 only), or `random_bits` are missing in mode sr. Nothing
        is raised because of the values of `x`.
    TypeError
        If `x` has a dtype that `round_to` does not take.

    Notes
    -----
    Block formats: see `ScaleRule` for the scale. The quotient of an element and its scale is exact
    and rounded once, except for the two rules of NVFP4, which are a library's order of float32
    operations. The last block of a row is filled up with zeros. A block of zeros gets the smallest
    scale (0 where the scale format has it; 2**-6 under "torchao").

    Affine formats: scale = range / (number of steps), with two roundings (range, quotient) to the
    carrier, and at least its smallest normal number; zero point = minus the smallest element /
    scale, rounded to nearest and clamped to the codes; code = x / scale, exact, rounded once, plus
    zero point, clamped.

    Tile formats: factor = max / amax, element = x * factor, rounded to float32 and then to the
    element, scale = 1 / factor, in the float32 operations of TransformerEngine: the factor is the
    largest float32 where the quotient is infinite, and 1 where amax is 0, infinite or NaN.

    Tables of bitsandbytes: scale = amax; code = that of the value nearest to x * (1 / amax),
    quotient and product rounded to float32; of two as near, the smaller one. So does the library's
    default backend. Its CUDA kernels divide approximately, and take either one in a tie; its
    compiled CPU kernel (0.50.2) is several codes off in a third of all elements.

    Special values: a NaN or an infinity makes its block NaN (scale NaN, element codes those of 0)
    and does not count in the scale of the tensor. Under "saturate_infinity" an infinity counts as
    the largest finite number of the carrier. Under the rule "max_abs" and in tiles both stay
    elements, if the format of the elements has a NaN.

    Gradient: none, codes are integers; `round_to` is straight-through.

    Cost: about 200 integer operations per element. Under `jax.vmap` the tensor is one example.

    Source: OCP MX 1.0, 6.3; cuBLAS documentation, 1D Block Quantization; pytorch/ao and
    NVIDIA/TransformerEngine (see `ScaleRule`); ONNX DynamicQuantizeLinear.

    Examples
    --------
    >>> import precsim as ps
    >>> q = ps.quantize([957.0, 1.0], "mxfp8_e4m3")
    >>> ps.dequantize(q).tolist(), ps.decode(q.scales, "e8m0").tolist()
    ([896.0, 1.0], [2.0])
    >>> ps.dequantize(ps.quantize([957.0, 1.0], "mxfp8_e4m3_rceil")).tolist()
    [960.0, 1.0]
    """
    spec = RoundingSpec.parse_with(fmt, mode=mode, overflow=overflow)
    x, random_bits, axis = _checked(x, spec, axis, random_bits)
    return call(_quantize, (spec, axis), x, random_bits, steps=_STEPS, patience=_PATIENCE)


def _quantize(option: _Option, x: Array, random_bits: Array | None) -> Quantized:
    return quantize_array(x, random_bits, *option)


def dequantize(q: Quantized) -> Array:
    """Return the numbers that codes and scales stand for.

    Parameters
    ----------
    q : Quantized
        What `quantize` returned; `jax.vmap`, or a stack of several, may have added axes in front.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        ``element * scale``, ``element * scale * tensor_scale`` or ``scale * (code - zero_point)``:
        the exact product, rounded once to the carrier; same library as the codes.

    Notes
    -----
    Special values: a NaN scale makes its block NaN. Products beyond the carrier's range are
    infinite (for example an amax of 3.4e38 rounded up). MX products are exact apart from that;
    NVFP4 and affine products are rounded, by less than half an ulp of the carrier.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.dequantize(ps.quantize([0.1, 0.2, 0.7], "uint4")).tolist()
    [0.09333333333333332, 0.18666666666666665, 0.7]
    """
    if not isinstance(q, Quantized):
        raise TypeError(f"q is {type(q).__name__}; allowed is what quantize returns")
    if not go_together(q.shape, q.scales.shape, q.format, q.axis):
        raise ValueError(
            f"q has codes of shape {q.shape} and scales of shape {q.scales.shape}, which do not go "
            f"together along axis {q.axis}; allowed are axes added in front (out_axes=0 of jax.vmap)"
        )
    arrays = q.codes, q.scales, q.tensor_scale, q.zero_points
    x64 = q.dtype == FLOAT64.name
    return call(_dequantize, (q.format, q.axis, q.dtype), *arrays, steps=2, patience=4, x64=x64)


def _dequantize(
    option: tuple[ScaledFormat, int, str],
    codes: Array,
    scales: Array,
    tensor_scale: Array | None,
    zero_points: Array | None,
) -> Array:
    fmt, axis, dtype = option
    quantized = Quantized(
        codes=codes,
        scales=scales,
        tensor_scale=tensor_scale,
        zero_points=zero_points,
        format=fmt,
        axis=axis,
        dtype=dtype,
    )
    return dequantize_array(quantized)


def round_scaled(x: ArrayLike, spec: RoundingSpec, axis: int, random_bits: Any) -> Array:
    """Round to the values of a block or affine format: quantize, then dequantize."""
    x, random_bits, axis = _checked(x, spec, axis, random_bits)
    return call(_round, (spec, axis), x, random_bits, steps=_STEPS, patience=_PATIENCE)


def _round(option: _Option, x: Array, random_bits: Array | None) -> Array:
    """Quantize and dequantize; under differentiation the tangent passes unchanged."""
    return straight_through(partial(_round_trip, option), x, random_bits)


def _round_trip(option: _Option, x: Array, random_bits: Array | None) -> Array:
    return dequantize_array(quantize_array(x, random_bits, *option))


def _checked(
    x: ArrayLike, spec: RoundingSpec, axis: int, random_bits: Any
) -> tuple[Array, Array | None, int]:
    """Return array, random bits and negative axis, after all that can be refused has been."""
    fmt = scaled_format(spec.format)
    if fmt is None:
        raise ValueError(
            f"fmt is {spec.format}, a format of single numbers; allowed are block and affine formats "
            "(round_to and encode take the others)"
        )
    x, carrier = as_carrier(x)
    if not fmt.fits(carrier):
        remedy = (
            "use float64" if fmt.fits(FLOAT64) else "give x as float32, rounded to it if need be"
        )
        raise ValueError(f"a {carrier.name} carrier cannot hold {fmt} ({remedy})")
    axis = axis_of(axis, x.shape)
    random_bits = as_random_bits(random_bits, (x,), carrier, spec, "element of x")
    return x, random_bits, axis
