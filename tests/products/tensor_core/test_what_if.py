"""Fused blocks beyond the machines: sticky bits, long sums, every mode, stochastic accumulators."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.products.tensor_core import choice
from tests.products.tensor_core.test_product import bits, operands, with_one_nan

WHAT_IF = [
    "bf16_bf16_fp32[rtz]:fused16x25+sticky",
    "fp16_fp16_fp16:fused4x12@-30+sticky",
    "e5m2_e4m3_bf16[rtp]:fused8x9+sticky:promote16",
    "tf32_tf32_fp32:fused8x40",
    "fp16_fp16_fp32[rtn]:fused64x30:splitk2x64",
    "bf16_bf16_fp32[raz]:fused1x50",
    "e3m2_e2m1_float(e=6,p=5)[rto]:fused5x3+sticky",
    "bf16_bf16_fp32[sr]:fused16x25",
    "fp16_fp16_bf16[sr4]:fused4x30:residue8",
    "e4m3_e4m3_fp16[sr]:fused16x20:mma",
    "e4m3_e4m3_fp32[sr8]:fused32x13:promote64",
    "e4m3_e4m3_fp32[rtz]:fused32x13:promote64",
]


def seeds(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 2**32, shape, dtype=np.uint32)


def exact(name: str, a: Any, b: Any, c: Any, noise: Any) -> np.ndarray:
    made = [
        [
            ps.oracle.fused_dot_exact(
                x.tolist(), y.tolist(), float(c[i, j]), name, random_bits=int(noise[i, j])
            )
            for j, y in enumerate(b.T)
        ]
        for i, x in enumerate(a)
    ]
    return np.array(made, np.float32)


@pytest.mark.parametrize("name", WHAT_IF)
def test_kernel_equals_oracle(name: str) -> None:
    spec = ps.MatmulSpec.parse(name)
    assert ps.MatmulSpec.parse(str(spec)) == spec
    assert spec.needs_two_words
    for kind, k in (("bits", 3), ("finite", 75), ("tiny", 21)):
        a, b, c = operands(name, (3, 3, k), kind)
        noise = seeds((3, 3))
        for first in (c, np.zeros_like(c)):
            got = ps.matmul(a, b, name, c=first, random_bits=noise, backend="reference")
            want = exact(name, a, b, first, noise)
            assert (with_one_nan(got) == with_one_nan(want)).all(), (kind, k)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "bf16_bf16_fp32[rtz]:fused4x25+sticky",  # short steps compile fast
        "e4m3_e4m3_fp16[sr]:fused4x20:mma",
        *(pytest.param(name, marks=pytest.mark.slow) for name in WHAT_IF),
    ],
)
def test_jit_and_vmap_have_the_bits_of_numpy(name: str) -> None:
    product = jax.jit(
        jax.vmap(lambda a, b, c, r: ps.matmul(a, b, name, c=c, random_bits=r), (0, None, 0, 0))
    )
    noise = seeds((2, 4, 5))
    for kind in ("bits", "finite"):
        made = [operands(name, (4, 5, 40), kind, seed) for seed in range(2)]
        a, c = (np.stack([x[i] for x in made]) for i in (0, 2))
        b = made[0][1]
        expected = ps.matmul(a, b, name, c=c, random_bits=noise, backend="reference")
        assert (bits(product(a, b, c, noise)) == bits(expected)).all(), kind


@pytest.mark.parametrize(
    "name", ["h100:bf16", "a100:fp16:acc=fp16", "ada:e4m3:promote32", "h100:e5m2:mma"]
)
def test_the_machines_are_special_cases(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of two words gives the bits of the kernel of one."""
    spec = ps.MatmulSpec.parse(name)
    assert not spec.needs_two_words
    for kind in ("bits", "finite", "tiny"):
        a, b, c = operands(name, (9, 9, 100), kind)
        one = choice.fused_product(a, b, c, spec)
        with monkeypatch.context() as patch:
            patch.setattr(choice, "needs_two_words", lambda core: True)
            two = choice.fused_product(a, b, c, spec)
        assert (bits(one) == bits(two)).all(), kind


def test_a_sticky_bit_lets_the_small_terms_count() -> None:
    """2**25 + 1 - 2**25 with 23 fraction bits: 1 is lost, or leaves the last bit set."""
    a = np.array([[2.0**12, 1.0, 2.0**12]], np.float32)
    b = np.array([[2.0**13], [1.0], [-(2.0**13)]], np.float32)
    found = [
        ps.matmul(a, b, f"fp16_fp16_fp32:fused4x23{option}", backend="reference").item()
        for option in ("", "+sticky")
    ]
    assert found == [0.0, 4.0]


def test_a_stochastic_accumulator_has_the_right_mean() -> None:
    """A chain that truncates loses 2**-13 beside 8 in bf16 every time.

    The mean of a stochastic one does not.
    """
    a, b = np.full((1, 256), 2.0**-7, np.float32), np.full((256, 1500), 2.0**-6, np.float32)
    noise = np.arange(1500, dtype=np.uint32)[None, :]
    spec = "bf16_bf16_bf16[sr]:fused16x25"
    c = np.float32(8)
    got = np.asarray(ps.matmul(a, b, spec, c=c, random_bits=noise, backend="reference"))
    # 16 roundings up by 2**-4 with probability 2**-5 each.
    assert abs(got.mean() - (8 + 2.0**-5)) < 5 * 2.0**-4 * np.sqrt(16 * 2.0**-5 / 1500)
    with pytest.raises(ValueError, match="random_bits is missing: the accumulator of"):
        ps.matmul(a, b, spec)


@pytest.mark.parametrize("name", ["h100:bf16+sticky", "bf16_bf16_fp32[sr]:fused16x25"])
def test_no_native_kernel_has_them(name: str) -> None:
    if "+" in name:
        name = "bf16_bf16_fp32[rtz]:fused16x25+sticky"
    with pytest.raises(ValueError, match="no native kernel computes"):
        ps.kernels.resolve_backend(name, "native")
    assert ps.kernels.resolve_backend(name, "auto", shapes=((64, 64), (64, 64))) == "emulated"


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "a100:tf32", "e4m3_e4m3_fp32:fused4x13:promote64", "mxfp4_mxfp4_fp32:fused8x25g4:splitk2x64",
        "bf16_bf16_fp32:fused4x25+sticky:splitk2x64", "bf16_bf16_bf16[sr]:fused4x20:mma", "bf16_bf16_bf16[sr]",
        "bf16_bf16_bf16[sr]:kahan", "bf16_bf16_bf16:pairwise", "fp16_fp16_fp16:exact",
    ],
)  # fmt: skip
def test_products_of_no_columns_are_the_first_value(name: str) -> None:
    a, b, noise = np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32), seeds((2, 3))
    first = np.full((2, 3), 1.5, np.float32)
    for backend in ("reference", "emulated"):
        got = ps.matmul(a, b, name, c=first, random_bits=noise, backend=backend)
        assert (bits(got) == bits(first)).all(), backend
