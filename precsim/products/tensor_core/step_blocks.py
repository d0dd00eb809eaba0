"""Products whose order is a `StepBlock`: one driver, and the steps of each rule.

The same source runs on NumPy arrays (the reference) and under JAX (compiled).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from precsim._arrays import Array, bitcast, entry, is_jax, namespace
from precsim._loops import repeat
from precsim.arithmetic.sums.exact import exact_sum
from precsim.formats.carrier import FLOAT32
from precsim.formats.storage import significand_bits
from precsim.products.orders.exact import products_of
from precsim.products.orders.multiply_add import operations
from precsim.products.shapes import result_shape
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import (
    DescendingBlock,
    DotBlock,
    EvenOddBlock,
    ExactBlock,
    FlooredBlock,
    PairwiseBlock,
    StepBlock,
)
from precsim.products.tensor_core.dot_steps import descending_step, dot_step, even_odd_step
from precsim.products.tensor_core.floored_step import floored_step
from precsim.products.tensor_core.plan import FILL, Step, add_chains, in_order, plan
from precsim.products.tensor_core.tiles import Tiles, tiles_of
from precsim.rounding.modes import SubnormalMode
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec

if TYPE_CHECKING:
    from precsim.products.tensor_core.quick_steps import QuickSteps

_U = FLOAT32.uint_dtype


def block_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    *,
    is_guarded: bool = True,
    ways: "Sequence[QuickSteps] | None" = None,
) -> tuple[Array, Array | bool]:
    """Return c + a @ b for a spec whose order is a `StepBlock`, and whether to trust its bits.

    In float32, of shapes (..., M, K), (..., K, N) and (..., M, N), of any size; without products
    the result is c. Operands are values of their formats. A last step that is not full is filled up
    with products of +0. With a guard the bits can always be trusted: the first quick steps that are
    exact run, or else the general ones. Without it the first ones run. NumPy arrays take the
    general ones. `ways`: quick steps to try, those of the spec by default.
    """
    block = spec.order
    assert isinstance(block, StepBlock)
    xp = namespace(a, b, c)
    a, b = xp.asarray(a), xp.asarray(b)
    k = a.shape[-1]
    shape = result_shape(a, b)
    first = xp.zeros(shape, np.float32) if c is None else xp.broadcast_to(xp.asarray(c), shape)
    if 0 in (k, *shape):
        return first, True
    where = plan(block, k)
    columns = in_order(xp.moveaxis(bitcast(a, _U), -1, 0)[..., None], where.places)
    rows = in_order(xp.moveaxis(bitcast(b, _U), -2, 0)[..., None, :], where.places)
    if not isinstance(block, ExactBlock | FlooredBlock):
        first = round_to(first, spec.accumulator)
    if isinstance(block, PairwiseBlock):
        columns, rows = _positive_zeros(columns), _positive_zeros(rows)
    start = bitcast(first, _U)
    if isinstance(block, ExactBlock | PairwiseBlock):
        start = _positive_zeros(start)

    def run(
        steps: Callable[[Array, Array], Step],
        unroll: int,
        columns: Array,
        rows: Array,
        start: Array,
    ) -> Array:
        step = _where_products_are(steps(columns, rows), where.places, block.length)

        def chain(total: Array, j: Any) -> Array:
            body = lambda n, total: step(total, j * where.steps + n)
            return repeat(where.steps, body, total, unroll=unroll)

        return bitcast(add_chains(chain, start, where, spec.accumulator), FLOAT32.float_dtype)

    chosen: Callable[..., Array] = partial(run, partial(_steps, spec=spec), 1)
    if not is_jax(start):
        return chosen(columns, rows, start), True
    from precsim._calls import choose

    tiles = tiles_of(shape[-1], block.length, is_compiled=True)
    arrays = _tiled(columns, rows, start, tiles)
    found = quick_steps(spec) if ways is None else ways
    quick = [(way.fit(a, b, c, spec), partial(run, way.steps, way.unroll)) for way in found]
    if quick and not is_guarded:
        return tiles.join(quick[0][1](*arrays)), quick[0][0]
    for fits, way in reversed(quick):
        chosen = partial(choose, fits, way, chosen)
    return tiles.join(chosen(*arrays)), True


def _tiled(columns: Array, rows: Array, start: Array, tiles: Tiles) -> tuple[Array, Array, Array]:
    """Give arrays an axis for tiles of columns: of both operands after K, of totals the first."""
    xp = namespace(start)
    missing = (1,) * (start.ndim + 1 - rows.ndim)
    rows = rows.reshape(rows.shape[0], *missing, *rows.shape[1:])
    columns = columns.reshape(columns.shape[0], 1, *columns.shape[1:])
    in_tiles = tiles.split(xp.moveaxis(rows[..., 0, :], 0, -2))
    return columns, xp.moveaxis(in_tiles, -2, 0)[..., None, :], tiles.split(start)


def _where_products_are(step: Step, places: np.ndarray, length: int) -> Step:
    """Leave totals as they are in steps that only fill up a chain."""
    is_filled = (places.reshape(-1, length) != FILL).any(axis=1)
    if is_filled.all():
        return step

    def careful(total: Array, n: Any) -> Array:
        xp = namespace(total)
        return xp.where(entry(xp.asarray(is_filled), n), step(total, n), total)

    return careful


def quick_steps(spec: MatmulSpec) -> "Sequence[QuickSteps]":
    """Return the quick steps that JAX has for the block of a spec, the quickest first."""
    match spec.order:
        case ExactBlock():
            from precsim.products.tensor_core.float32_sums import sums

            return sums(spec)
        case FlooredBlock():
            from precsim.products.tensor_core.floored_quick_step import floored_steps

            return floored_steps(spec)
        case DescendingBlock() | EvenOddBlock() | DotBlock():
            from precsim.products.tensor_core.float32_blocks import float32_steps
            from precsim.products.tensor_core.unlimited_blocks import unlimited_steps

            return [*float32_steps(spec), *unlimited_steps(spec)]
        case _:
            return []


def _steps(columns: Array, rows: Array, *, spec: MatmulSpec) -> Step:
    """Return the steps that are right for all numbers."""
    block = spec.order
    if isinstance(block, FlooredBlock):
        return floored_step(columns, rows, spec)
    x, y = (bitcast(part, FLOAT32.float_dtype) for part in (columns, rows))
    match block:
        case ExactBlock():
            return _exact_step(x, y, block.length, spec)
        case PairwiseBlock():
            return _pairwise_step(x, y, block.length, spec)
        case DescendingBlock():
            return descending_step(x, y, block, spec)
        case EvenOddBlock():
            return even_odd_step(x, y, block, spec)
        case DotBlock():
            return dot_step(x, y, spec)
        case _:
            raise TypeError(f"order is '{block}'; allowed is a block of steps")


def _positive_zeros(bits: Array) -> Array:
    return namespace(bits).where(bits + bits == _U(0), _U(0), bits)


def _exact_step(x: Array, y: Array, length: int, spec: MatmulSpec) -> Step:
    summands = products_of(x, y, spec)

    def step(total: Array, n: Any) -> Array:
        of_step = replace(
            summands,
            count=length,
            term=lambda k: summands.term(n * length + k),
            pattern=lambda k: summands.pattern(n * length + k),
        )
        return exact_sum(
            of_step, total, spec.accumulator, FLOAT32, starts_from_zero=False, random_bits=None
        )

    return step


def _pairwise_step(x: Array, y: Array, length: int, spec: MatmulSpec) -> Step:
    multiply, plus = _flushed() if _is_flushed_float32(spec) else _general(spec)

    def step(total: Array, n: Any) -> Array:
        level = [
            multiply(entry(x, n * length + lane), entry(y, n * length + lane))
            for lane in range(length)
        ]
        while len(level) > 1:
            level = [plus(*level[i : i + 2]) for i in range(0, len(level), 2)]
        return bitcast(plus(bitcast(total, FLOAT32.float_dtype), level[0]), _U)

    return step


Binary: TypeAlias = Callable[[Array, Array], Array]


def _general(spec: MatmulSpec) -> tuple[Binary, Binary]:
    """Return product and sum with integer arithmetic, right for every rounding."""
    _, product, plus, _ = operations(spec)
    return lambda x, y: product(x, y, (0, 0)), lambda x, y: plus(x, y, (0, 0))


def _is_flushed_float32(spec: MatmulSpec) -> bool:
    """Return whether float32 arithmetic computes a step, flushed where XLA may flush anyway.

    A subnormal sum of float32 numbers is exact, and so is every product of few enough bits.
    """
    flushed = RoundingSpec.parse("fp32:flush_after_rounding")
    bits = [significand_bits(part.format) for part in (spec.lhs, spec.rhs) if part is not None]
    return (
        spec.accumulator == flushed
        and spec.product in (None, flushed)
        and all(
            part.subnormals is not SubnormalMode.GRADUAL for part in (spec.lhs, spec.rhs) if part
        )
        and len(bits) == 2
        and sum(bits) <= FLOAT32.precision
    )


def _flushed() -> tuple[Binary, Binary]:
    """Return product and sum in float32; integers between them keep XLA from joining the two."""

    def flush(x: Array) -> Array:
        bits = bitcast(x, _U)
        is_normal = (bits & _U(FLOAT32.infinity)) != _U(0)
        kept = namespace(bits).where(is_normal, bits, bits & _U(FLOAT32.sign_bit))
        return bitcast(kept, FLOAT32.float_dtype)

    def product(x: Array, y: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return flush(x * y)

    def plus(x: Array, y: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return flush(x + y)

    return product, plus
