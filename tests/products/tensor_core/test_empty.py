"""Products without rows, columns, products or batches: every machine, every schedule."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from tests.products.tensor_core.test_product import bits

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((0, 4), (4, 3)), ((2, 0), (0, 3)), ((2, 4), (4, 0)), ((0, 0), (0, 0)), ((0, 2, 4), (4, 3)),
    ((0, 2, 4), (0, 4, 3)), ((1, 2, 4), (0, 4, 3)), ((2, 0, 4), (2, 4, 3)), ((2, 3, 0), (0, 1)),
    ((0,), (0,)), ((0,), (0, 3)), ((2, 0), (0,)), ((0, 4), (4,)),
]  # fmt: skip
MACHINE_NAMES = [name for name in ps.list_machines() if name not in ("b200:nvfp4", "b200:mxfp4")]
SCHEDULES = [
    *(f"h100:bf16:{s}" for s in ("promote32", "splitk3", "splitk2x32+residue16", "residue32")),
    "h100:e4m3:mma",
    "bf16_bf16_bf16[sr]:fused4x20:residue8",
    "bf16_bf16_fp32:fused16x25+sticky:promote32",
]
SCALED = [
    "b200:nvfp4",
    "b200:mxfp4",
    "b200:mxfp8_e4m3:promote128",
    "b200:mxfp6_e2m3:splitk2x64",
]


@pytest.mark.parametrize("name", [*MACHINE_NAMES, *SCHEDULES, *SCALED])
def test_empty_products(name: str) -> None:
    """The first value, or +0, in the shape that `numpy.matmul` has."""
    spec = ps.MatmulSpec.parse(name)
    for left, right in SHAPES:
        a, b = np.zeros(left, np.float32), np.zeros(right, np.float32)
        shape = np.matmul(a, b).shape
        for first in (None,) if spec.has_tensor_scale else (None, np.float32(-0.75)):
            got = ps.matmul(
                a, b, spec, c=first, random_bits=np.zeros(shape, np.uint32), backend="reference"
            )
            assert got.shape == shape
            assert got.dtype == np.float32
            assert (bits(got) == bits(first or 0)).all(), (left, right)


@pytest.mark.parametrize("name", [*SCHEDULES, *SCALED])
def test_the_oracle_of_no_products(name: str) -> None:
    """The first value as it is, also where a schedule adds parts."""
    scales_sums = ps.MatmulSpec.parse(name).scales_sums  # then c is refused
    for first in (0.0, -0.0) if scales_sums else (0.0, -0.0, 1.5):
        got = ps.oracle.fused_dot_exact([], [], first, name)
        assert bits(got) == bits(first)


@pytest.mark.parametrize("name", ["h100:bf16:splitk3", "b200:nvfp4"])
@pytest.mark.parametrize("shapes", [SHAPES[0], SHAPES[1], SHAPES[2], SHAPES[5]])
def test_empty_products_are_compiled(name: str, shapes: Any) -> None:
    a, b = (np.zeros(shape, np.float32) for shape in shapes)
    product: Any = lambda a, b: ps.matmul(a, b, name, backend="emulated")
    for got in (product(a, b), jax.jit(product)(a, b)):
        assert got.shape == np.matmul(a, b).shape
        assert (bits(got) == 0).all()
    pull: Any = jax.vjp(product, *map(jax.numpy.asarray, (a, b)))[1]
    for gradient, x in zip(pull(jax.numpy.zeros(np.matmul(a, b).shape)), (a, b), strict=True):
        assert gradient.shape == x.shape
        assert (bits(gradient) == 0).all()
