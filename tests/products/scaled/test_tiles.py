"""Float32 scales per tensor, row, 1 x n block and n x n tile, against exact rationals."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.oracle import quantize_tile_exactly
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32


def fl32(x: Fraction) -> Fraction:
    return Fraction(ps.oracle.round_exact(x, "fp32").value)


def data(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return operands whose magnitudes differ from block to block."""
    rng = np.random.default_rng(m * k * n)
    spread = 2.0 ** rng.integers(-12, 12, (m + n, k))
    return single(rng.normal(size=(m, k)) * spread[:m]), single(
        (rng.normal(size=(n, k)) * spread[m:]).T
    )


def quantized(x: np.ndarray, text: str, across: int, along: int) -> tuple[Any, Any]:
    """Return elements and scales of each element as fractions; x has its vectors first."""
    spec = ps.RoundingSpec.parse(f"{text}:scale={across}x{along}")
    elements, scales = np.zeros(x.shape, object), np.zeros(x.shape, object)
    for i in range(0, x.shape[0], across):
        for j in range(0, x.shape[1], along):
            here = np.s_[i : i + across, j : j + along]
            exact = quantize_tile_exactly(x[here].reshape(-1).tolist(), spec)
            elements[here] = np.reshape([Fraction(v) for v in exact.elements], x[here].shape)
            scales[here] = Fraction(exact.scale)
    return elements, scales


def in_blocks(x: Any, x_scale: Any, y: Any, y_scale: Any, n: int) -> np.ndarray:
    """Return the definition: exact elements, sums of n products in float32, then their scales."""
    result = np.zeros((len(x), len(y)), np.float32)
    for i, j in np.ndindex(result.shape):
        total = Fraction(0)
        for start in range(0, x.shape[1], n):
            part = Fraction(0)
            for k in range(start, min(start + n, x.shape[1])):
                part = fl32(part + x[i, k] * y[j, k])
            total = fl32(total + fl32(x_scale[i, start] * y_scale[j, start]) * part)
        result[i, j] = float(total)
    return result


@pytest.mark.long
def test_deepseek_blocks_and_tiles() -> None:
    """1 x 128 activations times 128 x 128 weights, each 128 products a sum of their own."""
    a, b = data(3, 200, 4)
    x, y = quantized(a, "e4m3", 1, 128), quantized(b.T, "e4m3", 128, 128)
    got = ps.matmul(a, b, "e4m3[scale=1x128]_e4m3[scale=128x128]_fp32", backend="reference")
    assert_same_bits(got, in_blocks(*x, *y, 128))


def test_tiles_of_different_lengths() -> None:
    """The shorter length divides K; the scales of the longer one stand for several stretches."""
    a, b = data(3, 21, 5)
    x, y = quantized(a, "e5m2:rtz", 2, 8), quantized(b.T, "e4m3", 3, 4)
    got = ps.matmul(a, b, "e5m2[scale=2x8:rtz]_e4m3[scale=3x4]_fp32", backend="reference")
    assert_same_bits(got, in_blocks(*x, *y, 4))


def test_the_kernel_is_deepgemms() -> None:
    """On a tensor core with promotion: the bits of `scaled_matmul` of elements and scales."""
    a, b = data(3, 200, 4)
    core = "h100:e4m3:promote128"
    x, y = ps.quantize(a, "e4m3:scale=1x128"), ps.quantize(b, "e4m3:scale=128x128", axis=0)
    expected = ps.scaled_matmul(
        single(ps.decode(x.codes, "e4m3")),
        single(ps.decode(y.codes, "e4m3")),
        core,
        a_scales=x.scales,
        b_scales=y.scales,
        backend="reference",
    )
    for schedule in (":promote128", ""):
        spec = f"h100:e4m3[scale=1x128]_e4m3[scale=128x128]{schedule}"
        assert_same_bits(ps.matmul(a, b, spec, backend="reference"), expected)


@pytest.mark.long
@pytest.mark.parametrize("scale", ["tensor", "tensor:pow2", "row"])
def test_scales_of_the_whole_k_multiply_the_sum(scale: str) -> None:
    """A machine's product in TransformerEngine's arithmetic: fl(sum * fl(scale * scale))."""
    a, b = data(3, 70, 4)
    x = ps.quantize(a, f"e4m3:scale={scale}")
    y = ps.quantize(b, f"e5m2:scale={scale}", axis=0)
    elements = single(ps.decode(x.codes, "e4m3")), single(ps.decode(y.codes, "e5m2"))
    for core, options in (("h100:e4m3_e5m2", ""), ("e4m3_e5m2_fp32", ":pairwise")):
        sums = ps.matmul(*elements, core + options, backend="reference")
        spec = core.replace("e4m3", f"e4m3[scale={scale}]").replace("e5m2", f"e5m2[scale={scale}]")
        got = ps.matmul(a, b, spec + options, backend="reference")
        assert_same_bits(got, sums * (x.scales * y.scales), spec)


