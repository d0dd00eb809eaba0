"""The survey of native products: what it runs and how it explains the bits; on the CPU, with the model as the GPU."""

import jax
import numpy as np
import pytest

import precsim as ps
from conformance import tensor_cores
from conformance.tensor_cores import Case, bits, explain, narrow, native, operands


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [("h100:bf16", "float32"), ("h100:bf16->bf16", "bfloat16"), ("h100:fp16->fp16", "float16")],
)
def test_results_have_the_type_that_the_spec_names(spec: str, dtype: str) -> None:
    small = narrow(spec, *operands(Case(spec, 4, 3, 32, "normal", 0)))
    result = jax.eval_shape(native(spec), *small)
    assert result.dtype == dtype
    assert result.shape == (4, 3)


@pytest.mark.parametrize(
    ("spec", "schedule"),
    [("h100:e4m3", ":splitk3x128"), ("h100:bf16", ""), ("h100:bf16->bf16", "")],
)
def test_the_schedule_is_found_by_its_bits(spec: str, schedule: str) -> None:
    """Of a product that the model computed by it."""
    case = Case(spec, 4, 4, 2048, "normal", 1)
    a, b = operands(case)
    got = bits(ps.matmul(a, b, spec + schedule, backend="reference"))
    assert explain(case, a, b, got) == (schedule, 100)
    got[0, 0] ^= 1 << 31
    assert explain(case, a, b, got)[1] == 100 * 15 / 16


def test_operands_are_the_same_everywhere() -> None:
    """They come from a generator with a fixed stream; a golden file holds only results."""
    a, b = operands(Case("h100:bf16", 2, 2, 3, "finite", 7))
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()
    again = operands(Case("h100:bf16", 2, 2, 3, "finite", 7))
    assert (bits(a) == bits(again[0])).all()
    other = operands(Case("h100:bf16", 2, 2, 3, "finite", 8))
    assert (bits(a) != bits(other[0])).any()


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    assert tensor_cores.main([]) == 2
    assert "no GPU: JAX runs on cpu" in capsys.readouterr().err
