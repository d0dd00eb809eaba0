"""Arrays and batches of one's own."""

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from precsim.training.data.dataset import Data, Problem, kind_of, usual_loss
from precsim.training.data.own import as_data
from precsim.training.data.stream import Stream
from tests.training.conftest import assert_same_bits
from tests.training.data.small_files import random

X, Y = random().normal(size=(6, 3)), np.arange(6) % 4
X_TEST, Y_TEST = X[:2], np.array([4, 0])
FORMS = {
    "four": (X, Y, X_TEST, Y_TEST),
    "two pairs": ((X, Y), (X_TEST, Y_TEST)),
    "dict": {"train": (X, Y), "test": (X_TEST, Y_TEST)},
    "Data": Data(X, Y, X_TEST, Y_TEST, 5),
    "JAX": tuple(map(jnp.asarray, (X, Y, X_TEST, Y_TEST))),
    "lists": tuple(x.tolist() for x in (X, Y, X_TEST, Y_TEST)),
    "mixed": {"train": [X.tolist(), Y.astype(np.uint8)], "test": (X_TEST, Y_TEST.tolist())},
}


def arrays_of(data: Any, **options: Any) -> Data:
    found = as_data(data, **options)
    assert isinstance(found, Data)
    return found


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_arrays(name: str) -> None:
    data = arrays_of(FORMS[name])
    expected = [
        x.astype(np.float32 if x.dtype == float else np.int32) for x in (X, Y, X_TEST, Y_TEST)
    ]
    for got, array in zip(data[:4], expected, strict=True):
        assert_same_bits(got, array)
    assert (data.classes, data.ids) == (5, ())
    assert data.problem == Problem((3,), "float32", (), 5)


def test_without_a_part_for_testing_it_is_empty() -> None:
    data = arrays_of((X, Y))
    assert (data.test_inputs.shape, data.test_targets.shape) == ((0, 3), (0,))
    assert arrays_of(({"a": (X,)}, Y)).test_inputs["a"][0].shape == (0, 3)
    assert data.classes == 4
    assert arrays_of((X, Y), test=(X_TEST, Y_TEST)).classes == 5
    assert arrays_of({"train": (X, Y)}, test=(X_TEST, Y_TEST), classes=9).classes == 9


def test_half_floats_become_float32() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.longdouble):
        data = arrays_of((np.ones((2, 1), dtype), np.ones(2, dtype)))
        assert data.train_inputs.dtype == data.train_targets.dtype == np.float32
        assert data.classes == 0


Pair = namedtuple("Pair", ["image", "age"])


def test_inputs_may_be_structures_with_one_first_axis() -> None:
    age = np.arange(6)
    for inputs in ({"image": X, "age": age}, (X, age), Pair(X, age), {"a": (X, {"b": age})}):
        data = arrays_of((inputs, Y))
        assert type(data.train_inputs) is type(inputs)
        assert data.problem == Problem((), "structure", (), 4)
        assert kind_of(data.problem) == "structures"
    assert data.train_inputs["a"][1]["b"].dtype == np.int32


@pytest.mark.parametrize(
    ("x", "y", "kind", "ids", "loss"),
    [
        (X, Y, "images", (), "cross_entropy"),
        (X, X[:, 0], "numbers", (), "mse"),
        (Y[:, None] % [[2, 3]], X[:, 0], "ratings", (2, 3), "mse"),
        (Y[:, None] % [[2, 3]], Y, "sentences", (3,), "cross_entropy"),
        (Y.reshape(2, 3), Y.reshape(2, 3) - 1, "characters", (4,), "masked_cross_entropy"),
        (Y.reshape(2, 3), Y.reshape(2, 3), "characters", (4,), "cross_entropy"),
        (Y - 1, Y, "sentences", (), "cross_entropy"),
    ],
)
def test_kinds_of_data(x: Any, y: Any, kind: str, ids: tuple[int, ...], loss: str) -> None:
    data = arrays_of((x, y))
    assert (kind_of(data.problem), data.ids) == (kind, ids)
    assert usual_loss(data.problem)[0] == loss


