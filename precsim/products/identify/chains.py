"""Candidates that add one product at a time, or numbers in pairs: one rounding per addition."""

from collections.abc import Iterator
from itertools import product as combinations

from precsim.arithmetic.sums.order import (
    PAIRWISE,
    SEQUENTIAL,
    Blocked,
    Exact,
    Kahan,
    Order,
    TwoSum,
)
from precsim.products.identify.black_box import explains
from precsim.products.identify.facts import WINDOW, Facts
from precsim.products.identify.roundings import MODES, Roundings, Tier, numbers, rounding_candidates
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec

_SETTLED = 8
"""Zeros after which a compensated sum no longer changes."""
_LOSING = tuple(mode for mode in MODES if str(mode) not in ("raz", "rto", "rtp"))
"""Modes in which a large sum does not change by a small positive term."""
_NEAREST = tuple(mode for mode in MODES if str(mode).startswith("rn"))
_SHORT = tuple(Blocked(size) for size in range(2, WINDOW))


def spec_of(order: object, roundings: Roundings) -> MatmulSpec | None:
    """Return a spec; None if such roundings do not go with the order."""
    try:
        return MatmulSpec(order=order, **roundings._asdict())
    except ValueError:
        return None


def holding(facts: Facts, found: list[Roundings]) -> list[Roundings]:
    """Return roundings with the accumulators first that hold what a running sum held."""
    return sorted(found, key=lambda x: numbers(x.accumulator).emax < facts.top)


def plain_chains(facts: Facts) -> Iterator[MatmulSpec]:
    """Yield specs of running sums that have the results at the first places, for all of K."""
    precision = facts.precision
    if facts.step is not None and 1 < facts.step < WINDOW:
        for tier in (Tier(), Tier(product=True), Tier(adder=True)):
            for roundings in rounding_candidates(facts, tier, precision):
                yield from _fitting(facts, (Blocked(facts.step),), roundings)
    for roundings in holding(facts, rounding_candidates(facts, Tier(), precision)):
        yield from _fitting(facts, (SEQUENTIAL, PAIRWISE), roundings)


def other_chains(facts: Facts) -> Iterator[MatmulSpec]:
    """Yield specs of further orders and roundings, the plain ones first."""
    precision = facts.precision
    passes: tuple[tuple[tuple[Order, ...], int | None], ...] = (
        ((SEQUENTIAL, PAIRWISE), precision),
        ((Exact(), Kahan(), TwoSum()), None),
        (_SHORT, precision),
    )
    for tiers in ((Tier(),), (Tier(product=True), Tier(adder=True)), (Tier(True, True),)):
        for (orders, bits), tier in combinations(passes, tiers):
            if tier == Tier() and orders == (SEQUENTIAL, PAIRWISE):
                continue  # the plain ones
            found = rounding_candidates(facts, tier, bits)
            for roundings in found if bits is None else holding(facts, found):
                yield from _fitting(facts, orders, roundings)


def _fitting(facts: Facts, orders: tuple[Order, ...], roundings: Roundings) -> Iterator[MatmulSpec]:
    for order in orders:
        if _is_contradicted(facts, order, roundings.accumulator):
            continue
        if not _keeps(facts, order, roundings.accumulator):
            continue
        spec = spec_of(order, roundings)
        window = WINDOW + (_SETTLED if isinstance(order, Kahan) else 0)
        if spec is None or not explains(spec, facts.first, window):
            continue
        longer = _longer_blocks(facts, roundings.accumulator) if order == SEQUENTIAL else []
        blocked = [spec_of(Blocked(size), roundings) for size in longer]
        is_one = facts.part == facts.k
        yield from (x for x in ([spec, *blocked] if is_one else [*blocked, spec]) if x is not None)


def _is_contradicted(facts: Facts, order: Order, accumulator: RoundingSpec) -> bool:
    """Return whether an order loses units beside large products that were kept, or keeps others."""
    match order:
        case Exact():
            return facts.keeps_all is False
        case Kahan() | TwoSum():
            return False  # its correction may keep them
        case _:
            return accumulator.mode in _LOSING and facts.keeps_all is True


def _keeps(facts: Facts, order: Order, accumulator: RoundingSpec) -> bool:
    """Return whether an order keeps as many bits, beside large products, as were seen."""
    precision = numbers(accumulator).precision
    is_compensated = isinstance(order, Exact | Kahan | TwoSum)
    if facts.near.bits > precision and not is_compensated:
        return False
    if facts.precision is None:
        return True
    match order:
        case Exact() | TwoSum():
            return bool(facts.far.bits >= precision)
        case Kahan():
            # Its correction keeps half a last place; in other modes it may keep more.
            is_near = facts.far.bits in (precision - 1, precision)
            return is_near or accumulator.mode not in _NEAREST
        case _:
            return bool(precision == facts.precision)


def _longer_blocks(facts: Facts, accumulator: RoundingSpec) -> list[int]:
    """Return sizes of blocks longer than the first places, the likely ones first.

    A block whose end can be seen is the step or the part that was seen.
    """
    is_seen = accumulator.mode in _NEAREST or str(accumulator.mode) == "rtn"
    visible = facts.visible if is_seen else range(0)
    seen = facts.part, facts.step
    sizes = [n for n in range(WINDOW, facts.k) if n in seen or n not in visible]
    return sorted(sizes, key=lambda n: (n not in seen, n % 8 != 0, n & (n - 1), n))
