"""`round_to` and `ulp`: the rounding kernel for users' arrays."""

from dataclasses import replace
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, is_jax, namespace
from precsim.formats.carrier import FLOAT64, Carrier, as_carrier, compose, floor_log2, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format
from precsim.formats.scaled import refuse_scaled, scaled_format
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.kernel.limits import is_coarse, limits
from precsim.rounding.spec import OverflowMode, RoundingMode, RoundingSpec, SpecLike

COMPILED_FROM = 1 << 14
"""NumPy arrays of at least so many elements go through the compiled kernel (same bits, faster)."""


def round_to(
    x: Any,
    spec: SpecLike,
    *,
    mode: RoundingMode | str | None = None,
    overflow: OverflowMode | str | None = None,
    random_bits: Any = None,
    axis: int = -1,
) -> Array:
    """Round each element to a value of a format.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64 (Python numbers and lists count as float64).
    spec : str, Format or RoundingSpec
        Format and rule, for example "e4m3", "e4m3:rtz:saturate" or "bf16:sr8".
    mode : RoundingMode or str, optional
        Replaces the mode of `spec`: rne, rna, rnz, rno, rnp, rnn, rtz, raz, rtp, rtn, rto or sr.
    overflow : OverflowMode or str, optional
        Replaces the overflow of `spec`: infinity, infinity_or_max or saturate; for fixed point saturate,
        saturate_symmetric, saturate_zero or wrap.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element, of a type with at least `num_random_bits` bits, of which
        the low ones are used.
    axis : int
        Along which the blocks of a block format run; others ignore it. Block and affine formats give
        ``dequantize(quantize(x, spec, axis=axis))``, see there.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        Same library, shape and dtype as `x`; every element is in the format, or NaN.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, or `random_bits` are missing in mode sr, too narrow, or of a
        shape that does not fit. Nothing is raised because of the values of `x`.
    TypeError
        If `x` is not float32 or float64, or `random_bits` are no integers.

    Notes
    -----
    Special values: NaN stays NaN (payload dropped, sign kept where NaN has one), unless the spec's `nans`
    says otherwise for a format without NaN. -0 stays -0 where the format has it. Infinity: see
    `RoundingSpec`. Overflow is decided after rounding.

    Error: at most half an ulp to nearest, less than one ulp in the other modes, inside the range.

    Gradient: straight-through (the derivative is taken as 1 everywhere); see `jax.grad`.

    Cost: 10 to 25 integer operations per element, stochastic rounding about 50; NumPy arrays from 16,384
    elements on run compiled.

    Source: IEEE 754-2019, 4.3 and 7.4; OCP OFP8 1.0; IEEE P3109 v4.0, 4.6 (stochastic).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.round_to([3.14159, 500.0, 1e-3], "e4m3").tolist()
    [3.25, nan, 0.001953125]
    >>> ps.round_to(500.0, "e4m3:saturate").item(), ps.round_to(-3.14, "q3.4", mode="rtn").item()
    (448.0, -3.1875)
    """
    spec = RoundingSpec.parse(spec)
    if mode is not None or overflow is not None:
        spec = with_options(spec, mode, overflow)
    if scaled_format(spec.format) is not None:
        from precsim.rounding.scaled.quantize import round_scaled

        return round_scaled(x, spec, axis, random_bits)
    x, carrier = as_carrier(x)
    limits(spec, carrier)  # refuses before any work if the carrier cannot hold the format
    random_bits = as_random_bits(random_bits, (x,), carrier, spec, "element of x")
    if is_jax(x) or is_jax(random_bits):
        from precsim.rounding.compiled import round_straight_through

        return round_straight_through(x, random_bits, spec)
    if x.size >= COMPILED_FROM:
        from precsim.rounding.compiled import round_numpy

        return round_numpy(x, random_bits, spec)
    return round_array(x, random_bits, spec)


def round_array(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    """Apply the kernel to an array of carrier values."""
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype).reshape(-1)
    if random_bits is not None:
        random_bits = random_bits.reshape(-1)
    rounded = round_bits(bits, spec, carrier, random_bits=random_bits)
    return bitcast(rounded, carrier.float_dtype).reshape(x.shape)


def with_options(spec: RoundingSpec, mode: Any, overflow: Any) -> RoundingSpec:
    """Replace mode and overflow where they are given."""
    mode = spec.mode if mode is None else mode
    return replace(
        spec,
        mode=mode,
        overflow=spec.overflow if overflow is None else overflow,
        num_random_bits=spec.num_random_bits if mode == spec.mode else 0,
    )


