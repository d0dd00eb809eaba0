"""Codes of any width without gaps: how narrow formats lie in memory."""

import numpy as np

from precsim._arrays import Array, ArrayLike, as_integers, namespace
from precsim._calls import call

LARGEST_WIDTH = 16


def pack_codes(codes: ArrayLike, width: int) -> Array:
    """Store codes of `width` bits one after the other, without gaps, along the last axis.

    Parameters
    ----------
    codes : array_like of int, shape (..., n)
        Codes in the low `width` bits; higher bits are ignored, so negative integers keep their
        two's complement.
    width : int
        Bits of a code, 1 to 16.

    Returns
    -------
    ndarray or jax.Array of uint8, shape (..., ceil(n * width / 8))
        Bytes; the unused high bits of the last byte of a row are 0. Same library as `codes`.

    Raises
    ------
    ValueError
        If `width` is out of range, or `codes` has no axis.
    TypeError
        If `codes` are not integers.

    Notes
    -----
    Little-endian within bytes: with ``n = j * width + b``, bit b of code j is bit ``n % 8`` of byte
    ``n // 8``. So 4-bit codes lie two in a byte, the first in the low nibble (as torchao and
    NVIDIA's ``e2m1x2`` have it), 6-bit codes four in three bytes, 16-bit codes as little-endian
    words.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.pack_codes([0x1, 0x2, 0xF], 4).tolist() == [0x21, 0x0F]
    True
    >>> ps.unpack_codes(ps.pack_codes([1, 2, 3, 63], 6), 6, 4).tolist()
    [1, 2, 3, 63]
    """
    return call(_pack, width, _integers(codes, width, "codes"))


def _pack(width: int, codes: Array) -> Array:
    xp = namespace(codes)
    words = codes.astype(np.uint16)
    bits = xp.stack([(words >> np.uint16(k)) & np.uint16(1) for k in range(width)], axis=-1)
    row = bits.astype(np.uint8).reshape(*codes.shape[:-1], codes.shape[-1] * width)
    return xp.packbits(row, axis=-1, bitorder="little")


def unpack_codes(packed: ArrayLike, width: int, count: int) -> Array:
    """Return the codes that `pack_codes` stored.

    Parameters
    ----------
    packed : array_like of uint8, shape (..., m)
        Bytes.
    width : int
        Bits of a code, 1 to 16.
    count : int
        Codes in a row, n.

    Returns
    -------
    ndarray or jax.Array of uint8 or uint16, shape (..., n)
        Codes, in the smaller type that holds `width` bits; same library as `packed`.

    Raises
    ------
    ValueError
        If `width` is out of range, or the rows are too short for `count` codes.
    TypeError
        If `packed` is not of dtype uint8.

    Examples
    --------
    >>> import numpy as np
    >>> import precsim as ps
    >>> ps.unpack_codes(np.uint8([0x21, 0x0F]), 4, 3).tolist()
    [1, 2, 15]
    """
    packed = _integers(packed, width, "packed")
    if packed.dtype != np.uint8:
        raise TypeError(f"packed has dtype {packed.dtype}; allowed is uint8")
    if not 0 <= count * width <= 8 * packed.shape[-1]:
        raise ValueError(
            f"count is {count}; allowed for rows of {packed.shape[-1]} bytes are 0 to "
            f"{8 * packed.shape[-1] // width} codes of {width} bits"
        )
    return call(_unpack, (width, count), packed)


def _unpack(option: tuple[int, int], packed: Array) -> Array:
    width, count = option
    xp = namespace(packed)
    row = xp.stack([(packed >> np.uint8(k)) & np.uint8(1) for k in range(8)], axis=-1)
    row = row.reshape(*packed.shape[:-1], 8 * packed.shape[-1])[..., : count * width]
    bits = row.reshape(*packed.shape[:-1], count, width).astype(np.uint16)
    words = xp.zeros(bits.shape[:-1], np.uint16)
    for k in range(width):
        words = words | (bits[..., k] << np.uint16(k))
    return words.astype(np.uint8 if width <= 8 else np.uint16)


def _integers(x: ArrayLike, width: int, argument: str) -> Array:
    if not 1 <= width <= LARGEST_WIDTH:
        raise ValueError(f"width is {width}; allowed are 1 to {LARGEST_WIDTH}")
    array = as_integers(x, argument)
    if array.ndim == 0:
        raise ValueError(f"{argument} has shape (); allowed are arrays of at least one axis")
    return array
