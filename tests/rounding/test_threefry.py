"""Threefry-2x32: the published known answers, JAX's own generator, NumPy and jit."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest

from precsim.rounding.threefry import bits_at, threefry2x32

# Random123 (Salmon et al.), file kat_vectors, threefry2x32 20: counter, key, answer.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(
    counter: tuple[int, int], key: tuple[int, int], answer: tuple[int, int]
) -> None:
    words = [(np.uint32(x), np.uint32(y)) for x, y in (key, counter)]
    assert tuple(map(int, threefry2x32(words[0], words[1]))) == answer
    jitted = jax.jit(threefry2x32)(*(tuple(map(jnp.uint32, pair)) for pair in (key, counter)))
    assert tuple(map(int, jitted)) == answer


@pytest.mark.long
def test_the_generator_of_jax() -> None:
    seeds = np.random.default_rng(0).integers(0, 2**32, (3, 5), dtype=np.uint32)
    for k, stream in ((0, 0), (7, 2), (2**32 - 1, 1)):
        got = np.asarray(bits_at(seeds, k, stream))
        for seed, word in zip(seeds.flat, got.flat, strict=True):
            key, counter = (jnp.array(x, jnp.uint32) for x in ([seed, 0], [k, stream]))
            assert int(jax.extend.random.threefry_2x32(key, counter)[0]) == word
        jitted = jax.jit(bits_at)(seeds, jnp.uint32(k), jnp.uint32(stream))
        assert np.array_equal(jitted, got)
        assert np.array_equal(jax.vmap(lambda s, k=k, i=stream: bits_at(s, k, i))(seeds), got)


def test_bits_of_steps_and_of_seeds_are_even() -> None:
    """Each bit is set in half of 20,000 words within 5 sigma, along k and along seeds."""
    k, seeds = np.arange(20_000, dtype=np.uint32), np.arange(20_000, dtype=np.uint32)
    for words in (bits_at(np.array(3, np.uint32), k), bits_at(seeds, 5)):
        counts = [np.count_nonzero((words >> np.uint32(bit)) & np.uint32(1)) for bit in range(32)]
        assert np.abs(np.array(counts) - 10_000).max() < 5 * 0.5 * np.sqrt(20_000)
        assert len(np.unique(words)) > 19_990
