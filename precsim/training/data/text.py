"""Characters of a text: Python's own documentation, or a file."""

from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data

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
    text = _topics() if not data_dir else _read(Path(data_dir) / "text.txt")
    tokens = encode(text)
    windows = len(tokens) // (CONTEXT + 1)
    if windows < 20:
        raise ValueError(
            f"the text has {len(tokens)} characters; allowed are {20 * (CONTEXT + 1)} or more"
        )
    rows = tokens[: windows * (CONTEXT + 1)].reshape(windows, -1)
    train, test = np.split(rows, [windows * 9 // 10])
    test = test[:_MAX_TEST]
    return Data(train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:], CLASSES, (CLASSES,))


def _topics() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"--data-dir has no {path.name} (looked for {path})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from None


def encode(text: str) -> np.ndarray:
    """Return an int32 per character: 0 ends a line, 1 to 95 are " " to "~"; others are "?"."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int32)
    tokens = np.where((codes >= 32) & (codes < 127), codes - 31, ord("?") - 31)
    return np.where(codes == ord("\n"), 0, tokens).astype(np.int32)


def decode(tokens: np.ndarray) -> str:
    """Return the characters of tokens."""
    return "".join("\n" if t == 0 else chr(31 + t) for t in tokens.reshape(-1).tolist())
