"""Interleaved timing: contenders take turns, so that a disturbance disturbs all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Clock = Callable[[], float]
SLOW = 0.25
"""Seconds: a call that takes longer is measured in at most three rounds."""


class Ratio(NamedTuple):
    """Median of the ratios within each round, and their quartiles."""

    median: float
    low: float
    high: float


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    sample_seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Time every call once a round, in turn; return seconds per call, by name and round.

    A sample lasts about `sample_seconds`: short calls are repeated in it. Before a sample the call
    is made once untimed, since its predecessor has filled the caches. `clock`: `time.process_time`
    leaves out what other processes take, and adds up threads.
    """
    repeats = {name: _repeats(call, sample_seconds, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds):
            for name, call in calls.items():
                is_slow = bool(seconds[name]) and seconds[name][0] > SLOW
                if is_slow and k >= 3:
                    continue
                if not is_slow:
                    call()
                start = clock()
                for _ in range(repeats[name]):
                    call()
                seconds[name].append((clock() - start) / repeats[name])
    finally:
        gc.enable()
    return seconds


def _repeats(call: Callable[[], object], sample_seconds: float, clock: Clock) -> int:
    call()  # compiles
    start = clock()
    call()
    once = clock() - start
    return max(1, min(1000, round(sample_seconds / max(once, 1e-7))))


def paired_ratio(measured: list[float], against: list[float]) -> Ratio:
    """Compare two contenders round by round."""
    ratios = [m / a for m, a in zip(measured, against, strict=False)]
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0])
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)
