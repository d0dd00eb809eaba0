"""Candidates for the roundings of an unknown product, narrowed by single products."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product as combinations
from typing import Any, NamedTuple, Protocol

import numpy as np

from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.identify.black_box import Answer, differ
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec

_MODES = ("rne", "rtz", "rna", "rto", "rtp", "rtn", "raz", "rnz", "rno", "rnp", "rnn")
MODES = tuple(map(RoundingMode, _MODES))
"""All but stochastic rounding, the usual ones first."""
_USUAL = MODES[:3]
_NAMES = ("fp32", "float(e=8,p=14)", "tf32", "fp16", "bf16", "e5m2", "e4m3")


class Roundings(NamedTuple):
    """The roundings between operands and result."""

    lhs: RoundingSpec
    rhs: RoundingSpec
    accumulator: RoundingSpec
    product: RoundingSpec | None = None
    adder: RoundingSpec | None = None
    output: RoundingSpec | None = None


def _numbers(name: str) -> FloatFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


FORMATS = tuple(map(_numbers, _NAMES))
"""Formats of accumulators and products, the widest first."""
OUTPUTS = tuple(map(_numbers, ("fp16", "bf16", "e5m2", "e4m3")))
"""Formats of outputs narrower than the sums."""


def operand_candidates(fmt: FloatFormat) -> list[RoundingSpec]:
    """Return how an operand that holds values of a format may be rounded first."""
    narrower = [f for f in FORMATS if f.precision < fmt.precision]
    return [
        RoundingSpec(format=fmt),
        *(RoundingSpec(format=f, mode=mode) for f in narrower for mode in MODES),
    ]


def seen_through(
    candidates: list[RoundingSpec], x: np.ndarray, seen: np.ndarray
) -> list[RoundingSpec]:
    """Return the operand roundings by which ``x - 1`` is what was seen.

    The first candidate leaves operands as they are. Where it does not fit, those follow after
    which a product, rounded again, is what was seen.
    """

    def fits(rounded: Any) -> bool:
        return bool(np.array_equal(rounded - np.sign(x), seen))

    def is_hidden(rounding: RoundingSpec) -> bool:
        return any(fits(round_to(round_to(x, rounding), again)) for again in candidates[1:])

    if fits(round_to(x, candidates[0])):
        return candidates[:1]
    alone = [rounding for rounding in candidates[1:] if fits(round_to(x, rounding))]
    usual = [rounding for rounding in candidates if rounding.mode in _USUAL]
    return list(dict.fromkeys([*alone, *filter(is_hidden, usual)]))


def numbers(rounding: RoundingSpec) -> FloatFormat:
    """Return the floating-point format to which is rounded."""
    assert isinstance(rounding.format, FloatFormat)
    return rounding.format


def is_in(values: np.ndarray, fmt: FloatFormat) -> bool:
    """Return whether all finite values are values of a format."""
    finite = values[np.isfinite(values)]
    return not differ(np.asarray(round_to(finite, fmt)), finite).any()


def result_formats(answers: list[Answer]) -> list[FloatFormat]:
    """Return the narrowest formats that hold all results.

    Where no format of a name is as narrow, a format with the exponents of float32 is.
    """
    values = np.concatenate([x.results.ravel() for x in answers])
    holding = [fmt for fmt in FORMATS if is_in(values, fmt)]
    narrowest = [
        fmt
        for fmt in holding
        if not any(f.precision < fmt.precision and f.emax <= fmt.emax for f in holding)
    ]
    precision = significant_bits(values)
    if all(fmt.precision > precision + 1 for fmt in narrowest) and precision > 1:
        narrowest.append(_numbers(f"float(e=8,p={precision})"))
    return sorted(narrowest, key=lambda fmt: (fmt.precision, fmt.emax))


def significant_bits(values: np.ndarray) -> int:
    """Return the largest number of bits of a finite value's significand."""
    finite = values[np.isfinite(values) & (values != 0)].astype(np.float64)
    if not finite.size:
        return 1
    whole = (np.abs(np.frexp(finite)[0]) * 2**24).astype(np.int64)
    return int(np.max(24 - np.log2(whole & -whole).astype(np.int64)))


