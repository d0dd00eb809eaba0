"""Round a stored tensor to several formats, piece by piece, and tell what each loses."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from precsim.analysis.files import outcome
from precsim.analysis.files.extent import (
    Extent,
    as_numbers,
    carrier_of,
    count_codes,
    extent_of,
    is_counted_by_code,
    numbers_of_codes,
)
from precsim.analysis.files.outcome import FormatOutcome, TensorOutcome
from precsim.analysis.files.rounded import (
    EVENTS,
    Rounded,
    round_groups,
    round_numbers,
    rounded_codes,
    times_power,
)
from precsim.analysis.files.scales import best_exponent, carrier_for
from precsim.analysis.files.stored import Granule, StoredTensor
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32, FLOAT64
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import grouping
from precsim.rounding.scaled.block import set_specials_apart
from precsim.rounding.spec import RoundingSpec


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A rounding of the whole tensor times a power of two, and what it has done so far."""

    name: str
    spec: RoundingSpec
    exponent: int
    is_wide: bool
    best: int | None = None
    """The exponent of the best scale, where there is a choice."""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(EVENTS), np.int64))
    noise: float = 0.0

    def add(self, rounded: Rounded, extent: Extent, weights: np.ndarray | None = None) -> None:
        """Count the events, and add up the squared errors."""
        for k in range(len(EVENTS)):
            bit = rounded.events & np.uint8(1 << k)
            self.counts[k] += np.count_nonzero(bit) if weights is None else weights[bit != 0].sum()
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.subtract(rounded.after, rounded.before, dtype=np.float64)
            power = -self.exponent - extent.exponent
            if rounded.before.dtype == np.float64:
                error, power = np.ldexp(error, power), 0
            if weights is None:
                noise = float(np.dot(error, error))
            else:
                noise = float(np.dot(weights, (error * error)[: weights.size]))
        self.noise += math.ldexp(noise, 2 * power) if math.isfinite(noise) else noise


def parse_formats(names: Sequence[str]) -> dict[str, RoundingSpec]:
    """Return what names stand for.

    Raises
    ------
    ValueError
        If a name is unknown, or of a rounding that a file alone does not decide.
    """
    specs = {name: RoundingSpec.parse(name) for name in names}
    for name, spec in specs.items():
        fmt = scaled_format(spec.format)
        if spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(f"format is {name!r}; allowed are roundings without random bits")
        if isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.CHANNEL:
            raise ValueError(
                f"format is {name!r}, whose scales are those of channels; allowed are scales of the "
                "whole tensor and of blocks along its last axis"
            )
    return specs


def measure(
    tensor: StoredTensor,
    specs: Mapping[str, RoundingSpec],
    file: str,
    on_bytes: Callable[[float], None] = lambda count: None,
) -> TensorOutcome:
    """Return what each rounding does to a tensor.

    Parameters
    ----------
    tensor : StoredTensor
        The tensor, in an open file.
    specs : mapping of str to RoundingSpec
        What `parse_formats` returned. Blocks run along the last axis.
    file : str
        The name of the file, for the result.
    on_bytes : callable
        Called after each read with its share of the tensor's bytes, which add up to all of them.

    Returns
    -------
    TensorOutcome
        Counts are those of `precsim.errors.range_rates` of the whole tensor, ratios those of
        `precsim.sqnr`.

    Raises
    ------
    ValueError
        If the file is damaged, or blocks or rows are too long to be in memory.

    Notes
    -----
    At most two passes: the first finds the extent, which decides scales. Numbers of 16 bits or
    fewer are counted by their codes in the first; formats without blocks take no second one then.
    Memory: about ten pieces.
    """
    counts: np.ndarray | None = None
    by_code = is_counted_by_code(tensor.dtype)
    passes = 1 if by_code and all(map(_is_of_whole_tensor, specs.values())) else 2
    read = partial(_read, tensor, lambda count: on_bytes(count / passes))
    if by_code:
        dtype = tensor.dtype.newbyteorder("=")
        counts = count_codes(read(Granule()), dtype)
        used = np.flatnonzero(counts)
        extent = extent_of(numbers_of_codes(dtype)[used], counts[used])
    else:
        extent = _merged(extent_of(as_numbers(piece)) for piece in read(Granule()))
    trials, refusals = _trials(tensor, specs, extent)
    left = trials
    if counts is not None:
        for trial in trials:
            if _is_of_whole_tensor(trial.spec):
                _add_codes(trial, dtype, used, counts[used], extent)
        left = [t for t in trials if not _is_of_whole_tensor(t.spec)]
    if left and extent.elements:
        granule = _granule([t.spec for t in left], tensor.shape)
        amax = _amax(tensor, granule, left, extent)
        for piece in read(granule):
            x = as_numbers(piece)
            for trial in left:
                for rounded in _rounded(trial, x, extent, amax):
                    trial.add(rounded, extent)
    return TensorOutcome(
        file=file,
        name=tensor.name,
        label=tensor.label,
        shape=tensor.shape,
        extent=extent,
        formats=_outcomes(trials, extent),
        refusals=refusals,
    )


