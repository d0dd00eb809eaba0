"""Shared by the tests of matrix products: an oracle in rational numbers, data, bit comparisons."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

import precsim as ps
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import Exact, exact_multiply, rounded

Data: TypeAlias = Callable[[np.random.Generator, RoundingSpec | None, tuple[int, ...]], np.ndarray]


def assert_same_bits(got: Any, expected: Any, note: object = "", *, any_nan: bool = False) -> None:
    """Compare dtype, shape and every bit, those of zeros and (unless `any_nan`) of NaN included."""
    got, expected = np.asarray(got), np.asarray(expected)
    if any_nan:
        got, expected = (np.where(np.isnan(x), np.full_like(x, np.nan), x) for x in (got, expected))
    assert got.dtype == expected.dtype, note
    assert got.shape == expected.shape, note
    unsigned = f"u{got.dtype.itemsize}"
    differ = np.ascontiguousarray(got).view(unsigned) != np.ascontiguousarray(expected).view(
        unsigned
    )
    if differ.any():
        k = np.unravel_index(int(np.argmax(differ)), differ.shape) if got.ndim else ()
        raise AssertionError(
            f"{note}: {int(differ.sum())} of {got.size} differ, the first at {[int(i) for i in k]}: got "
            f"{float(got[k]).hex()}, expected {float(expected[k]).hex()}"
        )


def single(values: Any) -> np.ndarray:
    """Return a float32 array."""
    return np.asarray(values, np.float32)


def exact_sum(x: Exact, y: Exact) -> Exact:
    """Fraction(0) stands for an exact cancellation, whose sign depends on the rounding mode."""
    if isinstance(x, float) and not math.isfinite(x):
        return x if isinstance(y, Fraction) else x + y
    if isinstance(y, float) and not math.isfinite(y):
        return y
    if x == 0 and y == 0 and math.copysign(1, x) == math.copysign(1, y):
        return x
    return Fraction(x) + Fraction(y)


def scalar_product(
    a: list[float], b: list[float], c: float, spec: ps.MatmulSpec, random_bits: int = 0
) -> float:
    """One element of ``c + a @ b`` for rounded operands: one rational number after the other."""
    total = c
    for x, y in zip(a, b, strict=True):
        product = exact_multiply(x, y)
        if spec.product is not None:
            product = rounded(product, spec.product)
        if spec.adder is None:
            total = rounded(exact_sum(product, total), spec.accumulator)
        else:
            total = rounded(rounded(exact_sum(product, total), spec.adder), spec.accumulator)
    return total if spec.output is None else rounded(total, spec.output, random_bits)


def oracle_matmul(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None,
    spec: ps.MatmulSpec,
    random_bits: np.ndarray | None = None,
) -> np.ndarray:
    """Return two-dimensional ``c + a @ b``, element by element."""
    shape = a.shape[0], b.shape[1]
    first = np.zeros(shape) if c is None else np.broadcast_to(c, shape)
    draws = np.zeros(shape, np.uint32) if random_bits is None else random_bits
    rows, columns = (
        [[x if part is None else rounded(x, part) for x in vector] for vector in matrix.tolist()]
        for matrix, part in ((a, spec.lhs), (b.T, spec.rhs))
    )
    result = [
        [
            scalar_product(row, column, float(first[i, j]), spec, int(draws[i, j]))
            for j, column in enumerate(columns)
        ]
        for i, row in enumerate(rows)
    ]
    return np.array(result, np.float64).astype(a.dtype)


def reference(a: Any, b: Any, spec: str | ps.MatmulSpec, c: Any = None) -> np.ndarray:
    return np.asarray(ps.matmul(np.asarray(a), np.asarray(b), spec, c=c, backend="reference"))


def normal(
    rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Independent standard normal numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def operands(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Normal numbers."""
    rng = np.random.default_rng(0)
    return [normal(rng, None, shape) for shape in shapes]


def integers(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Small ones, for which every order of a sum has the same bits."""
    rng = np.random.default_rng(0)
    return [single(rng.integers(-3, 4, shape)) for shape in shapes]


def wide(rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]) -> np.ndarray:
    """Exponents from -60 to 30."""
    scale = 2.0 ** rng.integers(-60, 31, shape)
    return single(rng.uniform(1, 2, shape) * rng.choice([-1, 1], shape) * scale)


def patterns(
    rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Random codes of the operand's format; infinities and NaN in the first row only."""
    fmt = ps.get_format("fp32") if part is None else part.format
    width = fmt.width
    assert width is not None
    codes = rng.integers(0, 1 << width, shape, dtype=np.uint64).astype(np.uint32)
    values = np.asarray(ps.decode(codes, fmt), np.float32)
    values[1:][~np.isfinite(values[1:])] = -0.0
    return values


def tiny(rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]) -> np.ndarray:
    """Subnormals and the smallest normal numbers of the operand's format, of both signs."""
    fmt = ps.get_format("fp32") if part is None else part.format
    assert fmt.width is not None
    significand_bits = min(getattr(fmt, "precision", 4), fmt.width - 1)
    codes = rng.integers(0, 1 << significand_bits, shape).astype(np.uint32)
    codes |= rng.integers(0, 2, shape).astype(np.uint32) << np.uint32(fmt.width - 1)
    return np.asarray(ps.decode(codes, fmt), np.float32)


def signs(
    rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Zeros and ones of both signs: many sums cancel exactly."""
    return single(rng.choice([-1.0, -0.0, 0.0, 1.0], shape))


def special(
    rng: np.random.Generator, part: RoundingSpec | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Normal numbers, the first one replaced by an infinity and the last one by NaN."""
    values = normal(rng, part, shape)
    values.flat[0], values.flat[-1] = math.inf, math.nan
    return values


DATA: tuple[Data, ...] = (normal, wide, patterns, tiny, signs, special)
