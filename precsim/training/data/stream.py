"""Batches that come one after the other, read where a run needs them."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from precsim.formats.arguments import integer, shown
from precsim.training.data.checked import classes_of, examples, ids_of, pair, refuse_other_types
from precsim.training.data.dataset import Problem, problem_of

_FORMS = (
    "(x, y), (x_train, y_train, x_test, y_test), {'train': (x, y), 'test': (x, y)}, an iterable "
    "of batches (inputs, targets), or a function of no arguments that returns one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Batches that come one after the other.

    Parameters
    ----------
    batches : callable or iterable
        A function of no arguments that returns an iterable of batches ``(inputs, targets)``, all of
        the same shapes. It is called once for a look at the first batch, and again where a run
        starts, needs more batches, or goes on from a checkpoint. An iterable is taken anew there;
        an iterator, which gives its batches once, is refused after the first time.
    test : tuple, optional
        ``(inputs, targets)`` for testing; without it nothing is tested.
    classes : int, optional
        Number of classes, where targets are integers; each batch is checked for it. Without it, it
        is one more than the largest target of the first batch and of the part for testing.
    ids : tuple of int
        How many integers an input can be.

    Examples
    --------
    >>> stream = Stream(batches=lambda: ((np.ones((2, 3)), [k, k]) for k in range(5)), classes=5)
    >>> stream.problem.shape, stream.reader()(4)[1].tolist()
    ((3,), [4, 4])
    """

    batches: Callable[[], Iterable[Any]]
    test: Any = None
    classes: int | None = None
    ids: tuple[int, ...] = ()
    _first: "_First" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the part for testing; nothing is read of the batches."""
        batches: Any = self.batches
        is_text = isinstance(batches, (str, bytes, Mapping))
        if not is_text and isinstance(batches, Iterator):
            object.__setattr__(self, "batches", _Once(batches))
        elif not is_text and isinstance(batches, Iterable):
            object.__setattr__(self, "batches", lambda: batches)
        elif is_text or not callable(batches):
            raise ValueError(f"data is {shown(batches)}; allowed are {_FORMS}")
        if self.classes is not None:
            object.__setattr__(self, "classes", integer(self.classes, "classes", 0))
        if self.test is not None:
            test = examples(*pair(self.test, "test"), "x_test", "y_test")
            object.__setattr__(self, "test", test)
        object.__setattr__(self, "_first", _First(self))

    @property
    def test_inputs(self) -> Any:
        """Of the part for testing; None without one."""
        return None if self.test is None else self.test[0]

    @property
    def test_targets(self) -> np.ndarray | None:
        """Of the part for testing; None without one."""
        return None if self.test is None else self.test[1]

    @property
    def problem(self) -> Problem:
        """What a model has to know of the data; the first batch is read, once."""
        return self._first.problem

    def reader(self) -> Callable[[int], tuple[Any, np.ndarray]]:
        """Return ``batch(step)``, the inputs and targets of a step, as arrays.

        Batches before it are read if they have not been; for a step before the last one that was
        read, all are read anew. Runs side by side take a reader each.
        """
        return _Reader(self.batches, self.classes).batch


class _Once:
    """A function that returns an iterator once, of which a first batch may be looked at before."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches: Iterator[Any] | None = batches

    def look(self) -> Iterable[Any]:
        """Return the first batch, in a tuple of one, or of none."""
        batches = self()
        seen = tuple(itertools.islice(batches, 1))
        self._batches = itertools.chain(seen, batches)
        return seen

    def __call__(self) -> Iterator[Any]:
        batches, self._batches = self._batches, None
        if batches is None:
            raise ValueError(
                "data is an iterator, which gives its batches once, and a run needs them again or "
                "needs more; allowed is a function of no arguments that returns a new iterator"
            )
        return batches


class _First:
    """The first batch of a stream, read once."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @functools.cached_property
    def problem(self) -> Problem:
        """What a model has to know of the data."""
        stream, batches = self._stream, self._stream.batches
        read = batches.look if isinstance(batches, _Once) else batches
        inputs, targets = _Reader(read, stream.classes).batch(0)
        parts = {"the targets of batch 0": targets}
        every: tuple[Any, ...] = (inputs,)
        if stream.test is not None:
            x_test, y_test = stream.test
            refuse_other_types(inputs, x_test, "the inputs of batch 0", "x_test")
            refuse_other_types(targets, y_test, "the targets of batch 0", "y_test")
            parts["y_test"], every = y_test, (inputs, x_test)
        classes = classes_of(parts, stream.classes or None)
        is_rated = not classes and targets.ndim == 1
        ids = ids_of(every, "the inputs of batch 0", is_rated=is_rated, given=stream.ids)
        return problem_of(inputs, targets, classes, ids)


class _Reader:
    """The batches of a function, by number; one is kept."""

    def __init__(self, batches: Callable[[], Iterable[Any]], classes: int | None) -> None:
        self._batches, self._classes = batches, classes
        self._step = -1
        self._last: Any = None
        self._first: Any = None
        self._iterator: Iterator[Any] = iter(())

    def batch(self, step: int) -> tuple[Any, np.ndarray]:
        if step < self._step:
            self._step, self._iterator = -1, iter(())
        while self._step < step:
            self._last = self._checked(self._next(), self._step + 1)
            self._step += 1
        return self._last  # type: ignore[no-any-return]

    def _next(self) -> Any:
        """Return the next batch, of a new iterable where one has ended."""
        for batch in self._iterator:
            return batch
        batches = self._batches()
        if not isinstance(batches, Iterable):
            raise ValueError(  # noqa: TRY004 (the function is the argument, not what it returns)
                f"data is a function that returns {shown(batches)}; allowed is an iterable of "
                "batches (inputs, targets)"
            )
        self._iterator = iter(batches)
        for batch in self._iterator:
            return batch
        raise ValueError("data has no batches; allowed is at least one (inputs, targets)")

    def _checked(self, batch: Any, step: int) -> tuple[Any, np.ndarray]:
        name = f"batch {step}"
        names = f"the inputs of {name}", f"the targets of {name}"
        inputs, targets = examples(*pair(batch, name), *names)
        classes_of({names[1]: targets}, self._classes or None)
        if self._first is None:
            self._first = inputs, targets
        for each, first, said in zip((inputs, targets), self._first, names, strict=True):
            refuse_other_types(first, each, said.replace(name, "batch 0"), said)
        if len(targets) != len(self._first[1]):
            raise ValueError(
                f"{name} has {len(targets)} examples, batch 0 has {len(self._first[1])}; allowed "
                "are batches of one size (drop the last one of an epoch)"
            )
        return inputs, targets