def as_random_bits(
    random_bits: Any,
    operands: tuple[Array, ...],
    carrier: Carrier,
    spec: RoundingSpec,
    each: str = "element",
) -> Array | None:
    """Return random bits as an array of the operands' library and common shape, after checks.

    None where none are given; that is refused in mode sr, which needs one integer per `each`.
    """
    if random_bits is None:
        if spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(
                f"random_bits is missing: mode 'sr' of {spec} needs one integer per {each}"
            )
        return None
    if not is_jax(random_bits):
        random_bits = np.asarray(random_bits)
    elif not any(map(is_jax, operands)):
        random_bits = _beside_numpy(random_bits, carrier)
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    if random_bits.dtype.kind not in "iu":
        raise TypeError(f"random_bits has dtype {random_bits.dtype}; allowed are integers")
    if 8 * random_bits.dtype.itemsize < spec.num_random_bits:
        raise ValueError(
            f"random_bits has dtype {random_bits.dtype}; allowed are integers of at least the "
            f"{spec.num_random_bits} bits that the spec uses"
        )
    try:
        return namespace(random_bits).broadcast_to(random_bits, shape)
    except ValueError:
        raise ValueError(
            f"random_bits has shape {random_bits.shape}; allowed are shapes that broadcast to {shape}"
        ) from None


def _beside_numpy(random_bits: Array, carrier: Carrier) -> Array:
    """Bits made by JAX for a NumPy `x`: JAX must neither change the library nor round float64."""
    import jax

    if not isinstance(random_bits, jax.core.Tracer):
        return np.asarray(random_bits)
    if carrier is FLOAT64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError(
            "x is float64 and random_bits are traced by JAX, which has float64 with jax_enable_x64 only "
            "(give x as float32)"
        )
    return random_bits


def ulp(x: Any, fmt: str | Format) -> Array:
    """Return the distance between the neighbours of a format around each element.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64, in the format or not.
    fmt : str, FloatFormat or FixedPointFormat
        The format.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        ``2**(max(floor(log2|x|), emin) - p + 1)`` for floating point, ``2**-fraction_bits`` for fixed
        point. At zero and below the smallest normal: the smallest subnormal. Beyond the largest finite
        value: the ulp of that value. NaN and infinity give NaN. Same library, shape and dtype as `x`.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format.

    Notes
    -----
    This is Goldberg's ulp (the gap above ``abs(x)`` at a power of two), as in IEEE 754 and Muller et al.,
    *Handbook of Floating-Point Arithmetic*, 2nd edition, 2.3.2. Exact.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ulp([1.0, 1.99, 2.0, 0.0], "e4m3").tolist()
    [0.125, 0.125, 0.25, 0.001953125]
    """
    fmt = get_format(fmt)
    refuse_scaled(fmt, "fmt")
    x, carrier = as_carrier(x)
    spec = RoundingSpec(format=fmt)
    limits(spec, carrier)
    u = carrier.uint
    magnitude = bitcast(x, carrier.uint_dtype).reshape(-1) & u(carrier.sign_bit - 1)
    bits = compose(magnitude * u(0) + u(1), _ulp_exponent(magnitude, fmt, carrier), carrier)
    bits = select(magnitude >= u(carrier.infinity), u(carrier.quiet_nan), bits)
    return bitcast(bits, carrier.float_dtype).reshape(x.shape)


def _ulp_exponent(magnitude: Array, fmt: Format, carrier: Carrier) -> Array:
    xp = namespace(magnitude)
    i = carrier.int_dtype
    if isinstance(fmt, FixedPointFormat):
        return xp.full(magnitude.shape, -fmt.fraction_bits, i)
    exponent = floor_log2(magnitude, carrier)
    if fmt.exponent_bits is None:
        return xp.maximum(exponent - i(fmt.precision - 1), i(carrier.lsb_min))
    if is_coarse(RoundingSpec(format=fmt)):
        inside = xp.minimum(exponent, i(fmt.emax)) - i(fmt.precision - 1)
        return select(exponent < i(fmt.emin), i(fmt.emin), inside)
    return xp.clip(exponent, i(fmt.emin), i(max(fmt.emin, fmt.emax))) - i(fmt.precision - 1)
