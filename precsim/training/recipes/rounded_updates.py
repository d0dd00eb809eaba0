"""Rounded, compensated and master weights, around an optax optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precsim._arrays import Array
from precsim.arithmetic.elementwise import subtract
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.spec import RoundingSpec, SpecLike
from precsim.training.recipes.inner import with_extra_arguments
from precsim.training.recipes.leaves import is_trained, widened
from precsim.training.recipes.rounded_leaves import key_of_noise, round_leaves
from precsim.training.recipes.updates import apply_updates

_MOST_BITS = 16
"""Significant bits of rounded weights: new and old may then differ by a factor of 2**8."""


class RoundedState(NamedTuple):
    """State of `round_params`."""

    step: Array
    """Steps so far, an int32."""


class CompensatedState(NamedTuple):
    """State of `compensate_params`."""

    step: Array
    """Steps so far, an int32."""
    compensation: Any
    """What former roundings lost, float32, in the structure of the weights."""


class MasterState(NamedTuple):
    """State of `master_params`."""

    step: Array
    """Steps so far, an int32."""
    params: Any
    """The weights in float32."""
    inner_state: Any
    """State of the inner optimizer."""


def round_params(rounding: SpecLike, *, key: Array | int = 0) -> Any:
    """Round weight plus update once, to nearest or stochastically; it stands last in a chain.

    Parameters
    ----------
    rounding : str, Format or RoundingSpec
        Format and rule of the new weights, for example "bf16:sr"; at most 16 significant bits.
    key : int or jax.Array
        Seed, or key made from it, of mode sr. Noise depends on (key, step, path of the leaf,
        element index) only: it is the same under jit and on any number of devices, and that of
        `ps.apply_updates`.

    Returns
    -------
    optax.GradientTransformation
        It replaces the updates by float32 ones with which `optax.apply_updates` arrives at the
        rounded weights. Its state counts the steps.

    Raises
    ------
    ValueError
        If the format is a block or affine one or has more than 16 significant bits, or `update`
        does not get the weights.
    TypeError
        If weights are neither float32 nor of the dtype of the format (float16, bfloat16).

    Notes
    -----
    The update is the difference of the new and the old weight, rounded to float32, and optax adds
    in float32. The new weight is exactly that of ``ps.apply_updates(params, updates,
    rounding=rounding, ...)`` where one of the two is 0 or their exponents differ by at most 24 - p
    (16 for bf16, 13 for fp16), and always in fixed point. Otherwise it may differ by an ulp of
    float32 of the larger one, before optax rounds it to the dtype of the weights. So in bfloat16
    and float16 arrays it can only differ where it is smaller than the old one by more than this
    factor; ``ps.apply_updates(params, updates, rounding="bf16")`` in place of optax's does the same
    for float32 arrays. A zero may lose its sign. Whether float32 subnormals survive depends on the
    platform's addition.

    All differentiable weights are rounded; `optax.masked` leaves some out.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> optimizer = optax.chain(optax.sgd(1.0), ps.optax.round_params("bf16:sr"))
    >>> w = jnp.ones(1000, jnp.bfloat16)  # neighbours: 1 - 2**-8 and 1 + 2**-7
    >>> updates, _ = optimizer.update(jnp.full(1000, 2.0**-10), optimizer.init(w), w)
    >>> new = optax.apply_updates(w, updates)
    >>> new.dtype.name, sorted(set(new.tolist())), 200 < (new < 1).sum() < 300
    ('bfloat16', [0.99609375, 1.0], Array(True, dtype=bool))
    """
    spec, key_of = _checked(rounding, key)

    def init(params: Any) -> RoundedState:
        return RoundedState(jnp.int32(0))

    def update(updates: Any, state: RoundedState, params: Any = None) -> tuple[Any, RoundedState]:
        old = _carriers(params, spec)
        new = apply_updates(old, widened(updates), rounding=spec, key=key_of(), step=state.step)
        return _differences(updates, new, old), RoundedState(state.step + 1)

    return optax.GradientTransformation(init, update)


def compensate_params(rounding: SpecLike, *, key: Array | int = 0) -> Any:
    """Add updates to weights with Kahan compensation; it stands last in a chain.

    Parameters
    ----------
    rounding : str, Format or RoundingSpec
        Format and rule of weights and compensation, for example "bf16"; at most 16 significant
        bits.
    key : int or jax.Array
        Seed, or key made from it, of mode sr, as in `round_params`.

    Returns
    -------
    optax.GradientTransformation
        It replaces the updates by float32 ones with which `optax.apply_updates` arrives at the
        compensated weights; see `round_params` for when it does exactly. Its state holds what
        former roundings lost.

    Raises
    ------
    ValueError
        As `round_params`.
    TypeError
        As `round_params`.

    Notes
    -----
    The operations are those of ``ps.apply_updates(..., compensation=...)``.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> optimizer = optax.chain(optax.sgd(1.0), ps.optax.compensate_params("bf16"))
    >>> w = jnp.ones(1, jnp.bfloat16)
    >>> state = optimizer.init(w)
    >>> for _ in range(8):  # alone, 2**-9 is swallowed
    ...     updates, state = optimizer.update(jnp.float32([-(2.0**-9)]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> w.tolist()
    [1.015625]
    """
    spec, key_of = _checked(rounding, key)

    def init(params: Any) -> CompensatedState:
        return CompensatedState(jnp.int32(0), jax.tree.map(jnp.zeros_like, widened(params)))

    def update(
        updates: Any, state: CompensatedState, params: Any = None
    ) -> tuple[Any, CompensatedState]:
        old = _carriers(params, spec)
        new, lost = apply_updates(
            old,
            widened(updates),
            rounding=spec,
            key=key_of(),
            step=state.step,
            compensation=state.compensation,
        )
        return _differences(updates, new, old), CompensatedState(state.step + 1, lost)

    return optax.GradientTransformation(init, update)


def master_params(inner: Any, rounding: SpecLike, *, key: Array | int = 0) -> Any:
    """Keep float32 weights in the state; those outside are their rounded copies.

    Parameters
    ----------
    inner : optax.GradientTransformation
        The optimizer. It sees float32 weights and gradients.
    rounding : str, Format or RoundingSpec
        Format and rule of the weights outside, for example "bf16"; at most 16 significant bits.
    key : int or jax.Array
        Seed, or key made from it, of mode sr, as in `round_params`.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its updates are float32; with them `optax.apply_updates` arrives at the rounded master
        weights (see `round_params` for when it does exactly). Its state is a named tuple (`step`,
        `params`, `inner_state`).

    Raises
    ------
    ValueError
        As `round_params`.
    TypeError
        As `round_params`.

    Notes
    -----
    Master weights start as the weights that `init` gets. Weights that something else changes later
    return to those of the state in the next step.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> optimizer = ps.optax.master_params(optax.sgd(1.0), "bf16")
    >>> w = jnp.ones(1, jnp.bfloat16)
    >>> state = optimizer.init(w)
    >>> for _ in range(8):  # alone, 2**-10 is swallowed
    ...     updates, state = optimizer.update(jnp.bfloat16([-(2.0**-10)]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> w.tolist(), state.params.tolist()
    ([1.0078125], [1.0078125])
    """
    spec, key_of = _checked(rounding, key)
    inner = with_extra_arguments(inner)

    def init(params: Any) -> MasterState:
        masters = jax.tree.map(jnp.copy, widened(params))
        return MasterState(jnp.int32(0), masters, inner.init(masters))

    def update(
        updates: Any, state: MasterState, params: Any = None, **extra: Any
    ) -> tuple[Any, MasterState]:
        old = _carriers(params, spec)
        changes, inner_state = inner.update(
            widened(updates), state.inner_state, state.params, **extra
        )
        masters = apply_updates(state.params, changes)
        new = round_leaves(masters, spec, key=key_of(), step=state.step)
        changes = _differences(changes, new, old)
        return changes, MasterState(state.step + 1, masters, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _checked(rounding: SpecLike, key: Array | int) -> tuple[RoundingSpec, Callable[[], Any]]:
    """Return the spec of rounded weights, and what makes the key; refuse what cannot be added."""
    spec = RoundingSpec.parse(rounding)
    refuse_scaled(spec.format, "rounding")
    fmt = spec.format
    bits = fmt.precision if isinstance(fmt, FloatFormat) else fmt.integer_bits + fmt.fraction_bits
    if bits > _MOST_BITS:
        raise ValueError(
            f"rounding is '{spec}', with {bits} significant bits; allowed are {_MOST_BITS} at most, as "
            "optax adds updates in float32 (ps.apply_updates takes all)"
        )
    return spec, key_of_noise([spec], key)


def _carriers(params: Any, spec: RoundingSpec) -> Any:
    """Return weights as float32; refuse them if they are missing or cannot hold the format."""
    if params is None:
        raise ValueError(
            "params is None; rounding needs the weights: update(updates, state, params)"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = np.dtype(getattr(leaf, "dtype", np.float32) if is_trained(leaf) else np.float32)
        is_format = dtype.name in ("bfloat16", "float16") and get_format(dtype.name) == spec.format
        if not is_format and dtype != np.float32:
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} has dtype {dtype}; allowed are float32, and the "
                f"dtype of {spec.format}, if it has one"
            )
    return widened(params)


def _differences(updates: Any, new: Any, old: Any) -> Any:
    """Return what takes the old weights to the new ones; other leaves are those of the updates."""
    structure: Any
    weights, structure = jax.tree.flatten(old)
    changes = [
        subtract(after, before, "fp32") if is_trained(before) else change
        for change, after, before in zip(
            structure.flatten_up_to(updates), structure.flatten_up_to(new), weights, strict=True
        )
    ]
    return structure.unflatten(changes)
