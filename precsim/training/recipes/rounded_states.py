"""Rounded states around an optax optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precsim._arrays import Array
from precsim.rounding.spec import RoundingSpec, SpecLike, refuse_beyond_float32
from precsim.training.recipes.inner import with_extra_arguments
from precsim.training.recipes.leaves import is_trained, widened
from precsim.training.recipes.optimizers import find_buffers
from precsim.training.recipes.rounded_leaves import check_moments, key_of_noise, round_leaves


class RoundedBuffers(NamedTuple):
    """State of `round_states`."""

    step: Array
    """Steps so far, an int32."""
    inner_state: Any
    """State of the inner optimizer, its buffers rounded."""


def round_states(
    inner: Any,
    rounding: SpecLike,
    *,
    mu: SpecLike | None = None,
    nu: SpecLike | None = None,
    key: Array | int = 0,
) -> Any:
    """Round the buffers of an optimizer after each step: momentum, second moments and the like.

    Parameters
    ----------
    inner : optax.GradientTransformation
        The optimizer.
    rounding : str, Format or RoundingSpec
        Format and rule of the buffers, for example "bf16:sr", "mxfp8_e4m3", "dynamic8_block256" or
        "int8_symmetric_block32"; any format that `ps.round_to` takes and float32 holds.
    mu, nu : str, Format or RoundingSpec, optional
        Those of the first and of the second moment, in the state of optax's Adam and its like; by
        default `rounding`.
    key : int or jax.Array
        Seed, or key made from it, of mode sr; noise depends on (key, step, path of the leaf in the
        inner state, element index) only.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its updates are those of `inner` from the rounded buffers of the last step. Its state is a
        named tuple (`step`, `inner_state`).

    Raises
    ------
    ValueError
        If float32 does not hold a format, or the state has no moment `mu` or `nu`, and a rounding
        is given for it.
    TypeError
        If `inner` is no optimizer, or the buffers are not float32, or are not one per weight
        (inside of `optax.flatten`).

    Notes
    -----
    The buffers hold values of the format in float32 arrays: numbers as they would be, not memory
    saved. Blocks run along the last axis, those of bitsandbytes' tables over the whole buffer as
    they do there. Counters and hyperparameters stay as they are. Weights and gradients in bfloat16
    or float16 reach `inner` as float32.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> optimizer = ps.optax.round_states(optax.sgd(1.0, momentum=0.5), "e4m3")
    >>> w = jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.float32([1.1, 3.3]), optimizer.init(w), w)
    >>> updates.tolist(), state.inner_state[0].trace.tolist()
    ([-1.1, -3.3], [1.125, 3.25])
    """
    given = {"": rounding, "mu": mu, "nu": nu}
    specs = {name: RoundingSpec.parse(x) for name, x in given.items() if x is not None}
    for name, spec in specs.items():
        refuse_beyond_float32(name or "rounding", spec)
    key_of = key_of_noise(specs.values(), key)
    inner = with_extra_arguments(inner)

    def init(params: Any) -> RoundedBuffers:
        state = inner.init(widened(params))
        _check_buffers(state, _buffers(inner, state))
        check_moments(specs, state)
        return RoundedBuffers(jnp.int32(0), state)

    def update(
        updates: Any, state: RoundedBuffers, params: Any = None, **extra: Any
    ) -> tuple[Any, RoundedBuffers]:
        weights = None if params is None else widened(params)
        changes, new = inner.update(widened(updates), state.inner_state, weights, **extra)
        new = round_leaves(
            new,
            specs,
            key=key_of(),
            step=state.step,
            name="optimizer state",
            where=_buffers(inner, new),
        )
        return changes, RoundedBuffers(state.step + 1, new)

    return optax.GradientTransformationExtraArgs(init, update)


def _buffers(inner: Any, state: Any) -> Any:
    """Return which leaves of a state are buffers."""
    try:
        return find_buffers(inner, state)
    except ValueError as error:
        raise TypeError(
            "inner has a state without one buffer per weight, as that of optax.flatten; allowed is "
            "round_states inside of it"
        ) from error


def _check_buffers(state: Any, buffers: Any) -> None:
    """Refuse buffers that are not float32."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, leaf), is_buffer in zip(leaves, jax.tree.leaves(buffers), strict=True):
        if is_buffer and is_trained(leaf) and leaf.dtype != np.float32:
            raise TypeError(
                f"buffer{jax.tree_util.keystr(path)} has dtype {leaf.dtype}; allowed is float32, which "
                "round_states rounds (no mu_dtype)"
            )
