"""Weights on disk, in the safetensors format."""

from pathlib import Path

import numpy as np

from precsim.training.replay.files import write_whole


def save_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write weights to a new file; an existing one is refused."""
    from safetensors.numpy import save

    if path.exists():
        raise FileExistsError(f"{path} exists; weights are not overwritten")
    write_whole(path, save({name: np.asarray(w, order="C") for name, w in weights.items()}))


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Read weights that `save_weights` wrote.

    Raises
    ------
    OSError
        If the file cannot be read; the message names it.
    ValueError
        If the file is damaged, or is not a file of tensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file of tensors is wanted")
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise ValueError(f"{path} is not a file of tensors: {error}") from None
