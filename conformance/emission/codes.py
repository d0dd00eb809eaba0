"""Codes of floating-point formats: which are NaN, and those at which mistakes are made."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

import precsim as ps

ALL_CODES = 8
"""Formats of at most this many bits are covered in full."""
ALL_POINTS = 16
"""Of a target of at most this many bits, all values and midpoints are points."""
NEAR_BINADES = 8
"""Binades beyond the ends of a target's range that come early."""


class NanCodes(NamedTuple):
    """A code is NaN if ``first <= (code & mask) <= last``; no code is where first > last."""

    mask: int
    first: int
    last: int


def width(fmt: ps.FloatFormat) -> int:
    """Return the bits of a code."""
    assert fmt.width is not None
    return fmt.width


def float_format(name: str) -> ps.FloatFormat:
    """Return a format of single numbers with a sign, exponent and significand, of <= 64 bits."""
    fmt = ps.get_format(name)
    if not isinstance(fmt, ps.FloatFormat) or not 0 < (fmt.width or 0) <= 64:
        raise ValueError(f"format is {fmt}; allowed are floating-point formats of at most 64 bits")
    return fmt


@lru_cache(maxsize=64)
def nan_codes(fmt: ps.FloatFormat) -> NanCodes:
    """Return which codes are NaN.

    Examples
    --------
    >>> nan_codes(float_format("e4m3"))
    NanCodes(mask=127, first=127, last=127)
    """
    everything = (1 << width(fmt)) - 1
    magnitude = everything >> fmt.is_signed
    if not fmt.has_nan:
        return NanCodes(everything, 1, 0)
    match str(fmt.specials):
        case "ieee":
            return NanCodes(magnitude, int(ps.encode(np.inf, fmt)) + 1, magnitude)
        case "fn":
            return NanCodes(magnitude, magnitude, magnitude)
        case _:  # one NaN: the code of -0, the top code of unsigned formats
            code = int(ps.encode(np.nan, fmt))
            return NanCodes(everything, code, code)


