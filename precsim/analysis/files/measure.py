"""Round a stored tensor to several formats, piece by piece, and tell what each loses."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from precsim.analysis.files.extent import (
    Extent,
    as_numbers,
    carrier_of,
    count_codes,
    extent_of,
    is_counted_by_code,
    numbers_of_codes,
)
from precsim.analysis.files.losses import (
    NONE,
    Losses,
    losses_of,
    losses_of_numbers,
)
from precsim.analysis.files.outcome import FormatOutcome, TensorOutcome, ratio
from precsim.analysis.files.rounded import (
    EVENTS,
    Rounded,
    round_groups,
    rounded_codes,
    times_power,
)
from precsim.analysis.files.scales import best_exponent, carrier_for, possible_events, threshold
from precsim.analysis.files.stored import Granule, StoredTensor
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import grouping
from precsim.rounding.scaled.block import set_specials_apart
from precsim.rounding.spec import RoundingSpec

_FEW = 0.1
"""The share of numbers up to which rounding them apart is faster than rounding all again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A rounding to try, in float64 where it is wide; `best` is the exponent of the best scale."""

    name: str
    spec: RoundingSpec
    is_wide: bool
    best: int | None
    events: tuple[str, ...]
    """Those that can occur."""

    @property
    def scaled_is_wide(self) -> bool:
        """Whether numbers times the best scale need the exponents of float64."""
        return self.is_wide or bool(self.best and self.best < 0)

    @property
    def least(self) -> float:
        """The magnitude from which on the best scale changes no relative error."""
        if not self.best:
            return 0.0
        return threshold(self.spec) if self.best > 0 else math.inf


class _Found(NamedTuple):
    """The losses without a scale, and the squared errors with the best one."""

    plain: Losses
    best_noise: float

    def plus(self, other: "_Found") -> "_Found":
        return _Found(self.plain.plus(other.plain), self.best_noise + other.best_noise)


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
                f"format is {name!r}, whose scales are those of channels; allowed are scales of "
                "the whole tensor and of blocks along its last axis"
            )
    return specs


def measure(
    tensor: StoredTensor,
    specs: Mapping[str, RoundingSpec],
    file: str,
    on_bytes: Callable[[float], None] = lambda count: None,
    run: Callable[..., Iterable[Any]] = map,
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
    run : callable
        Applies a function to pieces and returns the results in their order, as `map` does.

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
    Memory: about ten pieces at a time that `run` works on.
    """
    by_code = is_counted_by_code(tensor.dtype)
    passes = 1 if by_code and all(map(_is_of_whole_tensor, specs.values())) else 2
    read = partial(_read, tensor, lambda count: on_bytes(count / passes))
    if by_code:
        dtype = tensor.dtype.newbyteorder("=")
        used, counts = count_codes(read(Granule()), dtype)
        extent = extent_of(numbers_of_codes(dtype)[used], counts)
    else:
        extent = _merged(run(_extent, read(Granule())))
    trials, refusals = _trials(tensor, specs, extent)
    found = {}
    if by_code:
        by_codes = (trial for trial in trials if _is_of_whole_tensor(trial.spec))
        found = {t: _of_codes(t, dtype, used, counts, extent) for t in by_codes}
    left = [trial for trial in trials if trial not in found]
    if left:
        found |= dict.fromkeys(left, _Found(NONE, 0.0))
        granule = _granule([trial.spec for trial in left], tensor.shape)
        amax = [_amax(tensor, granule, trial, extent) for trial in left]
        measured = partial(_of_piece, left, amax, extent)
        for losses in run(measured, read(granule)):
            found |= {t: found[t].plus(new) for t, new in zip(left, losses, strict=True)}
    return TensorOutcome(
        file=file,
        name=tensor.name,
        label=tensor.label,
        shape=tensor.shape,
        extent=extent,
        formats={t.name: _outcome(t, found[t], extent) for t in trials},
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
            refusals[name] = f"takes no {own.name} numbers"
            continue
        best, is_wide = best_exponent(extent, spec, carrier), carrier is not own
        events = EVENTS
        if scaled_format(spec.format) is None:
            events = possible_events(extent, spec, carrier)
        trials.append(_Trial(name=name, spec=spec, is_wide=is_wide, best=best, events=events))
    return trials, refusals


def _is_of_whole_tensor(spec: RoundingSpec) -> bool:
    """Return whether an element and the extent of its tensor decide its rounding."""
    fmt = scaled_format(spec.format)
    return fmt is None or grouping.granularity(fmt) is Granularity.TENSOR


def _extent(piece: np.ndarray) -> Extent:
    return extent_of(as_numbers(piece))


def _of_codes(
    trial: _Trial, dtype: Any, used: np.ndarray, weights: np.ndarray, extent: Extent
) -> _Found:
    """Return what happens to numbers whose codes are `used`, each of them `weights` times."""
    power = -extent.exponent
    if scaled_format(trial.spec.format) is not None:
        x = numbers_of_codes(dtype)[used].reshape(1, 1, -1)
        plain = losses_of(round_groups(x, trial.spec, extent, 0.0), power, weights=weights)
        return _unscaled(plain)
    table = rounded_codes(dtype, trial.spec, 0, trial.is_wide)
    plain = losses_of(_chosen(table, used), power, weights=weights)
    if not trial.best:
        return _unscaled(plain)
    table = rounded_codes(dtype, trial.spec, trial.best, trial.scaled_is_wide)
    scaled = losses_of(_chosen(table, used), power - trial.best, weights=weights)
    return _Found(plain, scaled.noise)


def _chosen(table: Rounded, codes: np.ndarray) -> Rounded:
    return Rounded(*(part[codes] for part in table))


def _of_piece(
    trials: Sequence[_Trial], amax: Sequence[float], extent: Extent, piece: np.ndarray
) -> list[_Found]:
    """Return what happens to a piece of a tensor in each trial."""
    x, power = as_numbers(piece), -extent.exponent
    found = []
    for trial, largest in zip(trials, amax, strict=True):
        if scaled_format(trial.spec.format) is None:
            found.append(_of_numbers(trial, x, power))
            continue
        numbers = times_power(x, 0, wide=trial.is_wide)
        plain = losses_of(round_groups(numbers, trial.spec, extent, largest), power)
        found.append(_unscaled(plain))
    return found


def _of_numbers(trial: _Trial, x: np.ndarray, power: int) -> _Found:
    """Return what happens to numbers; those that the best scale changes are rounded again."""
    numbers = times_power(x, 0, wide=trial.is_wide)
    rounded = partial(losses_of_numbers, numbers, trial.spec, power, trial.events)
    if not trial.best:
        return _unscaled(rounded())
    is_small = np.abs(x) < trial.least
    if np.count_nonzero(is_small) > _FEW * x.size:
        plain, noise, again = rounded(), 0.0, x
    else:
        plain, again = rounded(trial.least), x[is_small]
        noise = plain.noise
        small = losses_of_numbers(numbers[is_small], trial.spec, power, ())
        plain = plain._replace(noise=noise + small.noise)
    scaled = times_power(again, trial.best, wide=trial.scaled_is_wide)
    scaled_noise = losses_of_numbers(scaled, trial.spec, power - trial.best, ()).noise
    return _Found(plain, noise + scaled_noise)


def _unscaled(plain: Losses) -> _Found:
    return _Found(plain, plain.noise)


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
    return Granule(fmt.across if isinstance(fmt, BlockFormat) else 1, fmt.block_size or 1)


def _amax(tensor: StoredTensor, granule: Granule, trial: _Trial, extent: Extent) -> float:
    """Return the largest magnitude that decides the scale of a tensor of blocks."""
    fmt = trial.spec.format
    if extent.has_specials and isinstance(fmt, BlockFormat) and fmt.tensor_scale is not None:
        return _amax_of_sound_blocks(tensor, granule, trial.spec)
    return extent.amax


def _amax_of_sound_blocks(tensor: StoredTensor, granule: Granule, spec: RoundingSpec) -> float:
    """Return the largest magnitude in blocks that have no NaN, nor an infinity that stays."""
    fmt, most = scaled_format(spec.format), 0.0
    assert fmt is not None
    for piece in tensor.pieces(granule):
        groups = grouping.to_groups(as_numbers(piece).view(np.uint32), fmt, -1)
        bits, _ = set_specials_apart(groups, spec, FLOAT32)
        most = max(most, float(np.abs(np.asarray(bits).view(np.float32)).max()))
    return most


def _outcome(trial: _Trial, found: _Found, extent: Extent) -> FormatOutcome:
    sqnr = partial(ratio, extent.signal, has_specials=extent.has_specials)
    return FormatOutcome(
        **dict(zip(EVENTS, map(int, found.plain.counts), strict=True)),
        noise=found.plain.noise,
        sqnr=sqnr(found.plain.noise),
        best_exponent=trial.best,
        best_sqnr=None if trial.best is None else sqnr(found.best_noise),
    )
