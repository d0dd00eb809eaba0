"""Sums of numbers in every order of `accumulate`, one addition after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from precsim.arithmetic.sums.order import Blocked, Kahan, Order, Pairwise, TwoSum

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Additions(Generic[T]):
    """How two numbers are added and subtracted; the last argument is the letter of the result."""

    zero: T
    plus: Callable[[T, T, str], T]
    minus: Callable[[T, T, str], T]


def ordered(terms: Sequence[T], order: Order, use: Additions[T]) -> T:
    """Return the sum of the terms, as `accumulate` adds them: from +0 on, except in pairs."""
    match order:
        case Blocked(size=size):
            total = use.zero
            for k in range(0, len(terms), size):
                total = use.plus(total, _sequential(terms[k : k + size], use, "b"), "s")
            return total
        case Pairwise():
            return _pairwise(terms, use) if len(terms) > 1 else _sequential(terms, use, "s")
        case Kahan():
            return _kahan(terms, use)
        case TwoSum():
            return _two_sum(terms, use)
        case _:
            return _sequential(terms, use, "s")


def _sequential(terms: Sequence[T], use: Additions[T], letter: str) -> T:
    total = use.zero
    for term in terms:
        total = use.plus(total, term, letter)
    return total


def _pairwise(terms: Sequence[T], use: Additions[T]) -> T:
    level = list(terms)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [use.plus(x, y, "s") for x, y in pairs] + level[len(level) & ~1 :]
    return level[0]


def _kahan(terms: Sequence[T], use: Additions[T]) -> T:
    total, error = use.zero, use.zero
    for k, term in enumerate(terms):
        y = use.minus(term, error, "y")
        new = use.plus(total, y, "s")
        if k + 1 < len(terms):  # the last error is for nothing
            error = use.minus(use.minus(new, total, "d"), y, "e")
        total = new
    return total


def _two_sum(terms: Sequence[T], use: Additions[T]) -> T:
    total, errors = use.zero, use.zero
    for x in terms:
        new = use.plus(total, x, "s")
        virtual = use.minus(new, total, "v")
        before = use.minus(total, use.minus(new, virtual, "w"), "d")
        errors = use.plus(errors, use.plus(before, use.minus(x, virtual, "g"), "e"), "t")
        total = new
    return use.plus(total, errors, "r")
