"""Means over seeds with their confidence intervals, and differences to fp32 seed by seed."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from precsim.formats.arguments import number_within
from precsim.sweeps.cell import Cell
from precsim.sweeps.store import Run

LEVEL = 0.95
"""Of a confidence interval, by default."""
_MOST_PLACES = 6
"""Of numbers in a table; smaller ones are written with a power of ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean of several numbers, and where it is by Student's t distribution.

    Parameters
    ----------
    mean : float, optional
        Of the finite numbers; None if there is none.
    low, high : float, optional
        Ends of the interval; None of fewer than two numbers.
    count : int
        How many finite numbers there are.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


def interval(values: Iterable[float | None], level: float = LEVEL) -> Interval:
    """Return the mean and its confidence interval, ``mean +- t * s / sqrt(n)``.

    ``s`` is the standard deviation with n - 1 in the denominator, t the quantile
    ``(1 + level) / 2`` of Student's t distribution with n - 1 degrees of freedom. The interval
    supposes that the numbers are independent and that their mean is distributed normally.

    Examples
    --------
    >>> found = interval([1.0, 2.0, 3.0])
    >>> found.mean, round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    number_within(level, "level", 0.5, 0.9999)
    known = [float(x) for x in values if x is not None and math.isfinite(x)]
    count = len(known)
    if not known:
        return Interval(mean=None, low=None, high=None, count=0)
    mean = float(np.mean(known))
    if count < 2:
        return Interval(mean=mean, low=None, high=None, count=count)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, count - 1)) * float(np.std(known, ddof=1)) / count**0.5
    return Interval(mean=mean, low=mean - half, high=mean + half, count=count)


def plus_minus(x: Interval | None, digits: str) -> str:
    """Return a mean and its half-width, both to the second significant digit of that.

    Without a half-width above 0 the mean is written by `digits`, such as ``".4g"``.

    Examples
    --------
    >>> plus_minus(Interval(mean=0.1028, low=-0.097, high=0.3026, count=3), ".4g")
    '0.10±0.20'
    >>> plus_minus(Interval(mean=1.5e-9, low=1.47e-9, high=1.53e-9, count=3), "+.2g")
    '(+1.500±0.030)e-09'
    """
    if x is None or x.mean is None:
        return "-"
    if x.high is None:
        return f"{x.mean:{digits}}"
    half = x.high - x.mean
    if not 0 < half < math.inf:
        return f"{x.mean:{digits}}±{half:g}"
    sign, power = "+" if digits.startswith("+") else "", 0
    places = 1 - _exponent(half)
    if not 0 <= places <= _MOST_PLACES:
        power = max(_exponent(half), _exponent(x.mean or half))
        places += power
    mean, half = x.mean / 10.0**power, half / 10.0**power
    both = f"{mean:{sign}.{places}f}±{half:.{places}f}"
    return f"({both})e{power:+03d}" if power else both


def _exponent(x: float) -> int:
    """Return the power of ten of a number of two digits."""
    return int(f"{x:.1e}".partition("e")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A policy over all seeds.

    Parameters
    ----------
    policy : str
        Its name.
    metric : str
        What `test_score` is.
    done, failed : int
        Runs that were trained, and that were not.
    means : dict of str to Interval
        Each number of the run table, over the seeds.
    gaps : dict of str to Interval
        The same number minus that of fp32 on the same seed, over the seeds that both have.
    """

    policy: str
    metric: str
    done: int
    failed: int
    means: dict[str, Interval] = field(hash=False)
    gaps: dict[str, Interval] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """All policies of a model and its settings.

    Parameters
    ----------
    settings : dict
        What tells it from other blocks, model first.
    rows : tuple of Row
        The reference first.
    """

    settings: dict[str, Any] = field(hash=False)
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The settings in one line."""
        model, *others = self.settings.items()
        return ", ".join([str(model[1]), *(f"{name} {value}" for name, value in others)])

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as containers, strings and numbers."""
        return asdict(self)


def blocks(runs: Iterable[Run], level: float = LEVEL) -> list[Block]:
    """Return the table of a sweep, a block for each model and its settings."""
    found: dict[str, list[tuple[Cell, Run]]] = defaultdict(list)
    for run in runs:
        cell = Cell.parse(run.cell)
        found[cell.block].append((cell, run))
    all_settings = [_shared(pairs) for pairs in found.values()]
    telling = [
        name
        for name in (all_settings[0] if all_settings else ())
        if name == "model" or len({repr(each[name]) for each in all_settings}) > 1
    ]
    telling.sort(key=lambda name: name != "model")
    return [
        Block(settings={name: each[name] for name in telling}, rows=_rows(pairs, level))
        for each, pairs in zip(all_settings, found.values(), strict=True)
    ]


def _shared(pairs: Sequence[tuple[Cell, Run]]) -> dict[str, Any]:
    own = ("name", "policy", "seed", "snapshots")
    return {name: value for name, value in pairs[0][0].settings.items() if name not in own}


def _rows(pairs: Sequence[tuple[Cell, Run]], level: float) -> tuple[Row, ...]:
    of_policy: dict[str, dict[int, Run]] = defaultdict(dict)
    reference: dict[int, Run] = {}
    for cell, run in pairs:
        name, seed = cell.config.policy.name, cell.config.seed
        of_policy[name][seed] = run
        if cell.is_reference:
            reference[seed] = run
    return tuple(_row(name, runs, reference, level) for name, runs in of_policy.items())


def _row(name: str, runs: dict[int, Run], reference: dict[int, Run], level: float) -> Row:
    known = {seed: run.result["metrics"] for seed, run in runs.items() if run.is_done}
    other = {seed: run.result["metrics"] for seed, run in reference.items() if run.is_done}
    first: dict[str, Any] = next(iter(known.values()), {})
    names = [each for each, value in first.items() if not isinstance(value, str)]
    both = [seed for seed in known if seed in other]
    return Row(
        policy=name,
        metric=str(first.get("metric", "")),
        done=len(known),
        failed=len(runs) - len(known),
        means={n: interval((m[n] for m in known.values()), level) for n in names},
        gaps={
            n: interval((_difference(known[s][n], other[s][n]) for s in both), level) for n in names
        },
    )


def _difference(x: float | None, y: float | None) -> float | None:
    return None if x is None or y is None else x - y
