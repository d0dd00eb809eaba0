"""Sums of K arrays in any order, one after the other: never all K at once in memory.

Every rounding has a place ``at = (k, i)``: the i-th one of step k. It is the counter of its random
bits, if the rounding is stochastic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from precsim._arrays import Array, entry, namespace, with_entry
from precsim._loops import repeat, repeat_while
from precsim.arithmetic.sums.order import Blocked, Kahan, Order, Pairwise, TwoSum

Place: TypeAlias = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is summed, and how two sums are added."""

    count: int
    """K."""
    term: Callable[[Any], Array]
    """The k-th term, rounded at (k, 0)."""
    step: Callable[[Array, Any], Array]
    """``step(total, k)``: the total with the k-th term added, rounded at (k, 0).

    It may round once where `plus` rounds twice."""
    plus: Callable[[Array, Array, Place], Array]
    """Rounded sum of two sums."""
    minus: Callable[[Array, Array, Place], Array]
    """Rounded difference of two sums."""


def ordered_sum(terms: Terms, start: Array, order: Order) -> Array:
    """Return start + the sum of the terms; `start` has the shape of the result."""
    zero = namespace(start).zeros_like(start)
    match order:
        case Blocked(size=size):
            return _blocked(terms, start, zero, size)
        case Pairwise():
            if not terms.count:
                return start
            return terms.plus(start, _pairwise(terms, zero), (terms.count, 0))
        case Kahan():
            return _kahan(terms, start, zero)
        case TwoSum():
            return _two_sum(terms, start, zero)
        case _:
            return repeat(terms.count, lambda k, total: terms.step(total, k), start)


def _blocked(terms: Terms, start: Array, zero: Array, size: int) -> Array:
    def add_block(total: Array, first: Any, count: int) -> Array:
        block = repeat(count, lambda k, total: terms.step(total, first + k), zero)
        return terms.plus(total, block, (first, 1))

    full = terms.count // size
    total = repeat(full, lambda j, total: add_block(total, j * size, size), start)
    rest = terms.count % size
    return add_block(total, full * size, rest) if rest else total


def _kahan(terms: Terms, start: Array, zero: Array) -> Array:
    plus, minus = terms.plus, terms.minus

    def body(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        total, error = state
        y = minus(terms.term(k), error, (k, 1))
        new = plus(total, y, (k, 2))
        return new, minus(minus(new, total, (k, 3)), y, (k, 4))

    return repeat(terms.count, body, (start, zero))[0]


def _two_sum(terms: Terms, start: Array, zero: Array) -> Array:
    plus, minus = terms.plus, terms.minus

    def body(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        total, errors = state
        x = terms.term(k)
        new = plus(total, x, (k, 1))
        virtual = minus(new, total, (k, 2))
        before = minus(total, minus(new, virtual, (k, 3)), (k, 4))
        error = plus(before, minus(x, virtual, (k, 5)), (k, 6))
        return new, plus(errors, error, (k, 7))

    total, errors = repeat(terms.count, body, (start, zero))
    return plus(total, errors, (terms.count, 0))


def _pairwise(terms: Terms, zero: Array) -> Array:
    """Add like a binary counter: a finished subtree is merged with the one of its size before it.

    One subtree of each size waits at a time, so that log2(K) arrays are held; the order is that of
    the levels.
    """
    xp = namespace(zero)
    levels = terms.count.bit_length()
    stack = xp.stack([zero] * (levels + 1))

    def push(k: Any, stack: Array) -> Array:
        def merge(state: tuple[Any, Array]) -> tuple[Any, Array]:
            level, carry = state
            return level + 1, terms.plus(entry(stack, level), carry, (k, level + 1))

        is_set = lambda state: (k >> state[0]) & 1 == 1
        level, carry = repeat_while(is_set, merge, (k & 0, terms.term(k)))
        return with_entry(stack, level, carry)

    stack = repeat(terms.count, push, stack)
    # What is left are the subtrees of the set bits of K; smaller ones come later.
    lowest = (terms.count & -terms.count).bit_length() - 1
    bits = xp.asarray([(terms.count >> level) & 1 == 1 for level in range(levels + 1)])

    def add_level(k: Any, total: Array) -> Array:
        level = k + lowest + 1
        merged = terms.plus(entry(stack, level), total, (terms.count, level + 1))
        return xp.where(bits[level], merged, total)

    return repeat(levels - lowest - 1, add_level, stack[lowest])
