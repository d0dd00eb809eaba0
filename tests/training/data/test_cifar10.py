"""The binary version of CIFAR-10."""

from pathlib import Path

import numpy as np
import pytest

from precsim.training.data import cifar10
from tests.training.data.small_files import codes, write_cifar10


def test_planes_become_channels_and_batches_keep_their_order(tmp_path: Path) -> None:
    inside = tmp_path / "cifar-10-batches-bin"
    inside.mkdir()
    write_cifar10(inside)
    data = cifar10.load(str(tmp_path))
    planes = codes(2, 3072).reshape(2, 3, 32, 32)
    assert data.train_inputs.shape == (10, 32, 32, 3)
    assert np.array_equal(data.train_inputs[3, :, :, 2] * 256, planes[1, 2])
    assert np.array_equal(data.test_inputs[1, 5, 6] * 256, planes[1, :, 5, 6])
    assert data.train_targets.tolist() == [0, 3] * 5
    assert data.test_targets.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes; allowed are multiples of 3073"),
        (bytes(3072), "has 3072 bytes; allowed are multiples of 3073"),
        (bytes(3073) + b"\x0a" + bytes(3072), "has label 10 at index 1; allowed are 0 to 9"),
    ],
)
def test_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^[^\n]*data_batch_3\.bin {message}[^\n]*$"):
        cifar10.load(str(tmp_path))


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_5.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"^--data-dir has no data_batch_5\.bin \(looked"):
        cifar10.load(str(tmp_path))
