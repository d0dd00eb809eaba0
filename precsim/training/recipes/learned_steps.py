"""Integers times a step size that is learnt, with its stated gradient (LSQ)."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, is_array, is_jax
from precsim._calls import compiled, in_numpy
from precsim._loops import computed_once
from precsim.arithmetic.elementwise import divide, multiply, subtract
from precsim.arithmetic.sums.accumulate import accumulate
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.arguments import shown
from precsim.formats.carrier import FLOAT32, as_carrier
from precsim.formats.registry import AnyFormat
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.affine import Groups, dequantize_groups
from precsim.rounding.scaled.scale import Scale, with_scale
from precsim.rounding.spec import RoundingSpec

_LARGEST = float(np.finfo(np.float32).max)


def round_to_steps(x: ArrayLike, step: ArrayLike, fmt: str | AnyFormat | RoundingSpec) -> Array:
    """Round to integers times a step size that is a parameter of the model, and learnt.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Weights or activations. Floats of 16 bits or fewer become float32.
    step : array_like of float32, shape ()
        The step size s, positive. A good start is ``2 * mean(abs(x)) / sqrt(Q)``, with Q the
        largest code.
    fmt : str, AffineFormat or RoundingSpec
        The integers, for example "int4" or, for numbers from 0 on, "uint4".

    Returns
    -------
    ndarray or jax.Array of float32, shape (...)
        ``s * code``, rounded once to float32, with ``code = clip(round(x / s))``: the exact
        quotient rounded once, to nearest by default, and clipped to the codes from -P to Q.

    Raises
    ------
    ValueError
        If `fmt` has more than one scale, is unsigned and symmetric, or rounds stochastically; if
        `step` is not one number, or a Python number beyond float32's range. Nothing is raised
        because of values in arrays.
    TypeError
        If `x` or `step` is float64 or no float.

    Notes
    -----
    Gradient, for a cotangent g and the quotient q = x / s of one element, rounded to float32:

    * of x: g where -P < q < Q, else 0;
    * of s: the sum of ``g * slope``, times ``1 / sqrt(N * Q)`` for N elements, where the slope is
      ``code - q`` inside, -P where q is at -P or below, Q where it is at Q or above.

    Each operation is rounded once to float32, the sum is pairwise: the same bits everywhere.
    Special values: an infinity or a NaN in x, and a step that is not positive and normal, make all
    results and all gradients NaN. Under `jax.vmap`, N counts one example. Cost: about 300 integer
    operations per element, forward and backward each.

    Source: Esser et al., *Learned Step Size Quantization*, ICLR 2020 (arXiv 1902.08153), equations
    1 to 5.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> x, step = jnp.float32([0.3, -0.9, 7.0]), jnp.float32(0.5)
    >>> ps.round_to_steps(x, step, "int4").tolist()
    [0.5, -1.0, 3.5]
    >>> total = lambda x, step: ps.round_to_steps(x, step, "int4").sum()
    >>> of_x, of_step = jax.grad(total, (0, 1))(x, step)
    >>> of_x.tolist(), round(float(of_step), 4)
    ([1.0, 1.0, 0.0], 1.5712)
    """
    spec = _checked(fmt)
    arrays = {"x": as_carrier(x, "x"), "step": as_carrier(_number(step), "step")}
    for name, (_, carrier) in arrays.items():
        if carrier is not FLOAT32:
            raise TypeError(f"{name} has dtype {carrier.name}; allowed is float32")
    x, step = (array for array, _ in arrays.values())
    if np.shape(step) != ():
        raise ValueError(f"step has shape {step.shape}; allowed is one number, of shape ()")
    if is_jax(x) or is_jax(step):
        return _compiled(x, step, spec)
    return in_numpy(_compiled, x, step, spec)


def _number(step: Any) -> Any:
    """Return a Python number as the float32 number next to it, arrays as they are."""
    if isinstance(step, (int, float)) and not isinstance(step, bool):
        if _LARGEST < abs(step) < math.inf:
            raise ValueError(f"step is {shown(step)}; allowed are numbers within float32's range")
        return np.float32(step)
    if not is_array(step):
        raise TypeError(f"step is {shown(step)}; allowed is a number, or a float32 array of one")
    return step


def _checked(given: str | AnyFormat | RoundingSpec) -> RoundingSpec:
    """Return the rounding; refuse what has no step size."""
    spec = RoundingSpec.parse(given)
    fmt: Any = spec.format
    is_right = isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.TENSOR
    if not is_right or (fmt.is_symmetric and not fmt.is_signed):
        raise ValueError(
            f"fmt is {fmt}; allowed are integers with one scale, for example 'int8' or 'uint4'"
        )
    if spec.mode is RoundingMode.STOCHASTIC:
        raise ValueError(f"fmt is {spec}; allowed are the modes without chance")
    return spec


def _codes(x: Array, step: Array, spec: RoundingSpec) -> tuple[Array, Array]:
    """Return codes, int32, and the pattern of the step, that of a NaN where all is lost."""
    is_usable = (step >= np.finfo(np.float32).tiny) & (step < np.inf)
    given = Scale(scale=jnp.where(is_usable, step, np.float32(np.nan)), zero_point=0)
    codes, scale = with_scale(x, spec, given)
    return computed_once(codes), bitcast(scale, FLOAT32.uint_dtype).reshape(())


@compiled(static_argnums=2)
def _compiled(x: Array, step: Array, spec: RoundingSpec) -> Array:
    result: Array = _rounded(x, step, spec)
    return result


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded(x: Array, step: Array, spec: RoundingSpec) -> Array:
    codes, scale = _codes(x, step, spec)
    groups = Groups(codes, scale, jnp.int32(0))
    return bitcast(computed_once(dequantize_groups(groups, FLOAT32)), FLOAT32.float_dtype)


def _forward(x: Array, step: Array, spec: RoundingSpec) -> tuple[Array, tuple[Array, Array]]:
    return _rounded(x, step, spec), (x, step)


def _backward(spec: RoundingSpec, residuals: tuple[Any, Any], g: Array) -> tuple[Array, Array]:
    x, step = residuals
    fmt: Any = spec.format
    least, most = np.float32(fmt.min_code), np.float32(fmt.max_code)
    codes, scale = _codes(x, step, spec)
    lost = jnp.isnan(bitcast(scale, FLOAT32.float_dtype))
    quotient = computed_once(divide(x, step, "fp32"))
    is_inside = (quotient > least) & (quotient < most)
    error = subtract(codes.astype(np.float32), quotient, "fp32")
    slope = jnp.where(is_inside, error, jnp.where(quotient <= least, least, most))
    products = computed_once(multiply(g, slope, "fp32")).reshape(-1)
    total = accumulate(products, "fp32", order="pairwise")
    factor = np.float32(1 / math.sqrt(max(x.size, 1) * float(most)))
    both = jnp.where(is_inside, g, np.float32(0)), multiply(total, factor, "fp32")
    of_x, of_step = (jnp.where(lost, np.float32(np.nan), each) for each in both)
    return of_x, of_step


_rounded.defvjp(_forward, _backward)
