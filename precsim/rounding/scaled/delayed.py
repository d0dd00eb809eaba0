"""Delayed scaling: the scale of an array from the largest magnitudes of earlier ones."""

from dataclasses import dataclass, replace

import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, namespace
from precsim._calls import has_jax
from precsim.formats.arguments import integer, not_allowed
from precsim.formats.carrier import FLOAT32, as_carrier, select
from precsim.formats.registry import get_format
from precsim.formats.tile import TileFormat
from precsim.rounding.modes import AMAX_ALGORITHMS, LARGEST_MARGIN
from precsim.rounding.scaled import float_steps
from precsim.rounding.scaled.block import largest_element
from precsim.rounding.scaled.scale import Scale, inverse

_U = FLOAT32.uint_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayedScale:
    """The state of one array's delayed scale: a factor, and a history of amax. A JAX pytree.

    Parameters
    ----------
    factor : ndarray or jax.Array of float32, shape ()
        What numbers are multiplied with before they are rounded; 1 at the start.
    history : ndarray or jax.Array of float32, shape (length,)
        The largest magnitudes of the last arrays, the newest first; 0 where there was none.
    format : TileFormat
        Elements with a scale of the whole array, for example "e4m3:scale=tensor".
    algorithm : {"max", "most_recent"}
        Which entry of the history the factor follows from: the largest, or the newest.
    margin : int
        The factor is divided by 2**margin.

    Notes
    -----
    ``factor = fl(fl(max / amax) / 2**margin)``, the largest float32 if that is infinite, and the
    factor before if amax is 0, infinite or NaN. ``scale = fl(1 / factor)``. An array is rounded
    with the factor that its predecessors left: use `scale`, then `update`.

    Source: NVIDIA/TransformerEngine, pytorch/fp8.py (_default_get_amax_and_update_history,
    _default_sf_compute).

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> state = ps.DelayedScale.start("e4m3:scale=tensor", length=2)
    >>> for x in ([3.5], [7.0], [0.5], [0.5]):
    ...     state = state.update(np.float32(x))
    ...     print(float(state.factor), end=" ")
    128.0 64.0 64.0 896.0
    """

    factor: Array
    history: Array
    format: TileFormat
    algorithm: str = "max"
    margin: int = 0

    @classmethod
    def start(
        cls,
        fmt: str | TileFormat,
        *,
        length: int = 1024,
        algorithm: str = "max",
        margin: int = 0,
    ) -> "DelayedScale":
        """Return the state before the first array, as NumPy arrays; ValueError for wrong ones."""
        found = get_format(fmt)
        if not isinstance(found, TileFormat) or found.across is not None:
            raise ValueError(
                f"fmt is {found}; allowed are elements with one scale, for example 'e4m3:scale=tensor'"
            )
        if algorithm not in AMAX_ALGORITHMS:
            raise not_allowed("algorithm", algorithm, AMAX_ALGORITHMS)
        return cls(
            factor=np.ones((), np.float32),
            history=np.zeros(integer(length, "length", 1), np.float32),
            format=found,
            algorithm=algorithm,
            margin=integer(margin, "margin", 0, LARGEST_MARGIN),
        )

    @property
    def scale(self) -> Scale:
        """The scale for the next array."""
        bits = inverse(bitcast(self.factor.reshape(1), _U))
        return Scale(scale=bitcast(bits, np.float32).reshape(()), factor=self.factor)

    def update(self, x: ArrayLike) -> "DelayedScale":
        """Return the state after an array of float32, or after its amax alone."""
        x, _ = as_carrier(x)
        xp = namespace(x, self.history)
        bits = bitcast(x.astype(np.float32).reshape(-1), _U) & _U(FLOAT32.sign_bit - 1)
        amax = bits.max(axis=-1, initial=np.uint32(0)).reshape(1)
        past = bitcast(self.history, _U)
        history = xp.concatenate([amax, past[:-1]])
        chosen = amax if self.algorithm == "most_recent" else history.max(axis=-1).reshape(1)
        before = bitcast(self.factor.reshape(1), _U)
        factor = _factor(chosen, before, self.format, self.margin)
        return replace(
            self,
            factor=bitcast(factor, np.float32).reshape(()),
            history=bitcast(history, np.float32),
        )


if has_jax():
    import jax

    jax.tree_util.register_dataclass(
        DelayedScale,
        data_fields=["factor", "history"],
        meta_fields=["format", "algorithm", "margin"],
    )


def _factor(amax: Array, before: Array, fmt: TileFormat, margin: int) -> Array:
    """Return the patterns of the factors of the next array."""
    infinity = _U(FLOAT32.infinity)
    is_usable = (amax != _U(0)) & (amax < infinity)
    one = float_steps.constant(amax, FLOAT32.pattern(1, 0), FLOAT32)
    largest = float_steps.constant(amax, largest_element(fmt.element, FLOAT32), FLOAT32)
    factor = float_steps.divide(largest, select(is_usable, amax, one), FLOAT32)
    power = float_steps.constant(amax, FLOAT32.pattern(1, -margin), FLOAT32)
    is_finite = factor < infinity
    factor = float_steps.multiply(select(is_finite, factor, one), power, FLOAT32)
    factor = select(is_finite, factor, infinity - _U(1))
    if fmt.is_power_of_two:
        factor = factor & infinity
    return select(is_usable, factor, before)