def hard_codes(fmt: ps.FloatFormat) -> list[int]:
    """Return zeros, ends of the subnormals, around 1 and 2, the largest, infinities and NaN."""
    one, first = int(ps.encode(1.0, fmt)), 1 << (fmt.precision - 1)
    last = int(ps.encode(fmt.max_finite, fmt))
    near = [0, 1, 2, first - 1, first, first + 1, one - 1, one, one + 1, one + first // 2]
    near += [one + first - 1, one + first, last - 1, last]
    if fmt.has_infinity:
        near.append(int(ps.encode(np.inf, fmt)))
    near = [code for code in dict.fromkeys(near) if 0 <= code <= max(last, near[-1])]
    return list(dict.fromkeys([*_both_signs(near, fmt), *_nans(fmt)]))


@lru_cache(maxsize=2)
def cast_codes(source: ps.FloatFormat, target: ps.FloatFormat) -> tuple[int, ...]:
    """Return the codes of a source at which a rounding to a target is hard, the hardest first.

    Specials, the ends of the target's range, every tie, every value, each with its neighbours in
    the source; then binades far from the range. Of narrow sources all codes follow.
    """
    return tuple(dict.fromkeys(_cast_codes(source, target)))


def is_quiet(code: int, fmt: ps.FloatFormat) -> bool:
    """Return whether a code is no signalling NaN of a wide IEEE format."""
    nan = nan_codes(fmt)
    is_nan = nan.first <= code & nan.mask <= nan.last
    is_ieee = str(fmt.specials) == "ieee" and width(fmt) > ALL_CODES
    return not (is_nan and is_ieee) or bool(code >> (fmt.precision - 2) & 1)


def _cast_codes(source: ps.FloatFormat, target: ps.FloatFormat) -> Iterator[int]:
    last = int(ps.encode(source.max_finite, source))
    zero_and_infinity = [0] if source.has_zero else []
    if source.has_infinity:
        zero_and_infinity.append(int(ps.encode(np.inf, source)))
    yield from _both_signs(zero_and_infinity, source)
    yield from _nans(source)
    ties, values = _points(target)
    near, far = _beyond(source, target)
    for points in (_ends(target), near, ties, values, far):
        yield from _both_signs(_around(points, source, last), source)
    if width(source) <= ALL_CODES:
        yield from range(1 << width(source))


def _ends(fmt: ps.FloatFormat) -> list[float]:
    """Return 1, the ends of the range of a format, and what lies half way beside them."""
    ulp = float(ps.ulp(fmt.max_finite, fmt))
    tiny = fmt.min_subnormal if fmt.has_subnormals else fmt.min_normal
    top = [fmt.max_finite, fmt.max_finite + ulp / 2, fmt.max_finite + ulp]
    low = [tiny / 2, tiny, 1.5 * tiny, fmt.min_normal - tiny / 2, fmt.min_normal - tiny]
    return [*top, *low, fmt.min_normal, 1.0]


def _points(fmt: ps.FloatFormat) -> tuple[list[float], list[float]]:
    """Return midpoints and values of a format, all or those at the ends of each binade."""
    last = int(ps.encode(fmt.max_finite, fmt))
    codes: Iterable[int] = range(last + 1)
    if width(fmt) > ALL_POINTS:
        step = 1 << (fmt.precision - 1)
        places = (0, 1, step // 2, step - 2, step - 1)
        codes = [
            k + place for k in range(0, last + 1, step) for place in places if k + place < last
        ]
    chosen = np.fromiter(codes, np.uint64)
    values = np.asarray(ps.decode(chosen, fmt), np.float64)
    above = np.asarray(ps.decode(np.minimum(chosen + np.uint64(1), last), fmt), np.float64)
    between = above > values
    return ((values + above)[between] / 2).tolist(), values.tolist()


def _beyond(source: ps.FloatFormat, target: ps.FloatFormat) -> tuple[list[float], list[float]]:
    """Return numbers of each binade of the source beyond the target's range: near ones, others."""
    tiny = target.min_subnormal if target.has_subnormals else target.min_normal
    top, low = int(np.frexp(target.max_finite)[1]), int(np.frexp(tiny)[1]) - 2
    lowest = source.min_subnormal if source.has_subnormals else source.min_normal
    above = range(top, int(np.frexp(source.max_finite)[1]))
    below = range(low, int(np.frexp(lowest)[1]) - 2, -1)

    def numbers(exponents: Iterable[int], *parts: float) -> list[float]:
        return [part * 2.0**e for e in exponents for part in parts]

    near = numbers([*above[:NEAR_BINADES], *below[:NEAR_BINADES]], 1.0, 1.3125, 1.5, 1.75)
    return near, numbers([*above[NEAR_BINADES:], *below[NEAR_BINADES:]], 1.5)


def _around(points: list[float], source: ps.FloatFormat, last: int) -> list[int]:
    """Return the codes of the source at and beside each point, or of those that enclose it."""
    inside = [x for x in points if x <= source.max_finite]
    if not inside:
        return []
    low = ps.round_to(np.array(inside), source, mode="rtz", overflow="saturate")
    codes = np.asarray(ps.encode(low, source)).astype(np.int64)
    beside = np.stack([codes, codes + 1, codes - 1], axis=1).ravel().tolist()
    return [code for code in beside if 0 <= code <= last]


def _both_signs(magnitudes: Iterable[int], fmt: ps.FloatFormat) -> Iterator[int]:
    sign = 1 << (width(fmt) - 1) if fmt.is_signed else 0
    for code in magnitudes:
        yield code
        if sign and (code or fmt.has_negative_zero):
            yield code | sign


def _nans(fmt: ps.FloatFormat) -> list[int]:
    """Return NaN codes: the quiet one, the last one, both signs where there are two."""
    nan = nan_codes(fmt)
    if nan.first > nan.last:
        return []
    found = [int(ps.encode(np.nan, fmt)), nan.last]
    both = [code | sign for code in found for sign in (0, 1 << (width(fmt) - 1))]
    return [c for c in dict.fromkeys(both) if nan.first <= c & nan.mask <= nan.last]
