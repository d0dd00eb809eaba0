"""Weights on disk, in the safetensors format."""

from pathlib import Path

import numpy as np


def save_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write weights to a new file; an existing one is refused."""
    from safetensors.numpy import save_file

    if path.exists():
        raise FileExistsError(f"{path} exists; weights are not overwritten")
    save_file({name: np.asarray(w, order="C") for name, w in weights.items()}, path)


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Read weights that `save_weights` wrote."""
    from safetensors.numpy import load_file

    return dict(load_file(path))