def test_one_operand_may_have_scales() -> None:
    a, b = data(3, 9, 4)
    y = ps.quantize(b, "e4m3:scale=row", axis=0)
    sums = ps.matmul(a, single(ps.decode(y.codes, "e4m3")), "fp16_e4m3_fp32", backend="reference")
    got = ps.matmul(a, b, "fp16_e4m3[scale=row]_fp32->bf16", backend="reference")
    assert_same_bits(got, ps.round_to(sums * y.scales, "bf16"))


@pytest.mark.long
def test_compiled_batches_and_vmap_have_the_bits_of_numpy() -> None:
    """A batch is one tensor; under vmap each example is. A batch of rows is one matrix of rows."""
    rng = np.random.default_rng(3)
    a, b = single(rng.normal(size=(2, 3, 9))), single(rng.normal(size=(9, 4)))
    a[1] *= 8
    spec = "e4m3[scale=4x4]_e4m3_fp32->bf16"
    rows = ps.matmul(a.reshape(6, 9), b, spec, backend="reference")
    assert_same_bits(ps.matmul(a, b, spec, backend="reference"), rows.reshape(2, 3, 4))
    assert_same_bits(ps.matmul(a, b, spec, backend="emulated"), rows.reshape(2, 3, 4))
    each = [ps.matmul(x, b, spec, backend="reference") for x in a]
    mapped = jax.vmap(lambda x: ps.matmul(x, jnp.asarray(b), spec))(jnp.asarray(a))
    assert_same_bits(mapped, np.stack(each))
    tensor = "e4m3[scale=tensor]_e4m3_fp32"
    both = ps.matmul(a, np.stack([b, b]), tensor, backend="reference")
    assert_same_bits(both, ps.matmul(a, b, tensor, backend="reference"))


def test_a_nan_stays_in_its_row_and_an_infinity_saturates_if_asked() -> None:
    a, b = data(2, 6, 3)
    a[0, 1], a[1, 2] = np.nan, np.inf
    spec = "e4m3[scale=tensor:saturate_infinity]_bf16_fp32"
    got = ps.matmul(a, b, spec, backend="reference")
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()


def test_strings_round_trip() -> None:
    for text in (
        "e4m3[scale=1x128]_e4m3[scale=128x128]_fp32",
        "h100:e4m3[scale=1x128]_e4m3[scale=128x128]->bf16:promote128",
        "h100:e4m3[scale=tensor:pow2]",
        "binary8p4se[scale=row:rtz]_bf16_fp32->fp32:pairwise",
        "int8_int8_int32->bf16",
        "int8_symmetric_channel_int4_symmetric_block32_int16[saturate]",
        "uint8_int8_symmetric_fp32:kahan",
        "mxfp4_nvfp4_fp16",
    ):
        spec = ps.MatmulSpec.parse(text)
        assert str(spec) == text
        assert ps.MatmulSpec.parse(str(spec)) == spec
    fields: Any = {"lhs": "int8", "rhs": "int8", "accumulator": "int32:wrap", "output": "bf16"}
    explicit = ps.MatmulSpec(**fields)
    assert explicit == ps.MatmulSpec.parse("int8_int8_int32->bf16")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bf16_bf16_int32", "an integer accumulator takes two affine operands"),
        ("int8_int8_int64", "accumulator is 'int64'; allowed are integers of 2 to 32 bits"),
        ("int16_int16_int32[saturate]", "allowed with saturation are operands of 30 bits"),
        ("int8_int8_int32:pairwise", "order is 'pairwise'; allowed with the integer accumulator"),
        ("int8_block48_int8_block32_fp32", "allowed are multiples of each other"),
        ("h100:e4m3[scale=1x64]:promote128", "allowed for scales of 64 products are flat"),
        ("e4m3[scale=1x8]_e4m3_fp16[sr]", "where scales change along K, stochastic"),
        ("int8_int8_mxfp8", "accumulator is mxfp8_e4m3, a block format"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", "\\(")):
        ps.MatmulSpec.parse(text)


def test_first_values_float64_and_native_kernels_are_refused() -> None:
    ones = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="its sums are multiplied by scales at the end"):
        ps.matmul(ones, ones, "int8_int8_int32", c=ones)
    with pytest.raises(TypeError, match="a has dtype float64; allowed for 'int8_int8_int32' is"):
        ps.matmul([[1.0]], [[1.0]], "int8_int8_int32")
    with pytest.raises(ValueError, match="operands with scales are quantized by precsim"):
        ps.matmul(ones, ones, "e4m3[scale=row]_e4m3_fp32", backend="native")
