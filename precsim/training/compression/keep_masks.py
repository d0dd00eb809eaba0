"""`keep_masks`: weights that were taken out stay exactly 0, however updates are rounded."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precsim._arrays import Array
from precsim.training.recipes.inner import with_extra_arguments
from precsim.training.recipes.leaves import is_trained


class MaskedState(NamedTuple):
    """State of `keep_masks`."""

    inner_state: Any
    """State of the inner optimizer."""


def keep_masks(inner: Any, masks: Any) -> Any:
    """Keep weights that were taken out at exactly 0, around any optimizer.

    Parameters
    ----------
    inner : optax.GradientTransformation
        The optimizer, with all that rounds weights: `round_params`, `compensate_params`,
        `master_params`.
    masks : pytree of bool arrays
        True where a weight is kept, in the structure and shapes of the weights, as `prune` returns.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its updates take a weight that is out to 0, and are those of `inner` elsewhere. Its state is
        a named tuple (`inner_state`).

    Raises
    ------
    ValueError
        If masks and weights differ in structure or shape, or `update` does not get the weights.
    TypeError
        If a mask is not of dtype bool.

    Notes
    -----
    The inner optimizer sees weights and gradients that are 0 where the mask is False, so its
    buffers and masters stay 0 there. The update of a weight that is out is ``-w``, and ``w - w`` is
    0 in every format and every rounding mode, stochastic and compensated ones too, by
    `optax.apply_updates` and by `ps.apply_updates` (compensation has to start at 0, with weights in
    the format). Weights that are not 0 yet are taken out by the first update. What is kept has the
    bits that `inner` gives it.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> w = jnp.float32([[4.0, 0.5]])
    >>> optimizer = ps.optax.keep_masks(optax.sgd(1.0), ps.prune(w, 0.5))
    >>> updates, _ = optimizer.update(jnp.ones((1, 2)), optimizer.init(w), w)
    >>> ps.apply_updates(w, updates, rounding="bf16").tolist()
    [[3.0, 0.0]]
    """
    for path, mask in jax.tree_util.tree_leaves_with_path(masks):
        if getattr(mask, "dtype", None) != np.bool_:
            raise TypeError(
                f"masks{jax.tree_util.keystr(path)} has dtype {getattr(mask, 'dtype', type(mask))}; "
                "allowed is bool"
            )
    inner = with_extra_arguments(inner)

    def init(params: Any) -> MaskedState:
        has_arrays = bool(jax.tree.leaves(params))  # optax asks with a tree that has none, too
        return MaskedState(inner.init(_masked(params, masks, "params") if has_arrays else params))

    def update(
        updates: Any, state: MaskedState, params: Any = None, **extra: Any
    ) -> tuple[Any, MaskedState]:
        if params is None:
            raise ValueError(
                "params is None; masks need the weights: update(updates, state, params)"
            )
        kept = _masked(params, masks, "params")
        gradients = _masked(updates, masks, "updates")
        changes, new = inner.update(gradients, state.inner_state, kept, **extra)
        return jax.tree.map(_taken_out, masks, changes, params), MaskedState(new)

    return optax.GradientTransformationExtraArgs(init, update)


def _taken_out(mask: Array, change: Any, weight: Any) -> Any:
    """Return the change of what is kept, and what takes the rest to 0."""
    if not is_trained(weight):
        return change
    return jnp.where(mask, change, -jnp.asarray(weight))


def _masked(tree: Any, masks: Any, name: str) -> Any:
    """Return a tree with 0 where the masks are False; refuse one that does not fit them."""
    theirs: Any = jax.tree.structure(tree)
    ours: Any = jax.tree.structure(masks)
    if theirs != ours:
        raise ValueError(f"masks have structure {ours}; allowed is that of {name}, {theirs}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(masks), strict=True)
    for (path, leaf), mask in pairs:
        if np.shape(leaf) != np.shape(mask):
            raise ValueError(
                f"masks{jax.tree_util.keystr(path)} has shape {np.shape(mask)}; allowed is that of "
                f"{name}, {np.shape(leaf)}"
            )

    def put(leaf: Any, mask: Any) -> Any:
        return jnp.where(mask, leaf, jnp.zeros((), leaf.dtype)) if is_trained(leaf) else leaf

    return jax.tree.map(put, tree, masks)
