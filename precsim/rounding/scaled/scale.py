"""`Scale`: a scale that is given, not chosen from the data; and what it makes of an array."""

from dataclasses import dataclass, replace

import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, namespace
from precsim._calls import has_jax
from precsim.formats.affine import AffineFormat
from precsim.formats.carrier import FLOAT32, select
from precsim.formats.tile import TileFormat
from precsim.rounding.scaled import affine, float_steps, tile
from precsim.rounding.scaled.block import set_specials_apart
from precsim.rounding.spec import RoundingSpec

_U = FLOAT32.uint_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A scale of a whole array that is given: measured before, or delayed. A JAX pytree.

    Parameters
    ----------
    scale : array_like of float32, shape ()
        What elements (codes minus zero point) are multiplied with to give numbers. Positive.
    factor : array_like of float32, shape (), optional
        What numbers are multiplied with before they are rounded to elements; ``fl(1 / scale)`` by
        default. Tile formats only: affine codes are the exact quotient by `scale`, rounded once.
    zero_point : array_like of int, shape (), optional
        The code that stands for 0; the middle code by default. Affine formats only.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> a, b = np.float32([[0.5, 3.0]]), np.float32([[1.0], [2.0]])
    >>> given = {"a": ps.Scale(scale=0.25), "b": ps.Scale(scale=0.5)}
    >>> ps.matmul(a, b, "int8_int8_int32", scales=given).tolist()
    [[6.5]]
    """

    scale: ArrayLike
    factor: ArrayLike | None = None
    zero_point: ArrayLike | None = None


if has_jax():
    import jax

    jax.tree_util.register_dataclass(
        Scale, data_fields=["scale", "factor", "zero_point"], meta_fields=[]
    )


def with_scale(
    x: Array, spec: RoundingSpec, given: Scale, random_bits: Array | None = None
) -> tuple[Array, Array]:
    """Return elements of a float32 array, and their scale of shape (1,); NaN where they are lost.

    Elements of an affine format are int32, without the zero point.
    """
    xp = namespace(x)
    scale = bitcast(xp.asarray(given.scale, np.float32).reshape(1), _U)
    bits = bitcast(x, _U).reshape(1, -1)
    draws = None if random_bits is None else random_bits.reshape(1, -1)
    fmt = spec.format
    if isinstance(fmt, TileFormat):
        elements, lost = tile.round_tiles(bits, draws, spec, FLOAT32, factors_of(given))
        scale = select(lost > _U(FLOAT32.infinity), lost, scale)
        return bitcast(elements, np.float32).reshape(x.shape), bitcast(scale, np.float32)
    assert isinstance(fmt, AffineFormat)
    bits, is_lost = set_specials_apart(bits, spec, FLOAT32)
    zero = xp.asarray(fmt.middle if given.zero_point is None else given.zero_point, np.int32)
    element = replace(spec, format=fmt.element)
    steps = affine.integer_quotient(bits, scale[:, None], element, draws, FLOAT32)
    least, most = (np.int32(code) - zero for code in (fmt.min_code, fmt.max_code))
    scale = select(is_lost, _U(FLOAT32.quiet_nan), scale)
    return xp.clip(steps, least, most).reshape(x.shape), bitcast(scale, np.float32)


def factors_of(given: Scale) -> Array:
    """Return the pattern, of shape (1,), of what numbers are multiplied with before rounding."""
    if given.factor is None:
        return inverse(_pattern(namespace(given.scale).asarray(given.scale)))
    return _pattern(namespace(given.factor).asarray(given.factor))


def inverse(bits: Array) -> Array:
    """Return the patterns of ``fl(1 / x)``; 1 for what is 0, infinite or NaN."""
    is_usable = (bits != _U(0)) & (bits < _U(FLOAT32.infinity))
    one = float_steps.constant(bits, FLOAT32.pattern(1, 0), FLOAT32)
    return float_steps.divide(one, select(is_usable, bits, one), FLOAT32)


def _pattern(x: Array) -> Array:
    return bitcast(x.astype(np.float32).reshape(1), _U)
