"""CIFAR-10 in its binary version: 60,000 small photographs of ten classes."""

from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data, pixels
from precsim.training.data.files import find, folder_of, named, read_all
from precsim.training.data.idx import check_labels

CLASSES = 10
SIZE = 32
_RECORD = 1 + 3 * SIZE * SIZE


def load(data_dir: str) -> Data:
    """Read ``data_batch_1.bin`` to ``data_batch_5.bin`` for training, ``test_batch.bin`` for tests.

    Pixels 0 to 255 divided by 256, exact with 8 significand bits. The files may be in the folder
    ``cifar-10-batches-bin``, which the published archive unpacks to. Source: A. Krizhevsky,
    Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    folder = folder_of(data_dir, "cifar-10-batches-bin")
    parts = [_read(find(folder, f"data_batch_{number}.bin")) for number in range(1, 6)]
    test_images, test_labels = _read(find(folder, "test_batch.bin"))
    images, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Data(pixels(images), labels, pixels(test_images), test_labels, CLASSES)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images and labels; a record is a label, then the red, green and blue planes."""
    content = read_all(path)
    if not content or len(content) % _RECORD:
        raise ValueError(
            f"{named(path)} has {len(content)} bytes; allowed are multiples of {_RECORD}, the size "
            "of a record"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    check_labels(records[:, 0], CLASSES, path)
    images = records[:, 1:].reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    return images, records[:, 0].astype(np.int32)
