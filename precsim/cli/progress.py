"""Progress of training runs, on a terminal only: each run's step, and the time left for all."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text


@dataclass(slots=True, kw_only=True)
class _Run:
    """What is known of a run; times are those of the clock."""

    name: str
    steps: int
    begun: float | None = None
    ended: float | None = None
    done: int = 0
    loss: float = math.nan
    first: tuple[float, int] | None = None
    """Time and steps of the first report: compiling is over."""
    last: float = 0.0

    def rate(self) -> float | None:
        """Return the steps a second since the first report; None before the second one."""
        if self.first is None or self.done <= self.first[1] or self.last <= self.first[0]:
            return None
        return (self.done - self.first[1]) / (self.last - self.first[0])

    def seconds(self) -> float | None:
        """Return how long the run takes in all, as far as it can be told."""
        if self.begun is None:
            return None
        if self.ended is not None:
            return self.ended - self.begun
        rate = self.rate()
        return None if rate is None else self.last - self.begun + (self.steps - self.done) / rate

    def line(self, now: float) -> str:
        """Return what the run is doing."""
        if self.first is None:
            return f"compiling, {now - (now if self.begun is None else self.begun):.0f} s"
        if self.done >= self.steps:
            return f"testing, loss {self.loss:.3f}"
        rate = self.rate()
        speed = "" if rate is None else f", {rate:.0f} steps/s"
        return f"step {self.done} of {self.steps}{speed}, loss {self.loss:.3f}"


class Progress:
    """Several runs, some of them side by side.

    Parameters
    ----------
    names : sequence of str
        The runs.
    steps : int
        Steps of each.
    jobs : int
        How many run at the same time.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        steps: int,
        jobs: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.runs = {name: _Run(name=name, steps=steps) for name in names}
        self.jobs = jobs
        self.clock = clock

    @contextmanager
    def of(self, name: str) -> Iterator[Callable[[int, float], None]]:
        """Follow one run as long as it lasts; yield what `train` calls with steps done and loss."""
        run = self.runs[name]
        run.begun = self.clock()

        def on_step(done: int, loss: float) -> None:
            run.last = self.clock()
            if run.first is None or done < run.done:  # a run may begin again
                run.first = (run.last, done)
            run.done, run.loss = done, loss

        try:
            yield on_step
        finally:
            run.ended = self.clock()

    def seconds_left(self) -> float | None:
        """Return about how long all runs will take; None as long as nothing is known."""
        known = [s for s in (run.seconds() for run in self.runs.values()) if s is not None]
        if not known:
            return None
        typical, now, left = sum(known) / len(known), self.clock(), 0.0
        waiting = [run for run in self.runs.values() if run.ended is None]
        for run in waiting:
            whole = run.seconds() or typical
            left += max(whole - (now - run.begun), 0) if run.begun is not None else whole
        return left / max(min(self.jobs, len(waiting)), 1)

    def lines(self, width: int) -> list[str]:
        """Return a line for each run that goes on, and one for all; none wider than `width`."""
        now = self.clock()
        going = [r for r in self.runs.values() if r.begun is not None and r.ended is None]
        column = max((len(run.name) for run in going), default=0)
        column = max(min(column, width - 46), 12)
        found = []
        for run in going:
            name = run.name if len(run.name) <= column else f"{run.name[: column - 3]}..."
            found.append(f"{name:<{column}}  {run.line(now)}"[:width])
        done = sum(run.ended is not None for run in self.runs.values())
        left = self.seconds_left() if done < len(self.runs) else None
        told = "" if left is None else f", about {duration(max(left, 1))} left"
        return [*found, f"{done} of {len(self.runs)} done{told}"]


def duration(seconds: float) -> str:
    """Write a time in words.

    Examples
    --------
    >>> duration(8.2), duration(75), duration(4000)
    ('9 s', '1 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def live_screen(
    progress: Progress, console: Console, above: Callable[[], Sequence[RenderableType]] = tuple
) -> Any:
    """Return a context in which a terminal shows what is finished, and the runs below it.

    Parameters
    ----------
    progress : Progress
        The runs.
    console : Console
        Where; nothing is shown if it is no terminal.
    above : callable
        What stands above the lines, for example a table of the finished runs.

    Returns
    -------
    context manager
        At its end the lines are gone.
    """
    if not console.is_terminal:
        return nullcontext()

    def screen() -> RenderableType:
        return Group(*above(), *(Text(line) for line in progress.lines(console.width)))

    return Live(get_renderable=screen, console=console, refresh_per_second=4, transient=True)
