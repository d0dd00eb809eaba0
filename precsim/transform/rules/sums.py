"""Reductions, cumulative and scattered sums: in a stated order, every partial sum rounded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim.arithmetic.elementwise import add
from precsim.arithmetic.sums.accumulate import accumulate
from precsim.arithmetic.sums.order import Pairwise, Sequential
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform import textbook
from precsim.transform.noise import fold_in
from precsim.transform.operation import Operation, rule
from precsim.transform.rounded import Place, alone, random_bits, rounded, with_gradient_of
from precsim.transform.rules.elementwise import is_fast, plus
from precsim.transform.treatment import How
from precsim.transform.values import Value, carrier_of, is_float


def _is_left(op: Operation, spec: RoundingSpec) -> bool:
    """Return whether the program's own sum runs; what is left to do otherwise is written down."""
    if not is_float(op.eqn.outvars[0].aval):
        op.record(How.EXEMPT)
        return True
    if op.rounds_nothing(spec) and not op.is_exact_everywhere:
        op.record(How.AS_IS)
        return True
    op.record(How.SUM, f"{spec}, {op.policy.reduction_order}")
    return False


def _finished(
    op: Operation,
    unrounded: Callable[..., Array],
    emulated: Callable[..., Array],
    spec: RoundingSpec,
    *arrays: Array,
) -> list[Value]:
    """Return the sums that `emulated` makes, with the derivative of the program's own."""
    if op.is_watched:
        y = emulated(op.context.key, *arrays)
        op.note(unrounded(*arrays), y, spec)
    else:
        y = with_gradient_of(unrounded, emulated)(op.context.key, *arrays)
    return [op.result(y, spec.format, cotangent=op.spec)]


def summed(op: Operation, rows: Array, spec: RoundingSpec, place: Place) -> Array:
    """Return the sum over the first axis in the order of the policy."""
    order = op.policy.reduction_order
    bits = random_bits(spec, place, rows.shape)
    if isinstance(order, Pairwise):
        return _pairwise(op, rows, bits, spec)
    return accumulate(rows, spec, axis=0, order=order, random_bits=bits)


