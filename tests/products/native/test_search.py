"""Schedules are found from results alone.

The kernels here are the model itself; the search is not told which schedule they run.
"""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.products.native.search import (
    Shape,
    _operand_sizes,
    _stride,
    part_ends,
    part_length,
)
from tests.products.conftest import assert_same_bits, normal


def by(spec: str) -> Any:
    """Return a product with the bits of a spec."""
    return lambda a, b: ps.matmul(a, b, spec, backend="reference")


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "schedule", "shape"),
    [
        ("h100:bf16", "flat", (8, 8, 300)),
        ("h100:bf16", "flat", (3, 5, 1)),
        ("h100:bf16", "splitk4x64", (16, 16, 256)),
        ("h100:bf16", "splitk6x64", (16, 16, 4096)),
        ("h100:tf32", "residue16", (17, 20, 100)),
        ("h100:tf32", "splitk8x4+residue16", (32, 10, 784)),
        ("h100:tf32", "splitk4x4+residue32", (16, 16, 1000)),
        ("h100:bf16->bf16", "splitk3x64", (8, 8, 1100)),
        ("h100:fp16->fp16", "splitk2x64", (8, 8, 1100)),
        ("h100:e4m3", "splitk3x128", (16, 16, 8192)),
        ("h100:e4m3->fp16", "splitk3x128", (16, 16, 2048)),
        ("h100:e5m2_e4m3", "splitk2x64", (4, 64, 2048)),
        ("a100:fp16", "splitk2x64+residue16", (8, 8, 100)),
        ("v100:fp16:acc=fp16", "splitk2x64", (8, 8, 500)),
        ("bf16_bf16_fp32[rtz]:fused16x48", "splitk2x64", (16, 16, 500)),
        pytest.param("h100:tf32", "splitk57x32", (16, 16, 16384), marks=pytest.mark.slow),
        pytest.param("h100:e4m3", "splitk6x128", (16, 16, 16384), marks=pytest.mark.slow),
        pytest.param("h100:bf16->bf16", "splitk12x64", (16, 16, 16384), marks=pytest.mark.slow),
    ],
)
def test_the_schedule_is_found(spec: str, schedule: str, shape: tuple[int, int, int]) -> None:
    found = ps.kernels.find_schedule(spec, *shape, product=by(f"{spec}:{schedule}"))
    assert (found.kernel, str(found.schedule), found.share) == ("", schedule, 1)


def test_the_specs_own_schedule_is_tried_first() -> None:
    """Promotion every 128 products has the bits of parts of 128, under another name."""
    kernel = by("h100:e4m3:promote128")
    found = [
        str(ps.kernels.find_schedule(spec, 8, 8, 512, product=kernel).schedule)
        for spec in ("h100:e4m3:promote128", "h100:e4m3")
    ]
    assert found == ["promote128", "splitk4x64"]


@pytest.mark.parametrize("schedule", ["promote128", "splitk4x64"])
def test_parts_of_equal_length_are_a_promotion(schedule: str) -> None:
    a, b = (normal(np.random.default_rng(0), None, shape) for shape in ((4, 512), (512, 4)))
    expected = ps.matmul(a, b, "h100:e4m3:promote128", backend="reference")
    assert_same_bits(ps.matmul(a, b, f"h100:e4m3:{schedule}", backend="reference"), expected)


@pytest.mark.parametrize("last", ["splitk2x64", "flat"])
def test_batches_are_compared_first_and_last(last: str) -> None:
    def product(a: Any, b: Any) -> Any:
        first = by("h100:bf16:splitk2x64")(a[:-1], b[:-1])
        return np.concatenate([first, by(f"h100:bf16:{last}")(a[-1:], b[-1:])])

    found = ps.kernels.find_schedule("h100:bf16", 8, 8, 512, batch=(3,), product=product)
    assert str(found.schedule) == ("None" if last == "flat" else last)


@pytest.mark.long
def test_one_output_that_agrees_by_chance_is_not_enough() -> None:
    """On an H100 a float32 loop of one row and column passed for a chain of tensor-core steps."""
    exact = lambda a, b: np.float32(a.astype(np.float64) @ b.astype(np.float64))
    shares = [ps.kernels.find_schedule("h100:bf16", 1, 1, k, product=exact) for k in range(20, 40)]
    assert not any(found.schedule for found in shares)


@pytest.mark.long
@pytest.mark.parametrize(
    "product",
    [
        np.matmul,
        by("bf16_bf16_fp32:pairwise"),
        by("a100:bf16"),
        lambda a, b: np.full((8, 8), np.nan, np.float32),
    ],
    ids=["numpy", "pairwise", "another machine", "nan"],
)
def test_other_orders_are_not_explained(product: Any) -> None:
    found = ps.kernels.find_schedule("h100:bf16", 8, 8, 128, product=product)
    assert found.schedule is None
    assert found.share < 1


@pytest.mark.parametrize(
    "spec",
    [
        "h100:bf16",
        "h100:bf16->bf16",
        "h100:e4m3->fp16",
        "v100:fp16:acc=fp16",
        "bf16_bf16_fp32[rtz]:fused8x50",
    ],
)
def test_probes_count_what_is_left(spec: str) -> None:
    """There are two parts of 256 products.

    In the first, a probe counts what comes after each place's step; in the second, nothing.
    """
    parsed = ps.MatmulSpec.parse(spec)
    assert isinstance(parsed.order, ps.FusedBlock)
    kernel, shape = by(f"{spec}:splitk2x64"), Shape(16, 16, 512)
    places, stride = np.arange(3, 512, 7), _stride(parsed, 512)
    ends = part_ends(lambda a, b: [kernel(a, b)], _operand_sizes(parsed), shape, stride, places)
    exact = np.where(
        places < 256, places // parsed.order.length * parsed.order.length + parsed.order.length, 512
    )
    # The last product before an end may be a place itself, or none that counts.
    assert ((exact - 1 - stride <= ends) & (ends <= exact)).all()


@pytest.mark.long
def test_the_end_of_the_first_part_is_exact() -> None:
    """Whatever its place among the coarse probes."""
    spec = ps.MatmulSpec.parse("h100:tf32")
    for granule in (64, 88, 100, 252, 333, 512):
        kernel = by(f"h100:tf32:splitk{-(-1000 // granule)}x{granule}+residue32")
        run = lambda a, b, kernel=kernel: [kernel(a, b)]
        assert part_length(run, spec, Shape(16, 16, 1000)) == granule


@pytest.mark.parametrize(
    ("spec", "sizes", "message"),
    [
        ("b200:mxfp4", (8, 8, 64), "spec is 'b200:mxfp4'; allowed beside a product are operands"),
        ("bf16_bf16_bf16[sr]:fused16x25", (8, 8, 64), "and no stochastic accumulator"),
        ("h100:bf16", (8, 8, 0), "k is 0; allowed are integers from 1 on"),
        ("h100:bf16", (-1, 8, 16), "m is -1; allowed are integers from 1 on"),
        ("h100:bf16", (8, 4, 64), r"product returned shape \(4, 8\); allowed is \(8, 4\)"),
    ],
)
def test_bad_input_is_named(spec: str, sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.kernels.find_schedule(spec, *sizes, product=lambda a, b: (a @ b).T)
