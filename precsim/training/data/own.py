"""Data of one's own: arrays, or batches one after the other."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from precsim.formats.arguments import integer, shown
from precsim.formats.dtypes import dtype_name
from precsim.training.data.dataset import Data, Problem, problem_of
from precsim.training.data.files import first_line

_FORMS = (
    "(x, y), (x_train, y_train, x_test, y_test), {'train': (x, y), 'test': (x, y)}, an iterable "
    "of batches (inputs, targets), or a function of no arguments that returns one"
)
_LEAST, _MOST = -(2**31), 2**31 - 1


def as_data(
    data: Any, *, test: Any = None, classes: int | None = None, ids: tuple[int, ...] = ()
) -> "Data | Stream":
    """Return data of one's own in the form in which a run takes them, checked.

    Parameters
    ----------
    data : Data, Stream, tuple, dict, iterable or callable
        ``(x, y)``; ``(x_train, y_train, x_test, y_test)``; ``((x, y), (x, y))``, training and
        testing; a dict of such pairs with the keys "train" and "test"; an iterable of batches
        ``(inputs, targets)``, each of the same shapes; or a function of no arguments that returns
        such an iterable, so that a run can be repeated and resumed. Arrays are those of NumPy or
        JAX, or lists. Inputs may be dictionaries and tuples of arrays that have their first axis in
        common. Floats become float32, integers int32.
    test : tuple, optional
        ``(x, y)`` for testing, where `data` has none. Without it, arrays are tested on the examples
        for training.
    classes : int, optional
        Number of classes, where targets are integers; else one more than the largest target.
    ids : tuple of int
        How many integers an input can be: the vocabulary, or users and items; else one more than
        the largest.

    Returns
    -------
    Data or Stream
        Arrays, or batches.

    Raises
    ------
    ValueError
        If arrays do not fit together, are empty, or hold what is no finite number; the message
        names the array.
    """
    if isinstance(data, Stream):
        given = {"test": test, "classes": classes, "ids": ids or None}
        if any(value is not None for value in given.values()):
            raise ValueError("data is a Stream, which has test, classes and ids of its own")
        return data
    if isinstance(data, Data):
        _refuse_second_test(test)
        own = (data.classes or None) if classes is None else classes
        return as_arrays(*data[:4], names=Data._fields[:4], classes=own, ids=ids or data.ids)
    if isinstance(data, dict):
        if "train" not in data or not data.keys() <= {"train", "test"}:
            raise ValueError(f"data has the keys {shown([*data])}; allowed are 'train' and 'test'")
        if "test" in data:
            _refuse_second_test(test)
        data, test = _pair(data["train"], "data['train']"), data.get("test", test)
    elif isinstance(data, tuple) and len(data) == 4:
        _refuse_second_test(test)
        data, test = data[:2], data[2:]
    elif _are_pairs(data):
        _refuse_second_test(test)
        data, test = data
    if isinstance(data, tuple):
        x, y = _pair(data, "data")
        if test is None:
            return as_arrays(x, y, names=("x", "y"), classes=classes, ids=ids)
        names = ("x_train", "y_train", "x_test", "y_test")
        return as_arrays(x, y, *_pair(test, "test"), names=names, classes=classes, ids=ids)
    return Stream(batches=data, test=test, classes=classes, ids=ids)


def _are_pairs(data: Any) -> bool:
    """Return whether these are two pairs of arrays; targets are never tuples."""
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], tuple)


def _refuse_second_test(test: Any) -> None:
    if test is not None:
        raise ValueError("test is given twice: data has a part for testing too")


def _pair(part: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        size = f" of {len(part)}" if isinstance(part, (tuple, list)) else ""
        raise ValueError(
            f"{name} is a {type(part).__name__}{size}; allowed is a pair (inputs, targets)"
        )
    return part[0], part[1]


def as_arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    names: tuple[str, ...],
    classes: int | None = None,
    ids: tuple[int, ...] = (),
) -> Data:
    """Return arrays as data; without a part for testing, it is that for training."""
    inputs, targets = _examples(x, y, names[0], names[1])
    test_inputs, test_targets = inputs, targets
    if x_test is not None or y_test is not None:
        test_inputs, test_targets = _examples(x_test, y_test, names[2], names[3])
        _refuse_other_types(inputs, test_inputs, names[0], names[2])
        _refuse_other_types(targets, test_targets, names[1], names[3])
    parts = {names[1]: targets, names[-1]: test_targets}
    count = _classes(parts, classes)
    is_rated = not count and targets.ndim == 1
    return Data(
        inputs, targets, test_inputs, test_targets, count,
        _ids((inputs, test_inputs), names[0], is_rated=is_rated, given=ids),
    )  # fmt: skip


def _examples(x: Any, y: Any, x_name: str, y_name: str) -> tuple[Any, np.ndarray]:
    """Return inputs and targets as arrays with one first axis."""
    inputs, targets = _inputs(x, x_name), _array(y, y_name)
    leaves = [*_leaves(inputs)]
    if not leaves:
        raise ValueError(f"{x_name} has no arrays; allowed is at least one")
    for leaf in leaves:
        if len(leaf) != len(targets):
            raise ValueError(
                f"{x_name} has {len(leaf)} examples, {y_name} has {len(targets)}; allowed are "
                "equal numbers"
            )
    return inputs, targets


def _inputs(x: Any, name: str) -> Any:
    if isinstance(x, Mapping):
        return {key: _inputs(part, f"{name}[{key!r}]") for key, part in x.items()}
    if isinstance(x, tuple):
        parts = [_inputs(part, f"{name}[{k}]") for k, part in enumerate(x)]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return _array(x, name)


def _leaves(x: Any) -> Iterator[np.ndarray]:
    if isinstance(x, (dict, tuple)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)
    else:
        yield x


def _array(x: Any, name: str) -> np.ndarray:
    """Return an array of float32 or int32 with at least one example."""
    try:
        array = np.asarray(x)
    except Exception as error:  # noqa: BLE001 (of any library's array)
        raise ValueError(f"{name} is no array: {first_line(error)}") from None
    if not array.ndim or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape}; allowed are arrays of at least one example"
        )
    dtype = array.dtype
    if dtype.kind == "b":
        raise ValueError(
            f"{name} has dtype bool; allowed are floats and integers ({name}.astype('int32') "
            "makes 0 and 1)"
        )
    if dtype.kind in "iu":
        for value in (array.min(), array.max()):
            if not _LEAST <= value <= _MOST:
                raise ValueError(
                    f"{name} has {value}; allowed are integers of int32, {_LEAST} to {_MOST}"
                )
        return array.astype(np.int32, copy=False)
    if dtype_name(dtype) is None:
        raise ValueError(f"{name} has dtype {shown(dtype)}; allowed are floats and integers")
    with np.errstate(over="ignore", invalid="ignore"):
        floats = array.astype(np.float32, copy=False)
    is_finite = np.isfinite(floats)
    if not is_finite.all():
        index = tuple(int(i) for i in np.argwhere(~is_finite)[0])
        raise ValueError(
            f"{name} has {array[index]} at index {index}; allowed are finite numbers of float32"
        )
    return floats


def _types(x: Any) -> Any:
    """Return dtypes and shapes without the first axis, in the structure of the inputs."""
    if isinstance(x, dict):
        return {key: _types(part) for key, part in x.items()}
    if isinstance(x, tuple):
        return tuple(_types(part) for part in x)
    return f"{x.dtype}[{', '.join(map(str, ('n', *x.shape[1:])))}]"


def _refuse_other_types(one: Any, other: Any, one_name: str, other_name: str) -> None:
    if _types(one) != _types(other):
        raise ValueError(
            f"{other_name} is {shown(_types(other))}, {one_name} is {shown(_types(one))}; allowed "
            "are equal dtypes and shapes"
        )


def _classes(parts: dict[str, np.ndarray], given: int | None) -> int:
    """Return the number of classes of targets, by name; 0 if they are numbers."""
    name, targets = next(iter(parts.items()))
    if targets.dtype == np.float32:
        if given:
            raise ValueError(f"classes is {shown(given)}, and {name} has floats; allowed is None")
        return 0
    largest = max(int(part.max()) for part in parts.values())
    most = largest + 1 if given is None else integer(given, "classes", 1)
    for each, part in parts.items():
        # One target per place may be -1, which the loss does not count.
        least = -1 if part.ndim > 1 else 0
        for value in (int(part.min()), int(part.max())):
            if not least <= value < most:
                raise ValueError(
                    f"{each} has class {value}; allowed are {least} to {most - 1}"
                    + ("" if given is None else f", as classes is {given}")
                )
    if most < 1:
        raise ValueError(f"{name} has only -1, which is not counted; allowed is at least one class")
    return most


def _ids(parts: tuple[Any, ...], name: str, *, is_rated: bool, given: tuple[int, ...]) -> Any:
    """Return how many integers an input can be: of pairs that are rated, each of the two."""
    first = parts[0]
    if not isinstance(first, np.ndarray) or first.dtype != np.int32:
        if given:
            raise ValueError(f"ids is {shown(given)}, and {name} is no array of integers")
        return ()
    axis = 0 if is_rated and first.shape[1:] == (2,) else None
    highest = np.atleast_1d(np.max([part.max(axis=axis) for part in parts], axis=0))
    if given:
        allowed = tuple(integer(each, "ids", 1) for each in given)
        if len(allowed) != len(highest) or any(highest >= allowed):
            raise ValueError(
                f"ids is {shown(given)}, and {name} has {shown(highest.tolist())}; allowed are "
                f"{len(highest)} integers that are larger"
            )
        return allowed
    if min(int(part.min()) for part in parts) < 0:
        return ()  # these are numbers
    return tuple(int(each) + 1 for each in highest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Batches that come one after the other.

    Parameters
    ----------
    batches : callable or iterable
        A function of no arguments that returns an iterable of batches ``(inputs, targets)``, all of
        the same shapes; it is called again where a run needs more batches, starts again or goes
        on from a checkpoint. An iterable is taken anew there; an iterator, which gives its batches
        once, is refused there.
    test : tuple, optional
        ``(inputs, targets)`` for testing; without it nothing is tested.
    classes : int, optional
        Number of classes, where targets are integers; each batch is checked for it. Without it, it
        is one more than the largest target of the first batch and of the part for testing.
    ids : tuple of int
        How many integers an input can be.
    """

    batches: Callable[[], Iterable[Any]]
    test: Any = None
    classes: int | None = None
    ids: tuple[int, ...] = ()
    _reader: "_Reader" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the part for testing; nothing is read of the batches."""
        batches: Any = self.batches
        is_text = isinstance(batches, (str, bytes, Mapping))
        if not is_text and isinstance(batches, Iterable):
            object.__setattr__(self, "batches", _Repeated(batches))
        elif is_text or not callable(batches):
            raise ValueError(f"data is {shown(batches)}; allowed are {_FORMS}")
        if self.classes is not None:
            object.__setattr__(self, "classes", integer(self.classes, "classes", 0))
        if self.test is not None:
            examples = _examples(*_pair(self.test, "test"), "x_test", "y_test")
            object.__setattr__(self, "test", examples)
        object.__setattr__(self, "_reader", _Reader(self.batches, self.classes))

    def batch(self, step: int) -> tuple[Any, np.ndarray]:
        """Return the inputs and targets of a step, as arrays.

        Batches before it are read if they have not been; for a step before the last one that was
        read, everything is read anew.
        """
        return self._reader.batch(step)

    @property
    def problem(self) -> Problem:
        """What a model has to know of the data; the first batch is read."""
        inputs, targets = self.batch(0)
        parts = {"the targets of batch 0": targets}
        every: tuple[Any, ...] = (inputs,)
        if self.test is not None:
            _refuse_other_types(inputs, self.test[0], "the inputs of batch 0", "x_test")
            _refuse_other_types(targets, self.test[1], "the targets of batch 0", "y_test")
            parts["y_test"], every = self.test[1], (inputs, self.test[0])
        classes = _classes(parts, self.classes or None)
        is_rated = not classes and targets.ndim == 1
        ids = _ids(every, "the inputs of batch 0", is_rated=is_rated, given=self.ids)
        return problem_of(inputs, targets, classes, ids)


class _Repeated:
    """A function that returns an iterable, again and again unless it is an iterator."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches, self._is_used = batches, False

    def __call__(self) -> Iterable[Any]:
        if self._is_used and isinstance(self._batches, Iterator):
            raise ValueError(
                "data is an iterator, which gives its batches once, and the run needs them again or "
                "needs more; allowed is a function of no arguments that returns a new iterator"
            )
        self._is_used = True
        return self._batches


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
        inputs, targets = _examples(*_pair(batch, name), *names)
        if self._classes and targets.dtype == np.int32:
            _classes({names[1]: targets}, self._classes)
        if self._first is None:
            self._first = inputs, targets
        for each, first, said in zip((inputs, targets), self._first, names, strict=True):
            _refuse_other_types(first, each, said.replace(name, "batch 0"), said)
        if len(targets) != len(self._first[1]):
            raise ValueError(
                f"{name} has {len(targets)} examples, batch 0 has {len(self._first[1])}; allowed "
                "are batches of one size (drop the last one of an epoch)"
            )
        return inputs, targets
