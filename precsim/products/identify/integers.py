"""Products of integers: which register adds them, how it overflows, how its sums are rounded."""

from collections.abc import Iterable, Iterator
from itertools import chain
from itertools import product as combinations
from typing import NamedTuple

import numpy as np

from precsim.arithmetic.sums.order import PAIRWISE, SEQUENTIAL, Order
from precsim.formats.affine import AffineFormat
from precsim.formats.floating import FloatFormat
from precsim.products.identify.black_box import BlackBox, explains
from precsim.products.identify.chains import spec_of
from precsim.products.identify.facts import Finding
from precsim.products.identify.identified import Identified, contradicted, recovered
from precsim.products.identify.roundings import FORMATS, MODES, OUTPUTS, Roundings, is_in
from precsim.products.specs.scaling import LARGEST_REGISTER, parse_register
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

_HELD = 1 << FORMATS[0].precision
"""Float32 holds all integers up to here."""
_FRESH = 3
"""Fresh products that a spec has to foresee."""
_WIDTHS = 3
"""Widths of a register that overflows, from the narrowest that holds the results."""
_USUAL = MODES[:3]
_MOST_NEAR = 4
"""Specs of a kind whose share of equal results is computed, where none fits."""


class Integers(NamedTuple):
    """The formats of both operands; their values are codes without zero points."""

    lhs: AffineFormat
    rhs: AffineFormat

    @property
    def largest(self) -> int:
        """The largest product."""
        left, right = (max(map(abs, _range(fmt))) for fmt in self)
        return left * right

    def drawn(
        self, rng: np.random.Generator, m: int, n: int, k: int, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw operands, shapes (m, k) and (k, n), that are zero outside `count` places of K."""
        a, b = np.zeros((m, k), np.float32), np.zeros((n, k), np.float32)
        places = rng.permutation(k)[:count]
        for x, fmt in zip((a, b), self, strict=True):
            low, high = _range(fmt)
            x[:, places] = rng.integers(low, high + 1, (len(x), len(places)))
        return a, np.ascontiguousarray(b.T)

    def extreme(self, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return powers of two, whose sums float32 holds: as large as they can be, at first.

        The first row and column give the largest sum; the others turn at some place of K.
        """
        sides = []
        for rows, fmt in ((m, self.lhs), (n, self.rhs)):
            low, high = _range(fmt)
            powers = [2.0 ** (high.bit_length() - 1)]
            powers += [-(2.0 ** ((-low).bit_length() - 1))] if low < 0 else [0.0]
            first, other = sorted(powers, key=abs, reverse=True)
            x = np.full((rows, k), first, np.float32)
            for row in range(1, rows):
                x[row, k * row // rows :] = 0 if row % 3 == 0 else other
            x[2::4] = x[2::4, ::-1]
            sides.append(x)
        return sides[0], np.ascontiguousarray(sides[1].T)


def _range(fmt: AffineFormat) -> tuple[int, int]:
    zero = fmt.middle if fmt.is_symmetric else 0
    return fmt.min_code - zero, fmt.max_code - zero


def identify_integers(box: BlackBox, formats: Integers, rng: np.random.Generator) -> Identified:
    """Find the register, or the floating-point sums, of a product of integers."""
    size = box.m, box.n, box.k
    short = max(1, min(box.k, _HELD // formats.largest))
    asked = [formats.extreme(*size), *(formats.drawn(rng, *size, n) for n in (short, box.k))]
    answers = [box.ask(a, b) for a, b in asked]
    results = np.stack([x.results for x in answers])
    tried, found = [], []
    for likely in _candidates(formats, results):
        specs = list(likely)
        tried += specs[:_MOST_NEAR]
        found = [spec for spec in specs if explains(spec, answers)]
        if found:
            break
    fresh = [box.ask(*formats.drawn(rng, *size, n)) for n in (short, *[box.k] * _FRESH)]
    found = [spec for spec in found if explains(spec, fresh)]
    findings = [_sums(box, found)]
    if found:
        return recovered(box, found, fresh, findings)
    return contradicted(box, tried, findings)


def _sums(box: BlackBox, found: list[MatmulSpec]) -> Finding:
    """Return how wide the exact sums are, and so which registers are not told apart."""
    sums = np.stack([x.a.astype(np.int64) @ x.b.astype(np.int64) for x in box.answers])
    results = np.stack([x.results for x in box.answers])
    is_exact, bits = sums.astype(np.float32) == results, _bits(sums)
    decided = [] if is_exact.all() else ["sums overflow or are rounded"]
    widest = parse_register(f"int{LARGEST_REGISTER}")
    if bits < LARGEST_REGISTER and widest in [spec.accumulator for spec in found]:
        decided.append(f"wrapping registers of {bits} bits and more are not told apart")
    answer = f"{is_exact.sum()} of {is_exact.size} are exact"
    probe = f"sums of integers, of up to {bits} bits"
    return Finding(probe, answer, "; ".join(decided) or f"registers of {bits} bits and more")


def _bits(x: np.ndarray) -> int:
    """Return the width of the narrowest register that holds some integers."""
    low, high = int(np.min(x, initial=0)), int(np.max(x, initial=0))
    return 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)


def _candidates(formats: Integers, results: np.ndarray) -> Iterator[Iterator[MatmulSpec]]:
    """Yield specs, those of a kind together, the usual kinds first.

    Results that are all infinite, NaN or zero are no evidence for narrow formats and registers.
    """
    yield chain(_registers(formats), _floating(formats, FORMATS[:1], _USUAL[:1]))
    if not results[np.isfinite(results)].any():
        return
    for fmt in (fmt for fmt in OUTPUTS if is_in(results, fmt)):
        for mode in _USUAL:
            yield _registers(formats, output=RoundingSpec(format=fmt, mode=mode))
    least = max(_bits(results[np.isfinite(results)]), 2)
    for bits in range(least, min(least + _WIDTHS, LARGEST_REGISTER)):
        yield _registers(formats, bits)
    for fmt in (fmt for fmt in FORMATS[::-1] if is_in(results, fmt)):
        yield _floating(formats, (fmt,), _USUAL, (SEQUENTIAL, PAIRWISE))


def _registers(
    formats: Integers, bits: int = LARGEST_REGISTER, output: RoundingSpec | None = None
) -> Iterator[MatmulSpec]:
    """Yield specs with a register, which wraps or saturates."""
    for overflow in ("wrap", "saturate"):
        yield from _spec(formats, parse_register(f"int{bits}:{overflow}"), output=output)


def _floating(
    formats: Integers,
    accumulators: Iterable[FloatFormat],
    modes: tuple[RoundingMode, ...],
    orders: tuple[Order, ...] = (SEQUENTIAL,),
) -> Iterator[MatmulSpec]:
    """Yield specs that add the products of integers as floating-point numbers."""
    for fmt, mode, order in combinations(accumulators, modes, orders):
        yield from _spec(formats, RoundingSpec(format=fmt, mode=mode), order)


def _spec(
    formats: Integers,
    accumulator: RoundingSpec | None,
    order: Order = SEQUENTIAL,
    output: RoundingSpec | None = None,
) -> Iterator[MatmulSpec]:
    """Yield the spec, if there is one."""
    assert accumulator is not None
    lhs, rhs = (RoundingSpec(format=fmt) for fmt in formats)
    spec = spec_of(order, Roundings(lhs, rhs, accumulator, output=output))
    if spec is not None:
        yield spec
