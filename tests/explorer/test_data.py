"""Numbers of a tensor: typed, of examples that every machine makes, of files."""

import base64
import io
import json
import struct
from fractions import Fraction
from hashlib import sha256
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from precsim.explorer.answers import answer
from precsim.explorer.data import EXAMPLES, npy_counts, stream, tensor

NUMBERS = np.array([[1.5, -0.25, 0.0], [np.inf, 3e-5, -2.0]])


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def asked(content: bytes, name: str = "x.npy", **more: Any) -> dict[str, Any]:
    return {"file": base64.b64encode(content).decode(), "name": name, **more}


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f8", ">f4", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_have_the_numbers_of_numpy(dtype: str, order: Any) -> None:
    array = np.array(NUMBERS, dtype=dtype, order=order)
    found = list(npy_counts(npy(array)).elements())
    assert sorted(found) == sorted(array.astype(np.float64).ravel().tolist())


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.float64, np.float32, np.float16, ml_dtypes.bfloat16),
        *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    ],
)
def test_safetensors_files_have_the_numbers_of_their_library(dtype: Any) -> None:
    array = np.array([[1.5, -0.25], [0.0, 3.0]]).astype(dtype)
    content = save({"first": np.zeros(2, np.float32), "w": array})
    found = tensor(asked(content, "m.safetensors", tensor="w"))
    assert (found.positive.sizes, found.negative.sizes) == ([1.5, 3.0], [0.25])
    assert (found.zeros, found.count) == (1, 4)
    names = answer({"question": "tensors", **asked(content, "m.safetensors")})["tensors"]
    assert set(names) == {"first", "w"}


def _safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _npy_head(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.npy", b"", "file does not begin as .npy data"),
        ("x.npy", b"\x93NUMPY\x09\x00" + b" " * 20, "file does not begin as .npy data"),
        ("x.npy", b"\x93NUMPY\x01\x00\xff\xff{}  ", "file ends inside its header"),
        ("x.npy", b"\x93NUMPY\x01\x00\x05\x00hello", "no dictionary of an array"),
        ("x.npy", npy(np.arange(3)), "file has dtype '<i8'; allowed are float64"),
        ("x.npy", npy(np.zeros(3))[:-1], "file has 23 bytes of numbers"),
        ("x.npy", npy(np.array([{}]), allow_pickle=True), "file has dtype '|O'"),
        ("x", b"", "file is neither .npy nor .safetensors"),
        ("x", b"\xff" * 20, "file is neither .npy nor .safetensors"),
        ("x", _safetensors(b"[]"), "no list of tensors"),
        ("x", _safetensors(b"[" * 100_000), "no list of tensors"),
        ("x", _safetensors({}), "file has no tensor of F64"),
        ("x", _safetensors({"w": {**ENTRY, "dtype": "I64"}}), "file has no tensor of F64"),
        ("x.npy", _npy_head("{'descr': '<f4', 'shape': (1e999,)}"), "no dictionary of an array"),
        ("x.npy", _npy_head("{'descr': '<f4', 'shape': 3}"), "no dictionary of an array"),
        ("x.npy", _npy_head("[]"), "no dictionary of an array"),
        ("x", _safetensors(b'{"w": {"dtype": "F32", "data_offsets": [0, 1e999]}}'), "no list of"),
        ("x", _safetensors({"w": {**ENTRY, "data_offsets": [0, 8, 9]}}, b" " * 8), "no list of"),
        ("x", _safetensors({"w": ENTRY}), "bytes that are not those of its shape"),
        ("x", _safetensors({"w": {**ENTRY, "shape": [-2]}}, b" " * 8), "not those of its shape"),
        ("x", _safetensors({"w": {**ENTRY, "shape": [3]}}, b" " * 8), "not those of its shape"),
    ],
)
def test_files_that_are_refused(name: str, content: bytes, said: str) -> None:
    found = answer({"question": "histogram", "formats": ["fp16"], **asked(content or b" ", name)})
    assert said in found["error"]


def test_a_file_that_is_not_base64_and_a_tensor_that_is_not_there() -> None:
    request = {"question": "histogram", "formats": ["fp16"], "file": "??", "name": "x.npy"}
    assert answer(request)["error"] == "file is not in base64"
    content = save({"w": np.zeros(2, np.float32)})
    found = answer({**request, **asked(content, "x", tensor="v")})
    assert found["error"].startswith("tensor is 'v'; allowed are 'w'")
    odd: list[Any] = [["w"], {}, 3]
    for chosen in odd:
        found = answer({**request, **asked(content, "x", tensor=chosen)})
        assert found["error"].startswith("tensor is ")


def test_equal_codes_of_a_file_are_decoded_once() -> None:
    """A file of float16 has at most 65,536 codes, whatever its length."""
    array = np.array([1, -1, 0, -0.0, np.nan] * 100, np.float16)
    found = tensor(asked(npy(array)))
    assert (found.positive.sizes, found.positive.before) == ([1.0], [0, 100])
    assert (found.negative.before, found.zeros, found.nans) == ([0, 100], 200, 100)


HASH = "ba17baed80c5a421b1b1bfa36c02e54503e7ca1ae0eae6158ff8330fb629cc28"


def test_examples_are_the_same_bits_everywhere() -> None:
    """They are made of integers alone; the hash is that of 6,000 numbers in hexadecimal."""
    assert hex(next(stream(1234567))) == "0x599ed017fb08fc85"
    for made in EXAMPLES.values():
        numbers = list(made.values())
        assert len(numbers) == made.count
        assert numbers == list(made.values())
    text = "\n".join(x.hex() for made in EXAMPLES.values() for x in made.values())
    assert sha256(text.encode()).hexdigest() == HASH


def test_typed_numbers_are_exact_and_of_any_size() -> None:
    found = tensor({"values": "1/3, -1e-4000, 0, -0, inf, nan, 1e4000"})
    assert found.positive.sizes == [Fraction(1, 3), Fraction(10) ** 4000]
    assert found.negative.sizes == [Fraction(10) ** -4000]
    assert found.ends == [Fraction(10) ** -4000, Fraction(10) ** 4000]
    assert (found.zeros, found.infinities, found.nans, found.count) == (2, 1, 1, 7)
    assert found.positive.up_to(Fraction(1, 3), with_it=True) == 1
    assert found.positive.up_to(Fraction(1, 3), with_it=False) == 0
    assert found.exponents()[-2] == 1
