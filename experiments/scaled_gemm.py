"""Random products of two published error analyses: wide ranges, scaled into a narrow format.

T. Mary, M. Mikaitis, hal-04671474, section 5, and F. A. Khattak, M. Mikaitis, doi 10.1145/3830409,
draw the same matrices: A is 10 x n, B is n x 10, entries +-10**U(-10, 10), scaled by powers of two
so that rows of A and columns of B are at most theta. The error is ||C - AB|| / (||A|| ||B||) in the
infinity norm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import precsim as ps
from experiments.matlab_random import rand, randi

ROWS = 10
DRAWS = 4 * ROWS  # numbers of the stream for each of the n inner indices
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Product:
    """Scaled operands of one product, what undoes the scaling, the exact product and the norms."""

    a: np.ndarray
    b: np.ndarray
    scale: np.ndarray
    exact: np.ndarray
    norms: float

    def error(self, computed: Any) -> float:
        """Return ||C - AB|| / (||A|| ||B||) for a computed product of the scaled operands."""
        difference = np.asarray(computed, np.float64) / self.scale - self.exact
        return _norm(difference) / self.norms


def sizes(count: int) -> np.ndarray:
    """Return MATLAB's floor(logspace(1, 6, count))."""
    return np.floor(10.0 ** np.linspace(1, 6, count)).astype(np.int64)


def products(
    stream: np.random.RandomState, sizes: np.ndarray, thetas: np.ndarray
) -> Iterator[Product]:
    """Yield the products of the sizes n, in the order in which the scripts draw them."""
    for n, theta in zip(sizes.tolist(), thetas, strict=True):
        a = 10 ** (rand(stream, ROWS, n) * 2 * 10 - 10)
        b = 10 ** (rand(stream, n, ROWS) * 2 * 10 - 10)
        a = a * (randi(stream, 2, ROWS, n) * 2 - 3)
        b = b * (randi(stream, 2, n, ROWS) * 2 - 3)
        left = _power_of_two(theta / np.abs(a).max(axis=1, keepdims=True))
        right = _power_of_two(theta / np.abs(b).max(axis=0, keepdims=True))
        yield Product(left * a, b * right, left * right, a @ b, _norm(a) * _norm(b))


def largest_entry(n: np.ndarray, operand: str, accumulator: str) -> np.ndarray:
    """Return theta = min(fmax, sqrt(Fmax / n)): n products of two entries do not overflow."""
    narrow, wide = _float_format(operand), _float_format(accumulator)
    return np.minimum(narrow.max_finite, np.sqrt(wide.max_finite / n))


def bounds(n: np.ndarray, operand: str, accumulator: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bound of the error (Mary & Mikaitis, 3.26), and its part of unlimited range.

    2u + nU + 4 n^2 (fmin / theta + Fmin / theta^2), with the unit roundoff u and smallest normal
    value fmin of the operands, U and Fmin of the accumulator.
    """
    narrow, wide = _float_format(operand), _float_format(accumulator)
    theta = largest_entry(n, operand, accumulator)
    precision = 2 * narrow.unit_roundoff + n * wide.unit_roundoff
    limits = 4.0 * n**2 * (narrow.min_normal / theta + wide.min_normal / theta**2)
    return precision + limits, precision


def multiply(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec) -> np.ndarray:
    """Return a @ b by the spec, `_CHUNK` inner indices at a time: one compilation for all sizes.

    Each chunk goes on from the last one's accumulator. The last chunk is filled up with zeros,
    whose products change no sum.
    """
    total: np.ndarray = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for start in range(0, a.shape[1], _CHUNK):
        columns, rows = a[:, start : start + _CHUNK], b[start : start + _CHUNK]
        fill = (0, _CHUNK - columns.shape[1])
        columns, rows = np.pad(columns, ((0, 0), fill)), np.pad(rows, (fill, (0, 0)))
        total = np.asarray(ps.matmul(columns, rows, spec, c=total))
    return total


def _float_format(name: str) -> ps.FloatFormat:
    found = ps.get_format(name)
    assert isinstance(found, ps.FloatFormat)
    return found


def _norm(x: np.ndarray) -> float:
    return float(np.abs(x).sum(axis=1).max())


def _power_of_two(x: np.ndarray) -> np.ndarray:
    """Return the largest powers of two that are not above x."""
    return np.asarray(np.ldexp(1.0, np.frexp(x)[1] - 1))
