"""The README's calls as a user's script has them, for `mypy --strict`: no casts, no ignored errors.

`.ci/run` and a plain `mypy` check this file, since it lies in `tests`; it needs no test of its own.
`assert_type` stands where the library of the result is decided by the operands.
"""

from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

SINGLE = np.ones(3, np.float32)
ROW, COLUMN = np.ones((1, 4096), np.float32), np.ones((4096, 1), np.float32)
SEEDS = np.zeros((1, 1), np.uint32)


def from_numpy_to_numpy() -> None:
    """Arrays, scalars, numbers and lists give NumPy arrays."""
    for x in (SINGLE, np.float32(0.1), 0.1, [0.1, 3.14159, 1e6]):
        assert_type(ps.round_to(x, "bf16"), np.ndarray)
        assert_type(ps.ulp(x, "bf16"), np.ndarray)
    ps.round_to(np.array([0.001, 3.14159, 1e6], np.float32), "e4m3:rtz:saturate").tolist()
    assert_type(ps.round_to(SINGLE, "bf16:sr", random_bits=np.arange(3)), np.ndarray)
    assert_type(ps.encode(SINGLE, "e4m3"), np.ndarray)
    assert_type(ps.decode(np.array([1, 126, 128], np.uint8), "e4m3"), np.ndarray)
    one, half_ulp = np.float32(1.0), np.float32(2.0**-11)
    assert_type(ps.add(one, half_ulp, "fp16"), np.ndarray)
    assert_type(ps.multiply(SINGLE, 2, "fp16:rtp"), np.ndarray)
    assert_type(ps.fma(SINGLE, 2, SINGLE, "fp16"), np.ndarray)
    assert_type(ps.sqrt(SINGLE, "fp16"), np.ndarray)
    assert_type(ps.exp(SINGLE, "bf16"), np.ndarray)
    assert_type(ps.accumulate(np.ones(1000, np.float32), "bf16"), np.ndarray)
    assert_type(ps.matmul(ROW, COLUMN, "fp16_fp16_fp32"), np.ndarray)
    assert_type(ps.matmul(ROW, COLUMN, "v100:fp16", c=np.float32(2.0**23)), np.ndarray)
    assert_type(ps.matmul(ROW, COLUMN, "bf16_bf16_bf16[sr]", random_bits=SEEDS), np.ndarray)
    [ps.errors.range_rates(s * SINGLE, "fp16").underflow_of_nonzero for s in (1, 1024)]


def from_jax_to_jax(x: jax.Array) -> None:
    """One JAX array among the operands makes the result one."""
    assert_type(ps.round_to(x, "e5m2"), jax.Array)
    assert_type(ps.round_to(jnp.ones(3), "e5m2"), jax.Array)
    assert_type(ps.add(x, 1.0, "fp16"), jax.Array)
    assert_type(ps.add(SINGLE, x, "fp16"), jax.Array)
    assert_type(ps.fma(SINGLE, 2, x, "fp16"), jax.Array)
    assert_type(ps.accumulate(x, "bf16", order="pairwise"), jax.Array)
    assert_type(ps.matmul(x, COLUMN, "fp16_fp16_fp32", backend="emulated"), jax.Array)
    assert_type(ps.decode(x, "e4m3"), jax.Array)
    float(jax.jit(lambda x: ps.round_to(x, "e5m2"))(jnp.float32(1.7)))
    float(jax.grad(lambda x: ps.round_to(x, "e4m3"))(jnp.float32(0.3)))


def of_either(x: np.ndarray | jax.Array) -> None:
    """Functions of both libraries return what they were given; those without overloads too."""
    y: np.ndarray | jax.Array = ps.round_to(x, "bf16")
    y = ps.add(x, y, "bf16")
    y = ps.fma(x, x, y, "bf16")
    y = ps.dequantize(ps.quantize(x, "mxfp4"))
    y = ps.convert(np.array([1], np.uint8), "e4m3", "fp16")
    float(y[0]), y.tolist(), y.shape


def of_no_array() -> None:
    """The kernels' theme and trainings."""
    assert_type(ps.kernels.resolve_backend("bf16_bf16_fp32"), str)
    ps.kernels.find_schedule("h100:bf16", 64, 64, 4096, product=lambda a, b: a @ b)
    result = ps.train(ps.TrainConfig(policy=ps.Policy.parse("bf16"), steps=3))
    float(result.losses[0])
