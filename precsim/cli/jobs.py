"""Runs side by side: each in a thread, and what becomes of it as it ends."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module

from precsim.cli.progress import Progress
from precsim.training.config import TrainConfig
from precsim.training.result import TrainResult

TrainOne = Callable[[TrainConfig, Callable[[int, float], None]], TrainResult]
"""``train_one(config, on_step)``, where `on_step` is called as `train` calls it."""


def train_all(
    train_one: TrainOne, configs: Sequence[TrainConfig], progress: Progress
) -> Iterator[tuple[TrainConfig, TrainResult | Exception]]:
    """Train in threads; yield what becomes of each run as it ends."""
    stopped = threading.Event()
    with ThreadPoolExecutor(progress.jobs) as pool:

        def one(config: TrainConfig) -> TrainResult:
            with progress.of(config.policy.name) as follow:

                def on_step(done: int, loss: float) -> None:
                    if stopped.is_set():
                        raise KeyboardInterrupt
                    follow(done, loss)

                return train_one(config, on_step)

        runs = {pool.submit(one, config): config for config in configs}
        # The first thread that has nothing left to train loads what draws the pictures.
        pool.submit(import_module, "precsim.analysis.plots.runs")
        interruption: BaseException | None = None
        try:
            for run in as_completed(runs):
                if run.cancelled():
                    continue
                error = run.exception()
                if error is None:
                    yield runs[run], run.result()
                elif isinstance(error, Exception):
                    yield runs[run], error
                else:
                    # The others stop at their next report; what has ended is still handed out.
                    # Each is cancelled by itself: of those that a pool drops, nobody would hear.
                    interruption = error
                    stopped.set()
                    for other in runs:
                        other.cancel()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if interruption is not None:
            raise interruption
