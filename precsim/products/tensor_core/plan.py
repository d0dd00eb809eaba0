"""How a schedule lays K out in steps and chains of steps, and adds the chains."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim._loops import Fold, repeat
from precsim.arithmetic.elementwise import add
from precsim.formats.carrier import FLOAT32, is_nan
from precsim.formats.registry import get_format
from precsim.products.specs.fused_block import (
    FusedBlock,
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
from precsim.products.specs.step_block import StepBlock
from precsim.products.tensor_core.step import NAN
from precsim.rounding.spec import RoundingSpec

_U = FLOAT32.uint_dtype
FILL = -1

Step: TypeAlias = Callable[[Array, Any], Array]
"""``step(total, n)``: the totals after step n of a `StepBlock`, patterns in and out."""


class Plan(NamedTuple):
    """Which products each chain of steps takes; static under `jit`."""

    places: np.ndarray
    """k of each product, in the order of the steps; -1 where there is none, which adds a zero."""
    chains: int
    """Chains of equal length, each of which starts from zero and is added to the total."""
    steps: int
    """Steps of one chain."""
    starts_from_total: bool
    """The first chain starts from the accumulator instead."""


class Arranged(NamedTuple):
    """A product laid out for its steps, which sum in one word or in two."""

    first: Array
    """The first totals, as patterns."""
    x: Any
    y: Any
    """The operands as factors, K in the order of the steps; `bits` holds their float32 patterns."""
    step: Callable[[Any, Any, Array, Any, Fold], Array]
    """``step(x, y, total, n, fold)``: totals after step n; what is not finite counts as zero."""
    patterns: Callable[[Any, Any, Any], tuple[Array, Array]]
    """``patterns(x, y, k)``: the patterns of both factors of term k."""
    on_gpu: Callable[..., Array] | None
    """How a GPU runs a whole chain; see `float32_step`."""
    finish: Callable[[Array], Array]
    """From the last totals to the result, patterns both."""


def plan(block: FusedBlock | StepBlock, k: int) -> Plan:
    """Lay out K > 0 products in steps and chains as the schedule of a block says."""
    places, chains, starts_from_total = _places(block, k)
    return Plan(places, chains, len(places) // block.length // chains, starts_from_total)


def _places(block: FusedBlock | StepBlock, k: int) -> tuple[np.ndarray, int, bool]:
    index, length = np.arange(k), block.length

    def fill(index: np.ndarray, unit: int) -> np.ndarray:
        return np.append(index, np.full(-len(index) % unit, FILL))

    def residue_first(index: np.ndarray, granule: int) -> np.ndarray:
        count = len(index) % granule
        return np.append(fill(index[:count], length), fill(index[count:], length))

    match block.schedule:
        case ResidueFirst(granule=g):
            return residue_first(index, g), 1, True
        case Promote(interval=n):
            index = fill(index, n)
            return index, len(index) // n, False
        case PairInterleaved():
            index = fill(index, 32)
            within = np.arange(32)
            halves = np.concatenate([within[within % 4 < 2], within[within % 4 >= 2]])
            index = index.reshape(-1, 32)[:, halves].reshape(-1)
            return index, len(index) // 32, False
        case SplitK(splits=s, granule=g, residue=n):
            # The last part may be shorter: all parts get as many steps as the others.
            part = ceil_div(ceil_div(k, g), s) * g
            steps = ceil_div(part, length) * length
            parts = [index[j * part : (j + 1) * part] for j in range(s)]
            parts = [residue_first(x, n) if n else x for x in parts]
            parts = [np.append(x, np.full(steps - len(x), FILL)) for x in parts]
            return np.concatenate(parts), s, True
        case _:
            return fill(index, length), 1, True


def in_order(x: Array, places: np.ndarray, fill: int = 0) -> Array:
    """Bring K (axis 0) into the order of the steps; `fill` where there is no product."""
    xp = namespace(x)
    k = x.shape[0]
    if len(places) > k:
        widths = [(0, len(places) - k), *[(0, 0)] * (x.ndim - 1)]
        x = xp.pad(x, widths, constant_values=x.dtype.type(fill))
    # Most schedules only fill up. In the others the place -1 is the last, a filled one.
    return x if np.array_equal(places[:k], np.arange(k)) else x[places]


def add_chains(
    chain: Callable[[Array, Any], Array], first: Array, where: Plan, accumulator: RoundingSpec
) -> Array:
    """Add the chains of a plan to `first`, patterns; `chain(total, j)` runs the j-th one."""
    zero = namespace(first).zeros_like(first)

    def add_chain(j: Any, total: Array) -> Array:
        return add_totals(total, chain(zero, j), accumulator)

    if not where.starts_from_total:
        return repeat(where.chains, add_chain, first)
    return repeat(where.chains - 1, lambda j, total: add_chain(j + 1, total), chain(first, 0))


def add_totals(x: Array, y: Array, accumulator: RoundingSpec) -> Array:
    """Add two totals (patterns) with one rounding to nearest."""
    x, y = (bitcast(v, FLOAT32.float_dtype) for v in (x, y))
    total = bitcast(add(x, y, chain_sums(accumulator)), _U)
    return namespace(total).where(is_nan(total, FLOAT32), _U(NAN), total)


def chain_sums(accumulator: RoundingSpec) -> str:
    """Return the format in which chains are added: that of fp16 sums, float32 for all others."""
    return "fp16" if accumulator.format == get_format("fp16") else "fp32"
