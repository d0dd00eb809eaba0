"""The blind run says each attempt as it ends, and keeps its limit; every kernel is listed."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from conformance import identify
from conformance.kernels import XLA, Kernel, numpy_kernels, report, xla_kernels
from tests.products.conftest import assert_same_bits


def test_all_kernels_of_a_platform_are_listed() -> None:
    """Defect: on a GPU only tf32 was left; none is needed to list them."""
    on = {
        platform: [kernel.name.removeprefix(f"XLA {platform} ") for kernel in xla_kernels(platform)]
        for platform in ("cpu", "gpu")
    }
    assert on["gpu"] == list(XLA)
    assert on["cpu"] == [name for name in XLA if name != "tf32"]
    assert set(XLA) >= {"fp32", "tf32", "bf16", "fp16", "e4m3", "e5m2", "int8"}


@pytest.mark.parametrize("kernel", [*numpy_kernels(), *xla_kernels("cpu")], ids=lambda x: x.name)
def test_a_kernel_multiplies(kernel: Kernel) -> None:
    a, b = np.full((2, 3), 2, np.float32), np.full((3, 2), -3, np.float32)
    assert_same_bits(np.asarray(kernel.product(a, b), np.float32), a @ b)


def test_only_float32_is_multiplied_at_a_higher_precision() -> None:
    precisions = [kernel.product.args[2] for kernel in xla_kernels("gpu")]  # type: ignore[attr-defined]
    assert precisions == ["highest", *[None] * (len(XLA) - 1)]


def test_a_kernel_that_fails_is_a_row() -> None:
    kernels = [Kernel("fails", "bf16", fails, (4, 4, 8))]
    kernels += [k for k in xla_kernels("nowhere") if k.name == "XLA nowhere bf16"]
    for kernel in kernels:
        said = report(kernel)
        assert said.startswith("not there: RuntimeError: ")
        assert "\n" not in said


def fails(a: object, b: object) -> None:
    raise RuntimeError("no such product\non this machine")


def attempted(number: int) -> identify.Attempt:
    return identify.Attempt(f"{number}", number != 5, 10 * number)


def first_waits_for_last(sign: Path, number: int) -> identify.Attempt:
    if number == 6:
        sign.touch()
    while number == 3 and not sign.exists():
        time.sleep(0.01)
    return attempted(number)


def test_attempts_come_as_they_end(tmp_path: Path) -> None:
    work = partial(first_waits_for_last, tmp_path / "sign")
    lines = [each.line for each in identify._attempts(work, range(3, 7), 2)]
    assert lines[:2] == ["4", "5"]
    assert sorted(lines) == ["3", "4", "5", "6"]
    alone = identify._attempts(attempted, range(3, 7), 1)
    assert [each.line for each in alone] == ["3", "4", "5", "6"]


def test_one_that_is_not_recovered_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert identify._blind(map(attempted, range(3, 7))) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 4 recovered, 45.0 queries each"
    assert identify._blind(map(attempted, range(1))) == 0


def endless(*_: Any, **__: Any) -> None:
    while True:
        pass


def test_a_spec_that_takes_too_long_counts_as_missed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ps.kernels, "identify", endless)
    words = ["--specs", "2", "--seed", "0", "--first", "86", "--limit", "1"]
    assert identify.main(words) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:2]] == [
        " 86 LATE  given up after 1 s",
        " 87 LATE  given up after 1 s",
    ]
    assert printed[2].startswith("0 of 2 recovered")
