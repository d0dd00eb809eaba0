"""Packed codes: the layout bit by bit, and the way back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps


def packed_by_hand(codes: list[int], width: int) -> list[int]:
    """Write the row as one integer, the first code lowest."""
    number = sum((code & ((1 << width) - 1)) << (width * k) for k, code in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * width // 8), "little"))


@pytest.mark.parametrize("width", range(1, 17))
def test_every_width_there_and_back(width: int) -> None:
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 1 << width, (3, 2, 13)).astype(np.uint16 if width > 8 else np.uint8)
    packed = ps.pack_codes(codes, width)
    assert packed.dtype == np.uint8
    assert packed.shape == (3, 2, -(-13 * width // 8))
    assert packed[1, 1].tolist() == packed_by_hand(codes[1, 1].tolist(), width)
    back = ps.unpack_codes(packed, width, 13)
    assert back.dtype == codes.dtype
    assert np.array_equal(back, codes)


@pytest.mark.parametrize("width", [4, 6, 11])
def test_jax_gives_the_same_bytes(width: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << width, (4, 32)).astype(np.uint16)
    packed = ps.pack_codes(codes, width)
    by_jax = jax.jit(ps.pack_codes, static_argnums=1)(jnp.asarray(codes), width)
    assert isinstance(by_jax, jax.Array)
    assert np.array_equal(by_jax, packed)
    back = jax.jit(ps.unpack_codes, static_argnums=(1, 2))(by_jax, width, 32)
    assert np.array_equal(back, codes)


def test_nibbles_are_low_first_and_six_bits_lie_four_in_three_bytes() -> None:
    assert ps.pack_codes([0x1, 0xE], 4).tolist() == [0xE1]
    assert ps.pack_codes([0x3F, 0, 0, 0x3F], 6).tolist() == [0x3F, 0x00, 0xFC]
    assert ps.pack_codes([0x1234], 16).tolist() == [0x34, 0x12]


def test_negative_codes_keep_their_low_bits() -> None:
    codes = np.array([-8, -1, 7], np.int8)
    back = ps.unpack_codes(ps.pack_codes(codes, 4), 4, 3)
    assert back.tolist() == [8, 15, 7]
    assert ((back.astype(np.int8) ^ 8) - 8).tolist() == codes.tolist()
    assert ps.pack_codes(np.array([-2], np.int8), 16).tolist() == [0xFE, 0xFF]


def test_stored_size_is_that_of_the_format() -> None:
    for name in ("mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "nvfp4"):
        fmt: Any = ps.get_format(name)
        q = ps.quantize(np.ones((3, 64), np.float32), fmt)
        packed = ps.pack_codes(q.codes, fmt.element.width)
        assert packed.size + q.scales.size == 3 * 64 * fmt.bits_per_element / 8


@pytest.mark.parametrize(
    ("codes", "width", "error", "words"),
    [
        ([1, 2], 0, ValueError, "width is 0; allowed are 1 to 16"),
        ([1, 2], 17, ValueError, "width is 17"),
        ([1.0], 4, TypeError, "codes has dtype float64; allowed are integers"),
        (3, 4, ValueError, r"codes has shape \(\)"),
    ],
)
def test_wrong_arguments_of_pack(
    codes: Any, width: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ps.pack_codes(codes, width)


def test_wrong_arguments_of_unpack() -> None:
    with pytest.raises(TypeError, match="packed has dtype uint16; allowed is uint8"):
        ps.unpack_codes(np.array([1], np.uint16), 4, 2)
    with pytest.raises(
        ValueError, match="count is 3; allowed for rows of 1 bytes are 0 to 2 codes"
    ):
        ps.unpack_codes(np.array([1], np.uint8), 4, 3)
