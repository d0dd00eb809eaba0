"""The polynomials and constants of the elementary functions, computed again with MPFR."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import gmpy2  # type: ignore[import-untyped]
import numpy as np
import pytest

from precsim.arithmetic.elementary.taylor import FUNCTIONS, Table, log2_of_e, log_of_two, table

PRECISION = 500
BOUND = 1.1
"""Largest error of a polynomial, in units of the last place (elementary_bits counts on it)."""


def binade(x: Any) -> Any:
    """Return the power of two by which tanh(x) / x and erf(x) / x are multiplied."""
    return gmpy2.mpfr(2) ** (max(gmpy2.floor(gmpy2.log2(x)), -1) if x else -1)


def ratio(f: Callable[[Any], Any], at_zero: Any) -> Callable[[Any], Any]:
    return lambda x: (f(x) / x if x else at_zero) * binade(x)


def log_ratio(u: Any) -> Any:
    t = u - gmpy2.mpfr(0.25)
    return gmpy2.log1p(t) / (2 * t) if t else gmpy2.mpfr(0.5)


EXACT: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "exp": lambda: lambda u: gmpy2.exp(u - gmpy2.mpfr(0.375)) / 2,
    "log": lambda: log_ratio,
    "tanh": lambda: ratio(gmpy2.tanh, gmpy2.mpfr(1)),
    "erf": lambda: ratio(gmpy2.erf, 2 / gmpy2.sqrt(gmpy2.const_pi())),
    "rsqrt": lambda: lambda u: 1 / gmpy2.sqrt(1 + u),
}


def polynomial(coefficients: list[int], v: Fraction, shift: int, width: int) -> Fraction:
    """Evaluate exactly, in units of the last place; no partial sum may leave its two words."""
    half = 1 << (2 * width - 1)
    total = Fraction(0)
    for c in reversed(coefficients[1:]):
        total = total * v + (c if c < half else c - 2 * half)
        assert abs(total) < half
    return coefficients[0] + total * v / Fraction(2**shift)


def coefficients(rows: Table, cell: int, width: int) -> list[int]:
    pairs = zip(rows.hi[:, cell].tolist(), rows.lo[:, cell].tolist(), strict=True)
    return [(high << width) | low for high, low in pairs]


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_polynomials_equal_the_function(name: str, width: int) -> None:
    """In every seventh cell; an error would go from each cell to all after it."""
    check_cells(name, width, step=7)


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_polynomials_equal_the_function_in_every_cell(name: str, width: int) -> None:
    check_cells(name, width, step=1)


def check_cells(name: str, width: int, step: int) -> None:
    """Compare at both ends of cells, and at a random place."""
    function, rows = FUNCTIONS[name], table(name, width)
    assert rows.hi.shape == rows.lo.shape == (len(rows.hi), function.rows)
    rng = np.random.default_rng(width)
    with gmpy2.context(precision=PRECISION):
        exact = EXACT[name]()
        for cell in range(0, function.rows, step):
            row = coefficients(rows, cell, width)
            last = (1 << 2 * width) - 1
            for word in (0, last, int(rng.integers(1 << 62)) << (2 * width - 62)):
                v = Fraction(word, last + 1)
                got = polynomial(row, v, rows.shift, width)
                u = gmpy2.mpfr(gmpy2.mpq(cell + v)) / 2**function.spacing
                error = gmpy2.mpfr(gmpy2.mpq(got)) - exact(u) * (last + 1)
                assert abs(error) < BOUND
                assert 0 <= got <= last


@pytest.mark.parametrize("bits", [64, 96, 128, 192])
def test_constants(bits: int) -> None:
    with gmpy2.context(precision=PRECISION):
        log2 = gmpy2.const_log2()
        assert log_of_two(bits) == int(gmpy2.floor(log2 * 2**bits))
        assert log2_of_e(bits) == int(gmpy2.floor(2**bits / log2))


def test_a_wrong_coefficient_is_noticed() -> None:
    """The bound is narrow: the same polynomials with one unit more leave it."""
    rows = table("exp", 32)
    with gmpy2.context(precision=PRECISION):
        exact = EXACT["exp"]()
        errors = []
        for cell in range(FUNCTIONS["exp"].rows):
            row = coefficients(rows, cell, 32)
            row[0] += 2
            got = polynomial(row, Fraction(0), rows.shift, 32)
            u = gmpy2.mpfr(cell) / 64
            errors.append(abs(gmpy2.mpfr(gmpy2.mpq(got)) - exact(u) * 2**64))
    assert min(errors) > BOUND
