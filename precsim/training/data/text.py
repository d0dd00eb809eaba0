"""Characters of a text: Python's own documentation, or a file."""

from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data
from precsim.training.data.files import find, read_text

CONTEXT = 32
"""Characters that a model sees at once."""
CLASSES = 96
"""The printable ASCII characters and the end of a line."""
_MAX_TEST = 256


def load(data_dir: str) -> Data:
    """Cut a text into windows of 33 characters: 90 % for training, 256 of the others for testing.

    Examples are the first 32 characters of a window, labels the last 32. The text is ``text.txt``
    in `data_dir`. Without a folder it is the topics of Python's `help`, in the order of their
    names. Those change from one version of Python to the next: to compare runs bit by bit, give
    them the same file.
    """
    train, test = windows(data_dir)
    return Data(train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:], CLASSES, (CLASSES,))


def windows(data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of a text, (n, 33), for training and for testing."""
    text = read_text(find(Path(data_dir), "text.txt")) if data_dir else _topics()
    tokens = encode(text)
    count = len(tokens) // (CONTEXT + 1)
    if count < 20:
        raise ValueError(
            f"the text has {len(tokens)} characters; allowed are {20 * (CONTEXT + 1)} or more"
        )
    rows = tokens[: count * (CONTEXT + 1)].reshape(count, -1)
    train, test = np.split(rows, [count * 9 // 10])
    return train, test[:_MAX_TEST]


def _topics() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(text: str) -> np.ndarray:
    """Return an int32 per character: 0 ends a line, 1 to 95 are " " to "~"; others are "?"."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int32)
    tokens = np.where((codes >= 32) & (codes < 127), codes - 31, ord("?") - 31)
    return np.where(codes == ord("\n"), 0, tokens).astype(np.int32)


def decode(tokens: np.ndarray) -> str:
    """Return the characters of tokens."""
    return "".join("\n" if t == 0 else chr(31 + t) for t in tokens.reshape(-1).tolist())
