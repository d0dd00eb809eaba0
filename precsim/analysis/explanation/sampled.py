"""A matrix product to explain: candidates compute a sample of it, those that fit there all."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import as_array
from precsim.analysis.bounds.gamma import matmul_bound
from precsim.analysis.differences import (
    NARROW,
    Flat,
    are_equal,
    differences,
    flat,
    format_of,
    is_of,
)
from precsim.analysis.explanation import products
from precsim.analysis.explanation.result import Attempt, Try, attempt
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.round_to import round_to

_SAMPLED = 16
"""Rows and columns of a product that all candidates compute; those that fit compute all."""


class SampledProduct:
    """A matrix product, of which candidates compute a sample first."""

    def __init__(self, args: Sequence[Any], ours: Flat, theirs: Flat) -> None:
        """Bring operands and results to matrices, and choose the sample."""
        given = [np.asarray(as_array(x, f"args[{n}]")) for n, x in enumerate(args)]
        self.args, self.ours, self.theirs = args, ours, theirs
        self.dtype = "fp32" if is_of(ours.values, "fp32") else "fp64"
        carrier = np.float32 if self.dtype == "fp32" else np.float64
        self.is_cast = any(not are_equal(*_widened(x, x.astype(carrier))).all() for x in given)
        a, b = (x.astype(carrier) for x in given)
        self.a = a[None] if a.ndim == 1 else a
        self.b = b[:, None] if b.ndim == 1 else b
        try:
            self.shape = np.matmul(self.a[..., :1, :], self.b[..., :, :1]).shape[:-2]
        except ValueError:
            raise ValueError(
                f"args have shapes {a.shape}, {b.shape}; allowed are shapes that matmul multiplies"
            ) from None
        self.shape += self.a.shape[-2], self.b.shape[-1]
        if np.prod(self.shape, dtype=int) != ours.values.size:
            raise ValueError(f"got has shape {ours.shown}; allowed is that of the product")
        self.values = [name for name in NARROW if is_of(ours.values, name)]

    def share_of_bound(self) -> float:
        """Return the largest difference as a share of the bound for two orders."""
        k = self.a.shape[-1]
        bound = np.zeros(self.shape)
        for side in (self.ours, self.theirs):
            narrowest = format_of(side.values)
            sums = "fp64" if narrowest == "fp64" else "fp32"
            bound += matmul_bound(self.a, self.b, sums, n=k + 2 * self.is_cast)
            if narrowest in NARROW:
                fmt = get_format(narrowest)
                assert isinstance(fmt, FloatFormat)
                u = fmt.unit_roundoff
                bound += np.abs(side.values.reshape(self.shape)) * (u / (1 - u))
        distance = differences(self.ours.values, self.theirs.values)
        size = np.where(distance > 0, bound.ravel(), 1.0)
        with np.errstate(divide="ignore"):
            return float(np.max(distance / size, initial=0.0))

    def groups(
        self,
        fun: Callable[..., Any],
        candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None,
    ) -> list[list[Try]]:
        """Return the candidates in groups."""
        if isinstance(candidates, Mapping):
            given = candidates.items()
            return [[partial(self._whole, n, "given", f) for n, f in given]]
        if candidates is not None:
            specs = [(text, MatmulSpec.parse(text)) for text in candidates]
            named = [
                products.Product(name=text, meaning="given", spec=spec) for text, spec in specs
            ]
            return [[partial(self._one, each) for each in named]]
        tiers = products.tiers(self.a.shape[-1], self.dtype, self.values)
        groups: list[list[Try]] = [
            [partial(self._whole, "fun", "the function as it runs here", fun)]
        ]
        groups += [[partial(self._all, each) for each in tier] for tier in tiers]
        return groups

    def _whole(self, name: str, meaning: str, fun: Callable[..., Any]) -> list[Attempt]:
        """Return the attempt of a function of the operands."""
        result = flat(fun(*self.args), f"the result of {name}").values
        if result.size != self.ours.values.size:
            raise ValueError(
                f"the result of {name} has {result.size} elements, got {self.ours.values.size}; "
                "allowed is one shape"
            )
        return [attempt(name, meaning, result, self.ours, self.theirs)]

    def _one(self, product: products.Product) -> list[Attempt]:
        return [self._checked(product, self._sampled(product))]

    def _all(self, product: products.Product) -> list[Attempt]:
        """Return the attempts of a product and of its narrow outputs, computed once."""
        total = self._sampled(product)
        attempts = [self._checked(product, total)]
        for output in self.values:
            rounded = np.asarray(round_to(total, output))
            if not are_equal(*_widened(total, rounded)).all():
                attempts.append(self._checked(product.rounded(output), rounded))
        return attempts

    def _sampled(self, product: products.Product) -> np.ndarray:
        places = self._places()
        outer, (rows, columns) = places[:-2], places[-2:]
        return product.run(_at(self.a, outer, rows, -2), _at(self.b, outer, columns, -1))

    def _places(self) -> list[np.ndarray]:
        """Return the sampled indices of each axis of the result."""
        counts = [2] * (len(self.shape) - 2) + [_SAMPLED] * 2
        return [
            np.unique(np.linspace(0, size - 1, min(size, count)).astype(int))
            for size, count in zip(self.shape, counts, strict=True)
        ]

    def _checked(self, product: products.Product, sample: np.ndarray) -> Attempt:
        """Compare a sample, and where it fits all of the product."""
        where = np.ix_(*self._places())
        sides = [side.values.reshape(self.shape)[where] for side in (self.ours, self.theirs)]
        ours, theirs = (
            side._replace(values=x.ravel())
            for side, x in zip((self.ours, self.theirs), sides, strict=True)
        )
        values = sample.astype(np.float64).ravel()
        found = attempt(product.name, product.meaning, values, ours, theirs)
        if found.equal < 1 or values.size == self.ours.values.size:
            return found
        whole = product.run(self.a, self.b).astype(np.float64).ravel()
        return attempt(product.name, product.meaning, whole, self.ours, self.theirs)


def _at(x: np.ndarray, outer: list[np.ndarray], inner: np.ndarray, axis: int) -> np.ndarray:
    """Return an operand at sampled indices of its batch axes and of one axis of the matrix."""
    x = np.take(x, inner, axis)
    for n, places in enumerate(reversed(outer), start=3):
        if x.ndim >= n and x.shape[-n] > 1:
            x = np.take(x, places, -n)
    return x


def _widened(*arrays: np.ndarray) -> list[np.ndarray]:
    return [x.astype(np.float64) for x in arrays]
