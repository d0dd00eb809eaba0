"""The patterns that are sent through a processor's instructions, and what it made of them."""

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import precsim as ps
from conformance import processor
from conformance.silicon import values

RECORDED = {
    "vdpbf16ps": "4612a0edfb4c9ef5",
    "bfdot": "6caf3b3a0d855b50",
    "bfmmla": "91dbfe33ccb5bc5b",
}
"""SHA-256 of 4,000 results of seed 1: an AMD EPYC of family 26, model 2; QEMU 7.2 for Arm."""


def has_instruction() -> bool:
    """Return whether this machine can compile and run VDPBF16PS."""
    facts = Path("/proc/cpuinfo")
    is_known = facts.exists() and "avx512_bf16" in facts.read_text(encoding="utf-8")
    return is_known and platform.machine() == "x86_64" and shutil.which("gcc") is not None


@pytest.mark.parametrize("name", processor.INSTRUCTIONS)
@pytest.mark.parametrize("sort", processor.SORTS)
def test_blocks_are_codes_of_the_instruction(name: str, sort: str) -> None:
    instruction = processor.INSTRUCTIONS[name]
    m, n, k = instruction.shape
    a, b, c = processor.drawn(sort, instruction, 50, np.random.default_rng(0))
    assert (a.shape, b.shape, c.shape) == ((50, m, k), (50, n, k), (50, m, n))
    for x, fmt in (
        (a, instruction.operand),
        (b, instruction.operand),
        (c, instruction.accumulator),
    ):
        assert 8 * x.dtype.itemsize == ps.get_format(fmt).width
    first = values(c, instruction.accumulator)
    if sort == processor.TINY:
        normal = ps.get_format(instruction.accumulator).min_normal  # type: ignore[union-attr]
        assert np.all(np.abs(first) >= normal)
        assert np.all(np.abs(first) < 1.01 * normal)
    if sort == "special values":
        assert np.isnan(first).any()
        assert np.isinf(first).any()


@pytest.mark.long
@pytest.mark.parametrize("name", RECORDED)
def test_the_model_has_the_recorded_results(name: str) -> None:
    instruction, digest = processor.INSTRUCTIONS[name], hashlib.sha256()
    for _, (a, b, c) in processor.blocks(instruction, 4000, 1):
        digest.update(processor.canonical(processor.modelled(instruction, a, b, c)))
    assert digest.hexdigest()[:16] == RECORDED[name]


@pytest.mark.long
@pytest.mark.skipif(not has_instruction(), reason="needs avx512_bf16 and gcc")
def test_this_processor_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert processor.main(["vdpbf16ps", "bfdot", "--patterns", "20000", "--seed", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "20000 results, 0 differ" in lines[1]
    assert lines[2].split() == [
        "bfdot",
        "not",
        "run:",
        "not",
        "compiled",
        "for",
        "this",
        "processor",
    ]


WRONG = (
    "bf16[flush_before_rounding]_bf16[flush_before_rounding]_fp32[flush_tiny]:sequential",
    "bf16[flush_before_rounding]_bf16[flush_before_rounding]_fp32[flush_after_rounding]:descending2",
    "bf16_bf16_fp32[flush_tiny]:descending2",
)


@pytest.mark.long
@pytest.mark.parametrize("model", WRONG)
def test_a_wrong_rule_is_found(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = processor.INSTRUCTIONS["vdpbf16ps"]
    wrong = right._replace(model=model)

    def silicon(name: str, call: list[str], a: np.ndarray, b: np.ndarray, c: np.ndarray) -> object:
        return ps.encode(processor.modelled(right, a, b, c), "fp32")

    monkeypatch.setattr(processor, "through", silicon)
    monkeypatch.setitem(processor.INSTRUCTIONS, "vdpbf16ps", wrong)
    args = argparse.Namespace(patterns=4000, seed=0, examples=1)
    assert processor.compare("vdpbf16ps", [sys.executable, "-c", ""], args)


def test_a_machine_without_a_compiler_gets_one_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "conformance.processor", "vdpbf16ps"],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (
        2,
        "error: gcc cannot be run; it compiles processor.c\n",
    )
