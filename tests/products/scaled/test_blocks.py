"""MX and NVFP4 operands in ordinary products, against the oracle of block formats."""

from fractions import Fraction
from itertools import chain
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.oracle import quantize_blocks_exactly
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32


def exact_values(x: np.ndarray, name: str) -> tuple[list[list[Fraction]], Fraction]:
    """Return element * scale of each row, exactly, and the scale of the array."""
    spec = ps.RoundingSpec.parse(name)
    assert isinstance(spec.format, ps.BlockFormat)
    size = spec.format.block_size
    blocks = [row[i : i + size].tolist() for row in x for i in range(0, len(row), size)]
    exact = quantize_blocks_exactly(blocks, spec)
    values = [
        [Fraction(v) * Fraction(scale) for v in elements]
        for elements, scale in zip(exact.elements, exact.scales, strict=True)
    ]
    per_row = -(-x.shape[1] // size)
    rows = [list(chain(*values[i : i + per_row])) for i in range(0, len(values), per_row)]
    return rows, Fraction(1 if exact.tensor_scale is None else exact.tensor_scale)


@pytest.mark.parametrize(
    "spec",
    [
        "mxfp8_mxfp8_fp32",
        "mxfp4_mxfp6_e3m2_fp16",
        "mxfp8_e5m2_bf16_fp32:pairwise",
        "nvfp4_nvfp4_fp32",
        "mxfp4_nvfp4_bf16:exact",
        "mxint8_mxint8_fp32:exact",
    ],
)
def test_sums_of_exact_products_of_elements_and_scales(spec: str) -> None:
    rng = np.random.default_rng(len(spec))
    a, b = single(rng.normal(size=(3, 40))), single(rng.normal(size=(40, 2)))
    a *= 2.0 ** rng.integers(-8, 8, (3, 40))
    parsed = ps.MatmulSpec.parse(spec)
    (x, s), (y, t) = (
        exact_values(v, str(part)) if str(part) != "bf16" else (exact_bf16(v), Fraction(1))
        for v, part in ((a, parsed.lhs), (b.T, parsed.rhs))
    )
    values = (
        single([[float(v) for v in row] for row in x]),
        single([[float(v) for v in row] for row in y]),
    )
    plain = f"raw_raw_{spec.rpartition('_')[2]}"
    sums = ps.matmul(values[0], values[1].T, plain, backend="reference")
    if s * t != 1:
        scale = F(float(s)) * F(float(t))
        sums = ps.multiply(sums, np.full_like(sums, scale), "fp32")
    assert_same_bits(ps.matmul(a, b, spec, backend="reference"), sums)


def exact_bf16(x: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(v)) for v in row] for row in ps.round_to(x, "bf16")]


def test_exact_order_is_the_exact_sum() -> None:
    """One rounding of a sum of fractions, elements and scales included."""
    rng = np.random.default_rng(1)
    a, b = single(rng.normal(size=(2, 40))), single(rng.normal(size=(40, 2)))
    x, _ = exact_values(a, "mxfp8_e4m3")
    y, _ = exact_values(b.T, "mxfp4")
    got = ps.matmul(a, b, "mxfp8_mxfp4_fp32:exact", backend="reference")
    for i, j in np.ndindex(2, 2):
        total = sum((p * q for p, q in zip(x[i], y[j], strict=True)), Fraction(0))
        assert got[i, j] == ps.oracle.round_exact(total, "fp32").value


@pytest.mark.long
def test_compiled_has_the_bits_of_numpy_and_takes_a_first_value() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (single(rng.normal(size=s)) for s in ((3, 40), (40, 4), (3, 4)))
    spec = "mxfp8_mxfp4_fp16->bf16"
    expected = ps.matmul(a, b, spec, c=c, backend="reference")
    assert_same_bits(ps.matmul(jnp.asarray(a), b, spec, c=c), expected)
    start = ps.matmul(np.zeros_like(a), b, spec, c=c, backend="reference")
    assert_same_bits(start, ps.round_to(c, "bf16"))
