"""The leaves of a tree rounded, with random bits that depend on where a leaf stands."""

from typing import Any

import jax

from precsim._arrays import Array
from precsim.formats.scaled import scaled_format
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec
from precsim.training.recipes.leaves import is_trained
from precsim.transform.noise import bits_at, fold_in


def round_leaves(
    tree: Any,
    spec: RoundingSpec,
    *,
    key: Array | None,
    step: Any,
    name: str = "",
    where: Any = None,
) -> Any:
    """Round the float32 leaves of a tree.

    The random bits of mode sr come from (key, step, `name` and path of the leaf, element index).
    Blocks run along the last axis of a leaf. `where` is a tree of booleans; a leaf at which it is
    false stays as it is, as does one that is not differentiable.
    """
    is_stochastic = spec.mode is RoundingMode.STOCHASTIC
    here = fold_in(key, step) if is_stochastic and key is not None else None

    def rounded(path: Any, leaf: Array, is_wanted: bool = True) -> Array:
        if not (is_wanted and is_trained(leaf)):
            return leaf
        noise = None
        if here is not None:
            noise = bits_at(here, name + jax.tree_util.keystr(path), leaf.shape)
        if scaled_format(spec.format) is None:
            return round_array(leaf, noise, spec)
        if leaf.ndim:
            return round_to(leaf, spec, random_bits=noise)
        one = round_to(leaf[None], spec, random_bits=None if noise is None else noise[None])
        return one[0]

    others = () if where is None else (where,)
    return jax.tree_util.tree_map_with_path(rounded, tree, *others)
