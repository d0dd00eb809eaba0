"""JAX's global switches change no bit of a machine's product, and break none."""

from collections.abc import Iterator
from contextlib import ExitStack

import jax
import numpy as np
import pytest

import precsim as ps
from tests.products.tensor_core.test_product import bits, operands


@pytest.fixture(params=["strict", "x64"])
def switches(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse promotion of ranks and of dtypes; or let 64-bit arrays be."""
    with ExitStack() as stack:
        if request.param == "x64":
            stack.enter_context(jax.enable_x64(True))
        else:
            stack.enter_context(jax.numpy_rank_promotion("raise"))
            stack.enter_context(jax.numpy_dtype_promotion("strict"))
        yield


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize(
    "name",
    [
        "bf16_bf16_fp32[rtz]:fused4x25:promote8",  # one word
        "e4m3_e4m3_fp16[sr]:fused4x20:mma",  # two
        "mxfp4_mxfp4_fp32[rtz]->bf16:fused8x35g4",
    ],
)
def test_machine_products_under_switches(name: str) -> None:
    if "mx" in name:
        rng = np.random.default_rng(1)
        a, b = (rng.standard_normal(shape, np.float32) for shape in ((9, 9), (2, 9, 9)))
        first = None
    else:
        a, b, first = operands(name, (3, 5, 18), "bits")
        b = np.stack([b, -b])
    noise = np.random.default_rng(3).integers(0, 2**32, (2, a.shape[0], b.shape[2]), np.uint32)
    expected = ps.matmul(a, b, name, c=first, random_bits=noise, backend="reference")
    product = jax.jit(lambda a, b: ps.matmul(a, b, name, c=first, random_bits=noise))
    got = product(*map(jax.numpy.asarray, (a, b)))
    assert got.dtype == np.float32
    assert (bits(got) == bits(expected)).all()
