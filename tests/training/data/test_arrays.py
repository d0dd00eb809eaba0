"""Arrays in .npy and .npz files."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precsim.training.data import arrays
from precsim.training.data.dataset import kind_of
from tests.training.data import small_files


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other)


@pytest.mark.parametrize("write", [small_files.write_npy, small_files.write_npz])
def test_floats_become_float32_and_integers_classes(write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    data, expected = arrays.load(str(tmp_path)), small_files.arrays()
    assert same(data.train_inputs[..., 0], expected["x_train"].astype(np.float32))
    assert same(data.test_inputs[..., 0], expected["x_test"])
    assert same(data.train_targets, expected["y_train"])
    assert data.classes == 3
    assert kind_of(data.problem) == "images"


def test_rows_of_numbers_and_numbers_as_targets(tmp_path: Path) -> None:
    table = small_files.random().normal(size=(8, 3)).astype(">f8")
    for part, rows in (("train", table[:6]), ("test", table[6:])):
        np.save(tmp_path / f"x_{part}.npy", rows[:, :2])
        np.save(tmp_path / f"y_{part}.npy", rows[:, 2].astype(np.float16))
    data = arrays.load(str(tmp_path))
    assert data.classes == 0
    assert data.train_inputs.shape == (6, 2)
    assert same(data.test_inputs, table[6:, :2].astype(np.float32))
    assert kind_of(data.problem) == "numbers"


def npy(x: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, x, **options)
    return content.getvalue()


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


def declared(shape: str, descr: str = "'<f8'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n") + bytes(24)


REFUSED = {
    "objects": (npy(np.array([{}, 1]), allow_pickle=True), "it has dtype object; allowed are"),
    "text": (npy(np.array(["a"])), "it has dtype str32; allowed are integers and floats"),
    "complex": (npy(np.ones(7, complex)), "it has dtype complex128; allowed are"),
    "fields": (declared("(3,)", "[('a', '<f8')]"), "allowed are integers and floats"),
    "booleans": (npy(np.ones(7, bool)), "y_train has dtype bool; allowed are floats and integers"),
    "NaN": (npy([0, np.nan] * 3), "y_train has nan at index (1,); allowed are finite numbers"),
    "beyond float32": (npy(np.full(7, 1e300)), "has 1e+300 at index (0,); allowed are finite"),
    "beyond int32": (npy(np.full(7, 2**40)), "has 1099511627776; allowed are integers of int32"),
    "negative class": (npy(np.arange(7) - 1), "y_train has class -1; allowed are 0 to 5"),
    "count": (npy(np.arange(6)), "x_train has 7 examples, y_train has 6; allowed are equal"),
    "empty": (npy(np.zeros(0)), "y_train has shape (0,); allowed are arrays of at least one"),
    "no axis": (npy(np.float32(1)), "y_train has shape (); allowed are arrays of at least one"),
    "no array": (b"", "it does not begin as .npy data do: "),
    "version": (b"\x93NUMPY\x09\0", "its version is (9, 0); allowed are (1, 0) and (2, 0)"),
    "huge shape": (declared("(10**9, 10**9)".replace("10**9", "1000000000")), "bytes of values"),
    "endless shape": (declared(f"({'9' * 5000},)"), "it does not begin as .npy data do"),
    "negative shape": (declared("(-1, 3)"), "declares shape (-1, 3); allowed are sizes from 0"),
    "huge header": (header("", 2)[:-4] + b"\xff\xff\xff\x7f", "it does not begin as .npy data do"),
    "deep header": (header("(" * 9000), "it does not begin as .npy data do"),
    "truncated": (npy(np.arange(7))[:-1], "declares 56 bytes of values; it holds 55"),
    "too long": (npy(np.arange(7)) + b"\0", "declares 56 bytes of values; it holds more"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("is_archive", [False, True])
def test_refused_in_one_line(name: str, is_archive: bool, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    if is_archive:
        members = {each: npy(array) for each, array in small_files.arrays().items()}
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for each, array in {**members, "y_train": content}.items():
                archive.writestr(f"{each}.npy", array)
    else:
        small_files.write_npy(tmp_path)
        (tmp_path / "y_train.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        arrays.load(str(tmp_path))
    assert message in str(error.value)


def test_archives_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has 0 files \.npz and no x_train\.npy"):
        arrays.load(str(tmp_path))
    np.savez(tmp_path / "a.npz", allow_pickle=False, x_train=np.ones(3))
    with pytest.raises(ValueError, match=r"a\.npz: it has no y_train; allowed are archives with"):
        arrays.load(str(tmp_path))
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"a\.npz: File is not a zip file"):
        arrays.load(str(tmp_path))
    small_files.write_npz(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has 2 files \.npz"):
        arrays.load(str(tmp_path))
