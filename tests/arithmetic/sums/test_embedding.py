"""Rows added by segment in a stated order, and embeddings whose gradients are such sums."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits


def rows(n: int = 40, segments: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their segments (some outside) and random bits."""
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((n, 3)) * 2.0 ** rng.integers(-6, 6, (n, 3))).astype(np.float32)
    ids = rng.integers(-1, segments + 1, n).astype(np.int32)
    return x, ids, rng.integers(0, 2**32, (n, 3), dtype=np.uint32)


def definition(x: Any, ids: Any, bits: Any, spec: str, segments: int) -> np.ndarray:
    totals = [[Fraction(0)] * x.shape[1] for _ in range(segments)]
    for n, segment in enumerate(ids):
        if 0 <= segment < segments:
            for j in range(x.shape[1]):
                exact = totals[segment][j] + Fraction(float(x[n, j]))
                rounded = ps.oracle.round_exact(exact, spec, random_bits=int(bits[n, j]))
                totals[segment][j] = Fraction(rounded.value)
    return np.array([[float(t) for t in row] for row in totals], np.float32)


@pytest.mark.parametrize("spec", ["bf16", "fp16:rtz", "e4m3:saturate", "q3.4:wrap", "bf16:sr8"])
def test_segment_sum_is_its_definition(spec: str) -> None:
    x, ids, bits = rows()
    noise = bits if "sr" in spec else None
    got = ps.segment_sum(x, ids, spec, num_segments=5, random_bits=noise)
    assert np.array_equal(got, definition(x, ids, bits, spec, 5))


@pytest.mark.long
def test_jit_vmap_and_long_arrays_have_the_bits_of_numpy() -> None:
    x, ids, bits = rows(1500)
    assert x.size > 4096 > x[:40].size

    def run(x: Any, ids: Any, bits: Any) -> Any:
        return ps.segment_sum(x, ids, "bf16:sr", num_segments=5, random_bits=bits)

    assert np.array_equal(run(x, ids, bits), definition(x, ids, bits, "bf16:sr", 5))
    two = [np.stack([part[:40], part[40:80]]) for part in (x, ids, bits)]
    expected = np.stack([run(*(part[j] for part in two)) for j in range(2)])
    assert_same_bits(jax.jit(jax.vmap(run))(*two), expected)


def test_empty_sums_are_zero() -> None:
    x, ids, _ = rows(0)
    assert_same_bits(ps.segment_sum(x, ids, "bf16", num_segments=2), np.zeros((2, 3), np.float32))
    x, ids, _ = rows(7)
    assert ps.segment_sum(x, ids, "bf16", num_segments=0).shape == (0, 3)


@pytest.mark.long
def test_gradients() -> None:
    """Of a segment sum: each row has its segment's cotangent. Of an embedding: a segment sum."""
    x, ids, bits = rows()
    g = np.arange(15, dtype=np.float32).reshape(5, 3)
    _, pull = jax.vjp(lambda x: ps.segment_sum(x, ids, "e4m3", num_segments=5), jnp.asarray(x))
    inside = ((ids >= 0) & (ids < 5))[:, None]
    assert np.array_equal(pull(jnp.asarray(g))[0], np.where(inside, g[ids.clip(0, 4)], 0))

    table = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    for spec, noise in (("bf16", None), ("bf16:sr", bits.reshape(8, 5, 3))):
        look_up = lambda t, spec=spec, noise=noise: ps.embedding(
            t, ids.reshape(8, 5), spec, random_bits=noise
        )
        y, pull = jax.vjp(jax.jit(look_up), jnp.asarray(table))
        assert np.array_equal(np.isnan(y[..., 0]).reshape(-1), ~inside[:, 0])
        assert_same_bits(np.asarray(y).reshape(-1, 3)[inside[:, 0]], table[ids[inside[:, 0]]])
        (gradient,) = pull(jnp.asarray(x.reshape(8, 5, 3)))
        assert np.array_equal(gradient, definition(x, ids, bits, spec, 5))
    assert_same_bits(ps.embedding(table, [4, 0], "bf16"), table[[4, 0]])


def test_bad_input_is_refused() -> None:
    x, ids, _ = rows()
    with pytest.raises(
        ValueError, match=r"segment_ids has shape \(39,\); allowed for data of shape"
    ):
        ps.segment_sum(x, ids[1:], "bf16", num_segments=5)
    with pytest.raises(TypeError, match="segment_ids has dtype float32; allowed are integers"):
        ps.segment_sum(x, x[:, 0], "bf16", num_segments=5)
    with pytest.raises(ValueError, match="num_segments is -1; allowed are integers from 0 on"):
        ps.segment_sum(x, ids, "bf16", num_segments=-1)
    with pytest.raises(ValueError, match="needs one integer per element of data"):
        ps.segment_sum(x, ids, "bf16:sr", num_segments=5)
    with pytest.raises(ValueError, match="a float32 carrier cannot hold fp64"):
        ps.embedding(x, ids, "fp64")
    with pytest.raises(TypeError, match="ids has dtype float32; allowed are integers"):
        ps.embedding(x, x[0], "bf16")
    with pytest.raises(ValueError, match=r"table has shape \(3,\); allowed is \(rows, features\)"):
        ps.embedding(x[0], ids, "bf16")
    with pytest.raises(ValueError, match="needs one integer per element of the result"):
        ps.embedding(x, ids, "bf16:sr")
