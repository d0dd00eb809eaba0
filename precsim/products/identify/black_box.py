"""A product that can only be run: its answers are kept, and compared with a spec's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from precsim.formats.affine import AffineFormat
from precsim.formats.arguments import shown
from precsim.products.reference import reference_matmul
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.scaled.scale import Scale
from precsim.rounding.spec import RoundingSpec

_CORNER = 8
"""Rows and columns that are compared before all others, of all answers at once.

Most candidates fail there.
"""

_NO_NUMBERS = "OSUMmc"
"""Kinds of dtypes: objects, text, times and complex numbers."""

Product = Callable[[np.ndarray, np.ndarray], Any]


class Answer(NamedTuple):
    """One query: operands of shapes (m, k) and (k, n), and results of shape (m, n), float32."""

    a: np.ndarray
    b: np.ndarray
    results: np.ndarray


class BlackBox:
    """A caller's product of one shape."""

    def __init__(
        self, product: Product, m: int, n: int, k: int, *, rounds_integers: bool = False
    ) -> None:
        """Take a product of (m, k) and (k, n); its integers may be rounded to float32."""
        self.m, self.n, self.k = m, n, k
        self._rounds_integers = rounds_integers
        self.answers: list[Answer] = []
        self._product = product

    def ask(self, a: np.ndarray, b: np.ndarray) -> Answer:
        """Run the product once; ValueError if the results have another shape or do not fit."""
        with np.errstate(all="ignore"):
            returned = self._product(a.copy(), b.copy())
            given = np.asarray(returned)
        if given.dtype.kind in _NO_NUMBERS:
            raise TypeError(
                f"product returned {shown(returned)}; allowed are arrays of real numbers of shape "
                f"{(self.m, self.n)}"
            )
        if given.shape != (self.m, self.n):
            raise ValueError(f"product returned shape {given.shape}; allowed is {(self.m, self.n)}")
        with np.errstate(all="ignore"):
            results = given.astype(np.float32)
            is_same = (results == given) | np.isnan(results)
            is_same |= self._rounds_integers and given.dtype.kind in "iu"
        if not is_same.all():
            raise ValueError(
                f"product returned {given[~is_same][0]!r}; allowed are values that float32 holds"
            )
        self.answers.append(Answer(a, b, results))
        return self.answers[-1]


def differ(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return where float32 results differ in bits; all NaNs are one."""
    is_nan = np.isnan(x) & np.isnan(y)
    differs: np.ndarray = (x.view(np.uint32) != y.view(np.uint32)) & ~is_nan
    return differs


def modelled(spec: MatmulSpec, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product that a spec defines; the integers of affine operands are the values."""
    given = _unit(spec.lhs), _unit(spec.rhs)
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(reference_matmul(a, b, None, spec, given=given), np.float32)


def _unit(operand: RoundingSpec | None) -> Scale | None:
    """Return the scale with which integers stand for themselves."""
    if operand is None or not isinstance(operand.format, AffineFormat):
        return None
    return Scale(scale=1.0, zero_point=None if operand.format.is_symmetric else 0)


def explains(spec: MatmulSpec, answers: list[Answer], window: int | None = None) -> bool:
    """Return whether a spec has all bits of all answers.

    With a `window`, products from there on are all zero and are left out.
    """
    corners = [
        (a[:_CORNER, :window], b[:window, :_CORNER], results[:_CORNER, :_CORNER])
        for a, b, results in answers
    ]
    if not corners:
        return True
    a, b, results = map(np.stack, zip(*corners, strict=True))
    if differ(modelled(spec, a, b), results).any():
        return False
    return not any(
        differ(modelled(spec, a[:, :window], b[:window]), results).any()
        for a, b, results in answers
    )


def share(spec: MatmulSpec, answers: list[Answer]) -> float:
    """Return the share of results whose bits a spec has."""
    missed = [differ(modelled(spec, a, b), results) for a, b, results in answers]
    return 1 - float(np.mean(np.stack(missed)))
