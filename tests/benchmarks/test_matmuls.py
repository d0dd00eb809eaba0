"""Products of the benchmarks: the contenders compute the same; a missing one says so."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from benchmarks import catalogue, matmuls, product_limits, report, worker
from benchmarks.case import Contender, Setting, SkipError

SIZE = 96**3


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "make"),
    [
        *((spec, product_limits.c_accumulator) for spec in matmuls.ACCUMULATORS),
        *((f"h100:{kind}", product_limits.c_tensor_core) for kind in ("bf16", "e4m3")),
        *(
            pytest.param(f"h100:{kind}", product_limits.c_tensor_core, marks=pytest.mark.slow)
            for kind in ("fp16", "e5m2")
        ),
    ],
)  # fmt: skip
def test_loops_in_c_have_the_bits(name: str, make: Callable[..., product_limits.Product]) -> None:
    a, b = matmuls.operands(name, SIZE)
    try:
        run = make(a, b, ps.MatmulSpec.parse(name))
    except SkipError as reason:
        pytest.skip(str(reason))
    expected = np.asarray(ps.matmul(a, b, name, backend="emulated"))
    np.testing.assert_array_equal(run().view(np.uint32), expected.view(np.uint32))


def uncompiled(function: Any = None, **_options: Any) -> Any:
    """Stand in for `numba.njit`: the loop runs as it is written."""
    return function or uncompiled


@pytest.mark.long
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("name", ["bf16_bf16_bf16:adder=fp32", "fp16_fp16_fp16:adder=fp32"])
def test_loops_in_numba_have_the_bits(
    name: str, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba 0.68 refused the fp16 loop, which views a choice of two floats; some overflow."""
    if is_compiled:
        pytest.importorskip("numba")
    else:
        stand_in = SimpleNamespace(njit=uncompiled, prange=range)
        monkeypatch.setitem(sys.modules, "numba", stand_in)
    a, b = matmuls.operands(name, 20**3)
    a, b = a[:12], b * np.float32(2048 if "fp16" in name else 1)
    run = product_limits.numba_accumulator(a, b, ps.MatmulSpec.parse(name))
    expected = np.asarray(ps.matmul(a, b, name, backend="emulated"))
    np.testing.assert_array_equal(run().view(np.uint32), expected.view(np.uint32))
    assert np.isinf(expected).any() == ("fp16" in name)


@pytest.mark.parametrize("kind", matmuls.TENSOR_CORES)
def test_mma_sim_has_the_bits(kind: str) -> None:
    """Two independent models of a machine; the package alone does not bring its module `nv_ptx`."""
    pytest.importorskip("mmasim.nv_ptx")
    a, b = matmuls.operands(f"h100:{kind}", SIZE)
    run = product_limits.mma_sim(a, b, kind)
    expected = np.asarray(ps.matmul(a, b, f"h100:{kind}", backend="emulated"))
    np.testing.assert_array_equal(run().view(np.uint32), expected.view(np.uint32))


@pytest.mark.long
@pytest.mark.parametrize("name", ["h100:e4m3", "fp16_fp16_fp16", "bf16_bf16_bf16:adder=fp32"])
def test_wrong_products_are_counted(name: str) -> None:
    a, b = matmuls.operands(name, 48**3)
    check = matmuls.against_definition(a, b, name)
    right = np.asarray(ps.matmul(a, b, name, backend="emulated"))
    assert check(lambda: right)() == (0, matmuls.COMPARED)
    assert check(lambda: a @ b)().wrong > 0


def test_what_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("numba", "mmasim"):
        monkeypatch.setitem(sys.modules, module, None)
    setting = Setting(size=32**3)
    found = matmuls.product("e4m3_e4m3_e5m2:adder=fp32", setting)
    assert found[matmuls.NUMBA] == "not installed (numba)"
    assert isinstance(found[matmuls.JIT], Contender)
    found = matmuls.product("h100:bf16", setting)
    assert str(found[matmuls.MMA_SIM]).startswith("not installed (mmasim")
    found = matmuls.product("h100:bf16", Setting(size=30**3))
    assert "multiples of 4 rows" in str(found[matmuls.C_LOOP])
    small = matmuls.operands("a100:fp16", 32**3)
    with pytest.raises(SkipError, match="does not cover"):
        product_limits.c_tensor_core(*small, ps.MatmulSpec.parse("a100:fp16"))


@pytest.mark.long
def test_a_small_case_as_a_whole() -> None:
    outcome = worker.measure(
        catalogue.find("matmul/one layer/h100:bf16")[0], Setting(size=1, quick=True)
    )
    (row,) = outcome["rows"]
    assert (row["measured"], row["against"], row["wrong"]) == ("jit", "float32 dot", 0)


def test_gpu_rows_are_skipped_without_a_gpu() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("there is one")
    case = catalogue.find("gpu/matmul/h100:bf16")[0]
    assert worker.measure(case, Setting(size=64**3))["skipped"] == {
        case.name: "JAX finds no accelerator"
    }


def test_operands_are_values_of_the_formats_and_times_have_few_digits() -> None:
    a, _ = matmuls.operands("h100:e4m3", SIZE)
    np.testing.assert_array_equal(a, ps.round_to(a, "e4m3"))
    subnormal = (np.abs(a) < 2.0**-6) & (a != 0)
    assert subnormal.any()
    assert report.time({"size": 10, "nanoseconds": 0.0005}) == "0.500 ps"
