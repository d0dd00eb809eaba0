"""What a process sets for all of JAX changes no bit of a product, or is refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, normal

SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "rank": lambda: jax.numpy_rank_promotion("raise"),
    "dtype": lambda: jax.numpy_dtype_promotion("strict"),
    "x64": lambda: jax.enable_x64(True),
}


@pytest.mark.long
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(
    "spec",
    [
        "bf16_bf16_fp32",
        pytest.param("fp16_fp16_fp16:pairwise", marks=pytest.mark.slow),
        "e4m3_e4m3_fp32:exact",
    ],
)
def test_switches_of_jax_change_no_bit(spec: str, switch: str) -> None:
    rng = np.random.default_rng(0)
    a, b, c = normal(rng, None, (2, 3, 6)), normal(rng, None, (6, 4)), normal(rng, None, (4,))
    want = ps.matmul(a, b, spec, c=c, backend="reference")
    with SWITCHES[switch]():
        got = jax.jit(lambda a, b, c: ps.matmul(a, b, spec, c=c))(*map(jnp.asarray, (a, b, c)))
        assert got.dtype == np.float32
        assert_same_bits(got, want)


@pytest.mark.long
def test_fast_math_of_xla_is_refused() -> None:
    """It reorders sums. What is NumPy alone goes on; what is compiled stops at its first call."""
    program = """
import jax.numpy as jnp, numpy as np, precsim as ps
x = np.ones((2, 2), np.float32)
print(ps.matmul(x, x, "bf16_bf16_fp32", backend="reference")[0, 0])
for call in (
    lambda: ps.matmul(x, x, "bf16_bf16_fp32"),
    lambda: ps.round_to(jnp.ones(3), "bf16"),
    lambda: ps.add(jnp.ones(3), jnp.ones(3), "bf16"),
):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""
    flags = "--xla_cpu_enable_fast_math=true"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *others = done.stdout.splitlines()
    assert first == "2.0"
    assert len(others) == 3
    assert all(line.startswith(f"XLA_FLAGS has {flags}, which changes") for line in others)
