"""Every wrong argument is refused with one message that names it, before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

SPEC, STOCHASTIC = "fp16_fp16_fp32", "fp16_fp16_fp32->bf16[sr]"


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def bits(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint32)


MATMUL: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "K": (ValueError, r"K is 3 in a, 4 in b", lambda: ps.matmul(ones(2, 3), ones(4, 5), SPEC)),
    "K of vectors": (
        ValueError,
        r"shapes \(3,\) and \(4,\) do not match",
        lambda: ps.matmul(ones(3), ones(4), SPEC),
    ),
    "no dimensions": (ValueError, "1 dimension", lambda: ps.matmul(ones(), ones(3), SPEC)),
    "batch": (
        ValueError,
        r"batch dimensions of \(2, 3, 4\) and \(3, 4, 5\) do not broadcast",
        lambda: ps.matmul(ones(2, 3, 4), ones(3, 4, 5), SPEC),
    ),
    "dtype of a": (
        TypeError,
        "a has dtype int8; allowed are float32 and float64",
        lambda: ps.matmul(ones(2, 2, dtype=np.int8), ones(2, 2), SPEC),
    ),
    "dtype of b": (
        TypeError,
        "b has dtype int32",
        lambda: ps.matmul(ones(2, 2), jnp.ones((2, 2), jnp.int32), SPEC),
    ),
    "two dtypes": (
        TypeError,
        "a has dtype float64, b float32; allowed is one dtype for both",
        lambda: ps.matmul(ones(2, 2, dtype=np.float64), ones(2, 2), SPEC),
    ),
    "dtype of c": (
        TypeError,
        "c has dtype float64; allowed is that of a and b, float32",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), SPEC, c=ones(2, 2, dtype=np.float64)),
    ),
    "shape of c": (
        ValueError,
        r"c has shape \(3, 2\); allowed is what broadcasts to \(2, 2\)",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), SPEC, c=ones(3, 2)),
    ),
    "carrier": (
        ValueError,
        r"a float32 carrier cannot hold fp64.*\(use float64\)",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), "fp16_fp16_fp64"),
    ),
    "carrier of the output": (
        ValueError,
        "float32 carrier cannot hold q20.20",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), "fp16_fp16_fp32->q20.20"),
    ),
    "spec": (
        ValueError,
        "unknown format 'fp61'",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), "fp61_fp16_fp16"),
    ),
    "dgrad": (
        ValueError,
        "unknown format 'fp61'",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), SPEC, dgrad="fp61_fp16_fp16"),
    ),
    "backend": (
        ValueError,
        "backend is 'fast'; allowed are 'auto', 'emulated', 'native', 'reference'",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), SPEC, backend="fast"),
    ),
    "missing bits": (
        ValueError,
        "random_bits is missing: the output of 'fp16_fp16_fp32->bf16",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC),
    ),
    "only bits of a gradient": (
        ValueError,
        "random_bits is missing",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC, random_bits={"dgrad": bits(2, 2)}),
    ),
    "keys of bits": (
        ValueError,
        r"random_bits has keys \['fwd'\]; allowed are forward, dgrad, wgrad",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC, random_bits={"fwd": bits(2, 2)}),
    ),
    "dtype of bits": (
        TypeError,
        r"random_bits \(forward\) has dtype float32; allowed are integers",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC, random_bits=ones(2, 2)),
    ),
    "shape of bits": (
        ValueError,
        r"random_bits \(forward\) has shape \(3,\); allowed is what broadcasts to \(2, 2\)",
        lambda: ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC, random_bits=bits(3)),
    ),
    "shape of a gradient's bits": (
        ValueError,
        r"random_bits \(wgrad\) has shape \(2, 2\); allowed is what broadcasts to \(3, 2\)",
        lambda: ps.matmul(ones(2, 3), ones(3, 2), SPEC, random_bits={"wgrad": bits(2, 2)}),
    ),
}


@pytest.mark.parametrize("case", MATMUL)
def test_matmul(case: str) -> None:
    kind, message, call = MATMUL[case]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("backend", ["emulated", "reference"])
def test_both_backends_check_the_same(backend: str) -> None:
    with pytest.raises(ValueError, match="K is 3 in a, 4 in b"):
        ps.matmul(ones(2, 3), ones(4, 5), SPEC, backend=backend)
    with pytest.raises(ValueError, match="random_bits is missing"):
        ps.matmul(ones(2, 2), ones(2, 2), STOCHASTIC, backend=backend)


def test_errors_come_at_trace_time() -> None:
    with pytest.raises(ValueError, match="K is 3 in a, 4 in b"):
        jax.eval_shape(lambda a, b: ps.matmul(a, b, SPEC), ones(2, 3), ones(4, 5))


def test_first_value_that_is_not_exact_is_refused() -> None:
    ones = np.ones((2, 2), np.float32)
    with pytest.raises(TypeError, match=r"c has 0.1, which is not exact in float32"):
        ps.matmul(ones, ones, "fp16_fp16_fp16", c=0.1)


def test_conv_refuses_unknown_keys_of_random_bits() -> None:
    x, w = np.ones((1, 2, 2, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match="allowed are forward, dgrad, wgrad"):
        ps.conv(x, w, "fp16_fp16_fp32->fp16[sr]", random_bits={"fwd": np.zeros(4, np.uint32)})
