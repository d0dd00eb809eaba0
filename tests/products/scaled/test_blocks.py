"""MX and NVFP4 operands in ordinary products, against the oracle of block formats."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import jax
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
def test_forward_and_backward_use_the_same_weights_in_squares() -> None:
    """With 1 x 16 blocks the weights of dgrad differ from those of the forward product."""
    rng = np.random.default_rng(3)
    w = single(rng.normal(size=(40, 24)) * 2.0 ** rng.integers(-4, 4, (40, 1)))
    policy = "nvfp4,fwd=raw_{0}_fp32,dgrad=raw_{0}_fp32,wgrad=raw_raw_fp32,e=fp32"
    used = {}
    for name in ("nvfp4", "nvfp4_16x16"):
        product = ps.emulate(lambda w, x: x @ w, policy.format(name))
        forward, pull = jax.vjp(partial(product, w), jnp.eye(40))
        rows = [pull(jnp.tile(jnp.eye(24)[k], (40, 1)))[0][0] for k in range(24)]
        backward = jnp.stack(rows)
        used[name] = np.asarray(forward), np.asarray(backward).T
    assert_same_bits(*used["nvfp4_16x16"])
    # A sum with zeros of both signs is +0.
    assert_same_bits(used["nvfp4_16x16"][0], ps.round_to(w, "nvfp4_16x16", axis=0) + F(0))
    assert not np.array_equal(*used["nvfp4"])


@pytest.mark.parametrize("spec", ["nvfp4_nvfp4_16x16_fp32", "mxfp4_16x32_mxfp4_8x8_fp32:pairwise"])
def test_squares_as_operands(spec: str) -> None:
    rng = np.random.default_rng(4)
    a, b = single(rng.normal(size=(20, 40))), single(rng.normal(size=(40, 18)))
    parsed: Any = ps.MatmulSpec.parse(spec)
    assert str(parsed) == spec
    operands = (a, parsed.lhs, -1), (b, parsed.rhs, 0)
    left, right = (ps.round_to(x, part, axis=axis) for x, part, axis in operands)
    # Elements times scales of blocks, without the scale of the array, are multiplied.
    scales = [ps.quantize(x, part.format, axis=axis).tensor_scale for x, part, axis in operands]
    if scales[0] is None:
        plain = f"raw_raw_fp32{':pairwise' if 'pairwise' in spec else ''}"
        expected = ps.matmul(left, right, plain, backend="reference")
        assert_same_bits(ps.matmul(a, b, spec, backend="reference"), expected)
    got = ps.matmul(a, b, spec, backend="reference")
    exact = left.astype(float) @ right.astype(float)
    bound = ps.gamma(40 + 3, "fp32") * (abs(left).astype(float) @ abs(right).astype(float))
    assert (abs(got - exact) <= bound).all()
    assert_same_bits(np.asarray(jax.jit(lambda a, b: ps.matmul(a, b, spec))(a, b)), got)


def test_tensor_cores_refuse_squares() -> None:
    with pytest.raises(ValueError, match="b200 has no product"):
        ps.MatmulSpec.parse("b200:nvfp4_16x16")
    core = ps.MatmulSpec.parse("b200:mxfp8")
    with pytest.raises(ValueError, match="lhs is 'mxfp8_32x32', whose blocks have 32 vectors"):
        replace(core, lhs=ps.RoundingSpec.parse("mxfp8_32x32"))


@pytest.mark.long
def test_compiled_has_the_bits_of_numpy_and_takes_a_first_value() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (single(rng.normal(size=s)) for s in ((3, 40), (40, 4), (3, 4)))
    spec = "mxfp8_mxfp4_fp16->bf16"
    expected = ps.matmul(a, b, spec, c=c, backend="reference")
    assert_same_bits(ps.matmul(jnp.asarray(a), b, spec, c=c), expected)
    start = ps.matmul(np.zeros_like(a), b, spec, c=c, backend="reference")
    assert_same_bits(start, ps.round_to(c, "bf16"))
