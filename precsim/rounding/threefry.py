"""Random bits from a seed and a counter alone: Threefry-2x32, 20 rounds, for NumPy, JAX and Python.

Source: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, SC '11. JAX's
default generator is the same function.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from precsim._arrays import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


class Word(int):
    """An integer of 32 bits, for the definitions: what goes beyond them is lost, as in arrays."""

    def __new__(cls, value: int) -> Self:
        """Keep the low 32 bits."""
        return super().__new__(cls, value & 0xFFFFFFFF)

    def __add__(self, other: int) -> "Word":
        """Add modulo 2**32."""
        return Word(int(self) + other)

    def __lshift__(self, count: int) -> "Word":
        """Shift to the left."""
        return Word(int(self) << count)

    def __rshift__(self, count: int) -> "Word":
        """Shift to the right."""
        return Word(int(self) >> count)

    def __or__(self, other: int) -> "Word":
        """Combine by or."""
        return Word(int(self) | other)

    def __xor__(self, other: int) -> "Word":
        """Combine by exclusive or."""
        return Word(int(self) ^ other)


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return two words of random bits for two words of key and two of counter, uint32 or `Word`.

    Cost: about 110 operations.
    """
    if isinstance(key[0], Word):
        return _rounds(key, counter, Word)
    import numpy as np

    # NumPy warns of scalars that wrap around, though not of arrays.
    with np.errstate(over="ignore"):
        return _rounds(key, counter, np.uint32)


def _rounds(
    key: tuple[Any, Any], counter: tuple[Any, Any], word: Callable[[int], Any]
) -> tuple[Any, Any]:
    keys = (*key, key[0] ^ key[1] ^ word(_PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = x + y
            y = ((y << word(rotation)) | (y >> word(32 - rotation))) ^ x
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + word(block + 1)
    return x, y


def bits_at(seeds: "Array | Word", k: Any, stream: Any = 0) -> Any:
    """Return the random word of each seed for the `stream`-th rounding of step k.

    Parameters
    ----------
    seeds : array of uint32, shape (...), or Word
        One word per element.
    k, stream : int
        The counter; the same in NumPy, under jit, vmap and on every device.

    Returns
    -------
    array of uint32, shape (...), or Word
        First word of Threefry-2x32 with key (seed, 0) and counter (k, stream).
    """
    if isinstance(seeds, Word):
        return threefry2x32((seeds, Word(0)), (Word(k), Word(stream)))[0]
    import numpy as np

    u = np.uint32
    k, stream = (x.astype(u) if hasattr(x, "dtype") else u(x) for x in (k, stream))
    return threefry2x32((seeds, u(0)), (k, stream))[0]
