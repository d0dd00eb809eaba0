"""The leaves of a tree rounded, with random bits that depend on where a leaf stands."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec
from precsim.training.recipes.leaves import is_trained
from precsim.transform.noise import bits_at, fold_in

_MOMENTS = {"mu": "mu", "first": "mu", "nu": "nu", "second": "nu"}
"""Field of an optimizer's state -> moment: those of optax's Adam, and of `portable_adamw`."""


def is_stochastic(spec: RoundingSpec) -> bool:
    """Return whether a rounding needs random bits."""
    return spec.mode is RoundingMode.STOCHASTIC


def moment_at(path: Any) -> str:
    """Return "mu" or "nu" for the path of a leaf in such a moment, else an empty string."""
    fields = (key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey))
    return next((_MOMENTS[name] for name in fields if name in _MOMENTS), "")


def check_moments(specs: Mapping[str, RoundingSpec], state: Any) -> None:
    """Refuse the rounding of a moment that an optimizer's state does not have."""
    found = {moment_at(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    for name, spec in specs.items():
        if name and name not in found:
            raise ValueError(
                f"{name} is '{spec}', and the optimizer's state has no such moment; allowed is one "
                "whose state has it, as Adam's has mu and nu"
            )


def key_of_noise(specs: Iterable[RoundingSpec], key: Array | int) -> Callable[[], Any]:
    """Return what makes the key of the random bits; it returns None where there are none."""
    if not any(map(is_stochastic, specs)):
        return lambda: None
    is_seed = isinstance(key, (int, np.integer))
    return lambda: jax.random.key(key) if is_seed else key


def round_leaves(
    tree: Any,
    spec: RoundingSpec | Mapping[str, RoundingSpec],
    *,
    key: Array | None,
    step: Any,
    name: str = "",
    where: Any = None,
) -> Any:
    """Round the float32 leaves of a tree.

    The random bits of mode sr come from (key, step, `name` and path of the leaf, element index).
    Blocks run along the last axis of a leaf, those of tables over all of it. A mapping has the
    specs of the moments "mu" and "nu", where they have their own, and of all other leaves at "".
    `where` is a tree of booleans; a leaf at which it is false stays as it is, as does one that is
    not differentiable.
    """
    specs = {"": spec} if isinstance(spec, RoundingSpec) else spec
    has_noise = any(map(is_stochastic, specs.values()))
    here = fold_in(key, step) if has_noise and key is not None else None

    def rounded(path: Any, leaf: Array, is_wanted: bool = True) -> Array:
        if not (is_wanted and is_trained(leaf)):
            return leaf
        spec, noise = specs.get(moment_at(path), specs[""]), None
        if is_stochastic(spec) and here is not None:
            noise = bits_at(here, name + jax.tree_util.keystr(path), leaf.shape)
        if scaled_format(spec.format) is None:
            return round_array(leaf, noise, spec)
        if leaf.ndim and not isinstance(spec.format, DynamicFormat):
            return round_to(leaf, spec, random_bits=noise)
        noise = None if noise is None else noise.reshape(-1)
        return round_to(leaf.reshape(-1), spec, random_bits=noise).reshape(leaf.shape)

    others = () if where is None else (where,)
    return jax.tree_util.tree_map_with_path(rounded, tree, *others)
