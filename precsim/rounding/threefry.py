"""Random bits from a seed and a counter alone: Threefry-2x32, 20 rounds, for NumPy and JAX.

Source: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, SC '11. JAX's
default generator is the same function.
"""

from typing import Any

import numpy as np

from precsim._arrays import Array

_U = np.uint32
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Array, Array]:
    """Return two words of random bits for two words of key and two of counter, uint32.

    Cost: about 110 operations.
    """
    keys = (*key, key[0] ^ key[1] ^ _U(_PARITY))
    # NumPy warns of scalars that wrap around, though not of arrays.
    with np.errstate(over="ignore"):
        x, y = counter[0] + keys[0], counter[1] + keys[1]
        for block in range(5):
            for rotation in _ROTATIONS[block % 2]:
                x = x + y
                y = ((y << _U(rotation)) | (y >> _U(32 - rotation))) ^ x
            x = x + keys[(block + 1) % 3]
            y = y + keys[(block + 2) % 3] + _U(block + 1)
    return x, y


def bits_at(seeds: Array, k: Any, stream: Any = 0) -> Array:
    """Return the random word of each seed for the `stream`-th rounding of step k.

    Parameters
    ----------
    seeds : array of uint32, shape (...)
        One word per element.
    k, stream : int
        The counter; the same in NumPy, under jit, vmap and on every device.

    Returns
    -------
    array of uint32, shape (...)
        First word of Threefry-2x32 with key (seed, 0) and counter (k, stream).
    """
    k, stream = (x.astype(_U) if hasattr(x, "dtype") else _U(x) for x in (k, stream))
    return threefry2x32((seeds, _U(0)), (k, stream))[0]
