"""The data of a training: for each step the arguments that follow the state."""

from collections.abc import Iterable, Iterator
from typing import Any

from precsim.formats.arguments import each_of, shown


def arguments_of_steps(batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of each step; refuse a single array, whose rows would be taken for them.

    Raises
    ------
    TypeError
        If `batches` cannot be iterated over, or has anything but tuples and lists.
    ValueError
        If there are no steps.
    """
    count = 0
    for batch in each_of(batches, "batches", "iterables of tuples"):
        if not isinstance(batch, (tuple, list)):
            raise TypeError(
                f"batches[{count}] is {shown(batch)}; allowed are tuples, such as (x,) and (x, y)"
            )
        count += 1
        yield tuple(batch)
    if not count:
        raise ValueError("batches has no steps; allowed is one at least")
