"""Precisions of 10 to 40 bits in a float64 carrier have MPFR's results: no double rounding.

Of results rounded to float64 first, those beside the middle between two values go wrong.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gmpy2  # type: ignore[import-untyped]
import numpy as np
import pytest

import precsim as ps
from precsim.formats.floating import FloatFormat
from tests.arithmetic.conftest import MPFR, OPERATIONS, Floats, assert_same_bits, mpfr_context

PRECISIONS = range(10, 41)
RANGES = ("inf", "11")


def operands_of(operation: str, t: int, size: int, rng: np.random.Generator) -> list[Floats]:
    """Random float64 numbers, then results just beside the middle between two values of t bits."""

    def random(exponents: int) -> Floats:
        signs = rng.choice([-1.0, 1.0], size)
        numbers = signs * np.ldexp(
            rng.uniform(1, 2, size), rng.integers(-exponents, exponents, size)
        )
        return np.asarray(numbers)

    ties = (2 * rng.integers(1 << (t - 1), 1 << t, size) + 1).astype(np.float64)
    beside = random(1) * np.ldexp(1.0, -rng.integers(60, 200, size))
    other = random(8)
    # Up to 25 bits the square of a tie is a float64 number: then take its neighbour.
    squares = ties * ties
    if t <= 25:
        squares = np.nextafter(squares, rng.choice([0.0, np.inf], size))
    special: dict[str, list[Floats]] = {
        "add": [ties, beside],
        "subtract": [ties, beside],
        "multiply": [ties / other, other],
        "divide": [ties * other, other],
        "sqrt": [squares],
        "fma": [ties, np.ones(size), beside],
    }
    general = [random(30) for _ in special[operation]]
    if operation == "sqrt":
        general = [np.abs(general[0])]
    return [np.concatenate(pair) for pair in zip(general, special[operation], strict=True)]


def at_the_ends(operands: list[Floats], rng: np.random.Generator) -> list[Floats]:
    """Scale operands so that many results are subnormal or beyond the range of float64."""
    with np.errstate(over="ignore", under="ignore"):
        scale = rng.choice([-1060, -1030, -500, 500, 1000], operands[0].size)
        return [np.clip(np.ldexp(x, scale), -1.7e308, 1.7e308) for x in operands]


def by_mpfr(function: Callable[..., Any], operands: list[Floats], fmt: FloatFormat) -> Floats:
    exact = [[gmpy2.mpfr(v, 53) for v in column.tolist()] for column in operands]
    with gmpy2.context(mpfr_context(fmt)):
        return np.array([float(v) for v in map(function, *exact)])


def cases(operation: str, size: int) -> Iterator[tuple[FloatFormat, list[Floats]]]:
    for t, width in itertools.product(PRECISIONS, RANGES):
        fmt = ps.get_format(f"float(e={width},p={t})")
        assert isinstance(fmt, FloatFormat)
        rng = np.random.default_rng([t, len(operation), len(width)])
        operands = operands_of(operation, t, size, rng)
        yield fmt, operands
        if width == "11":
            yield fmt, at_the_ends(operands, rng)


@pytest.mark.parametrize("operation", MPFR)
def test_custom_precision_is_rounded_once(operation: str) -> None:
    """Every precision from 10 to 40 bits, with unlimited exponents and with float64's."""
    twice_wrong = total = 0
    for fmt, operands in cases(operation, 30):
        got = OPERATIONS[operation][0](*operands, fmt)
        expected = by_mpfr(MPFR[operation], operands, fmt)
        assert_same_bits(got, expected, *operands, note=f"{fmt} {operation}")
        with np.errstate(all="ignore"):
            x, y, z = [*operands, *operands[-1:] * 2][:3]
            by_float64 = x * y + z if operation == "fma" else getattr(np, operation)(*operands)
        twice_wrong += int(np.count_nonzero(ps.round_to(by_float64, fmt) != expected))
        total += got.size
    assert total == 60 * 3 * 31
    assert twice_wrong > total / 10  # the cases are hard


@pytest.mark.slow
@pytest.mark.parametrize("operation", MPFR)
def test_custom_precision_on_many(operation: str) -> None:
    for fmt, operands in cases(operation, 3000):
        got = OPERATIONS[operation][0](*operands, fmt)
        expected = by_mpfr(MPFR[operation], operands, fmt)
        assert_same_bits(got, expected, *operands, note=f"{fmt} {operation}")
