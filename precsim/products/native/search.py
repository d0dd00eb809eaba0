"""The schedule of a kernel that can only be run: where it splits K is seen from sums that cancel.

The product of index 0 is made large, that of index j as large and negative, all others tiny. A tiny
product that is added to a sum which holds only one of the large ones is lost; the result counts
those that are not: the products outside the smallest part of the sum that holds both. (This is how
FPRev, arXiv 2411.00442, reveals orders of summation.) Products 0 and j of one chain leave out what
comes after j's step; of different parts of K, what comes after j's part. A schedule found so is
then compared with the kernel bit by bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.products.reference import reference_matmul
from precsim.products.specs.fused_block import (
    FLAT,
    FusedBlock,
    ResidueFirst,
    Schedule,
    SplitK,
    ceil_div,
)
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.round_to import round_to

_COMPARED = 16
"""Rows and columns of a result that are looked at."""
_ENOUGH = 64
"""Outputs that are compared at least, so that none agree by chance."""
_COARSE = 256
"""Places over K where parts are looked for: four for each of 64 parts."""
_GRANULES = (64, 32, 128, 16, 8, 4, 2, 1)
_RESIDUES = (16, 32, 64)

Sizes = tuple[tuple[float, float], tuple[float, float]]
"""A tiny and a large value of each operand."""
Run = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
"""Results of one or more kernels to explain; operands are float32, with values of their formats."""


class Shape(NamedTuple):
    """A product's; operands are (*batch, m, k) and (*batch, k, n)."""

    m: int
    n: int
    k: int
    batch: tuple[int, ...] = ()


def search_schedule(run: Run, spec: MatmulSpec, shape: Shape) -> tuple[Schedule | None, float]:
    """Return the schedule that explains all results of all kernels, and the largest share.

    The share is that of the results with the bits of any one schedule.
    """
    block = _block(spec)
    a, b, outputs = _trials(run, spec, shape)
    best = 0.0
    for schedule in schedule_candidates(run, spec, shape):
        model = reference_matmul(a, b, None, replace(spec, order=replace(block, schedule=schedule)))
        share = float(np.mean(model.view(np.uint32) == outputs.view(np.uint32)))
        best = max(best, share)
        if share == 1.0:
            return schedule, share
    return None, best


