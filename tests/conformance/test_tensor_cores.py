"""The survey of native products, on the CPU: the model stands for the GPU."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from conformance import tensor_cores
from conformance.tensor_cores import (
    Case,
    bits,
    explain,
    narrow,
    native,
    operands,
    share_explained,
)


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [("h100:bf16", "float32"), ("h100:bf16->bf16", "bfloat16"), ("h100:fp16->fp16", "float16")],
)
def test_results_have_the_type_that_the_spec_names(spec: str, dtype: str) -> None:
    small = narrow(spec, *operands(Case(spec, 4, 3, 32, "normal", 0)))
    result = jax.eval_shape(native(spec), *small)
    assert result.dtype == dtype
    assert result.shape == (4, 3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "schedule"), [("h100:e4m3", ":splitk3x128"), ("h100:bf16->bf16", "")]
)
def test_the_schedule_is_found_and_its_bits_are_counted(spec: str, schedule: str) -> None:
    """Of a product that the model computes by it."""
    case = Case(spec, 4, 4, 832, "normal", 1)
    a, b = operands(case)

    def product(a: Any, b: Any) -> Any:
        assert (a.dtype, b.dtype) == tuple(x.dtype for x in narrow(spec, *operands(case)))
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        return ps.matmul(a, b, spec + schedule, backend="reference")

    assert explain(spec, 4, 4, 832, product) == schedule
    got = bits(product(*narrow(spec, a, b)))
    assert share_explained(case, a, b, got, schedule) == 100
    got[0, 0] ^= 1 << 31
    assert share_explained(case, a, b, got, schedule) == 100 * 15 / 16
    assert explain(spec, 4, 4, 64, np.matmul) is None
    assert share_explained(case, a, b, got, None) < 100


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


@pytest.mark.long
def test_the_survey_prints_a_line_for_each_product(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """This CPU's own dot: compiled, run, not explained, but for a product of one step."""
    monkeypatch.setattr(tensor_cores, "SHAPES", [(4, 3, 2), (20, 18, 300)])
    tensor_cores.survey(["h100:bf16"])
    head, short, long = capsys.readouterr().out.splitlines()
    assert jax.__version__ in head
    assert short.split() == ["h100:bf16", "4", "3", "2", "dot", "flat", "100.00", "%"]
    *words, share, _ = long.split()
    assert words == ["h100:bf16", "20", "18", "300", "dot", "unknown"]
    assert 0 <= float(share) < 100


def test_recorded_outputs_carry_their_operands_and_schedule(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = Case("h100:bf16", 20, 3, 2, "finite", 5)
    monkeypatch.setattr(tensor_cores, "golden_cases", lambda: iter([case]))
    path = tmp_path / "golden.npz"
    tensor_cores.record(path)
    golden = np.load(path)
    assert golden.files == ["origin", "h100:bf16|20|3|2|finite|5|"]
    assert golden[golden.files[1]].shape == (16, 3)
    with pytest.raises(FileExistsError):
        tensor_cores.record(path)