class Tier(NamedTuple):
    """Which roundings besides the accumulator's and the output's are tried."""

    product: bool = False
    adder: bool = False
    chained: bool = False
    """Chains whose totals are added in float32: their accumulator may be narrower than results."""


class Cut(NamedTuple):
    """Where a product is cut off, toward zero."""

    fraction_bits: int
    """Places below its exponent that are kept."""
    sticky: bool = False
    """Whether what is lost sets the last place."""


class Narrowed(Protocol):
    """What is known of the roundings."""

    lhs: list[RoundingSpec]
    rhs: list[RoundingSpec]
    results: list[FloatFormat]
    flushes: bool
    singles: "Singles"


def rounding_candidates(
    known: Narrowed, tier: Tier, precision: int | None = None, cut: "Cut | None" = None
) -> list[Roundings]:
    """Return roundings that have the results of single products, the usual modes first.

    `precision` is that of the accumulator, if it is known; `cut` says where products are cut off.
    """
    exact = sum(max(numbers(x).precision for x in side) - 1 for side in (known.lhs, known.rhs))
    if cut is not None and cut.fraction_bits >= exact:
        cut = None  # no bit of a product is cut off
    key = tier, precision, cut
    if key not in known.singles.lists:
        known.singles.lists[key] = [
            x for x in _all_roundings(known, tier, precision) if known.singles.agree(x, cut)
        ]
    return known.singles.lists[key]


def _all_roundings(known: Narrowed, tier: Tier, precision: int | None) -> Iterator[Roundings]:
    modes = MODES if tier == Tier() else _USUAL
    finals = [
        pair
        for pair in (
            _chained(known.results, modes)
            if tier.chained
            else _finals(known.results, modes, flushes=known.flushes)
        )
        if precision is None or numbers(pair[0]).precision == precision
    ]
    finals.sort(key=lambda pair: sum(MODES.index(x.mode) for x in pair if x is not None))
    for (lhs, rhs), (accumulator, output) in combinations(
        combinations(known.lhs, known.rhs), finals
    ):
        products = _lossy_products(lhs, rhs) if tier.product else [None]
        adders = _wider(numbers(accumulator)) if tier.adder else [None]
        for product, adder in combinations(products, adders):
            yield Roundings(lhs, rhs, accumulator, product, adder, output)


def _finals(
    formats: list[FloatFormat], modes: tuple[RoundingMode, ...], *, flushes: bool
) -> Iterator[tuple[RoundingSpec, RoundingSpec | None]]:
    """Yield accumulators and outputs whose results are values of one of these formats."""
    for fmt in formats:
        for mode in MODES:
            own = RoundingSpec(format=fmt, mode=mode)
            yield flushed(own) if flushes else own, None
    for fmt in (f for f in formats if f in OUTPUTS):
        wider = [f for f in FORMATS if f.precision > fmt.precision and f.emax >= fmt.emax]
        for accumulator, mode, last in combinations(wider, MODES, modes):
            yield RoundingSpec(format=accumulator, mode=mode), RoundingSpec(format=fmt, mode=last)


def _chained(
    formats: list[FloatFormat], modes: tuple[RoundingMode, ...]
) -> Iterator[tuple[RoundingSpec, RoundingSpec | None]]:
    """Yield accumulators narrower than float32, whose totals only are of these formats."""
    narrower = [f for f in FORMATS if f.precision < FORMATS[0].precision]
    for accumulator, fmt, mode in combinations(narrower, formats, MODES):
        sums = RoundingSpec(format=accumulator, mode=mode)
        if fmt == FORMATS[0]:
            yield sums, None
        elif fmt in OUTPUTS and accumulator.precision <= fmt.precision:
            for last in modes:
                yield sums, RoundingSpec(format=fmt, mode=last)


