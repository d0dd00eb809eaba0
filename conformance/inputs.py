"""Where rounding to a format is hard: its values, their midpoints, and the neighbours of both."""

import random
from collections.abc import Iterable

import numpy as np

import precsim as ps

Format = ps.FloatFormat | ps.FixedPointFormat

EXTREMES = (
    *(0.0, np.inf, 2.0**-1074, 2.0**-1022, float(np.finfo(np.float64).max)),
    *(2.0**-149, 2.0**-126 - 2.0**-149, 2.0**-126, float(np.finfo(np.float32).max)),
)
"""Zero, infinity, and the ends of float64 and float32: subnormals and normals."""
SEED = 754
ALL_CODES = 256
"""A format of at most this many codes is covered in full."""


def rounding_inputs(fmt: Format) -> list[float]:
    """Return the inputs inside the range, where no overflow rule matters, in order; NaN is last."""
    is_sparse = _size(fmt) > ALL_CODES
    points: set[float] = set()
    for k, (low, high) in enumerate(_gaps(fmt)):
        points |= _around(low, high, wide=is_sparse or k % 4 == 0)
        if k % (2 if is_sparse else 8) == 0:
            points |= {-x for x in _around(low, high, wide=True)}
        elif k % 2 == 0:
            points.add(-(low + high) / 2)
    points |= {sign * x for x in (*EXTREMES, *_traps(fmt)) for sign in (1, -1)}
    return [x for x in _finished(points, fmt) if not _is_outside(x, fmt)]


def overflow_inputs(fmt: Format) -> list[float]:
    """Return the inputs outside the range, where in some modes the overflow rule decides."""
    low, beyond = _gaps(fmt)[-1]
    around = {*_around(low, beyond, wide=True), *_traps(fmt), *EXTREMES, 1.0}
    return [
        x
        for x in _finished({sign * x for x in around for sign in (1, -1)}, fmt)
        if _is_outside(x, fmt)
    ]


def _is_outside(x: float, fmt: Format) -> bool:
    if isinstance(fmt, ps.FixedPointFormat):
        return not fmt.min_value <= x <= fmt.max_value
    return abs(x) > fmt.max_finite or (x < 0 and not fmt.is_signed)


