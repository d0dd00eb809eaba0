"""Statistics count every number once, in its cell, however a tensor is cut and computed."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.what_if.cells import ends, num_cells, places
from precsim.analysis.what_if.statistics import COMPILED_FROM
from precsim.errors import BlockStatistics, TensorStatistics
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier

F32: Any = np.float32
CARRIERS = pytest.mark.parametrize("carrier", [FLOAT32, FLOAT64], ids=lambda c: c.name)


def patterns(carrier: Carrier, size: int, seed: int = 0) -> np.ndarray:
    """Return numbers of random bits: subnormals, infinities and NaN of both signs among them."""
    u = carrier.uint
    words = np.random.default_rng(seed).integers(0, 1 << 63, size, dtype=np.uint64) << np.uint64(1)
    bits = (words >> np.uint64(64 - carrier.width)).astype(carrier.uint_dtype)
    bits[:200] &= u(carrier.sign_bit | ((1 << carrier.trailing) - 1))  # subnormals
    bits[:5] = [0, 1, carrier.infinity - 1, carrier.infinity, carrier.infinity + 1]
    bits[5:10] = bits[:5] | u(carrier.sign_bit)
    return bits.view(carrier.float_dtype)


def rows(stats: TensorStatistics) -> dict[int, list[int]]:
    """Return the rows that are not empty, by exponent."""
    table = np.asarray(stats.counts)
    return {stats.first_exponent + int(n): table[n].tolist() for n in np.flatnonzero(table.any(1))}


def assert_same(x: TensorStatistics, y: TensorStatistics) -> None:
    """Compare every count; rows of zeros may be left out."""
    assert rows(x) == rows(y)
    assert np.asarray(x.specials).tolist() == np.asarray(y.specials).tolist()
    assert float(x.amax) == float(y.amax)
    assert (x.blocks is None) == (y.blocks is None)
    if x.blocks is not None and y.blocks is not None:
        for name in ("counts", "exponents", "specials"):
            a, b = (np.asarray(getattr(each.blocks, name)) for each in (x, y))
            assert a.tolist() == b.tolist(), name
        np.testing.assert_allclose(x.blocks.energies, y.blocks.energies, rtol=1e-5)


@CARRIERS
def test_every_number_is_between_the_ends_of_its_cell(carrier: Carrier) -> None:
    u, trailing = carrier.uint, carrier.trailing
    near = [1 << n for n in range(trailing)]
    rest = [n + k for n in (*near, 0, 1 << trailing) for k in (-1, 0, 1)]
    rest += [(1 << trailing) - n + k for n in near for k in (-1, 0, 1)]
    rest += np.random.default_rng(0).integers(0, 1 << trailing, 2000).tolist()
    bits = np.array([n % (1 << trailing) for n in rest], carrier.uint_dtype)
    at = places(bits | u(carrier.pattern(1, 0)) | u(carrier.sign_bit), carrier)
    assert (at.exponent == 0).all()
    cell = at.cell - num_cells(carrier)
    edges = ends(carrier)
    assert (edges.first[cell] <= bits.astype(np.int64)).all()
    assert (bits.astype(np.int64) <= edges.last[cell]).all()
    # No two cells overlap.
    used = np.unique(cell)
    first, last = edges.first[used], edges.last[used]
    order = np.argsort(first)
    assert (first[order][1:] > last[order][:-1]).all()


@CARRIERS
def test_merged_statistics_are_those_of_the_concatenation(carrier: Carrier) -> None:
    x = patterns(carrier, 3000)
    x[2000:] = carrier.float_dtype(0.01)  # of other exponents
    a, b, c = (ps.errors.statistics(part) for part in (x[:700], x[700:2000], x[2000:]))
    whole = ps.errors.statistics(x)
    assert_same(a.merge(b).merge(c), whole)
    assert_same(c.merge(b.merge(a)), whole)
    assert_same(whole.merge(ps.errors.statistics(np.zeros(0, x.dtype))), whole)
    assert whole.elements == 3000
    assert whole.nonzero == np.count_nonzero(x) - np.isnan(x).sum()


def test_merged_blocks_are_those_of_the_concatenation() -> None:
    x = patterns(FLOAT32, 1200).reshape(12, 100)
    parts = [ps.errors.statistics(part, block_size=32) for part in (x[:5], x[5:])]
    whole = ps.errors.statistics(x, block_size=32)
    assert_same(parts[0].merge(parts[1]), whole)
    blocks = whole.blocks
    assert isinstance(blocks, BlockStatistics)
    assert sum(blocks.by_exponent().values()) + int(blocks.specials[:2].sum()) == 48


def test_jitted_statistics_have_the_counts_of_numpy_and_so_have_devices_together() -> None:
    x = patterns(FLOAT32, 640).reshape(8, 80)
    expected = ps.errors.statistics(x, block_size=32)

    def everywhere(x: jax.Array) -> TensorStatistics:
        each: Any = jax.vmap(
            lambda x: ps.errors.statistics(x, block_size=32).all_reduce("device"),
            axis_name="device",
            out_axes=None,
        )
        found: TensorStatistics = each(x.reshape(4, 2, 80))
        return found.merge(found)

    twice = expected.merge(expected)
    assert_same(jax.jit(everywhere)(jnp.asarray(x)), twice)


def test_large_arrays_are_counted_in_compiled_pieces() -> None:
    x = patterns(FLOAT32, COMPILED_FROM + 7)
    some = [ps.errors.statistics(part) for part in np.array_split(x, 2)]
    assert_same(ps.errors.statistics(x), some[0].merge(some[1]))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_narrow_floats_count_as_float32(dtype: type) -> None:
    x = F32([0.5, -3.0, 0.0, 448.0, np.nan, -0.0, 0.5]).astype(dtype)
    assert_same(ps.errors.statistics(x), ps.errors.statistics(x.astype(np.float32)))


def test_amax_is_exact_down_to_the_last_subnormal() -> None:
    x = F32([2.0**-149, -3 * 2.0**-149, 0.0])
    assert float(ps.errors.statistics(x).amax) == 3 * 2.0**-149
    assert float(ps.errors.statistics(jnp.asarray(x)).amax) == 3 * 2.0**-149
    infinite = F32([np.inf, np.nan, -2.5])
    assert float(ps.errors.statistics(infinite).amax) == 2.5
    empty = ps.errors.statistics(np.zeros((0, 3), np.float32), block_size=2)
    assert (empty.elements, empty.nonzero, float(empty.amax)) == (0, 0, 0.0)


def test_exponents_are_those_of_exponent_histogram() -> None:
    x = patterns(FLOAT32, 3000)
    got, expected = ps.errors.statistics(x).exponents, ps.errors.exponent_histogram(x)
    assert got.exponents.tolist() == expected.exponents.tolist()
    assert np.asarray(got.counts).tolist() == np.asarray(expected.counts).tolist()
    assert got[2:] == expected[2:]
    assert ps.errors.statistics(F32([0.0])).exponents.exponents.size == 0


def test_messages() -> None:
    stats = ps.errors.statistics(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="x has dtype complex64; allowed are float32"):
        ps.errors.statistics(np.ones(3, np.complex64))
    with pytest.raises(ValueError, match=r"block_size is 0; allowed are integers from 1 on"):
        ps.errors.statistics(np.ones(3, np.float32), block_size=0)
    with pytest.raises(ValueError, match="axis is 1"):
        ps.errors.statistics(np.ones(3, np.float32), block_size=2, axis=1)
    with pytest.raises(ValueError, match="other has statistics of float64 values"):
        stats.merge(ps.errors.statistics([1.0]))
    with pytest.raises(TypeError, match="other is float"):
        stats.merge(1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other has blocks or has none"):
        stats.merge(ps.errors.statistics(np.ones(3, np.float32), block_size=2))
    with pytest.raises(ValueError, match="other has blocks of 3, these statistics of 2"):
        ps.errors.statistics(np.ones(3, np.float32), block_size=2).merge(
            ps.errors.statistics(np.ones(3, np.float32), block_size=3)
        )
