"""Weight updates, rounded once: to nearest, stochastically, or with Kahan compensation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, bitcast, count_true
from precsim.arithmetic.elementwise import add, subtract
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec, SpecLike
from precsim.training.recipes.leaves import is_trained, joined, parted
from precsim.transform.noise import bits_at, fold_in


def apply_updates(
    params: Any,
    updates: Any,
    *,
    rounding: SpecLike = "fp32",
    key: Array | None = None,
    step: Array | int | None = None,
    compensation: Any = None,
) -> Any:
    """Add updates to weights, each sum rounded once.

    Parameters
    ----------
    params : pytree of float32 arrays
        Weights. Leaves of integers, booleans or random keys stay as they are.
    updates : pytree of float32 arrays
        What an optimizer returns; same structure.
    rounding : str, Format or RoundingSpec
        Format and rule of the new weights.
    key : jax.Array, optional
        Key for mode sr, made from the seed only.
    step : int or jax.Array, optional
        Step number for mode sr. Noise depends on (key, step, path of the leaf, element index) only.
    compensation : pytree of float32 arrays, optional
        Kahan buffers, zero at first: what former roundings lost.

    Returns
    -------
    pytree, or pair of pytrees
        New weights; with `compensation`, the pair (new weights, new buffers).

    Raises
    ------
    ValueError
        If `key` or `step` is missing in mode sr, or a leaf's update has another shape or dtype.
    TypeError
        If weights are not float32 (or all float64); the message names the leaf.

    Notes
    -----
    Kahan: ``y = u - c, t = fl(w + y), c = fl(fl(t - w) - y)``, each operation rounded once in the
    format (Kahan 1965; for weights: Zamirai et al., arXiv 2010.06192). Cost: about 150 integer
    operations per weight, four times that with compensation.

    Examples
    --------
    A small update is lost, unless rounding is stochastic or compensated:

    >>> import jax.numpy as jnp, precsim as ps
    >>> w, u = jnp.ones(1), jnp.full(1, 1e-3)
    >>> float(ps.apply_updates(w, u, rounding="bf16")[0])
    1.0
    >>> _, lost = ps.apply_updates(w, u, rounding="bf16", compensation=jnp.zeros(1))
    >>> round(float(lost[0]), 6)
    -0.000999
    """
    spec = RoundingSpec.parse(rounding)
    structure: Any
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in flat]
    names = [jax.tree_util.keystr(path) for path, _ in flat]
    where = [n for n, leaf in enumerate(leaves) if is_trained(leaf)]
    changes = structure.flatten_up_to(updates)
    _check([(names[n], leaves[n], changes[n]) for n in where])
    if not where:
        return params if compensation is None else (params, compensation)

    old = [leaves[n] for n in where]
    weights, change = joined(old), joined([changes[n] for n in where])
    noise = None
    if spec.mode is RoundingMode.STOCHASTIC:
        if key is None or step is None:
            raise ValueError(f"key and step are missing: mode 'sr' of {spec} needs both")
        here = fold_in(key, step)
        noise = joined([bits_at(here, names[n], leaves[n].shape) for n in where])

    def with_new(values: Array, like: list[Any]) -> Any:
        result = list(like)
        for n, part in zip(where, parted(values, old), strict=True):
            result[n] = part
        return structure.unflatten(result)

    if compensation is None:
        return with_new(add(weights, change, spec, random_bits=noise), leaves)
    buffers = structure.flatten_up_to(compensation)
    nearest = RoundingSpec(format=spec.format)
    wanted = subtract(change, joined([buffers[n] for n in where]), nearest)
    new = add(weights, wanted, spec, random_bits=noise)
    lost = subtract(subtract(new, weights, nearest), wanted, nearest)
    return with_new(new, leaves), with_new(lost, buffers)


def _check(leaves: list[tuple[str, Array, Array]]) -> None:
    """Refuse weights that are not carrier values of one dtype, and updates that do not fit them."""
    carriers = dict.fromkeys(map(jax.dtypes.canonicalize_dtype, (np.float32, np.float64)))
    for path, weight, change in leaves:
        first = leaves[0][1].dtype
        if first not in carriers:
            raise TypeError(
                f"params{path} has dtype {first}; allowed are {' or '.join(map(str, carriers))}, "
                "and what has no gradient (integers, booleans, keys) and stays as it is"
            )
        if weight.dtype != first:
            raise TypeError(
                f"params{path} has dtype {weight.dtype}; allowed is that of params{leaves[0][0]}, "
                f"{first}"
            )
        for aspect in ("shape", "dtype"):
            theirs, ours = getattr(change, aspect, None), getattr(weight, aspect)
            if theirs != ours:
                raise ValueError(
                    f"update of params{path} has {aspect} {theirs}; allowed is that of its "
                    f"weights, {ours}"
                )


def count_swallowed(params: Any, updates: Any, new_params: Any) -> tuple[Array, Array]:
    """Count the nonzero updates, and those among them that left their weight as it was."""
    # As integers: XLA flushes float32 subnormals in floating-point comparisons.
    old, change, new = (
        bitcast(joined(jax.tree.leaves(tree)), jnp.uint32) for tree in (params, updates, new_params)
    )
    is_nonzero = (change & jnp.uint32(0x7FFFFFFF)) != 0
    nonzero, swallowed = count_true(is_nonzero, is_nonzero & (old == new))
    return nonzero, swallowed
