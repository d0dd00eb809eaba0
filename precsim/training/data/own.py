"""Data of one's own: arrays, or batches one after the other."""

from typing import Any

from precsim.formats.arguments import shown
from precsim.training.data.checked import as_arrays, pair
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream


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
        ``(x, y)`` for testing, where `data` has none. Without it nothing is tested.
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

    Examples
    --------
    >>> import numpy as np
    >>> data = as_data((np.ones((4, 3)), [0, 2, 1, 2]))
    >>> data.problem.shape, data.problem.dtype, data.problem.classes
    ((3,), 'float32', 3)
    """
    if isinstance(data, Stream):
        given = {"test": test, "classes": classes, "ids": ids or None}
        if any(value is not None for value in given.values()):
            raise ValueError("data is a Stream, which has test, classes and ids of its own")
        return _looked_at(data)
    if isinstance(data, Data):
        _refuse_second_test(test)
        own = (data.classes or None) if classes is None else classes
        return as_arrays(*data[:4], names=Data._fields[:4], classes=own, ids=ids or data.ids)
    if isinstance(data, dict):
        if "train" not in data or not data.keys() <= {"train", "test"}:
            raise ValueError(f"data has the keys {shown([*data])}; allowed are 'train' and 'test'")
        if "test" in data:
            _refuse_second_test(test)
        data, test = pair(data["train"], "data['train']"), data.get("test", test)
    elif isinstance(data, tuple) and len(data) == 4:
        _refuse_second_test(test)
        data, test = data[:2], data[2:]
    elif _are_pairs(data):
        _refuse_second_test(test)
        data, test = data
    if isinstance(data, tuple):
        x, y = pair(data, "data")
        if test is None:
            return as_arrays(x, y, names=("x", "y"), classes=classes, ids=ids)
        names = ("x_train", "y_train", "x_test", "y_test")
        return as_arrays(x, y, *pair(test, "test"), names=names, classes=classes, ids=ids)
    return _looked_at(Stream(batches=data, test=test, classes=classes, ids=ids))


def _looked_at(stream: Stream) -> Stream:
    """Read the first batch of a stream now, so that what is wrong with it is said now."""
    assert stream.problem is not None
    return stream


def _are_pairs(data: Any) -> bool:
    """Return whether these are two pairs of arrays; targets are never tuples."""
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], tuple)


def _refuse_second_test(test: Any) -> None:
    if test is not None:
        raise ValueError("test is given twice: data has a part for testing too")
