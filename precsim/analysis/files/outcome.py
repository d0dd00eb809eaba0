"""What formats do to the tensors of a file: counts, signal-to-noise ratios, scales, and totals."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from precsim.analysis.files.extent import Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOutcome:
    """What one format does to one tensor, or to all of them.

    The counts have the meaning of `precsim.errors.Events`. `noise` is the sum of squared errors,
    divided by ``2**(2 * exponent)`` of the tensor's extent.
    """

    underflowed: int
    subnormal: int
    overflowed: int
    saturated: int
    noise: float
    sqnr: float
    best_exponent: int | None = None
    """k of the power of two with which the tensor loses least; None where there is no choice."""
    best_sqnr: float | None = None
    """The ratio with that scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOutcome:
    """What all formats do to one tensor; `refusals` says for others why they cannot be tried."""

    file: str
    name: str
    label: str
    shape: tuple[int, ...]
    extent: Extent
    formats: Mapping[str, FormatOutcome]
    refusals: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """File and name together, for a tensor that has a name."""
        return f"{self.file}:{self.name}" if self.name else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What one format does to all tensors; `worst` suffers most, with that ratio."""

    tensors: int
    elements: int
    nonzero: int
    outcome: FormatOutcome
    worst: TensorOutcome | None


def ratio(signal: float, noise: float, *, has_specials: bool) -> float:
    """Return a signal-to-noise ratio in dB by the rules of `precsim.sqnr`."""
    if has_specials or math.isnan(noise):
        return math.nan
    if not noise:
        return math.inf
    if math.isinf(noise) or not signal:
        return -math.inf
    return 10.0 * math.log10(signal / noise)


def total(name: str, outcomes: Iterable[TensorOutcome]) -> Total:
    """Add up what a format does to tensors. Infinities and NaN in a tensor count in no ratio."""
    tried = [tensor for tensor in outcomes if name in tensor.formats]
    found = [tensor.formats[name] for tensor in tried]
    sound = [t for t in tried if not t.extent.has_specials]
    top = max((t.extent.exponent for t in sound), default=0)
    powers = [2 * (t.extent.exponent - top) for t in sound]
    signal = math.fsum(math.ldexp(t.extent.signal, k) for t, k in zip(sound, powers, strict=True))
    noises = [math.ldexp(t.formats[name].noise, k) for t, k in zip(sound, powers, strict=True)]
    noise = sum(noises)
    return Total(
        tensors=len(tried),
        elements=sum(t.extent.elements for t in tried),
        nonzero=sum(nonzero(t.extent) for t in tried),
        outcome=FormatOutcome(
            underflowed=sum(o.underflowed for o in found),
            subnormal=sum(o.subnormal for o in found),
            overflowed=sum(o.overflowed for o in found),
            saturated=sum(o.saturated for o in found),
            noise=noise,
            sqnr=ratio(signal, noise, has_specials=False),
        ),
        worst=min(sound, key=lambda t: _rank(t.formats[name].sqnr), default=None),
    )


def _rank(sqnr: float) -> float:
    """Order ratios, a rounding that gives NaN before all others."""
    return -math.inf if math.isnan(sqnr) else sqnr


def nonzero(extent: Extent) -> int:
    """Return how many elements are neither zero nor NaN."""
    return extent.elements - extent.zeros - extent.nan
