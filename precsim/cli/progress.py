"""Progress of training runs, on a terminal only: one line each with steps, rate and time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from precsim.training.config import TrainConfig


def progress_bar(console: Console) -> Progress:
    """Return the lines of all runs; a context manager that shows them."""
    columns = (
        TextColumn("{task.description:<36}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def line_of(config: TrainConfig, bar: Progress) -> Iterator[Callable[[int, float], None]]:
    """Show one run as long as it lasts; yield what `train` calls with steps done and loss."""
    name = config.policy.name
    task = bar.add_task(f"{name}: compiling", total=config.steps, rate="")
    start = time.perf_counter()

    def on_step(done: int, loss: float) -> None:
        rate = f"{done / (time.perf_counter() - start):.0f} steps/s, loss {loss:.3f}"
        bar.update(task, completed=done, description=f"{name}: training", rate=rate)

    try:
        yield on_step
    finally:
        bar.remove_task(task)