def stochastic_inputs(fmt: Format) -> list[tuple[float, int]]:
    """Return pairs of an input and 8 random bits, at and beside the bits from which it goes up."""
    gaps, rng = _gaps(fmt), random.Random(SEED)
    first_normal = 1 << (getattr(fmt, "precision", 1) - 1)
    chosen = [gaps[0], gaps[min(first_normal, len(gaps) // 2)], gaps[len(gaps) // 2], gaps[-1]]
    pairs: dict[tuple[float, int], None] = {}
    for low, high in chosen:
        # Exact, on 4 and 8 bits, half way between them (there the variants differ), and beyond.
        numerators = [0, 1, 16, 24, 40, 256, 264, 8 * rng.randrange(64), rng.randrange(512), 511]
        for numerator in dict.fromkeys(numerators):
            for extra in (0.0, 2.0**-12) if numerator in (24, 264) else (0.0,):
                fraction = numerator / 512 + extra
                x = (low + (high - low) * fraction) * rng.choice((1, 1, -1))
                ends = [256 - int(256 * fraction), 256 - int(256 * fraction + 0.5)]
                ends += [16 - int(16 * fraction), 16 - int(16 * fraction + 0.5)]
                bits = {(end + step) % 256 for end in ends for step in (-1, 0)}
                pairs |= dict.fromkeys((x, r) for r in sorted({*bits, 0, 255, rng.randrange(256)}))
    return list(pairs)


def _size(fmt: Format) -> int:
    assert fmt.width is not None
    return 1 << fmt.width


def _gaps(fmt: Format) -> list[tuple[float, float]]:
    """Return neighbours of the format: magnitudes (all, or the hard ones), the last one beyond it.

    Midpoints of all formats here are exact in float64.
    """
    if isinstance(fmt, ps.FixedPointFormat):
        top, first_normal, beyond = fmt.max_value, 1, fmt.max_value + fmt.resolution
    else:
        gap = float(ps.ulp(fmt.max_finite, fmt))
        top, first_normal, beyond = fmt.max_finite, 1 << (fmt.precision - 1), fmt.max_finite + gap
    last = int(ps.encode(top, fmt))
    codes = range(last + 1) if _size(fmt) <= ALL_CODES else _hard_codes(fmt, first_normal, last)
    ordered = sorted(c for c in codes if 0 <= c <= last)
    values = ps.decode(np.array(ordered, np.uint32), fmt).astype(np.float64).tolist()
    following = ps.decode(np.array([min(c + 1, last) for c in ordered], np.uint32), fmt)
    ends = [*following.astype(np.float64).tolist()[:-1], beyond]
    return list(zip(values, ends, strict=True))


def _hard_codes(fmt: Format, first_normal: int, last: int) -> Iterable[int]:
    """Return codes around 0, the least normal value, 1 and the largest, and some of each kind."""
    rng = random.Random(SEED)
    near = (1, first_normal, int(ps.encode(1.0, fmt)), last - 1)
    codes = {c + step for c in near for step in (-2, -1, 0, 1)}
    codes |= {rng.randrange(last) for _ in range(18)}
    # The last code of a binade, from which a carry goes on into the exponent, and the one before.
    ends = [rng.randrange(last) | (first_normal - 1) for _ in range(4)]
    return {*codes, *ends, *(end - 1 for end in ends)}


def _around(low: float, high: float, *, wide: bool) -> set[float]:
    """Return a value, the midpoint, and their neighbours in float32 (if `wide`, in float64)."""
    middle = (low + high) / 2
    dtypes = (np.float32, np.float64) if wide else (np.float32,)
    points = {low, middle}
    for dtype in dtypes:
        points |= {_neighbour(x, end, dtype) for x in (low, middle) for end in (0.0, np.inf) if x}
        points.add(_neighbour(high, 0.0, dtype))
    return points


def _neighbour(x: float, end: float, dtype: type[np.floating]) -> float:
    """Return the next number of a type towards `end`; `x` itself if the type does not have it."""
    with np.errstate(all="ignore"):
        narrow = dtype(x)
        return float(np.nextafter(narrow, dtype(end))) if float(narrow) == x else x


def _traps(fmt: Format) -> list[float]:
    """Return inputs at which other libraries have been wrong."""
    unit = float(ps.ulp(1.0, fmt))
    # Rounded to float32 first, these become ties, or leave the exponent range.
    traps = [1 + unit / 2 + 2.0**-40, 1 + unit / 2 - 2.0**-40, 1 + unit * 1.5 - 2.0**-40]
    low, beyond = _gaps(fmt)[-1]
    power = 2.0 ** int(np.frexp(low)[1])
    traps += [power * factor for factor in (0.75, 1.0, 1.0625, 1.25, 1.5, 1.75, 2.0, 2.25, 3.0)]
    traps += [
        (low + beyond) / 2 * (1 - 2.0**-30),
        beyond * 1.5,
        _neighbour(2 * power, 0, np.float64),
    ]
    traps += _around(beyond, 2 * beyond - low, wide=True)
    return [x for x in traps if np.isfinite(x)]


def _finished(points: set[float], fmt: Format) -> list[float]:
    """Sort; leave out what no specification defines (README.md, "Inputs")."""
    if isinstance(fmt, ps.FixedPointFormat):
        return sorted(x for x in points if np.isfinite(x))
    if not fmt.has_zero:
        return [*sorted(x for x in points if x >= fmt.min_normal), np.nan]
    negative, positive = (sorted(x for x in points if sign * x > 0) for sign in (-1, 1))
    return [*negative, -0.0, 0.0, *positive, *([np.nan] if fmt.has_nan else [])]
