"""The gradient of a batch from its shards, added up in the order of a stated all-reduce.

A batch is cut into shards, whose number belongs to the config. However many devices share them out,
the same sums of the same numbers are computed, so the bits are the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from precsim._arrays import Array
from precsim.arithmetic.collectives import in_chunks, lost_by_rounding, sum_chunks
from precsim.arithmetic.elementwise import add, divide, multiply
from precsim.arithmetic.sums.all_reduce import AllReduce
from precsim.rounding.spec import RoundingSpec
from precsim.training.gradients import Found, Given, Gradient
from precsim.training.parallel.devices import SHARDS, partition
from precsim.training.recipes.leaves import is_trained, joined, parted, widened
from precsim.training.recipes.loss_scaling import all_finite
from precsim.transform.noise import fold_in

_PLACE = np.uint32(0x73686172)
"""Folded into the key of a step: a shard shares no random bits with a microbatch."""

_EXACT = "fp32"

lax: Any = jax.lax
"""JAX's collectives have no types."""


class _OfShard(NamedTuple):
    """What one shard finds; on a device, rows of all of its shards."""

    found: Found
    """Its gradient apart."""
    gradient: Array
    """One vector of all trained leaves."""
    finite: Array


def in_shards(gradient: Gradient, count: int, how: AllReduce, mesh: Mesh | None) -> Gradient:
    """Return the mean loss and gradient of shards, and all that they count."""

    def of_shard(given: Given, n: Array, inputs: Any, targets: Any) -> _OfShard:
        key = fold_in(fold_in(given.key, _PLACE), n) if count > 1 else given.key
        found = gradient(given._replace(inputs=inputs, targets=targets, key=key))
        trained = [x for x in jax.tree.leaves(widened(found.scaled)) if is_trained(x)]
        vector = joined(trained) if trained else jnp.zeros(0, np.float32)
        finite = all_finite(found.scaled) & found.finite
        return _OfShard(found._replace(scaled=None, finite=True), vector, finite)

    def of_device(given: Given, numbers: Array) -> tuple[Found, Array]:
        parts = jax.tree.map(
            lambda x: x.reshape(len(numbers), -1, *x.shape[1:]), (given.inputs, given.targets)
        )
        run = lambda row: of_shard(given, row[0], *row[1])
        shards: _OfShard = lax.map(run, (numbers, parts))
        vectors, residuals = _fed_back(shards.gradient, given, how)
        total = _all_reduced(vectors, count, how, mesh)
        every = _Every(mesh)
        found = Found(
            loss=_mean(every.gather(shards.found.loss)),
            scaled=None,
            model_state=jax.tree.map(lambda x: _common(every.gather(x)), shards.found.model_state),
            forward=jax.tree.map(every.total, shards.found.forward),
            backward=jax.tree.map(every.total, shards.found.backward),
            largest=jax.tree.map(every.largest, shards.found.largest),
            untrusted=every.total(shards.found.untrusted),
            finite=every.gather(shards.finite).all(),
            residuals=residuals,
        )
        return found, total if count == 1 else divide(total, np.float32(count), _EXACT)

    run = of_device if mesh is None else _shared_out(of_device, mesh)

    def whole(given: Given) -> Found:
        _check(given, count)
        found, vector = run(given, jnp.arange(count, dtype=jnp.int32))
        return found._replace(scaled=_as_gradient(vector, given.params))

    return whole


