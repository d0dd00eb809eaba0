"""Candidates that add several products in a step: NVIDIA's fused blocks and AMD's."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product as combinations

import numpy as np

from precsim.products.identify import probes
from precsim.products.identify.black_box import Answer, BlackBox, differ, explains, modelled
from precsim.products.identify.chains import holding, spec_of
from precsim.products.identify.facts import Facts, few_products
from precsim.products.identify.roundings import (
    FORMATS,
    Cut,
    Roundings,
    Tier,
    numbers,
    rounding_candidates,
)
from precsim.products.native.search import schedules_with
from precsim.products.specs.fused_block import (
    FLAT,
    FusedBlock,
    PairInterleaved,
    Promote,
    Schedule,
)
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
from precsim.rounding.spec import RoundingSpec

_LONGEST = 64
_LENGTHS = (16, 8, 4, 32, 2, 64, 1)
"""Steps to try where their length cannot be read."""
_STEPS = 3
"""Steps of the products that are compared first."""
_USUAL_BITS = 25
_NEIGHBOURS = 3
"""Products of the probe of bits that are kept."""
_MOST_BITS = 50
_LIKELY_BITS = 3
_FLOORED_BITS = 24
_FLOORED_LONGEST = 16
_PAIR = 32
"""Products of a pair of interleaved steps."""
_TIERS = (Tier(), Tier(product=True), Tier(chained=True))
_FLOORED_PRECISION = 24

Block = FusedBlock | StepBlock
_ALL: tuple[type[Block], ...] = (
    FusedBlock,
    FlooredBlock,
    PairwiseBlock,
    ExactBlock,
    DescendingBlock,
    EvenOddBlock,
    DotBlock,
)
_ALIKE = PairwiseBlock, ExactBlock, DescendingBlock
"""Steps that add their first two products in the same way, whatever their length."""
_PRODUCTS = 2
_FAMILIES: dict[str, tuple[type[Block], ...]] = {
    "cut off": (FusedBlock, FlooredBlock, DescendingBlock),
    "exact": (ExactBlock,),
    "nested": (PairwiseBlock, EvenOddBlock),
}
"""Steps by what is seen within one."""


class BlockSearch:
    """Specs whose steps add several products; what was asked is remembered."""

    def __init__(self, box: BlackBox, facts: Facts, rng: np.random.Generator) -> None:
        """Take what the probes said."""
        self._box, self._facts, self._rng = box, facts, rng
        self._answers: dict[int, list[Answer]] = {}

    def likely(self) -> Iterator[MatmulSpec]:
        """Yield specs with steps of the length that was read."""
        facts, box = self._facts, self._box
        step = facts.step
        if step is None or step > _LONGEST:
            return
        if step == _PAIR and facts.within in ("nested", ""):
            for length in _LENGTHS:
                if _PAIR // 2 % length == 0:
                    yield from self._of_length(length, (FusedBlock,), (PairInterleaved(),))
        # Of a first step halves are seen: it may be a chain of two steps, or a step of pairs.
        is_halved = facts.start == step and step % 2 == 0
        if is_halved:
            yield from self._of_length(step // 2, (FusedBlock,), (Promote(step),), _TIERS[:1])
        # Short steps whose units are rounded in pairs may look like steps of twice the length.
        for length in (step,) if facts.within or step % 2 else (step, step // 2):
            schedules = _local_schedules(facts, length, box.k)
            yield from self._of_length(length, _FAMILIES.get(facts.within, _ALL), schedules)
        if is_halved:
            yield from self._of_length(step // 2, _ALL, (Promote(step),))

    def usual(self) -> Iterator[MatmulSpec]:
        """Yield specs with one chain of plain steps, if their length was not read."""
        facts = self._facts
        if _is_tree(facts.ends):
            return
        # No running sum keeps so many bits, and not all of them.
        is_cut = facts.near.bits > _FLOORED_PRECISION and not facts.near.is_all
        if (facts.step is None or facts.step > _LONGEST) and (is_cut or not facts.keeps_all):
            for length in _LENGTHS:
                if 1 < length <= self._box.k:
                    yield from self._of_length(length, _ALL, (FLAT,), _TIERS[:1])

    def others(self) -> Iterator[MatmulSpec]:
        """Yield specs with steps of any usual length."""
        for length in _LENGTHS:
            if length <= self._box.k:
                schedules = _local_schedules(self._facts, length, self._box.k)
                yield from self._of_length(length, _ALL, schedules)

    def _of_length(
        self,
        length: int,
        families: tuple[type[Block], ...],
        schedules: Iterable[Schedule],
        tiers: tuple[Tier, ...] = _TIERS,
    ) -> Iterator[MatmulSpec]:
        """Yield specs that have the results of a few steps, for all of K."""
        answers = self._first_steps(length)
        for schedule, tier in combinations(schedules, tiers):
            if tier.product and schedule == Promote(length):
                continue
            if tier.chained and schedule == FLAT and self._facts.part == self._box.k:
                continue
            for roundings, block in _blocks(self._facts, length, schedule, tier, families):
                if not isinstance(block, families):
                    continue
                local = spec_of(block, roundings)
                if local is None or not adds_two(local, answers[-1]):
                    continue
                if explains(local, answers):
                    yield from self._over_all(local, block)

    def _first_steps(self, length: int) -> list[Answer]:
        """Ask for products in a few steps; both operands are cut to these and one of zeros."""
        if length not in self._answers:
            facts, box = self._facts, self._box
            end = facts.start + _width(facts, length, box.k)
            size = facts.formats, box.m, box.n, box.k
            window = slice(facts.start, end)
            few = facts.formats, box, window, facts.sizes, facts.top
            asked = [
                probes.mixed(self._rng, *size, window, facts.widest),
                *few_products(self._rng, *few),
            ]
            whole = [box.ask(a, b) for a, b in asked]
            # A step of zeros may cut a sum off once more, further ones do not.
            kept = slice(facts.start, end + length)
            self._answers[length] = [Answer(x.a[:, kept], x.b[kept], x.results) for x in whole]
        return self._answers[length]

    def _over_all(self, local: MatmulSpec, block: Block) -> Iterator[MatmulSpec]:
        """Yield the schedules over all of K that begin like a local one."""
        if block.schedule != FLAT:
            yield local
        if block.schedule in (PairInterleaved(), Promote(block.length)):
            return
        # Two chains of a step, or a sticky bit, may look like parts: one chain is tried as well.
        last = (self._box.k - 1) // block.length * block.length
        for end in dict.fromkeys((self._facts.part_with(block.length), self._box.k)):
            part, is_split = end - self._facts.start, end < self._box.k
            # A second chain of one step looks like the last step of a single one.
            chained = part if is_split else last
            is_whole = chained > block.length and chained % block.length == 0
            promoted = [Promote(chained)] if is_whole else []
            parts = schedules_with(end, block.length, self._box.k)
            for schedule in (*promoted, *parts) if is_split else (*parts, *promoted):
                yield replace(local, order=replace(block, schedule=schedule))


def _is_tree(ends: np.ndarray) -> bool:
    """Return whether parts of the sum double: all products are added in pairs."""
    places = 1 << np.arange(len(ends).bit_length())
    return len(ends) > 0 and bool((ends[places - 1] == np.minimum(2 * places, len(ends) + 1)).all())


def adds_two(spec: MatmulSpec, answer: Answer) -> bool:
    """Return whether a spec has the sums of two products: a short test before longer ones."""
    block = spec.order
    if not isinstance(block, _ALIKE) or block.length < _PRODUCTS:
        return True
    short = replace(spec, order=replace(block, length=_PRODUCTS, schedule=FLAT))
    model = modelled(short, answer.a[:, :_PRODUCTS], answer.b[:_PRODUCTS])
    # Zeros that follow may change the sign of a zero.
    zero = np.float32(0)
    return not differ(model + zero, answer.results + zero).any()


def _width(facts: Facts, length: int, k: int) -> int:
    """Return how many products the first few steps add.

    The last step of K may be a chain of its own: those before then end with a step of zeros.
    """
    rest = k - facts.start
    before = max((rest - 1) // length - 1, 1) * length
    return min(max(_STEPS * length, 8), before if before + length < rest else rest)


def _local_schedules(facts: Facts, length: int, k: int) -> Iterator[Schedule]:
    """Yield how the first few steps may be chained."""
    width = _width(facts, length, k)
    part = facts.part - facts.start
    if 0 < part < width and part % length == 0:
        yield Promote(part)
    yield FLAT
    yield Promote(length)


def _blocks(
    facts: Facts, length: int, schedule: Schedule, tier: Tier, families: tuple[type[Block], ...]
) -> Iterator[tuple[Roundings, Block]]:
    """Yield roundings and steps of a length that agree with single products."""
    # Far apart, totals of chains are what loses bits.
    is_one_chain = schedule == FLAT and facts.part == facts.k
    precision = facts.precision if is_one_chain else None
    sums = holding(facts, rounding_candidates(facts, tier, precision))
    for block in _unlimited(length, schedule):
        if not isinstance(block, families):
            continue
        for roundings in sums:
            yield roundings, block
        if tier.product and isinstance(block, PairwiseBlock):
            # Without a rounding of their own, products there are rounded as sums are.
            for roundings in holding(facts, rounding_candidates(facts, Tier(), precision)):
                yield roundings._replace(product=RoundingSpec(format=FORMATS[0])), block
    if not tier.product and FusedBlock in families:
        yield from _cut_off(facts, length, schedule, tier)


def _unlimited(length: int, schedule: Schedule) -> Iterator[StepBlock]:
    """Yield the steps of a length that keep all bits of a product."""
    if length & (length - 1) == 0:
        yield PairwiseBlock(length=length, schedule=schedule)
    yield ExactBlock(length=length, schedule=schedule)
    if length == DotBlock.length:
        yield DotBlock(schedule=schedule)
    if length > 1:
        yield DescendingBlock(length=length, schedule=schedule)
    if length % 2 == 0 and length > 2:  # two products are pairs
        yield EvenOddBlock(length=length, schedule=schedule)


def _cut_off(
    facts: Facts, length: int, schedule: Schedule, tier: Tier
) -> Iterator[tuple[Roundings, FusedBlock | FlooredBlock]]:
    bits = _fraction_bits(facts, length, schedule)
    yield from _fused(facts, length, schedule, tier, bits[:_LIKELY_BITS])
    for parts, places in _floored(facts, length):
        block = FlooredBlock(length=length, fraction_bits=places, parts=parts, schedule=schedule)
        for roundings in rounding_candidates(facts, Tier(), _FLOORED_PRECISION, Cut(places)):
            yield roundings, block
    yield from _fused(facts, length, schedule, tier, bits[_LIKELY_BITS:])


def _fused(
    facts: Facts, length: int, schedule: Schedule, tier: Tier, fraction_bits: list[int]
) -> Iterator[tuple[Roundings, FusedBlock]]:
    for bits in fraction_bits:
        for sticky in (False, True):
            fused = FusedBlock(length=length, fraction_bits=bits, sticky=sticky, schedule=schedule)
            for roundings in holding(
                facts, rounding_candidates(facts, tier, None, Cut(bits, sticky))
            ):
                if schedule != FLAT or _keeps(facts, roundings, bits):
                    yield roundings, fused


def _floored(facts: Facts, length: int) -> Iterator[tuple[int, int]]:
    """Yield numbers of parts and of fraction bits of floored blocks, the likely ones first."""
    near = _FLOORED_BITS if facts.near.is_all else max(1, min(_FLOORED_BITS, facts.near.bits))
    usual = sorted({near, _FLOORED_BITS}, reverse=True)
    others = [n for n in range(1, _FLOORED_BITS + 1) if n not in usual and abs(n - near) < 3]
    if length <= _FLOORED_LONGEST:
        yield from (
            (parts, n) for n in (*usual, *others) for parts in (1, 2) if length % parts == 0
        )


def _fraction_bits(facts: Facts, length: int, schedule: Schedule) -> list[int]:
    """Return how many fraction bits are possible, the likely numbers first."""
    near = facts.near
    if schedule == PairInterleaved():  # neighbours are in different steps
        return sorted(range(1, _MOST_BITS + 1), key=lambda n: abs(n - _USUAL_BITS))
    if near.is_all:
        return list(range(max(1, near.bits), _MOST_BITS + 1))
    if length >= _NEIGHBOURS:
        return [near.bits] if 1 <= near.bits <= _MOST_BITS else []
    return sorted(range(1, _MOST_BITS + 1), key=lambda n: abs(n - near.bits))


def _keeps(facts: Facts, roundings: Roundings, bits: int) -> bool:
    """Return whether an accumulator keeps as many bits as were seen."""
    kept = min(bits, numbers(roundings.accumulator).precision - 1)
    if facts.part < facts.k:
        return True
    return kept >= facts.far.bits if facts.far.is_all else kept == facts.far.bits
