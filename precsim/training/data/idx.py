"""Images and labels in IDX files: MNIST, and what is published in the same form."""

import math
import struct
from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data, pixels
from precsim.training.data.files import find, folder_of, most_in, named, opened, read_up_to

CLASSES = 10
_UNSIGNED_BYTES = 0x800
"""The magic number of an IDX file of unsigned bytes, to which the number of axes is added."""


def load(data_dir: str) -> Data:
    """Read the four files of MNIST or Fashion-MNIST, each plain or with the ending .gz.

    Pixels 0 to 255 divided by 256, exact with 8 significand bits. The split is the published one.
    The files may be in ``MNIST/raw`` or ``FashionMNIST/raw`` too. Sources: Y. LeCun, C. Cortes,
    C. J. C. Burges, The MNIST database of handwritten digits, 1998; H. Xiao, K. Rasul, R. Vollgraf,
    Fashion-MNIST, arXiv:1708.07747.
    """
    folder = folder_of(data_dir, "MNIST/raw", "FashionMNIST/raw")
    train, train_labels = _part(folder, "train")
    test, test_labels = _part(folder, "t10k")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"images for training in {named(folder)} have shape {train.shape[1:-1]}, those for "
            f"testing {test.shape[1:-1]}; allowed is one shape"
        )
    return Data(pixels(train), train_labels, pixels(test), test_labels, CLASSES)


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images_path = _find(folder, f"{part}-images-idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    labels = read(labels_path, 1)
    images = read(images_path, 3)
    if len(images) != len(labels):
        raise ValueError(
            f"{named(images_path)} has {len(images)} images, {named(labels_path)} {len(labels)} "
            "labels; allowed is one label per image"
        )
    check_labels(labels, CLASSES, labels_path)
    return images[..., None], labels.astype(np.int32)


def _find(folder: Path, name: str) -> Path:
    return find(folder, name, f"{name}.gz")


def check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    """Refuse labels that are no class."""
    if labels.max() >= classes:
        index = int(np.argmax(labels >= classes))
        raise ValueError(
            f"{named(path)} has label {labels[index]} at index {index}; "
            f"allowed are 0 to {classes - 1}"
        )


def read(path: Path, axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes with this number of axes.

    Source: the page of the MNIST database, "File formats": a magic number, the sizes as 32-bit
    integers, most significant byte first, then the values.
    """
    with opened(path) as file:
        header = read_up_to(file, 4 + 4 * axes)
        if len(header) < 4 + 4 * axes:
            raise ValueError(f"{named(path)} ends inside its header of {4 + 4 * axes} bytes")
        magic, *shape = struct.unpack(f">{1 + axes}I", header)
        if magic != _UNSIGNED_BYTES + axes:
            raise ValueError(
                f"{named(path)} begins with the magic number {magic:#010x}; allowed for an IDX "
                f"file of unsigned bytes with {axes} axes is {_UNSIGNED_BYTES + axes:#010x}"
            )
        declared = math.prod(shape)
        says = f"{named(path)} declares shape {tuple(shape)}"
        if not declared:
            raise ValueError(f"{says}; allowed are sizes from 1 on")
        most = most_in(path) - len(header)
        if declared > most:
            raise ValueError(f"{says}, which takes {declared} bytes; it can hold {most} at most")
        values = read_up_to(file, declared + 1)
    if len(values) != declared:
        more = "more" if len(values) > declared else len(values)
        raise ValueError(f"{says}, which takes {declared} bytes; it holds {more}")
    return np.frombuffer(values, np.uint8).reshape(shape)