def _lossy_products(lhs: RoundingSpec, rhs: RoundingSpec) -> list[RoundingSpec]:
    """Return how a product may be rounded, without the formats that hold every product."""
    left, right = numbers(lhs), numbers(rhs)
    bits = left.precision + right.precision
    # A product of the largest values is below twice two to this exponent.
    top = min(left.emax + right.emax + 1, FORMATS[0].emax)
    lossy = [f for f in FORMATS if f.precision < bits or f.emax < top]
    return [RoundingSpec(format=f, mode=mode) for mode in _USUAL for f in lossy]


def _wider(fmt: FloatFormat) -> list[RoundingSpec]:
    return [RoundingSpec(format=f) for f in FORMATS if f.precision > fmt.precision]


def cut_off(x: np.ndarray, exponents: np.ndarray, cut: Cut) -> np.ndarray:
    """Cut products off, toward zero, some places below their exponents."""
    last = np.exp2(np.asarray(exponents - cut.fraction_bits, np.float64))
    places = np.trunc(x / last)
    if cut.sticky:
        places += np.sign(x) * ((places * last != x) & (places % 2 == 0))
    return np.asarray(places * last)


class Singles:
    """Results of one product each, with which roundings are compared without an order."""

    def __init__(self, answer: Answer) -> None:
        """Take the answer to a probe of single products, those at index 0."""
        self._x, self._y = answer.a[:, :1], answer.b[:1]
        self._results = answer.results
        self._shared: dict[object, np.ndarray] = {}
        self.lists: dict[object, list[Roundings]] = {}
        """Roundings that agree, by what they were asked for."""

    def agree(self, roundings: Roundings, cut: Cut | None = None) -> bool:
        """Return whether roundings, and cutting off, give the results."""
        lhs, rhs, accumulator, product, adder, output = roundings
        key: tuple[object, ...] = lhs, rhs, product, cut
        if key not in self._shared:
            self._shared[key] = self._products(lhs, rhs, product, cut)
        with np.errstate(all="ignore"):
            total = self._shared[key]
            for step in (adder, accumulator):
                if step is not None:
                    key = *key, step
                    if key not in self._shared:
                        self._shared[key] = np.asarray(round_to(total, step))
                    total = self._shared[key]
            # An accumulator of float32 at most: its values need no float64.
            total = total.astype(np.float32)
            if output is not None:
                total = np.asarray(round_to(total, output))
        return not differ(total + np.float32(0), self._results + np.float32(0)).any()

    def _products(
        self,
        lhs: RoundingSpec,
        rhs: RoundingSpec,
        product: RoundingSpec | None,
        cut: Cut | None,
    ) -> np.ndarray:
        with np.errstate(all="ignore"):
            x, y = np.asarray(round_to(self._x, lhs)), np.asarray(round_to(self._y, rhs))
            exact = x.astype(np.float64) * y
            if product is not None:
                exact = np.asarray(round_to(exact, product))
            if cut is not None:
                exponents = _exponents(x, numbers(lhs)) + _exponents(y, numbers(rhs))
                exact = np.asarray(cut_off(exact, exponents, cut))
        return np.asarray(exact)


def _exponents(x: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    return np.asarray(np.maximum(np.frexp(x.astype(np.float64))[1] - 1, fmt.emin))


def flushed(
    part: RoundingSpec, subnormals: SubnormalMode = SubnormalMode.FLUSH_AFTER_ROUNDING
) -> RoundingSpec:
    """Return a rounding whose subnormal results become zero."""
    return replace(part, subnormals=subnormals)


def saturating(part: RoundingSpec) -> RoundingSpec:
    """Return a rounding that overflows to the largest value."""
    return replace(part, overflow=OverflowMode.SATURATE)