def _shared_out(of_device: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Run on all devices of a mesh; each gets its shards and returns what all have in common."""
    all_of_it, share = partition(), partition(SHARDS)
    everything: Any = all_of_it
    taken = Given(**dict.fromkeys(Given._fields, everything))
    taken = taken._replace(inputs=share, targets=share, residuals=share)
    returned = Found(**dict.fromkeys(Found._fields, everything))._replace(residuals=share)
    return jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(taken, share),
        out_specs=(returned, all_of_it),
        check_vma=False,
    )


def _check(given: Given, count: int) -> None:
    for x in jax.tree.leaves((given.inputs, given.targets)):
        if x.shape[0] % count:
            raise ValueError(
                f"shards is {count}; allowed are divisors of the batch, {x.shape[0]} examples"
            )


def _fed_back(vectors: Array, given: Given, how: AllReduce) -> tuple[Array, Array | None]:
    """Add what earlier roundings have lost; return what is sent, and what rounding it loses.

    Residuals are those of the gradient without its loss scale, which changes from step to step.
    """
    if not how.has_feedback:
        return vectors, None
    factor = jnp.asarray(given.loss_scale.factor, np.float32)
    sent = add(vectors, multiply(given.residuals, factor, _EXACT), _EXACT)
    lost = lost_by_rounding(sent, how, RoundingSpec.parse(_EXACT))
    return sent, divide(lost, factor, _EXACT)


def _all_reduced(vectors: Array, count: int, how: AllReduce, mesh: Mesh | None) -> Array:
    """Return the sum of the vectors of all shards, on every device.

    Each device adds up its chunks of the vectors of all others. Under doubling, neighbours are
    first: where each device has a power of two of them, it adds those up before it sends any.
    """
    local, size = vectors.shape
    if how.algorithm == "platform":
        own = vectors.sum(0)
        return own if mesh is None else jnp.asarray(lax.psum(own, SHARDS))
    if how.algorithm == "doubling" and local & (local - 1) == 0:
        vectors = sum_chunks(vectors[:, None], np.zeros(1, int), how)
        count //= local
    chunks = in_chunks(vectors, count)
    if mesh is None:
        total = sum_chunks(chunks, np.arange(count), how)
    else:
        parts = lax.all_to_all(chunks, SHARDS, split_axis=1, concat_axis=0, tiled=True)
        own = lax.axis_index(SHARDS) * parts.shape[1] + np.arange(parts.shape[1])
        total = lax.all_gather(sum_chunks(parts, own, how), SHARDS, axis=0, tiled=True)
    return total.reshape(-1)[:size]


class _Every(NamedTuple):
    """What all devices know of the rows of each; no float is added."""

    mesh: Mesh | None

    def gather(self, rows: Array) -> Array:
        if self.mesh is None:
            return rows
        every: Array = lax.all_gather(rows, SHARDS, axis=0, tiled=True)
        return every

    def total(self, counts: Array) -> Array:
        total = counts.sum(0, dtype=counts.dtype)
        return total if self.mesh is None else jnp.asarray(lax.psum(total, SHARDS))

    def largest(self, rows: Array) -> Array:
        most = rows.max(0)
        return most if self.mesh is None else jnp.asarray(lax.pmax(most, SHARDS))


def _mean(rows: Array) -> Array:
    """Return the mean along the first axis, neighbours added first."""
    exact = AllReduce(algorithm="doubling")
    total = sum_chunks(rows.reshape(len(rows), 1, -1), np.zeros(1, int), exact)
    mean: Array = divide(total, np.float32(len(rows)), _EXACT).reshape(rows.shape[1:])
    return mean


def _common(rows: Array) -> Array:
    """Return what a model keeps after its shards: the mean of numbers, else what the first has."""
    if len(rows) == 1 or not jnp.issubdtype(rows.dtype, np.floating):
        return rows[0]
    return _mean(rows.astype(np.float32)).astype(rows.dtype)


def _as_gradient(vector: Array, params: Any) -> Any:
    """Return a vector as a gradient of these weights; what is not trained has zeros of float0."""
    structure: Any
    leaves, structure = jax.tree.flatten(params)
    where = [n for n, leaf in enumerate(leaves) if is_trained(leaf)]
    new: list[Any] = [np.zeros(jnp.shape(leaf), jax.dtypes.float0) for leaf in leaves]
    for n, part in zip(where, parted(vector, [leaves[n] for n in where]), strict=True):
        new[n] = part
    return structure.unflatten(new)


def first_residuals(params: Any, count: int) -> Array:
    """Return the residuals before the first step: nothing has been lost."""
    size = sum(int(np.prod(np.shape(x))) for x in jax.tree.leaves(params) if is_trained(x))
    return jnp.zeros((count, size), np.float32)
