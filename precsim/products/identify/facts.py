"""What a few probes say about an unknown product, before any candidate is compared."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from precsim.formats.floating import FloatFormat
from precsim.products.identify import probes
from precsim.products.identify.black_box import Answer, BlackBox
from precsim.products.identify.probes import Formats
from precsim.products.identify.roundings import (
    FORMATS,
    Singles,
    operand_candidates,
    result_formats,
    seen_through,
)
from precsim.products.identify.structure import PLACES, part_from, read_structure
from precsim.rounding.spec import RoundingSpec

WINDOW = 16
"""Products of the probe in which few are not zero."""
_LOW = -30
"""Exponent below which the smallest normal result is no hindrance to random operands."""
_MARGIN = 6
"""Binades between large products and the largest that a sum holds."""
_LOST = FORMATS[0].precision + 1
"""Binades below a large product at which a unit is lost; a sum of units is by K's bits more."""
_LOWER = 8
"""Binades by which large products are lowered, where a last place overflows a narrow result."""
_SCALE = 8
"""Exponent of the other operand where one is seen through its rounding."""


class Finding(NamedTuple):
    """One probe: what was asked, what came back, what follows.

    Parameters
    ----------
    probe : str
        What was asked.
    answer : str
        What the product answered.
    decided : str
        What follows for the spec.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.kernels.Finding("single products", "values of bf16", "output bf16").decided
    'output bf16'
    """

    probe: str
    answer: str
    decided: str