def _plus(op: Operation, x: Array, y: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    if is_fast("add", spec, carrier_of(x.dtype), anywhere=not op.is_exact_everywhere):
        return rounded(plus(x, y), bits, spec)
    return alone(add(x, y, spec, random_bits=bits))


def _pairwise(op: Operation, rows: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    """Add neighbours, level by level, as order "pairwise" of `accumulate` does."""
    if rows.shape[0] == 0:
        return jnp.zeros(rows.shape[1:], rows.dtype)
    if rows.shape[0] == 1:
        noise = None if bits is None else bits[0]
        return _plus(op, rows[0], jnp.zeros(rows.shape[1:], rows.dtype), noise, spec)
    used = 0
    while (count := rows.shape[0]) > 1:
        half = count // 2
        pairs = rows[: 2 * half].reshape(half, 2, *rows.shape[1:])
        noise = None if bits is None else bits[used : used + half]
        sums = _plus(op, pairs[:, 0], pairs[:, 1], noise, spec)
        rows = jnp.concatenate([sums, rows[2 * half :]]) if count % 2 else sums
        used += half
    return rows[0]


@rule("reduce_sum")
def sum_over_axes(op: Operation) -> list[Value]:
    """Sum over axes, in row-major order of the summands."""
    spec = op.policy.reductions
    if _is_left(op, spec):
        return op.as_it_is()
    x, axes = op.brought(0, spec), op.params["axes"]

    def emulated(key: Array, x: Array) -> Array:
        return summed(op, textbook.rows_over(x, axes), spec, op.place._replace(key=key))

    return _finished(op, lambda x: jnp.sum(x, axis=axes), emulated, spec, x)


@rule("cumsum")
def cumulative(op: Operation) -> list[Value]:
    """Sum up along an axis: one after the other, or, in order pairwise, as a tree of prefixes."""
    spec = op.policy.reductions
    if _is_left(op, spec):
        return op.as_it_is()
    x, axis, reverse = op.brought(0, spec), op.params["axis"], op.params["reverse"]

    def emulated(key: Array, x: Array) -> Array:
        place = op.place._replace(key=key)
        is_tree = isinstance(op.policy.reduction_order, Pairwise)
        if is_tree and spec.mode is not RoundingMode.STOCHASTIC:
            plus = partial(_plus, op, bits=None, spec=spec)
            return textbook.prefixes(plus, x, axis=axis, reverse=reverse)
        rows = jnp.moveaxis(x, axis, 0)
        bits = random_bits(spec, place, rows.shape)

        def step(total: Any, row: Any) -> tuple[Any, Any]:
            summand, random = row
            noise = None if random is None else jnp.stack([random, random])
            both = jnp.stack([total, summand])
            total = accumulate(both, spec, axis=0, order="sequential", random_bits=noise)
            return total, total

        _, rows = lax.scan(step, jnp.zeros_like(rows[0]), (rows, bits), reverse=reverse)
        return jnp.moveaxis(rows, 0, axis)

    return _finished(op, lambda x: lax.cumsum(x, axis, reverse), emulated, spec, x)


@rule("reduce_window_sum")
def over_windows(op: Operation) -> list[Value]:
    """Sum over windows, in row-major order of their positions; padding takes part as zeros."""
    spec = op.policy.reductions
    if _is_left(op, spec):
        return op.as_it_is()
    x = op.brought(0, spec)

    def emulated(key: Array, x: Array) -> Array:
        rows = textbook.windows(x, 0, **op.params)
        return summed(op, rows, spec, op.place._replace(key=key))

    return _finished(op, lambda x: op.bind(x)[0], emulated, spec, x)


@rule("scatter-add", "scatter_add", "scatter-sub", "scatter_sub")
def scattered(op: Operation) -> list[Value]:
    """Add updates to their targets: those of one target are summed in order, then added to it.

    What is to be subtracted is negated first, which is exact.
    """
    spec = op.policy.reductions
    if _is_left(op, spec):
        return op.as_it_is()
    target, updates = op.brought(0, spec), op.brought(2, spec)
    indices, subtracts = op.operands[1].array, op.name.endswith("sub")

    def emulated(key: Array, target: Array, indices: Array, updates: Array) -> Array:
        place = op.place._replace(key=key)
        updates = -updates if subtracts else updates
        places = textbook.scattered_places(target, indices, updates, op.params).reshape(-1)
        data = updates.reshape(-1)
        totals, is_hit = _segment_sums(op, data, places, target.size, spec, place)
        old = target.reshape(-1)
        new = _plus(op, old, totals, random_bits(spec, place, old.shape), spec)
        return jnp.where(is_hit, new, old).reshape(target.shape)

    unrounded = lambda *arrays: op.bind(*arrays)[0]
    return _finished(op, unrounded, emulated, spec, target, indices, updates)


@rule("select_and_scatter_add")
def scattered_to_selected(op: Operation) -> list[Value]:
    """Add each number to the place that its window selects, as the gradient of a pooling does."""
    spec = op.policy.reductions
    if _is_left(op, spec):
        return op.as_it_is()
    source, x = op.brought(0, spec), op.operands[1].array

    def emulated(key: Array, source: Array, x: Array) -> Array:
        places = _selected(x, **op.params).reshape(-1)
        place = op.place._replace(key=key)
        totals, _ = _segment_sums(op, source.reshape(-1), places, x.size, spec, place)
        return totals.reshape(x.shape)

    unrounded = lambda *arrays: op.bind(*arrays)[0]
    return _finished(op, unrounded, emulated, spec, source, x)


def _selected(x: Array, *, select_prim: Any, **window: Any) -> Array:
    """Return the flat index of the number that each window selects, -1 where there is none.

    A number stays selected for as long as the comparison with the next one holds.
    """
    own = lax.iota(jnp.int32, x.size).reshape(x.shape)
    places, numbers = textbook.windows(own, -1, **window), textbook.windows(x, 0, **window)
    best, place = numbers[0], places[0]
    for number, other in zip(numbers[1:], places[1:], strict=True):
        is_kept = (other < 0) | ((place >= 0) & select_prim.bind(best, number))
        best, place = jnp.where(is_kept, best, number), jnp.where(is_kept, place, other)
    return place


def _segment_sums(
    op: Operation, data: Array, places: Array, count: int, spec: RoundingSpec, place: Place
) -> tuple[Array, Array]:
    """Return the sum of the data of each place, and which places have any.

    In order sequential one after the other, in every other order neighbours first: each turn of the
    loop adds to the sums of all places at once.
    """
    size = data.shape[0]
    if not size or not count:
        return jnp.zeros(count, data.dtype), jnp.zeros(count, bool)
    places = jnp.where(places < 0, count, places)  # beyond all: dropped in the end
    order = jnp.argsort(places, stable=True)
    places, data = places[order], data[order]
    at = jnp.arange(size, dtype=jnp.int32)
    is_first = jnp.concatenate([jnp.ones(1, bool), places[1:] != places[:-1]])
    within = at - lax.cummax(jnp.where(is_first, at, 0))

    longest = jnp.max(within) + 1
    is_chain = isinstance(op.policy.reduction_order, Sequential)

    def level(state: tuple[Array, Array]) -> tuple[Array, Array]:
        sums, step = state
        partner = jnp.minimum(at + step, size - 1)
        takes = is_first if is_chain else within % (2 * step) == 0
        has_partner = takes & (at + step < size) & (places[partner] == places)
        further = data[partner] if is_chain else sums[partner]
        here = place._replace(key=fold_in(place.key, step))
        bits = random_bits(spec, here, sums.shape)
        sums = jnp.where(has_partner, _plus(op, sums, further, bits, spec), sums)
        return sums, step + 1 if is_chain else 2 * step

    start = data, jnp.int32(1)
    data, _ = lax.while_loop(lambda state: state[1] < longest, level, start)
    first = jnp.where(is_first, places, count)
    totals = jnp.zeros(count + 1, data.dtype).at[first].set(data, mode="drop")
    is_hit = jnp.zeros(count + 1, bool).at[first].set(True, mode="drop")
    return totals[:count], is_hit[:count]