def test_given_ids_win() -> None:
    assert arrays_of((Y[:, None], Y), ids=(100,)).ids == (100,)
    with pytest.raises(ValueError, match=r"ids is \(3,\), and x has \[3\]; allowed are 1 integers"):
        as_data((Y[:, None], Y), ids=(3,))
    with pytest.raises(ValueError, match=r"ids is \(3,\), and x is no array of integers"):
        as_data((X, Y), ids=(3,))


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lengths": ((X, Y[:4]), {}, "x has 6 examples, y has 4; allowed are equal numbers"),
    "lengths inside": (({"a": X[:4]}, Y), {}, "x has 4 examples, y has 6"),
    "lengths of test": ((X, Y, X, Y[:2]), {}, "x_test has 6 examples, y_test has 2"),
    "empty": ((X[:0], Y[:0]), {}, "x has shape (0, 3); allowed are arrays of at least one"),
    "no axis": ((1.0, Y), {}, "x has shape (); allowed are arrays of at least one example"),
    "no arrays": (({}, Y), {}, "x has no arrays; allowed is at least one"),
    "bool": (
        (X, Y > 0),
        {},
        "y has dtype bool; allowed are floats and integers (y.astype('int32')",
    ),
    "complex": ((X * 1j, Y), {}, "x has dtype complex128; allowed are floats and integers"),
    "text": ((["a"] * 6, Y), {}, "x has dtype str32; allowed are"),
    "objects": ((np.array([None] * 6), Y), {}, "x has dtype object; allowed are"),
    "ragged": (([[1], [1, 2]], Y), {}, "x is no array: setting an array element with a sequence"),
    "NaN": ((X, np.where(Y == 3, np.nan, Y)), {}, "y has nan at index (3,); allowed are finite"),
    "NaN inside": (({"a": (X, X * np.inf)}, Y), {}, "x['a'][1] has "),
    "beyond float32": ((X * 1e300, Y), {}, "allowed are finite numbers of float32"),
    "beyond int32": ((X, Y + 2**31), {}, "y has 2147483648; allowed are integers of int32"),
    "negative": ((X, Y - 1), {}, "y has class -1; allowed are 0 to 2"),
    "-2": ((X, Y[:, None] - 2), {}, "y has class -2; allowed are -1 to 1"),
    "not counted": ((X, 0 * Y[:, None] - 1), {}, "y has only -1, which is not counted"),
    "classes": ((X, Y), {"classes": 3}, "y has class 3; allowed are 0 to 2, as classes is 3"),
    "no classes": ((X, Y), {"classes": 0}, "classes is 0; allowed are integers from 1 on"),
    "classes of floats": (
        (X, X),
        {"classes": 3},
        "classes is 3, and y has floats; allowed is None",
    ),
    "other shape": (
        (X, Y, X[:, :2], Y),
        {},
        "x_test is 'float32[n, 2]', x_train is 'float32[n, 3]'",
    ),
    "other dtype": ((X, Y, X, X[:, 0]), {}, "y_test is 'float32[n]', y_train is 'int32[n]'"),
    "three": ((X, Y, X), {}, "data is a tuple of 3; allowed is a pair (inputs, targets)"),
    "keys": ({"x": X, "y": Y}, {}, "data has the keys ['x', 'y']; allowed are 'train' and 'test'"),
    "train": ({"train": X}, {}, "data['train'] is a ndarray; allowed is a pair"),
    "two tests": ((X, Y, X, Y), {"test": (X, Y)}, "test is given twice"),
    "test": ((X, Y), {"test": X}, "test is a ndarray; allowed is a pair (inputs, targets)"),
    "number": (
        3,
        {},
        "data is 3; allowed are (x, y), (x_train, y_train, x_test, y_test), {'train'",
    ),
    "string": ("mine:make", {}, "data is 'mine:make'; allowed are (x, y)"),
    "nothing": (None, {}, "data is None; allowed are (x, y)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str) -> None:
    data, options, message = REFUSED[name]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        as_data(data, **options)
    assert message in str(error.value)


def batches(count: int = 3) -> Iterator[tuple[Any, Any]]:
    for k in range(count):
        yield X[:2] + k, [k, k + 1]


def stream_of(data: Any, **options: Any) -> Stream:
    found = as_data(data, **options)
    assert isinstance(found, Stream)
    return found


@pytest.mark.parametrize(
    "data", [batches, list(batches()), Stream(batches=batches)], ids=["function", "list", "stream"]
)
def test_batches_by_number_over_epochs_and_again(data: Any) -> None:
    stream = stream_of(data)
    assert stream.problem == Problem((3,), "float32", (), 2)
    assert (stream.test_inputs, stream.test_targets) == (None, None)
    batch, beside = stream.reader(), stream.reader()
    steps = [0, 1, 2, 3, 4, 4, 1, 9]
    found = [(batch(k)[1].tolist(), beside(5)[1].tolist()) for k in steps]
    assert found == [([k % 3, k % 3 + 1], [2, 3]) for k in steps]
    inputs, targets = batch(4)
    assert_same_bits(inputs, (X[:2] + 1).astype(np.float32))
    assert targets.dtype == np.int32


def test_an_iterator_gives_its_batches_once() -> None:
    stream = stream_of(batches())
    batch = stream.reader()
    assert [batch(k)[1].tolist()[0] for k in (0, 1, 2)] == [0, 1, 2]
    assert stream.problem.classes == 2  # which is known without reading anew
    message = "data is an iterator, which gives its batches once, and a run needs them again"
    for reader, step in ((batch, 3), (batch, 0), (stream.reader(), 0)):
        with pytest.raises(ValueError, match=message):
            reader(step)


def test_no_more_is_read_than_is_needed() -> None:
    read: list[int] = []

    def counted() -> Iterator[Any]:
        for k, batch in enumerate(batches()):
            read.append(k)
            yield batch

    stream = stream_of(counted)
    assert stream.problem.classes == 2
    assert read == [0]  # a look
    batch = stream.reader()
    batch(0)
    batch(1)
    assert read == [0, 0, 1]


def test_classes_and_ids_of_a_stream() -> None:
    assert stream_of(batches, test=(X_TEST, Y_TEST)).problem.classes == 5
    assert stream_of(batches, classes=7).problem.classes == 7
    tokens = stream_of(lambda: [(Y[:, None], Y)], test=(Y[:, None] + 3, Y))
    assert tokens.problem.ids == (7,)
    assert stream_of([(X, X[:, 0])]).problem.classes == 0


REFUSED_BATCHES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": ([], {}, "data has no batches; allowed is at least one (inputs, targets)"),
    "no pair": ([X], {}, "batch 0 is a ndarray; allowed is a pair (inputs, targets)"),
    "dict": ([{"x": X}], {}, "batch 0 is a dict; allowed is a pair"),
    "no iterable": (lambda: 3, {}, "data is a function that returns 3; allowed is an iterable of"),
    "sizes": ([(X, Y), (X[:5], Y[:5])], {}, "batch 1 has 5 examples, batch 0 has 6; allowed are"),
    "shapes": ([(X, Y), (X[:, :2], Y)], {}, "the inputs of batch 1 is 'float32[n, 2]', the inputs"),
    "NaN": ([(X, Y), (X * np.nan, Y)], {}, "the inputs of batch 1 has nan at index (0, 0)"),
    "classes": ([(X, Y)], {"classes": 3}, "the targets of batch 0 has class 3; allowed are 0 to 2"),
    "test": ([(X, Y)], {"test": (X[:, :2], Y)}, "x_test is 'float32[n, 2]', the inputs of batch 0"),
}


@pytest.mark.parametrize("name", REFUSED_BATCHES)
def test_batches_refused_in_one_line(name: str) -> None:
    data, options, message = REFUSED_BATCHES[name]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        stream_of(data, **options).reader()(1)
    assert message in str(error.value)


def test_a_stream_has_settings_of_its_own() -> None:
    with pytest.raises(
        ValueError, match="data is a Stream, which has test, classes and ids of its"
    ):
        as_data(Stream(batches=batches), classes=3)
    with pytest.raises(ValueError, match="classes is -1; allowed are integers from 0 on"):
        Stream(batches=batches, classes=-1)
    with pytest.raises(ValueError, match="x_test has 6 examples, y_test has 2"):
        Stream(batches=batches, test=(X, Y_TEST))


def test_what_a_stream_raises_is_raised() -> None:
    def broken() -> Iterator[Any]:
        yield X, Y
        raise OSError("the disk is gone")

    batch = stream_of(broken).reader()
    batch(0)
    with pytest.raises(OSError, match="the disk is gone"):
        batch(1)