class Kept(NamedTuple):
    """How many places below a large product's power of two are kept."""

    bits: int
    is_all: bool
    """Whether these are all that were tried."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is known; `whole` grows with every answer that a candidate did not foresee."""

    formats: Formats
    lhs: list[RoundingSpec]
    rhs: list[RoundingSpec]
    singles: Singles
    results: list[FloatFormat]
    """The narrowest formats that hold all results."""
    flushes: bool
    """Whether results below the smallest normal one are zero."""
    widest: int
    """Binades over which random operands are drawn."""
    top: int
    """Exponent of the largest power of two that a running sum holds."""
    first: list[Answer]
    """Products at the first places only."""
    sizes: probes.Sizes
    """Of products whose roundings are seen behind results of few bits."""
    whole: list[Answer]
    """Products at all places."""
    extreme: Answer
    """Products of every size."""
    step: int | None
    """Products that one step adds at once; None where that cannot be read."""
    start: int
    """Place at which such steps begin."""
    within: str
    """What the first step is: "cut off", "exact", or "nested" sums; "" where it is too short."""
    part: int
    """Place at which a second block or chain begins; K if there is none."""
    ends: np.ndarray
    """For each place from 1 on, the end of the smallest part of the sum with 0 and it."""
    visible: range
    """Places at which its beginning could be seen."""
    near: Kept
    """Bits that are kept of three neighbours."""
    far: Kept
    """The same of three products far apart."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def k(self) -> int:
        """Number of products."""
        return int(self.whole[0].a.shape[1])

    def part_with(self, step: int) -> int:
        """Return `part` if steps have another length than was read."""
        return part_from(self.ends, step, self.k)

    @property
    def keeps_all(self) -> bool | None:
        """Whether units beside large products were all kept; None where that was not seen."""
        is_one_step = self.step is not None and self.step >= min(self.k, PLACES)
        return None if is_one_step and not self.within else is_one_step and self.within == "exact"

    @property
    def adds_several(self) -> bool:
        """Whether neighbours keep more bits than a running sum has: a step adds several."""
        return self.near.bits > self.far.bits + 1

    @property
    def precision(self) -> int | None:
        """Precision of an accumulator that rounds each sum; None where that was not seen."""
        if self.far.is_all and self.far.bits < FORMATS[0].precision:
            return None
        return self.far.bits + 1


def gather(box: BlackBox, formats: Formats, rng: np.random.Generator) -> Facts:
    """Ask the probes that all families share."""
    m, n, k = box.m, box.n, box.k
    size = formats, m, n, k
    whole = [box.ask(*probes.mixed(rng, *size, slice(0, k)))]
    extreme = box.ask(*probes.extreme(rng, *size))
    if _flushes(box, formats):
        formats = formats.without_subnormals()
    emin = max(fmt.emin for fmt in result_formats([*whole, extreme]))
    widest = probes.WIDE if emin < _LOW else probes.CLOSE
    whole.append(box.ask(*probes.mixed(rng, *size, slice(0, k), widest)))
    whole.append(box.ask(*probes.layered(rng, *size, widest)))
    whole.append(box.ask(*probes.ties(*size, sorted({fmt.precision for fmt in FORMATS}))))
    single = box.ask(*probes.single(rng, *size))
    first = [box.ask(*probes.mixed(rng, *size, slice(0, min(WINDOW, k)), widest))]
    results = result_formats([*whole, *first, single, extreme])
    flushes = _flushes_sums(box, formats, max(fmt.emin for fmt in results))
    names = " or ".join(fmt.name for fmt in results)
    findings = [Finding("random products", f"values of {names}", f"results: {names}")]
    unit = max(*(_last_exponent(fmt) for fmt in results), -24, formats.lowest)
    highest = min(fmt.emax for fmt in results)
    top = _top(box, formats, unit, highest)
    # A normal unit, if it is still lost beside a large product: subnormals may be flushed.
    normal = max(*(fmt.emin for fmt in results), formats.lhs.emin + formats.rhs.emin)
    unit = max(unit, min(normal, top - 1 - _LOST - k.bit_length()))
    findings.append(Finding("2^n, -2^n, a unit", f"finite up to n = {top}", "range of the sums"))
    given: Formats = size[0]
    lhs, rhs = _operands(box, given, min(top, _SCALE))
    # What loses all of these products, say a kernel that returns zeros, tells nothing.
    lhs = lhs or [RoundingSpec(format=given.lhs)]
    rhs = rhs or [RoundingSpec(format=given.rhs)]
    for name, found in (("lhs", lhs), ("rhs", rhs)):
        findings.append(Finding(f"{name} between values", _named(found), f"{name}: {found[0]}"))
    step, start, within, ends, visible = read_structure(box, formats, results, unit, top)
    part = part_from(ends, step or 1, k)
    answer = "no regular steps" if step is None else f"steps of {step} from {start}"
    answer = f"{answer}, {within} within" if within else answer
    decided = "one chain" if part == k else f"a second part begins at {part}"
    findings.append(Finding("large products that cancel, units", answer, decided))
    near = far = Kept(0, is_all=True)
    if k > start + 2:
        near = _kept(box, formats, (start, start + 1, start + 2), top, highest)
        far = _kept(box, formats, (start, start + (k - start) // 3, k - 1), top, highest)
    for name, kept in (("neighbours", near), ("three products far apart", far)):
        shown = f"{kept.bits} bits are kept" + (", all that were tried" if kept.is_all else "")
        findings.append(Finding(f"a small product between large ones, {name}", shown, shown))
    large = min(far.bits + 1, formats.highest - _MARGIN, top - _MARGIN)
    sizes = probes.Sizes(large, max(large - far.bits - 1, formats.lowest + _MARGIN))
    whole.append(box.ask(*probes.cancelled(rng, formats, m, n, k, slice(0, k), sizes)))
    first += [
        box.ask(a, b)
        for a, b in few_products(rng, formats, box, slice(0, min(WINDOW, k)), sizes, top)
    ]
    return Facts(
        sizes=sizes,
        formats=given,
        lhs=lhs,
        rhs=rhs,
        singles=Singles(single),
        results=results,
        flushes=flushes,
        widest=widest,
        top=top,
        first=first,
        whole=whole,
        extreme=extreme,
        step=step,
        start=start,
        within=within,
        part=part,
        ends=ends,
        visible=visible,
        near=near,
        far=far,
        findings=findings,
    )


def few_products(
    rng: np.random.Generator,
    formats: Formats,
    box: BlackBox,
    window: slice,
    sizes: probes.Sizes,
    top: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return operands, zero outside a window, that show what results of few bits hide."""
    size = formats, box.m, box.n, box.k
    return [
        probes.cancelled(rng, *size, window, sizes),
        probes.residual(rng, *size, window.start, top),
    ]


