"""IDX files: what is read, and what is refused."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from precsim.training.data import files, idx
from tests.training.data.small_files import TEST, TRAIN, codes, idx_bytes, labels, write_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_idx(tmp_path)
    return tmp_path


def test_pixels_and_labels_of_the_published_split(folder: Path) -> None:
    data = idx.load(str(folder))
    assert data.train_inputs.shape == (TRAIN, 8, 4, 1)
    assert data.test_inputs.shape == (TEST, 8, 4, 1)
    assert np.array_equal(data.train_inputs[..., 0] * 256, codes(TRAIN, 8, 4))
    assert data.train_inputs.dtype == np.float32
    assert np.array_equal(data.test_targets, labels(TEST))
    assert data.classes == 10
    assert data.train_targets.dtype == np.int32


def test_folders_inside(tmp_path: Path) -> None:
    for name in ("MNIST/raw", "FashionMNIST/raw"):
        (tmp_path / name).mkdir(parents=True)
    write_idx(tmp_path / "MNIST/raw")
    assert len(idx.load(str(tmp_path)).train_targets) == TRAIN


REFUSED = {
    "other magic": (IMAGES, struct.pack(">4I", 0x801, 7, 8, 4), "number 0x00000801; allowed for"),
    "floats": (IMAGES, struct.pack(">4I", 0xD03, 7, 8, 4), "0x00000d03; allowed for an IDX file"),
    "short header": (IMAGES, b"\0\0\x08\x03\0", "ends inside its header of 16 bytes"),
    "empty": (LABELS, b"", "ends inside its header of 8 bytes"),
    "no image": (IMAGES, struct.pack(">4I", 0x803, 0, 8, 4), "shape (0, 8, 4); allowed are sizes"),
    "huge": (
        IMAGES,
        struct.pack(">4I", 0x803, *[2**32 - 1] * 3) + bytes(9),
        "takes 79228162458924105385300197375 bytes; it can hold 9 at most",
    ),
    "truncated": (IMAGES, idx_bytes(codes(7, 8, 4))[:-1], "takes 224 bytes; it can hold 223"),
    "too long": (IMAGES, idx_bytes(codes(7, 8, 4)) + b"\0", "takes 224 bytes; it holds more"),
    "counts": (LABELS, idx_bytes(labels(6)), "has 7 images, "),
    "shapes": (IMAGES, idx_bytes(codes(7, 4, 8)), "have shape (4, 8), those for testing (8, 4)"),
    "label": (
        LABELS,
        idx_bytes(np.array([0, 1, 2, 3, 4, 10, 6], np.uint8)),
        "label 10 at index 5; allowed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str, folder: Path) -> None:
    file, content, message = REFUSED[name]
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        idx.load(str(folder))
    assert message in str(error.value)


COMPRESSED = {
    "no gzip": (b"no gzip data", "cannot be read: Not a gzipped file"),
    "truncated": (
        gzip.compress(idx_bytes(labels(3)))[:-9],
        "cannot be read: Compressed file ended",
    ),
    "declared": (
        gzip.compress(struct.pack(">2I", 0x801, 2**31)),
        "takes 2147483648 bytes; it can hold",
    ),
    "short": (gzip.compress(struct.pack(">2I", 0x801, 99)), "takes 99 bytes; it holds 0"),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_files_refused_in_one_line(name: str, folder: Path) -> None:
    content, message = COMPRESSED[name]
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz [^\n]+$") as error:
        idx.load(str(folder))
    assert message in str(error.value)


def test_a_bomb_is_read_no_further_than_its_header_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = files.read_up_to

    def counted(file: object, most: int) -> bytearray:
        content = original(file, most)
        read.append(len(content))
        return content

    monkeypatch.setattr(idx, "read_up_to", counted)
    bomb = gzip.compress(idx_bytes(labels(3)) + bytes(2**24))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(bomb)
    with pytest.raises(ValueError, match="takes 3 bytes; it holds more"):
        idx.load(str(folder))
    assert max(read) < 1000
