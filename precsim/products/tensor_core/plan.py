"""How a schedule lays K out in steps and chains of steps, and adds the chains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, bitcast, namespace, repeat
from precsim.arithmetic.elementwise import add
from precsim.formats.carrier import FLOAT32
from precsim.formats.registry import get_format
from precsim.products.specs.fused_block import (
    FusedBlock,
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
from precsim.products.tensor_core.step import NAN
from precsim.rounding.spec import RoundingSpec

_U = FLOAT32.uint_dtype
FILL = -1


class Plan(NamedTuple):
    """Which products each chain of steps takes; static under jit."""

    places: np.ndarray
    """k of each product, in the order of the steps; -1 where there is none, which adds a zero."""
    chains: int
    """Chains of equal length, each of which starts from zero and is added to the total."""
    starts_from_total: bool
    """The first chain starts from the accumulator instead."""


def plan(order: FusedBlock, k: int) -> Plan:
    """Lay out K products in steps and chains as a schedule says."""
    index = np.arange(k)

    def fill(index: np.ndarray, unit: int) -> np.ndarray:
        return np.append(index, np.full(-len(index) % unit, FILL))

    def residue_first(index: np.ndarray, granule: int) -> np.ndarray:
        count = len(index) % granule
        return np.append(fill(index[:count], order.length), fill(index[count:], order.length))

    match order.schedule:
        case ResidueFirst(granule=g):
            return Plan(residue_first(index, g), 1, True)
        case Promote(interval=n):
            index = fill(index, n)
            return Plan(index, len(index) // n, False)
        case PairInterleaved():
            index = fill(index, 32)
            within = np.arange(32)
            halves = np.concatenate([within[within % 4 < 2], within[within % 4 >= 2]])
            index = index.reshape(-1, 32)[:, halves].reshape(-1)
            return Plan(index, len(index) // 32, False)
        case SplitK(splits=s, granule=g, residue=n):
            # The last part may be shorter: all parts get as many steps as the others.
            part = max(ceil_div(ceil_div(k, g), s) * g, 1)
            steps = ceil_div(part, order.length) * order.length
            parts = [index[j * part : (j + 1) * part] for j in range(s)]
            parts = [residue_first(x, n) if n else x for x in parts]
            parts = [np.append(x, np.full(steps - len(x), FILL)) for x in parts]
            return Plan(np.concatenate(parts) if k else index, s, True)
        case _:
            return Plan(fill(index, order.length), 1, True)


def in_order(x: Array, places: np.ndarray, fill: int = 0) -> Array:
    """Bring K (axis 0) into the order of the steps; `fill` where there is no product."""
    xp = namespace(x)
    k = x.shape[0]
    if len(places) > k:
        x = xp.concatenate([x, xp.full((len(places) - k, *x.shape[1:]), fill, x.dtype)])
    # Most schedules only fill up. In the others the place -1 is the last, a filled one.
    return x if np.array_equal(places[:k], np.arange(k)) else x[places]


def add_chains(
    chain: Callable[[Array, Any], Array], first: Array, where: Plan, accumulator: RoundingSpec
) -> Array:
    """Add the chains of a plan to `first`, patterns; `chain(total, j)` runs the j-th from a total."""
    zero = namespace(first).zeros_like(first)

    def add_chain(j: Any, total: Array) -> Array:
        return add_totals(total, chain(zero, j), accumulator)

    if not where.starts_from_total:
        return repeat(where.chains, add_chain, first)
    return repeat(where.chains - 1, lambda j, total: add_chain(j + 1, total), chain(first, 0))


def add_totals(x: Array, y: Array, accumulator: RoundingSpec) -> Array:
    """Add two totals (patterns) with one rounding to nearest, in float32 or the accumulator's fp16."""
    fmt = accumulator.format
    target = fmt if fmt == get_format("fp16") else get_format("fp32")
    x, y = (bitcast(v, FLOAT32.float_dtype) for v in (x, y))
    total = bitcast(add(x, y, target), _U)
    is_nan = (total & _U(FLOAT32.sign_bit - 1)) > _U(FLOAT32.infinity)
    return namespace(total).where(is_nan, _U(NAN), total)
