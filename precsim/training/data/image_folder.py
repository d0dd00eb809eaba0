"""Images in folders, a folder for each class, as ImageNet is stored."""

import io
import warnings
from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data, pixels
from precsim.training.data.files import (
    MOST_BYTES,
    MOST_DEFLATED,
    files_of,
    first_line,
    folder_of,
    listed,
    named,
    read_all,
)

SIZE = 32
"""Height and width that every image is brought to."""
ENDINGS = (".png", ".jpg", ".jpeg", ".ppm")
_FORMATS = ("PNG", "JPEG", "PPM")
_MOST_PIXELS = 2**25
_MOST_OF_FILE = 2**26


def load(data_dir: str) -> Data:
    """Read ``train/CLASS/*`` and ``val/CLASS/*`` (or ``test/CLASS/*``): PNG, JPEG, PPM.

    The largest square at the centre of an image is resized to 32 by 32 (Pillow, bilinear), in
    8-bit RGB. Pixels 0 to 255 are divided by 256, exact with 8 significand bits. Classes are the
    folders of ``train`` in the order of their names, images come in the order of theirs. JPEG may
    be decoded with other bits by another version of Pillow: to compare runs bit by bit, use one.
    """
    folder = folder_of(data_dir)
    train = _classes(folder, "train")
    test = _classes(folder, "val", "test")
    names = [path.name for path in train]
    for path in test:
        if path.name not in names:
            raise ValueError(f"{named(path)} is a class that {named(folder / 'train')} has not")
    images, labels = _read(train, names)
    test_images, test_labels = _read(test, names)
    return Data(pixels(images), labels, pixels(test_images), test_labels, len(names))


def _classes(folder: Path, *parts: str) -> list[Path]:
    for part in parts:
        if (folder / part).is_dir():
            found = [path for path in listed(folder / part) if path.is_dir()]
            if found:
                return found
            raise ValueError(
                f"{named(folder / part)} has no folders; allowed is one per class, with its images"
            )
    raise FileNotFoundError(
        f"--data-dir has no folder {' or '.join(parts)} (looked for {named(folder / parts[0])})"
    )


def _read(classes: list[Path], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    for folder in classes:
        found = [file for file in files_of(folder) if file.suffix.lower() in ENDINGS]
        if not found:
            raise ValueError(f"{named(folder)} has no images; allowed are {', '.join(ENDINGS)}")
        files += found
        labels += [names.index(folder.name)] * len(found)
    taken = len(files) * SIZE * SIZE * 3
    if taken > MOST_BYTES:
        raise ValueError(
            f"{named(classes[0].parent)} has {len(files)} images, which take {taken} bytes of "
            f"pixels; allowed are {MOST_BYTES}"
        )
    images = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    for k, file in enumerate(files):
        images[k] = _image(file)
    return images, np.array(labels, np.int32)


def _image(path: Path) -> np.ndarray:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "task 'images' needs the package Pillow, which reads them: pip install pillow"
        ) from None
    # From a copy: Pillow reads pieces of the lengths that are declared, and takes memory for them.
    content = io.BytesIO(read_all(path, _MOST_OF_FILE))
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(content, formats=_FORMATS) as image,
        ):
            # So it does for the pixels that the header declares: no more than the file can hold.
            most = min(_MOST_PIXELS, 8 * MOST_DEFLATED * content.getbuffer().nbytes)
            if image.width * image.height > most:
                raise ValueError(
                    f"it declares {image.width} x {image.height} pixels; allowed are {most} for a "
                    "file of its size"
                )
            square = ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.asarray(square)
    except UnidentifiedImageError:
        raise ValueError(
            f"{named(path)} is no image that can be read; allowed are {', '.join(_FORMATS)}"
        ) from None
    except Exception as error:  # noqa: BLE001 (decoders raise all sorts)
        reason = first_line(error) or type(error).__name__
        raise ValueError(
            f"{named(path)} cannot be read as {', '.join(_FORMATS)}: {reason}"
        ) from None
