"""The tiles that are sent through a tensor core; a GPU runs the comparison itself."""

import subprocess
import sys

import numpy as np
import pytest

import precsim as ps
from conformance import silicon


@pytest.mark.parametrize("kind", silicon.KINDS)
@pytest.mark.parametrize("sort", silicon.SORTS)
def test_tiles_are_codes_of_the_kind(kind: str, sort: str) -> None:
    operand, accumulator = kind.split("_")
    depth = 16 if operand in ("fp16", "bf16") else 32
    a, b, c = silicon.tiles(sort, operand, accumulator, depth, 5, np.random.default_rng(0))
    assert (a.shape, b.shape, c.shape) == ((5, 16, depth), (5, 8, depth), (5, 16, 8))
    assert a.dtype.itemsize * depth == b.dtype.itemsize * depth == 32  # bytes of a line
    x, y, z = (silicon.values(v, f) for v, f in ((a, operand), (b, operand), (c, accumulator)))
    with np.errstate(invalid="ignore"):  # infinities
        total = np.abs(np.asarray(x, np.float64) @ np.asarray(y, np.float64).swapaxes(1, 2))
    if sort == "cancelling":
        assert total.max() == 0
    if sort == "near zero":  # many sums below the smallest value of the accumulator, not zero
        smallest = silicon.SMALLEST[accumulator]
        is_reached = silicon.SMALLEST[operand] ** 2 < smallest
        assert np.mean((total > 0) & (total < smallest)) > 0.01 * is_reached - 1e-9
        assert np.any((z == 0) & np.signbit(z))
    if sort == "random bits":
        assert not np.all(np.isfinite(x)) or operand == "e4m3"


@pytest.mark.parametrize("kind", silicon.KINDS)
def test_the_model_of_a_kind_is_one(kind: str) -> None:
    specs = {str(ps.MatmulSpec.parse(silicon.spec_of(kind, m))) for m in ("h100", "ada")}
    assert len(specs) == 2


def test_a_machine_without_a_compiler_gets_one_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "conformance.silicon", "fp16_fp16"],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (
        2,
        "error: nvcc is not installed; it compiles tensor_core.cu\n",
    )
