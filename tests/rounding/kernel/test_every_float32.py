"""All 2**32 float32 inputs, in six modes, against intervals of bit patterns.

A rounding to a coarser format is constant on intervals of float32 patterns (which are ordered as
the magnitudes are). The ends of the intervals come from the sorted table of the format's values,
not from the kernel: between neighbours v and w the result is v up to a threshold, then w; midpoints
are exact in float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.kernel.kernel import round_array

FORMATS = ("fp16", "bf16", "e4m3", "e5m2")
MODES = ("rne", "rna", "rtz", "rtp", "rtn", "rto")
INFINITY = 0x7F800000
NAN = 0x7FC00000


class Intervals(NamedTuple):
    """Magnitudes from ``starts[k]`` to below ``starts[k + 1]`` become pattern ``results[k]``."""

    starts: np.ndarray
    results: np.ndarray


def patterns_of(values: np.ndarray) -> np.ndarray:
    """Patterns of float32 numbers; 2**128 is the pattern after the largest finite one."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    assert (narrow.astype(np.float64) == np.where(values == 2.0**128, np.inf, values)).all()
    return narrow.view(np.uint32).astype(np.int64)


def intervals(name: str, mode: str, negative: bool, table: Any) -> Intervals:
    """Intervals of all magnitudes, infinity and NaN included, for one sign."""
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    values = np.array([float(v) for v in table.magnitudes])
    lower_is_odd = np.array(table.odd[:-1])
    ends = patterns_of(values)
    lower, upper = ends[:-1], ends[1:]
    goes_away = {"rtp": not negative, "rtn": negative}.get(mode, False)
    match mode:
        case "rne" | "rna":
            tie = patterns_of((values[:-1] + values[1:]) / 2)
            first_up = tie + np.where(lower_is_odd | (mode == "rna"), 0, 1)
        case "rto":
            first_up = np.where(lower_is_odd, upper, lower + 1)
        case _:
            first_up = lower + 1 if goes_away else upper
    beyond = INFINITY if fmt.has_infinity else NAN
    inward = not goes_away and mode not in ("rne", "rna")
    results_of = np.append(lower, lower[-1] if inward else beyond)
    starts = np.stack([lower, first_up], axis=1).reshape(-1)
    results = np.stack([results_of[:-1], results_of[1:]], axis=1).reshape(-1)
    starts = np.append(starts, [ends[-1], INFINITY, INFINITY + 1])
    results = np.append(results, [results_of[-1], beyond, NAN])
    sign = 0x80000000 if negative else 0
    kept = np.append(np.diff(starts) > 0, True)
    return Intervals(starts[kept] + sign, results[kept].astype(np.uint32) | np.uint32(sign))


def check(rounded: Any, expected: np.ndarray, patterns: Any, what: str) -> None:
    """Compare patterns; NaN has the sign of the input."""
    if not np.array_equal(rounded, expected):
        wrong = rounded != expected
        k = int(np.argmax(wrong))
        raise AssertionError(
            f"{what}: {int(wrong.sum())} wrong, the first: {int(patterns[k]):#x} -> "
            f"{int(rounded[k]):#x}, expected {int(expected[k]):#x}"
        )


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FORMATS)
def test_both_sides_of_every_threshold(
    name: str, mode: str, value_table: Callable[[str], Any]
) -> None:
    """The first and last pattern of every interval, and one in between."""
    spec = ps.RoundingSpec.parse(f"{name}:{mode}")
    for negative in (False, True):
        starts, results = intervals(name, mode, negative, value_table(name))
        last = np.append(starts[1:], 0x100000000 if negative else 0x80000000) - 1
        inside = starts + np.random.default_rng(5).integers(0, last - starts + 1)
        for patterns in (starts, last, inside):
            x = patterns.astype(np.uint32).view(np.float32)
            rounded = round_array(x, None, spec).view(np.uint32)
            check(rounded, results, patterns, str(spec))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FORMATS)
def test_all_inputs(name: str, mode: str, value_table: Callable[[str], Any]) -> None:
    spec = ps.RoundingSpec.parse(f"{name}:{mode}")
    rounding = jax.jit(lambda x: ps.round_to(x, spec))
    chunk = 1 << 20
    offsets = np.arange(chunk, dtype=np.uint32)
    covered = 0
    for negative in (False, True):
        starts, results = intervals(name, mode, negative, value_table(name))
        first = 0x80000000 if negative else 0
        assert starts[0] == first
        for begin in range(first, first + 0x80000000, chunk):
            patterns = offsets + np.uint32(begin)
            rounded = np.asarray(rounding(patterns.view(np.float32))).view(np.uint32)
            low = int(np.searchsorted(starts, begin, side="right")) - 1
            high = int(np.searchsorted(starts, begin + chunk))
            edges = np.clip(np.append(starts[low:high], begin + chunk), begin, begin + chunk)
            expected = np.repeat(results[low:high], np.diff(edges))
            check(rounded, expected, patterns, str(spec))
            covered += expected.size
    assert covered == 1 << 32


def test_a_shifted_threshold_is_noticed(value_table: Callable[[str], Any]) -> None:
    """The comparison can fail: one interval that begins one pattern too late."""
    starts, results = intervals("e4m3", "rne", False, value_table("e4m3"))
    x = starts.astype(np.uint32).view(np.float32)
    rounded = round_array(x, None, ps.RoundingSpec.parse("e4m3")).view(np.uint32)
    check(rounded, results, starts, "as it is")
    shifted = results.copy()
    shifted[17] = results[16]
    with pytest.raises(AssertionError, match="as shifted: 1 wrong"):
        check(rounded, shifted, starts, "as shifted")