def _trials(run: Run, spec: MatmulSpec, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return operands and results.

    Shapes (trials, rows, K), (trials, K, columns) and (kernels, trials, rows, columns).
    Corners of the first and the last product of a batch; small products are tried several times.
    """
    m, n, k, batch = shape
    rng = np.random.default_rng((m, n, k))
    left, right, results = [], [], []
    for _ in range(ceil_div(_ENOUGH, min(m, _COMPARED) * min(n, _COMPARED))):
        lhs, rhs = _formats(spec)
        a, b = _operand(rng, (*batch, m, k), lhs), _operand(rng, (*batch, k, n), rhs)
        outputs = [np.asarray(y, np.float32) for y in run(a, b)]
        for at in {(0,) * len(batch), tuple(size - 1 for size in batch)}:
            left.append(a[at][-_COMPARED:])
            right.append(b[at][:, :_COMPARED])
            results.append(np.stack([y[at][-_COMPARED:, :_COMPARED] for y in outputs]))
    return np.stack(left), np.stack(right), np.stack(results, axis=1)


def schedule_candidates(run: Run, spec: MatmulSpec, shape: Shape) -> Iterator[Schedule]:
    """Yield the spec's own schedule and those with parts as long as the kernel's.

    Bits alone do not tell one chain from parts where results are rounded to few bits: most would be
    equal.
    """
    block = _block(spec)
    if block.schedule != FLAT:
        yield block.schedule
    yield from schedules_with(part_length(run, spec, shape), block.length, shape.k)


def schedules_with(part: int, length: int, k: int) -> Iterator[Schedule]:
    """Yield the schedules of steps of a length that have a first part so long; K is one chain."""
    residues = [n for n in _RESIDUES if n % length == 0]
    if part >= k:
        yield FLAT
        yield from (ResidueFirst(n) for n in residues if k % n % length)
        return
    parts = ceil_div(k, part)
    fitting = (g for g in _GRANULES if ceil_div(ceil_div(k, g), parts) * g == part)
    if (granule := next(fitting, None)) is None:
        return  # no kernel that we know has such parts
    if granule % length == 0:
        yield SplitK(parts, granule)
    yield from (SplitK(parts, granule, n) for n in residues)


def part_length(run: Run, spec: MatmulSpec, shape: Shape) -> int:
    """Return how many products are added before the first part of K ends; K if it is not split.

    Only the first of several kernels is looked at.
    """
    length = _block(spec).length
    stride = _stride(spec, shape.k)
    ends = partial(part_ends, run, _operand_sizes(spec), shape, stride)

    def first_beyond(places: np.ndarray) -> int:
        """Index of the first place outside the chain of product 0, or the number of places."""
        beyond = ends(places) - places > length + stride
        return int(np.argmax(np.append(beyond, True)))

    # Places do not count: four apart at least, so that most others do.
    places = np.linspace(1, shape.k - 1, min(_COARSE, shape.k // 4), dtype=np.int64)
    found = first_beyond(places)
    if found == len(places):
        return shape.k
    before = places[found - 1] if found else 0
    between = np.arange(before + 1, places[found])
    return int(before) + 1 + first_beyond(between)


def part_ends(run: Run, sizes: Sizes, shape: Shape, stride: int, places: np.ndarray) -> np.ndarray:
    """Return, for each place j, the end of the smallest part of the sum with products 0 and j.

    It is at most too small. `sizes` are a tiny and a large value of each operand; one place in
    `stride` holds tiny ones.
    A result holds one place, in a row and a column of its own: there both operands are large.
    """
    m, n, k, batch = shape
    rows, columns = min(m, _COMPARED), min(n, _COMPARED)
    (tiny_a, large_a), (tiny_b, large_b) = sizes
    found = []
    for start in range(0, len(places), rows * columns):
        some = places[start : start + rows * columns]
        is_counted = np.zeros(k, bool)
        is_counted[stride - 1 :: stride] = True
        is_counted[0] = False
        is_counted[some] = False
        a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
        a[:, is_counted], b[is_counted, :] = tiny_a, tiny_b
        a[:, 0], b[0, :] = large_a, large_b
        row, column = np.divmod(np.arange(len(some)), columns)
        a[row, some], b[some, column] = large_a, -large_b
        sums = run(np.broadcast_to(a, (*batch, m, k)), np.broadcast_to(b, (*batch, k, n)))[0]
        kept = np.asarray(sums)[(0,) * len(batch)][row, column] / np.float32(tiny_a * tiny_b)
        counted = np.flatnonzero(is_counted)
        # Kernels of other orders give anything: it is then the bits that say no.
        inside = np.clip(len(counted) - np.nan_to_num(kept), 0, len(counted)).astype(np.int64)
        found.append(np.append(0, counted + 1)[inside])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _block(spec: MatmulSpec) -> FusedBlock | StepBlock:
    assert isinstance(spec.order, FusedBlock | StepBlock)
    return spec.order


def _formats(spec: MatmulSpec) -> tuple[FloatFormat, FloatFormat]:
    """Return the formats of the operands' numbers."""
    assert spec.lhs is not None
    assert spec.rhs is not None
    lhs, rhs = spec.lhs.format, spec.rhs.format
    assert isinstance(lhs, FloatFormat)
    assert isinstance(rhs, FloatFormat)
    return lhs, rhs


def _operand_sizes(spec: MatmulSpec) -> Sizes:
    """Return a tiny and a large value of each operand.

    The accumulator holds products of two, fp16 results those of tiny ones.
    """
    sums = spec.accumulator.format
    assert isinstance(sums, FloatFormat)
    most = sums.emax // 2
    left, right = (
        (max(fmt.min_subnormal, 2.0**-12), 2.0 ** min(fmt.emax, most, 15)) for fmt in _formats(spec)
    )
    return left, right


def _stride(spec: MatmulSpec, k: int) -> int:
    """Return how many products apart tiny ones are.

    Their sum must be lost beside large ones, and exact without.
    """
    sums = spec.accumulator.format
    (tiny_a, large_a), (tiny_b, large_b) = _operand_sizes(spec)
    fraction_bits = getattr(spec.order, "fraction_bits", 0)
    lost = max(fraction_bits, FLOAT32.precision) + 2
    kept = sums if spec.output is None else spec.output.format
    exact = min(fmt.precision for fmt in (sums, kept) if isinstance(fmt, FloatFormat))
    most = min(int(large_a * large_b / (tiny_a * tiny_b)) >> lost, 1 << exact)
    return 1 << (ceil_div(k, max(most, 1)) - 1).bit_length()


def _operand(rng: np.random.Generator, shape: tuple[int, ...], fmt: FloatFormat) -> np.ndarray:
    """Return random values of a format with exponents some 5 binades around 0.

    Every order has bits of its own for them.
    """
    values = rng.standard_normal(shape, np.float32) * np.exp2(
        rng.integers(-3, 4, shape).astype(np.float32)
    )
    return np.asarray(round_to(values, fmt, overflow="saturate"))
