"""Folders of images, one for each class."""

import contextlib
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from precsim.training.data import image_folder
from tests.training.data.small_files import image_bytes, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path)
    return tmp_path


def test_classes_sizes_and_shades(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / ".hidden").mkdir()
    data = image_folder.load(str(folder))
    assert data.classes == 2
    assert data.train_inputs.shape == (6, 32, 32, 3)
    assert data.train_targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_targets.tolist() == [0, 1]
    assert np.allclose(data.train_inputs[:3], 64 / 256, atol=2 / 256)  # JPEG may be off by one
    assert np.allclose(data.test_inputs[1], 128 / 256, atol=2 / 256)


def test_the_square_at_the_centre_is_kept(folder: Path) -> None:
    from PIL import Image

    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = np.arange(32)[:, None]
    Image.fromarray(wide).save(folder / "train" / "cat" / "a.png")
    image = image_folder.load(str(folder)).train_inputs[0]
    assert np.array_equal(image[..., 0] * 256, np.arange(32)[None] * np.ones((32, 1)))


def declared_png(width: int, height: int) -> bytes:
    """Return a PNG that declares a size, and holds one compressed byte."""

    def chunk(name: bytes, content: bytes) -> bytes:
        ends = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + ends

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


REFUSED = {
    "no image": (b"", "is no image that can be read; allowed are PNG, JPEG, PPM"),
    "other format": (b"GIF89a" + bytes(20), "is no image that can be read; allowed are PNG"),
    "truncated": (image_bytes("PNG", 40, 40)[:-900], "cannot be read as PNG, JPEG, PPM: "),
    "huge": (declared_png(5000, 5000), "it declares 5000 x 5000 pixels; allowed are"),
    "bomb": (declared_png(60_000, 60_000), "cannot be read as PNG, JPEG, PPM: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str, folder: Path) -> None:
    content, message = REFUSED[name]
    (folder / "train" / "dog" / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*a\.png [^\n]*$") as error:
        image_folder.load(str(folder))
    assert message in str(error.value)


def test_a_piece_of_2_gigabytes_is_declared_and_not_allocated(folder: Path) -> None:
    """Defect: Pillow read it from the file, which takes memory for what is asked for."""
    whole = image_bytes("PNG", 9, 12)
    place = whole.index(b"IDAT") - 4
    damaged = whole[:place] + b"\x7f\xff\xff\xff" + whole[place + 4 :]
    (folder / "train" / "dog" / "a.png").write_bytes(damaged)
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        image_folder.load(str(folder))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_folders_that_lack_something(folder: Path) -> None:
    for file in (folder / "val" / "dog").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"dog has no images; allowed are \.png, \.jpg, "):
        image_folder.load(str(folder))
    (folder / "val" / "dog").rename(folder / "val" / "bird")
    with pytest.raises(ValueError, match=r"val.bird is a class that .*train has not"):
        image_folder.load(str(folder))
    (folder / "val").rename(folder / "other")
    with pytest.raises(FileNotFoundError, match=r"has no folder val or test \(looked for"):
        image_folder.load(str(folder))
    (folder / "test").mkdir()
    with pytest.raises(ValueError, match=r"test has no folders; allowed is one per class"):
        image_folder.load(str(folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    assert len(image_folder.load(str(folder)).train_targets) == 6
