"""The native backend is the platform's own kernel; what is known about its result is a bound."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.products.native.stored import DTYPES as NATIVE_DTYPES
from precsim.products.specs.spec import MatmulSpec
from tests.products.conftest import assert_same_bits, normal

DTYPES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}


def operands(length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return normal(rng, None, (16, length)), normal(rng, None, (length, 12))


@pytest.mark.long
@pytest.mark.parametrize("name", DTYPES)
def test_native_is_dot_general_with_float32_accumulation(name: str) -> None:
    a, b = operands(40)
    narrow_a, narrow_b = (jnp.asarray(x.astype(DTYPES[name])) for x in (a, b))
    expected = lax.dot_general(
        narrow_a,
        narrow_b,
        (((1,), (0,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    spec = f"{name}_{name}_fp32"
    assert_same_bits(ps.matmul(a, b, spec, backend="native"), expected)
    output = ps.matmul(a, b, f"{spec}->e4m3", backend="native")
    assert_same_bits(output, ps.round_to(np.asarray(expected), "e4m3"))
    if name == "fp16":
        return
    c = normal(np.random.default_rng(1), None, (16, 12))
    with_c = ps.matmul(a, b, spec, c=c, backend="native")
    assert_same_bits(with_c, np.asarray(expected) + c)


@pytest.mark.parametrize("length", [1, 256])
@pytest.mark.parametrize("name", ["bf16_bf16_fp32", "fp16_fp16_fp32->fp16", "e4m3_e5m2_fp32->bf16"])
def test_native_obeys_the_bound_of_any_order(name: str, length: int) -> None:
    """|native - exact| <= gamma(K, 2**-24) |A||B|, then one rounding of the output."""
    a, b = operands(length)
    spec = MatmulSpec.parse(name)
    assert spec.lhs is not None
    assert spec.rhs is not None
    rounded_a = np.asarray(ps.round_to(a, spec.lhs), np.float64)
    rounded_b = np.asarray(ps.round_to(b, spec.rhs), np.float64)
    # Products are exact in float64; `fsum` rounds their exact sum once.
    exact = np.array([[math.fsum(row * column) for column in rounded_b.T] for row in rounded_a])
    gamma = ps.gamma(length, 2.0**-24)
    bound = gamma * (np.abs(rounded_a) @ np.abs(rounded_b))
    output = spec.output
    if output is not None:
        assert isinstance(output.format, ps.FloatFormat)
        u = output.format.unit_roundoff
        bound = bound * (1 + u) + u * np.abs(exact) + output.format.min_subnormal / 2
    assert (np.abs(ps.matmul(a, b, spec, backend="native") - exact) <= bound).all()


def test_native_gradients_run_natively_too() -> None:
    a, b = operands(40)
    g = np.ones((16, 12), np.float32)

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32", backend="native")

    da, db = jax.jit(lambda a, b, g: jax.vjp(product, a, b)[1](g))(a, b, g)
    assert_same_bits(da, product(g, b.T))
    assert_same_bits(db, product(a.T, g))


@pytest.mark.long
def test_native_keeps_the_carrier() -> None:
    """float64 in, float64 out, although the kernel accumulates in float32."""
    a, b = (x.astype(np.float64) for x in operands(7))
    narrow = ps.matmul(
        a.astype(np.float32), b.astype(np.float32), "bf16_bf16_fp32", backend="native"
    )
    for c in (None, np.zeros((16, 12))):
        got = ps.matmul(a, b, "bf16_bf16_fp32", c=c, backend="native")
        assert_same_bits(got, narrow.astype(np.float64))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("tf32_bf16_fp32", "lhs is 'tf32'"),
        ("bf16_q3.4_fp32", "rhs is 'q3.4'"),
        ("raw_raw_fp32", "lhs is 'raw'"),
        ("fp16_fp16_fp16", "accumulator is 'fp16'"),
        ("fp16_fp16_fp32[rtz]", "accumulator is 'fp32:rtz'"),
        ("fp16_fp16_fp32:product=fp16", "product, adder and order"),
        ("fp16_fp16_fp32:adder=fp32[rtz]", "product, adder and order"),
    ],
)
def test_native_refuses_what_no_kernel_computes(name: str, part: str) -> None:
    ones = np.ones((2, 2), np.float32)
    for call in (
        lambda: ps.matmul(ones, ones, name, backend="native"),
        lambda: ps.kernels.resolve_backend(name, "native"),
        lambda: ps.matmul(ones, ones, "bf16_bf16_fp32", dgrad=name, backend="native"),
        lambda: ps.dot_general(name, backend="native"),
        lambda: ps.conv(ones.reshape(1, 2, 2, 1), ones.reshape(2, 2, 1, 1), name, backend="native"),
    ):
        with pytest.raises(ValueError, match=part) as caught:
            call()
        assert str(MatmulSpec.parse(name)) in str(caught.value)


def test_resolve_backend() -> None:
    assert ps.kernels.resolve_backend("fp16_fp16_fp16") == "emulated"
    for backend in ("emulated", "native", "reference"):
        assert ps.kernels.resolve_backend("bf16_bf16_fp32", backend) == backend
        assert ps.kernels.resolve_backend(MatmulSpec.parse("bf16_bf16_fp32"), backend) == backend
    with pytest.raises(ValueError, match="backend is 'gpu'; allowed are 'auto', 'emulated'"):
        ps.kernels.resolve_backend("bf16_bf16_fp32", "gpu")


def test_every_native_format_has_its_dtype() -> None:
    """The casts to these dtypes are exact only if they have the format's values."""
    finfo: Any = ml_dtypes.finfo
    for fmt, dtype in NATIVE_DTYPES.items():
        if fmt.name == "tf32":  # values of float32 whose last bits the kernel ignores
            continue
        assert isinstance(fmt, ps.FloatFormat)
        info = finfo(dtype)
        assert (float(info.max), info.nmant + 1) == (fmt.max_finite, fmt.precision)
        assert float(info.smallest_subnormal) == fmt.min_subnormal


def test_auto_gives_the_emulated_bits_on_a_cpu() -> None:
    a, b = operands(40)
    name = "fp16_fp16_fp32"
    automatic = ps.matmul(a, b, name)
    assert_same_bits(automatic, ps.matmul(a, b, name, backend="emulated"))
    assert_same_bits(automatic, ps.matmul(a, b, name, backend="reference"))
