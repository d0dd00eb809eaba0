"""Arrays of anyone, as the float32 and int32 arrays of a run, or refused in one line."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from precsim.formats.arguments import integer, shown
from precsim.formats.dtypes import dtype_name
from precsim.training.data.dataset import Data
from precsim.training.data.files import first_line

_LEAST, _MOST = -(2**31), 2**31 - 1


def pair(part: Any, name: str) -> tuple[Any, Any]:
    """Return inputs and targets; refuse what is no pair."""
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
    """Return arrays as data; without a part for testing, that part is empty."""
    inputs, targets = examples(x, y, names[0], names[1])
    test_inputs, test_targets = _empty(inputs), targets[:0]
    parts = {names[1]: targets}
    if x_test is not None or y_test is not None:
        test_inputs, test_targets = examples(x_test, y_test, names[2], names[3])
        refuse_other_types(inputs, test_inputs, names[0], names[2])
        refuse_other_types(targets, test_targets, names[1], names[3])
        parts[names[3]] = test_targets
    count = classes_of(parts, classes)
    is_rated = not count and targets.ndim == 1
    every = (inputs, test_inputs)[: len(parts)]
    found = ids_of(every, names[0], is_rated=is_rated, given=ids)
    return Data(inputs, targets, test_inputs, test_targets, count, found)


def examples(x: Any, y: Any, x_name: str, y_name: str) -> tuple[Any, np.ndarray]:
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


def _empty(x: Any) -> Any:
    """Return inputs without any example."""
    if isinstance(x, dict):
        return {key: _empty(part) for key, part in x.items()}
    if isinstance(x, tuple):
        parts = [_empty(part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return x[:0]


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
        raise ValueError(f"{name} has dtype {dtype.name}; allowed are floats and integers")
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


def refuse_other_types(one: Any, other: Any, one_name: str, other_name: str) -> None:
    """Refuse inputs, or targets, that differ in dtypes or in the shapes of an example."""
    if _types(one) != _types(other):
        raise ValueError(
            f"{other_name} is {shown(_types(other))}, {one_name} is {shown(_types(one))}; allowed "
            "are equal dtypes and shapes"
        )


_MOST_ROWS = 10_000_000
"""Classes or ids that are taken for such, at most: a model has weights for each of them."""


def classes_of(parts: dict[str, np.ndarray], given: int | None) -> int:
    """Return the number of classes of targets, by name; 0 if they are numbers."""
    name, targets = next(iter(parts.items()))
    if targets.dtype == np.float32:
        if given:
            raise ValueError(f"classes is {shown(given)}, and {name} has floats; allowed is None")
        return 0
    largest = max(int(part.max()) for part in parts.values())
    if given is None and largest >= _MOST_ROWS:
        raise ValueError(
            f"{name} has class {largest}; allowed are 0 to {_MOST_ROWS - 1}, unless classes is given"
        )
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


def ids_of(parts: tuple[Any, ...], name: str, *, is_rated: bool, given: tuple[int, ...]) -> Any:
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
    if int(highest.max()) >= _MOST_ROWS:
        raise ValueError(
            f"{name} has the id {int(highest.max())}; allowed are 0 to {_MOST_ROWS - 1}, as a model has a row "
            "of weights for each"
        )
    return tuple(int(each) + 1 for each in highest)