def _read(
    tensor: StoredTensor, on_bytes: Callable[[float], None], granule: Granule
) -> Iterator[np.ndarray]:
    for piece in tensor.pieces(granule):
        yield piece
        on_bytes(piece.nbytes)


def _merged(extents: Iterable[Extent]) -> Extent:
    found = Extent()
    for extent in extents:
        found = found.merge(extent)
    return found


def _trials(
    tensor: StoredTensor, specs: Mapping[str, RoundingSpec], extent: Extent
) -> tuple[list[_Trial], dict[str, str]]:
    """Return the roundings to try: without a scale, and with the best one where that differs."""
    trials, refusals = [], {}
    own = carrier_of(tensor.dtype.newbyteorder("="))
    for name, spec in specs.items():
        carrier = carrier_for(spec, own)
        if carrier is None:
            refusals[name] = f"{own.name} numbers are rounded first where this format is computed"
            continue
        is_wide = carrier is FLOAT64 and own is FLOAT32
        best = best_exponent(extent, spec, carrier)
        trials.append(_Trial(name=name, spec=spec, exponent=0, is_wide=is_wide, best=best))
        if best:
            # Small numbers times a negative power need the exponents of float64.
            is_wide = own is FLOAT32 and (is_wide or best < 0)
            trials.append(_Trial(name=name, spec=spec, exponent=best, is_wide=is_wide))
    return trials, refusals


def _is_of_whole_tensor(spec: RoundingSpec) -> bool:
    """Return whether an element and the extent of its tensor decide its rounding."""
    fmt = scaled_format(spec.format)
    return fmt is None or grouping.granularity(fmt) is Granularity.TENSOR


def _add_codes(
    trial: _Trial, dtype: Any, used: np.ndarray, weights: np.ndarray, extent: Extent
) -> None:
    if scaled_format(trial.spec.format) is None:
        table = rounded_codes(dtype, trial.spec, trial.exponent, trial.is_wide)
        trial.add(Rounded(*(part[used] for part in table)), extent, weights)
        return
    x = numbers_of_codes(dtype)[used].reshape(1, 1, -1)
    for rounded in _rounded(trial, x, extent, 0.0):
        trial.add(rounded, extent, weights)


def _rounded(trial: _Trial, x: np.ndarray, extent: Extent, amax: float) -> Iterable[Rounded]:
    x = times_power(x, trial.exponent, wide=trial.is_wide)
    if scaled_format(trial.spec.format) is None:
        return [round_numbers(x, trial.spec)]
    return round_groups(x, trial.spec, extent, amax)


def _granule(specs: Sequence[RoundingSpec], shape: tuple[int, ...]) -> Granule:
    """Return what has to stay together for all formats."""
    found = [_granule_of(fmt, shape) for spec in specs if (fmt := scaled_format(spec.format))]
    rows, elements = ([getattr(g, name) for g in found] for name in Granule._fields)
    return Granule(math.lcm(*rows), math.lcm(*elements))


def _granule_of(fmt: ScaledFormat, shape: tuple[int, ...]) -> Granule:
    if grouping.granularity(fmt) is Granularity.TENSOR:
        return Granule()
    if isinstance(fmt, TileFormat):
        return Granule(fmt.across or 1, fmt.along or max(shape[-1:] or (1,)))
    return Granule(1, fmt.block_size or 1)


def _amax(
    tensor: StoredTensor, granule: Granule, trials: Sequence[_Trial], extent: Extent
) -> float:
    """Return the largest magnitude that decides the scale of a tensor of blocks."""
    specs = [
        trial.spec
        for trial in trials
        if isinstance(trial.spec.format, BlockFormat) and trial.spec.format.tensor_scale
    ]
    if not specs or not extent.has_specials:
        return extent.amax
    return max(_amax_of_sound_blocks(tensor, granule, spec) for spec in specs)


def _amax_of_sound_blocks(tensor: StoredTensor, granule: Granule, spec: RoundingSpec) -> float:
    """Return the largest magnitude in blocks that have no NaN, nor an infinity that stays."""
    fmt, most = scaled_format(spec.format), 0.0
    assert fmt is not None
    for piece in tensor.pieces(granule):
        groups = grouping.to_groups(as_numbers(piece).view(np.uint32), fmt, -1)
        bits, _ = set_specials_apart(groups, spec, FLOAT32)
        most = max(most, float(np.abs(np.asarray(bits).view(np.float32)).max()))
    return most


def _outcomes(trials: Sequence[_Trial], extent: Extent) -> dict[str, FormatOutcome]:
    sqnr = partial(outcome.ratio, extent.signal, has_specials=extent.has_specials)
    found = {}
    for trial in (t for t in trials if not t.exponent):
        scaled = (t for t in trials if t.name == trial.name and t.exponent == trial.best)
        best = next(scaled, None)
        found[trial.name] = FormatOutcome(
            **dict(zip(EVENTS, map(int, trial.counts), strict=True)),
            noise=trial.noise,
            sqnr=sqnr(trial.noise),
            best_exponent=trial.best,
            best_sqnr=None if best is None else sqnr(best.noise),
        )
    return found
