"""Small valid folders of files, one for each task that reads files, with seven images or so."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, TEST = 7, 3


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def codes(*shape: int) -> np.ndarray:
    return random().integers(0, 256, shape).astype(np.uint8)


def labels(count: int) -> np.ndarray:
    return (np.arange(count) * 3 % 10).astype(np.uint8)


def idx_bytes(values: np.ndarray) -> bytes:
    magic = 0x800 + values.ndim
    return struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()


def write_idx(folder: Path) -> None:
    """Two of the files are plain, two are compressed."""
    for part, count, ending in (("train", TRAIN, ""), ("t10k", TEST, ".gz")):
        for name, values in (
            (f"{part}-images-idx3-ubyte", codes(count, 8, 4)),
            (f"{part}-labels-idx1-ubyte", labels(count)),
        ):
            content = idx_bytes(values)
            content = gzip.compress(content, mtime=0) if ending else content
            (folder / f"{name}{ending}").write_bytes(content)


def write_cifar10(folder: Path) -> None:
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        records = np.concatenate([labels(2)[:, None] + np.uint8(number // 5), codes(2, 3072)], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def image_bytes(kind: str, height: int, width: int, shade: int | None = None) -> bytes:
    from PIL import Image

    pixels = codes(height, width, 3) if shade is None else np.full((height, width, 3), shade)
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, kind)
    return content.getvalue()


def write_images(folder: Path) -> None:
    for part, names in (("train", ("a.png", "b.JPEG", "c.ppm")), ("val", ("d.jpg",))):
        for shade, name in enumerate(("cat", "dog")):
            place = folder / part / name
            place.mkdir(parents=True)
            for file in names:
                kind = {"png": "PNG", "ppm": "PPM"}.get(file[2:], "JPEG")
                (place / file).write_bytes(image_bytes(kind, 9, 12, 64 + 64 * shade))


def write_imdb(folder: Path) -> None:
    reviews = {
        "train/neg/0_1.txt": "A bad film.<br /><br />Bad, bad!",
        "train/neg/1_2.txt": "Don't see it",
        "train/pos/0_9.txt": "A good film",
        "train/pos/1_10.txt": "good " * 70 + "end",
        "test/neg/0_3.txt": "bad unseen words",
        "test/pos/0_7.txt": "",
    }
    for name, text in reviews.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


U_DATA = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t377\t1\t878887116\n"
U_DATA += "244\t51\t2\t880606923\n166\t346\t1\t886397596\n22\t51\t5\t886397597\n"


def write_u_data(folder: Path) -> None:
    (folder / "u.data").write_text(U_DATA)


def write_csv(folder: Path) -> None:
    rows = U_DATA.replace("\t", ",").replace(",3,", ",3.5,")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)


def arrays() -> dict[str, Any]:
    return {
        "x_train": random(1).normal(size=(TRAIN, 8, 4)),
        "y_train": np.arange(TRAIN) % 3,
        "x_test": random(2).normal(size=(TEST, 8, 4)).astype(np.float32),
        "y_test": np.arange(TEST, dtype=np.uint8),
    }


def write_npy(folder: Path) -> None:
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", np.asfortranarray(array))


def write_npz(folder: Path) -> None:
    np.savez_compressed(folder / "mine.npz", allow_pickle=False, **arrays())


def write_text(folder: Path) -> None:
    (folder / "text.txt").write_text("".join(chr(32 + k % 95) for k in range(1000)) + "\n")


WRITERS: dict[tuple[str, str], Callable[[Path], None]] = {
    ("mnist", "idx"): write_idx,
    ("fashion", "idx"): write_idx,
    ("cifar10", "bin"): write_cifar10,
    ("images", "folders"): write_images,
    ("imdb", "folders"): write_imdb,
    ("movielens", "tabs"): write_u_data,
    ("movielens", "csv"): write_csv,
    ("arrays", "npy"): write_npy,
    ("arrays", "npz"): write_npz,
    ("text", "plain"): write_text,
    ("masked", "plain"): write_text,
}
"""By task and form of the files."""
