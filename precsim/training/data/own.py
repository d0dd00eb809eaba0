"""Data of one's own: arrays, or batches one after the other."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim.formats.arguments import shown
from precsim.training.data.dataset import Data


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Batches (inputs, targets), one after the other."""

    batches: Callable[[], Iterable[Any]]
    """Called for each pass over the data."""
    test_inputs: Any = None
    test_targets: Any = None

    @property
    def problem(self) -> None:
        """What a model has to know is in the first batch."""
        return None


def as_data(data: Any, *, test: Any = None) -> Data | Stream:
    """Return the data of a user."""
    if isinstance(data, (Data, Stream)):
        return data
    if isinstance(data, tuple) and len(data) in (2, 4):
        x, y, *rest = (np.asarray(part) for part in data)
        held = rest or ([x[:0], y[:0]] if test is None else [np.asarray(part) for part in test])
        is_class = np.issubdtype(y.dtype, np.integer)
        narrow = lambda x: x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32)
        x, y, test_x, test_y = map(narrow, (x, y, *held))
        return Data(x, y, test_x, test_y, int(y.max()) + 1 if is_class else 0)
    raise TypeError(f"data is {shown(data)}; allowed are arrays (inputs, targets)")