def _last_exponent(fmt: FloatFormat) -> int:
    return int(np.log2(float(fmt.min_subnormal)))


def _named(roundings: list[RoundingSpec]) -> str:
    return " or ".join(map(str, roundings))


def _flushes(box: BlackBox, formats: Formats) -> bool:
    """Return whether subnormal operands are lost."""
    a, b, total = probes.subnormal(formats, box.m, box.n, box.k)
    return bool((box.ask(a, b).results != total).any())


def _flushes_sums(box: BlackBox, formats: Formats, emin: int) -> bool:
    """Return whether a sum below the smallest normal result is lost; operands are normal."""
    x, y = formats.without_subnormals().split(emin - 1)
    if emin < _LOW or x * y != 2.0 ** (emin - 1):
        return False
    a, b = np.zeros((box.m, box.k), np.float32), np.zeros((box.k, box.n), np.float32)
    a[:, 0], b[0] = x, y
    return not box.ask(a, b).results.any()


def _top(box: BlackBox, formats: Formats, unit: int, highest: int) -> int:
    """Return the exponent of the largest power of two that is held, 0 at least."""
    a, b, exponents = probes.held(formats, box.m, box.n, box.k, unit)
    is_held = np.isfinite(box.ask(a, b).results)
    # Half of it less: a number that overflows to the largest value leaves less than a half.
    b = b.copy()
    b[box.k // 2] /= 2
    b[-1] = 0
    least = np.exp2(np.minimum(exponents - 2.0, highest - 1))
    is_held &= box.ask(a, b).results >= least
    return int(min(np.max(exponents[is_held], initial=0), formats.highest))


def _operands(
    box: BlackBox, formats: Formats, scale: int
) -> tuple[list[RoundingSpec], list[RoundingSpec]]:
    """Return how operands may be rounded, seen from values near 1 less 1."""
    m, n, k = box.m, box.n, box.k
    found = []
    for is_left, fmt in ((True, formats.lhs), (False, formats.rhs)):
        candidates = operand_candidates(fmt)
        rows, columns = (m, n) if is_left else (n, m)
        count = min(columns, k // 2) * rows
        narrower = sorted({f.precision for f in FORMATS if f.precision < fmt.precision})
        values = probes.halves(fmt, count, narrower)
        if len(candidates) == 1 or not count:
            found.append(candidates[:1])
            continue
        a, b = probes.beside_one(values, rows, columns, k, 2.0**scale)
        results = box.ask(a, b).results if is_left else box.ask(b.T.copy(), a.T.copy()).results.T
        seen = results[:, : min(columns, k // 2)].reshape(-1)[: len(values)] / 2.0**scale
        found.append(seen_through(candidates, values, seen))
    return found[0], found[1]


def _kept(
    box: BlackBox, formats: Formats, places: tuple[int, int, int], top: int, highest: int
) -> Kept:
    """Return which bits a product keeps; results reach to the exponent `highest`."""
    for large in range(top - 1, min(0, top - 2), -_LOWER):
        a, b, exponents = probes.alignment(formats, box.m, box.n, box.k, places, large)
        exponent = int(np.log2(np.max(np.abs(a[:, places[0]])) * np.max(np.abs(b[places[0]]))))
        results = np.abs(box.ask(a, b).results)
        seen = results[np.isfinite(results) & (results > 0)]
        if seen.size and np.min(seen) < 2.0**highest:
            break
    tried = exponent - int(np.min(exponents))
    # A directed mode loses nothing: it makes a last place of what is smaller.
    kept = exponent - int(np.floor(np.log2(np.min(seen)))) if seen.size else 0
    return Kept(min(kept, tried), is_all=kept >= tried)
