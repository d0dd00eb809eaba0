"""Tiles of columns: they change the layout, never a bit; no temporary grows with M N K."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.products.tensor_core import step
from precsim.products.tensor_core.tiles import tiles_of
from tests.products.tensor_core.test_product import bits, operands


@pytest.mark.parametrize("columns", [1, 7, 64, 65, 128, 150, 1000])
def test_split_and_join(columns: int) -> None:
    x = np.arange(2 * 3 * columns).reshape(2, 3, columns)
    for rows_a_step in (1, 16, 64):
        tiles = tiles_of(columns, rows_a_step, is_compiled=True)
        parts = tiles.split(x)
        assert parts.shape == (tiles.number, 2, 3, tiles.width)
        np.testing.assert_array_equal(tiles.join(parts), x)
        assert tiles.number == 1 or tiles.width % 16 == 0
        assert tiles.width <= max(16, 2048 // rows_a_step)
        assert tiles_of(columns, rows_a_step, is_compiled=False) == (1, columns, columns)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kind"),
    [("h100:e4m3:promote128", "bits"), ("h100:fp16:splitk2x32", "finite")],
)
def test_several_tiles_have_the_bits_of_numpy(name: str, kind: str) -> None:
    """150 columns, not a multiple of a tile, and batches that only one operand has."""
    a, b, c = operands(name, (3, 150, 70), kind)
    assert tiles_of(150, 16, is_compiled=True).number > 1
    stacked = np.stack([a, a[::-1]])
    got = jax.jit(lambda a, b, c: ps.matmul(a, b, name, c=c, backend="emulated"))(stacked, b, c)
    expected = ps.matmul(stacked, b, name, c=c, backend="reference")
    assert (bits(got) == bits(expected)).all()


@pytest.mark.long
def test_steps_of_more_products_than_a_word_has_bits() -> None:
    name = "e4m3_e5m2_fp32[rtz]:fused40x12"
    for kind in ("finite", "bits"):
        a, b, c = operands(name, (2, 3, 90), kind)
        exact = [
            [
                ps.oracle.fused_dot_exact(a[i].tolist(), b[:, j].tolist(), float(c[i, j]), name)
                for j in range(3)
            ]
            for i in range(2)
        ]
        expected = np.array(exact, np.float32)
        for backend in ("reference", "emulated"):
            got = np.asarray(ps.matmul(a, b, name, c=c, backend=backend))
            same = (bits(got) == bits(expected)) | (np.isnan(got) & np.isnan(expected))
            assert same.all(), (kind, backend)


def test_a_nudge_needs_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bits of its own, a nudge changes products that are not cut off.

    Without a nudge, negative products are too low.
    """
    a, b, c = operands("h100:e4m3", (4, 5, 64), "finite")
    expected = ps.matmul(a, b, "h100:e4m3", c=c, backend="reference")

    def wrong() -> Any:
        got = ps.matmul(a, b, "h100:e4m3", c=c, backend="reference")
        return (bits(got) != bits(expected)).sum()

    assert wrong() == 0
    monkeypatch.setattr(step, "lift", lambda core: core.block.fraction_bits - core.term_bits)
    assert wrong() > 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["h100:bf16", "fp16_fp16_fp16:adder=fp32", "bf16_bf16_bf16"])
def test_no_temporary_of_all_products(name: str) -> None:
    """Memory beside operands and result is a small multiple of them.

    A third of M N K would be 3 MiB more.
    """
    m = n = k = 128
    zeros = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    product = jax.jit(lambda a, b: ps.matmul(a, b, name, backend="emulated"))
    analysis = product.lower(*zeros).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 16 * 4 * (m * k + k * n + m * n)
    assert 16 * (m * k + k * n + m * n) < m * n * k
