"""Blackwell's block-scaled products against exact rationals: MXFP8, 6, 4 and NVFP4."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.tensor_core.test_product import bits, with_one_nan

NAMES = [
    "b200:mxfp8_e4m3",
    "b200:mxfp8_e5m2_mxfp4",
    "b200:mxfp6_e2m3_mxfp6_e3m2",
    "b200:mxfp4",
    "b200:nvfp4",
    "b200:mxfp8_e4m3_rceil:promote128",
    "b200:mxfp4:splitk2x64",
    "nvfp4_torchao_nvfp4_fp32:fused32x20g8+sticky",
    "mxfp4_mxfp4_fp16:fused64x16g32",
    "mxfp8_mxfp4_bf16[sr]:fused32x25",
]


def data(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, len(kind)])
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "wide":
        x = x * np.float32(2.0) ** rng.integers(-40, 40, shape).astype(np.float32)
    elif kind == "tiny":
        x = x * np.float32(2.0**-126)
        x[:, :2] = 0
    elif kind == "special":
        x = rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
        x[:2] = np.where(np.isfinite(x[:2]), x[:2], np.float32(1))
    return np.asarray(x, np.float32)


def exact(name: str, a: Any, b: Any, c: float, seed: int) -> float:
    return ps.oracle.fused_dot_exact(a.tolist(), b.tolist(), c, name, random_bits=seed)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_kernel_equals_oracle(name: str) -> None:
    """One element at a time, since the scales of whole arrays are those of the oracle's vectors."""
    spec = ps.MatmulSpec.parse(name)
    assert ps.MatmulSpec.parse(str(spec)) == spec
    for seed, (kind, k) in enumerate(
        (("normal", 150), ("wide", 64), ("tiny", 80), ("special", 33), ("normal", 1))
    ):
        a, b = data(kind, (4, k), seed), data(kind, (4, k), seed + 50)
        first = None if "nvfp4" in name else np.float32(-0.75 if kind != "tiny" else 2.0**-140)
        for x, y in zip(a, b, strict=True):
            got = ps.matmul(
                x[None], y[:, None], name, c=first, random_bits=np.uint32(7), backend="reference"
            )
            want = np.array(exact(name, x, y, float(first or 0.0), 7), np.float32)
            assert with_one_nan(got)[0, 0] == with_one_nan(want), (kind, k, got, want)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "mxfp8_e5m2_mxfp4_fp32[rtz]:fused4x25",  # short steps compile fast
        "mxfp4_mxfp4_fp32[rtz]->bf16:fused8x35g4",
        *(pytest.param(name, marks=pytest.mark.slow) for name in [*NAMES[:6], "b200:nvfp4->bf16"]),
    ],
)
def test_jit_and_vmap_have_the_bits_of_numpy(name: str) -> None:
    product = jax.jit(jax.vmap(lambda a, b: ps.matmul(a, b, name), (0, None)))
    for kind in ("normal", "special"):
        a = data(kind, (12, 70), 1).reshape(2, 6, 70)
        b = data(kind, (70, 5), 2)
        expected = np.stack([ps.matmul(x, b, name, backend="reference") for x in a])
        assert (bits(product(a, b)) == bits(expected)).all(), kind


def test_scales_take_part_and_zero_counts() -> None:
    """Elements and scales at the ends of their ranges: float32 does not hold their product."""
    a = np.zeros((1, 64), np.float32)
    a[0, 0], a[0, 32] = 2.0**-127, 1.5 * 2.0**127
    b = np.zeros((64, 1), np.float32)
    b[0], b[32] = 2.0**127, 2.0**-120
    for name in ("b200:mxfp8_e4m3", "b200:mxfp4", "b200:mxfp8_e5m2"):
        got = ps.matmul(a, b, name, backend="reference").item()
        assert got == 1.0 + 1.5 * 2.0**7
        assert got == exact(name, a[0], b[:, 0], 0.0, 0)
    # The exact sum of 16 products of 6 * 6 has 12 bits; 25 fraction bits below 2**6 hold the 2**-18
    # beside it.
    a, b = np.full((1, 64), 6.0, np.float32), np.full((64, 1), 6.0, np.float32)
    b[16:] = 2.0**-10
    a[:, 32:] = 2.0**-10
    spec = "b200:mxfp4"
    assert ps.matmul(a, b, spec, backend="reference").item() == exact(spec, a[0], b[:, 0], 0.0, 0)


@pytest.mark.long
def test_gradients_quantize_along_their_own_dimension() -> None:
    a, b, g = (data("normal", (6, 6), seed) for seed in (3, 4, 5))  # one shape, one compilation
    spec = "mxfp8_mxfp8_fp32[rtz]:fused2x25"
    _, pull = jax.vjp(lambda a, b: ps.matmul(a, b, spec), jnp.asarray(a), jnp.asarray(b))
    da, db = pull(jnp.asarray(g))
    assert (bits(da) == bits(ps.matmul(g, b.T.copy(), spec, backend="reference"))).all()
    assert (bits(db) == bits(ps.matmul(a.T.copy(), g, spec, backend="reference"))).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100:mxfp8", "h100 has no product 'h100:mxfp8'; its operands are fp16, bf16, tf32, e4m3"),
        ("b200:nvfp4_mxfp4", "its operands are fp16, .*mxfp6_e2m3, mxfp4, nvfp4"),
        ("b200:mxint8", "b200 has no product 'b200:mxint8'"),
        ("b200:mxfp8:acc=fp16", "b200 has no accumulator 'fp16' for 'mxfp8'; allowed are fp32"),
        ("b200:mxfp4:residue64", "schedule is 'residue64'; allowed for block formats are flat"),
        ("mxfp8_fp16_fp32:fused32x25", "allowed are two block formats, or none"),
        ("mxfp8_mxfp8_fp32:fused32x25g16", "a significand of up to 841813590016; allowed are 30"),
        ("nvfp4_nvfp4_fp32:fused32x25", "whose scales are e4m3; allowed without groups are powers"),
        ("nvfp4_nvfp4_fp32:fused64x35g32", "group is 32; allowed for blocks of 16"),
        ("mxint8_mxint8_fp32:fused32x25", "lhs is 'mxint8'; a fused block takes floating-point"),
    ],
)
def test_refusals(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.MatmulSpec.parse(name)


def test_a_first_value_beside_scales_of_arrays_is_refused() -> None:
    ones = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="c is given; allowed for 'b200:nvfp4' is None"):
        ps.matmul(ones, ones, "b200:nvfp4", c=ones)
    with pytest.raises(ValueError, match="no native kernel computes 'b200:mxfp8'"):
        ps.matmul(ones, ones, "b200:mxfp8", backend="native")
