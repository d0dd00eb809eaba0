"""Gradient clipping in stated arithmetic, after unscaling: the same bits on every device."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, bitcast
from precsim.arithmetic import portable as p
from precsim.formats.arguments import not_allowed, shown
from precsim.formats.carrier import FLOAT32
from precsim.training.recipes.leaves import is_trained, joined, map_joined, widened

CLIP_RULES = ("optax", "torch")
_TORCH_EPSILON = np.float32(1e-6)
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping:
    """What bounds a gradient.

    Parameters
    ----------
    norm : float, optional
        Largest norm of the whole gradient; a longer one is shortened to it.
    value : float, optional
        Largest magnitude of an element; larger ones are replaced by it, after clipping by norm.
    rule : {"optax", "torch"}
        How a gradient g of norm n is shortened to c. "optax", as `optax.clip_by_global_norm`:
        ``(g / n) * c`` where n is not below c. "torch", as ``torch.nn.utils.clip_grad_norm_``:
        ``g * min(1, c / (n + 1e-6))``.

    Raises
    ------
    ValueError
        If a bound is not a positive float32 number, or `rule` is unknown.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from precsim.training.recipes.clipping import Clipping, clip
    >>> clip({"w": jnp.float32([3, 4])}, Clipping(norm=1.0))["w"].tolist()
    [0.6000000238418579, 0.800000011920929]
    """

    norm: float | None = None
    value: float | None = None
    rule: str = "optax"

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("norm", "value"):
            given: Any = getattr(self, name)
            is_number = isinstance(given, (int, float, np.number)) and not isinstance(given, bool)
            if given is None:
                continue
            if not is_number or not p.SMALLEST <= given <= float(np.finfo(np.float32).max):
                raise ValueError(
                    f"clip_{name} is {shown(given)}; allowed are positive float32 numbers"
                )
            object.__setattr__(self, name, float(given))
        if self.rule not in CLIP_RULES:
            raise not_allowed("clip_rule", self.rule, CLIP_RULES)


def clip(gradient: Any, clipping: Clipping) -> Any:
    """Return a gradient within its bounds; leaves that are not trained stay as they are.

    Parameters
    ----------
    gradient : pytree of float32 arrays
        The unscaled gradient: under a loss scale, a threshold would mean something else each step.
    clipping : Clipping
        The bounds.

    Returns
    -------
    pytree
        Same structure. A gradient within all bounds keeps its bits under "optax", and under "torch"
        also where its norm plus 1e-6 is within them.

    Notes
    -----
    Float32, each operation rounded once; results below 2**-125 are zero. An element that is not
    finite makes the norm infinite or NaN, and the other elements 0 or NaN: test for finiteness
    first. Cost: two passes, and for "optax" a correctly rounded division per element.
    """
    if clipping.norm is not None:
        norm, bound = global_norm(gradient), np.float32(clipping.norm)
        gradient = map_joined(lambda x: _shortened(x, norm, bound, clipping.rule), gradient)
    if clipping.value is not None:
        largest = np.float32(clipping.value)
        gradient = map_joined(lambda x: _bounded(x, largest), gradient)
    return gradient


def global_norm(tree: Any) -> Array:
    """Return the Euclidean norm of all trained leaves, a float32.

    Elements are divided by the power of two of the largest one, exactly, squared, added up pairwise
    in the order of the leaves (`portable.sum`), and the root is correctly rounded: the relative
    error is below ``(log2(n) / 2 + 2) 2**-24`` to first order. Nothing overflows before the norm
    itself does; elements below 2**-62 of the largest count as zero.
    """
    leaves = [widened(x) for x in jax.tree.leaves(tree) if is_trained(x)]
    if not leaves:
        return jnp.zeros((), jnp.float32)
    x = joined(leaves)
    magnitudes = bitcast(x, jnp.uint32) & jnp.uint32(FLOAT32.sign_bit - 1)
    field = jnp.max(magnitudes, initial=0) >> jnp.uint32(FLOAT32.trailing)
    # Both powers are normal numbers: fields from 1 to 253, and their inverses 253 to 1.
    field = jnp.minimum(jnp.maximum(field, 1), 2 * FLOAT32.bias - 1)
    down = _power_of_two(jnp.uint32(2 * FLOAT32.bias) - field)
    squares = p.flush(x) * down
    norm = p.sqrt(p.sum(p.multiply(squares, squares), 0))
    result: Array = p.multiply(norm, _power_of_two(field))
    return result


def _shortened(x: Array, norm: Array, bound: np.float32, rule: str) -> Array:
    if rule == "optax":
        shorter = p.multiply(p.divide(x, norm), bound)
        return jnp.where(norm < bound, x, shorter)
    factor = jnp.minimum(p.divide(bound, p.add(norm, _TORCH_EPSILON)), _ONE)
    return jnp.where(factor == _ONE, x, p.multiply(x, factor))


def _bounded(x: Array, largest: np.float32) -> Array:
    """Replace what is larger in magnitude; as integers, since XLA's minimum flushes subnormals."""
    bits = bitcast(x, jnp.uint32)
    magnitudes = bits & jnp.uint32(FLOAT32.sign_bit - 1)
    is_larger = (magnitudes > largest.view(np.uint32)) & (magnitudes <= FLOAT32.infinity)
    bound = (bits ^ magnitudes) | largest.view(np.uint32)
    bounded: Array = jnp.where(is_larger, bound, bits)
    return bitcast(bounded, jnp.float32)


def _power_of_two(field: Array) -> Array:
    return bitcast(field << jnp.uint32(FLOAT32.trailing), jnp.float32)
