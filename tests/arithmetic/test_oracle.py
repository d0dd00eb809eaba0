"""The oracle of operations: exceptions clause by clause, exact roots, agreement with arrays.

Values and flags are also compared with MPFR, in test_mpfr.py.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.oracle import Flags, Rounded
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    DETERMINISTIC,
    EXACT,
    OPERATIONS,
    assert_same_bits,
    patterns,
    rounded,
)
from tests.arithmetic.test_special_values import TABLE

INF, NAN = math.inf, math.nan
NONE, INEXACT, INVALID = Flags.NONE, Flags.INEXACT, Flags.INVALID
BY_ZERO, OVERFLOW, UNDERFLOW = Flags.DIVIDE_BY_ZERO, Flags.OVERFLOW, Flags.UNDERFLOW

SIGNALS: list[tuple[str, tuple[Any, ...], str, Flags, str]] = [
    # operation, operands, rounding, flags, clause of IEEE 754-2019
    ("multiply", (0.0, INF), "fp16", INVALID, "7.2 b"),
    ("fma", (-INF, 0.0, 1.0), "fp16", INVALID, "7.2 c"),
    ("fma", (0.0, INF, NAN), "fp16", NONE, "7.2 c, left open: quiet"),
    ("add", (INF, -INF), "fp16", INVALID, "7.2 d"),
    ("subtract", (-INF, -INF), "fp16", INVALID, "7.2 d"),
    ("fma", (INF, 1.0, -INF), "fp16", INVALID, "7.2 d"),
    ("divide", (0.0, -0.0), "fp16", INVALID, "7.2 e"),
    ("divide", (INF, INF), "fp16", INVALID, "7.2 e"),
    ("sqrt", (-(2.0**-24),), "fp16", INVALID, "7.2 g"),
    ("sqrt", (-INF,), "fp16", INVALID, "7.2 g"),
    ("sqrt", (-0.0,), "fp16", NONE, "5.4.1"),
    *[(name, (NAN,) * arity, "fp16", NONE, "6.2") for name, (_, arity) in OPERATIONS.items()],
    ("add", (INF, 1.0), "fp16", NONE, "6.1"),
    ("fma", (60000.0, 60000.0, -INF), "fp16", NONE, "6.1"),
    ("divide", (INF, 0.0), "fp16", NONE, "6.1"),
    ("divide", (1.0, -INF), "fp16", NONE, "6.1"),
    ("reciprocal", (-INF,), "fp16", NONE, "6.1"),
    ("divide", (1.0, 0.0), "fp16", BY_ZERO, "7.3"),
    ("divide", (-(2.0**-24), -0.0), "fp16:rtz", BY_ZERO, "7.3"),
    ("reciprocal", (0.0,), "fp16", BY_ZERO, "7.3"),
    ("divide", (1.0, 0.0), "e4m3", BY_ZERO | INVALID, "7.3, and no infinity: NaN"),
    ("add", (60000.0, 60000.0), "fp16", OVERFLOW | INEXACT, "7.4"),
    ("add", (60000.0, 60000.0), "fp16:rtz", OVERFLOW | INEXACT, "7.4 b"),
    ("multiply", (448.0, 2.0), "e4m3:saturate", OVERFLOW | INEXACT, "7.4"),
    ("multiply", (2.0**-14, 0.5), "fp16", NONE, "7.5: exact"),
    ("multiply", (2.0**-14, 2.0**-11), "fp16", UNDERFLOW | INEXACT, "7.5"),
    ("multiply", (2.0**-13, 0.5 - 2.0**-12), "fp16", UNDERFLOW | INEXACT, "7.5: tiny"),
    ("multiply", (2.0**-13, 0.5 - 2.0**-13), "fp16", INEXACT, "7.5: not tiny once rounded"),
    ("divide", (1, 3), "fp16", INEXACT, "7.6"),
    ("sqrt", (2.0,), "fp16", INEXACT, "7.6"),
    ("sqrt", (Fraction(9, 4),), "fp16", NONE, "7.6"),
    ("fma", (3.0, 0.5, -1.5), "fp16", NONE, "7.6"),
    ("subtract", (1.0, 2.0), "uq0.8", OVERFLOW | INEXACT, "beyond the lower end"),
]


def test_flags() -> None:
    for operation, operands, text, flags, source in SIGNALS:
        got = ps.oracle.compute_exact(operation, *operands, spec=text).flags
        assert got == flags, f"{operation} {operands} {text} ({source})"


def test_special_values_are_those_of_the_arrays() -> None:
    """The table that the array operations are held to, each row with its clause."""
    for operation, operands, text, result, source in TABLE:
        got = ps.oracle.compute_exact(operation, *operands, spec=text).value
        note = f"{operation} {text} ({source})"
        assert_same_bits(np.array([got]), np.array([result]), *operands, note=note)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arrays_equal_the_oracle_on_random_patterns(operation: str) -> None:
    function, arity = OPERATIONS[operation]
    rng = np.random.default_rng(1)
    draws = rng.integers(0, 1 << 32, 40, dtype=np.uint32)
    texts = [f"fp16:{mode}" for mode in DETERMINISTIC]
    for text in [*texts, "fp32:sr", "e5m2:sr3:b", "q3.4", "e8m0", "e2m1", "fp64"]:
        spec = RoundingSpec.parse(text)
        dtype = np.float64 if text == "fp64" else np.float32
        operands = [patterns(rng, 40, dtype) for _ in range(arity)]
        if dtype == np.float32:
            operands[0][:25] = np.ldexp(rng.standard_normal(25), rng.integers(-20, 20, 25))
        got = function(*operands, spec, random_bits=draws)
        expected = [
            ps.oracle.compute_exact(operation, *case, spec=spec, random_bits=int(draw)).value
            for draw, *case in zip(draws, *operands, strict=True)
        ]
        with np.errstate(over="ignore"):
            assert_same_bits(got, np.array(expected).astype(dtype), *operands, note=text)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_equals_the_other_definition(operation: str) -> None:
    """`EXACT` of these tests was written before the oracle, from the same standard."""
    rng = np.random.default_rng(2)
    columns = [patterns(rng, 50, np.float64).tolist() for _ in range(OPERATIONS[operation][1])]
    for case in zip(*columns, strict=True):
        for text in ("fp64:rtn", "bf16", "q3.20:wrap", "float(e=inf,p=53):rto"):
            spec = RoundingSpec.parse(text)
            got = ps.oracle.compute_exact(operation, *case, spec=spec).value
            assert_same_bits(np.array([got]), np.array([rounded(EXACT[operation](*case), spec)]))


@pytest.mark.parametrize("text", ["fp16", "fp64", "e4m3", "q3.40", "uq0.8", "float(e=inf,p=53)"])
def test_root_lies_between_its_neighbours(text: str) -> None:
    """Toward zero and away from zero give the two values whose squares enclose the number."""
    rng = np.random.default_rng(3)
    for _ in range(100):
        x = Fraction(int(rng.integers(1, 1 << 40)), int(rng.integers(1, 1 << 40)))
        x *= Fraction(2) ** int(rng.integers(-40, 3))
        down = ps.oracle.compute_exact("sqrt", x, spec=f"{text}:rtz")
        up = ps.oracle.compute_exact("sqrt", x, spec=f"{text}:raz")
        if Flags.OVERFLOW in up.flags:
            continue
        assert Fraction(down.value) ** 2 <= x <= Fraction(up.value) ** 2
        # Neighbours: one ulp of the format apart.
        assert up.value - down.value in (0.0, ps.ulp(down.value, text).item())
        square = Fraction(down.value) ** 2
        if square:
            assert ps.oracle.compute_exact("sqrt", square, spec=text) == Rounded(down.value, NONE)


def test_root_whose_last_bit_is_far_below() -> None:
    """Squares, and squares of ties, with something 300 bits below: the sticky bit decides."""
    tiny = Fraction(1, 1 << 300)
    tie = 1 + Fraction(1, 1 << 11)
    for x, mode, value in [
        (1 + tiny, "rtp", 1 + 2.0**-10),
        (1 - tiny, "rtz", 1 - 2.0**-11),
        (tie**2, "rne", 1.0),
        (tie**2 + tiny, "rne", 1 + 2.0**-10),
        (tie**2 - tiny, "rna", 1.0),
        (4 + tiny, "rne", 2.0),
    ]:
        assert ps.oracle.compute_exact("sqrt", x, spec=f"fp16:{mode}") == Rounded(value, INEXACT)


def test_operands_of_any_exact_type() -> None:
    third = ps.oracle.compute_exact("divide", 1, 3, spec="fp32").value
    assert ps.oracle.compute_exact("add", Fraction(1, 3), 0, spec="fp32").value == third
    assert ps.oracle.compute_exact("multiply", np.float64(third), 1.0, spec="fp32").value == third
    huge = 10**400  # no float, still a number
    assert ps.oracle.compute_exact("divide", huge, 4 * huge, spec="fp16") == Rounded(0.25, NONE)
    assert ps.oracle.compute_exact("subtract", huge + 1, huge, spec="fp16") == Rounded(1.0, NONE)
    assert ps.oracle.compute_exact("sqrt", Fraction(huge), spec="fp16").value == math.inf


def test_random_bits_decide() -> None:
    for draw, result in ((0, 1.0), (2**32 - 1, 1.125)):
        got = ps.oracle.compute_exact("add", 1.0, 2.0**-20, spec="e4m3:sr", random_bits=draw)
        assert got == Rounded(result, INEXACT)


def test_errors() -> None:
    with pytest.raises(ValueError, match="operation is 'power'; allowed are 'add', 'subtract'"):
        ps.oracle.compute_exact("power", 1.0, 2.0, spec="fp16")
    with pytest.raises(ValueError, match="fma got 2 operands; allowed are 3"):
        ps.oracle.compute_exact("fma", 1.0, 2.0, spec="fp16")
