"""JAX's global switches change no bit of a machine's product, and break none."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.tensor_core.test_product import bits, operands

ONE_WORD = "bf16_bf16_fp32[rtz]:fused2x25:promote4"
TWO_WORDS = "e4m3_e4m3_fp16[sr]:fused2x20:mma"


def product(name: str) -> Any:
    """Return a product with a first value, where a spec allows one, and with seeds."""
    spec = ps.MatmulSpec.parse(name)

    def run(a: Any, b: Any, c: Any, noise: Any) -> Any:
        first = None if spec.has_tensor_scale else c
        return ps.matmul(a, b, spec, c=first, random_bits=noise, backend="emulated")

    return run


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [ONE_WORD, TWO_WORDS, "h100:e5m2_e4m3->bf16:promote128", "a100:fp16:acc=fp16", "b200:nvfp4"],
)
def test_strict_promotion_of_ranks_and_dtypes(name: str) -> None:
    """They are checked while a function is traced; the left operand has fewer batch dimensions."""
    shapes = (
        ((3, 40), np.float32),
        ((2, 40, 5), np.float32),
        ((5,), np.float32),
        ((2, 3, 5), np.uint32),
    )
    stored = [jax.ShapeDtypeStruct(*x) for x in shapes]  # type: ignore[no-untyped-call]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        got = jax.eval_shape(product(name), *stored)
    assert (got.shape, got.dtype) == ((2, 3, 5), np.float32)


@pytest.mark.long
@pytest.mark.parametrize("name", [ONE_WORD, TWO_WORDS])
def test_64_bit_arrays_change_no_bit(name: str) -> None:
    a, b, c = operands(name, (3, 5, 18), "bits")
    noise = np.random.default_rng(3).integers(0, 2**32, (3, 5), np.uint32)
    expected = ps.matmul(a, b, name, c=c, random_bits=noise, backend="reference")
    with jax.enable_x64(True):
        got = product(name)(*map(jnp.asarray, (a, b, c, noise)))
    assert got.dtype == np.float32
    assert (bits(got) == bits(expected)).all()
