"""The products of G9 and G10: published digits, stated order, and mutations that are noticed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import precsim as ps
from experiments import g09_narrow_range, g10_tensor_cores, scaled_gemm
from precsim.cli.main import main

SPECS = {**g09_narrow_range.SPECS, "a100": ps.MatmulSpec.parse("a100:fp16")}


@pytest.mark.long
@pytest.mark.parametrize("name", SPECS)
def test_order_and_bits_do_not_depend_on_backend_or_chunks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaled_gemm, "_CHUNK", 16)
    dtype = np.float32 if name == "a100" else np.float64
    rng = np.random.default_rng(7)
    a, b = (rng.normal(size=s) * 2.0 ** rng.integers(-9, 8, s) for s in ((3, 40), (40, 2)))
    a, b = a.astype(dtype), b.astype(dtype)
    spec = SPECS[name]
    chunked = scaled_gemm.multiply(a, b, spec)
    reference = ps.matmul(a, b, spec, backend="reference")
    with jax.enable_x64(dtype is np.float64):
        jitted = np.asarray(jax.jit(lambda x, y: ps.matmul(x, y, spec))(a, b))
    unsigned = f"u{a.itemsize}"
    assert chunked.view(unsigned).tolist() == reference.view(unsigned).tolist()
    assert jitted.view(unsigned).tolist() == reference.view(unsigned).tolist()


def test_scaling_is_by_powers_of_two_up_to_theta() -> None:
    n = np.array([10, 50])
    theta = scaled_gemm.largest_entry(n, "e4m3", "fp16")
    assert theta.tolist() == [np.sqrt(6550.4), np.sqrt(65504 / 50)]
    assert scaled_gemm.largest_entry(np.array([10]), "e4m3", "fp32") == 448
    for product, limit in zip(
        scaled_gemm.products(np.random.RandomState(3), n, theta), theta, strict=True
    ):
        for largest in (np.abs(product.a).max(axis=1), np.abs(product.b).max(axis=0)):
            assert (largest <= limit).all()
            assert (largest > limit / 2).all()
        assert (np.frexp(product.scale)[0] == 0.5).all()
        assert product.error(product.a @ product.b) < 1e-16


def test_narrow_range_all_fast_points_and_bounds(tmp_path: Path, data_dir: Path) -> None:
    outcome = ps.figures.run("experiments.g09_narrow_range", out=tmp_path, data_dir=data_dir)
    assert not outcome.mismatches
    assert Counter(check.grade for check in outcome.checks) == {"A": 4 * 13 + 2 * 13}


def mutate(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Change every rounding of the products without subnormals."""
    off = g09_narrow_range.SPECS["off"]
    parts = ("lhs", "rhs", "product", "accumulator")
    rounding = {part: replace(getattr(off, part), **changes) for part in parts}
    changed = {**g09_narrow_range.SPECS, "off": replace(off, **rounding)}
    monkeypatch.setattr(g09_narrow_range, "SPECS", changed)
    monkeypatch.setattr(g09_narrow_range, "FAST_SIZE", 24)


@pytest.mark.slow
def test_ties_away_in_the_narrow_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch, mode="rna")
    assert main(["reproduce", "g09", "--out", str(tmp_path)]) == 1
    table = capsys.readouterr().out.partition("do not match")[2]
    assert table.count("│ g09") == 1
    assert any("n = 24 " in line and "0.005662695" in line for line in table.splitlines())


@pytest.mark.long
def test_the_other_rule_of_no_subnormals(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, subnormals="flush_after_rounding")
    checks = g09_narrow_range.check(g09_narrow_range.compute(fast=True))
    wrong = [check.name for check in checks if not check.matched]
    assert wrong == ["subnormals off, n = 13", "subnormals off, n = 18"]


@pytest.mark.long
def test_a_tensor_core_curve_and_its_mutation(monkeypatch: pytest.MonkeyPatch) -> None:
    n = g10_tensor_cores.SIZES[:5]
    published = [f"{x:.6e}" for x in list(g10_tensor_cores.PUBLISHED["v100:fp16"].values())[:5]]

    def ours() -> list[str]:
        return [f"{x:.6e}" for x in g10_tensor_cores.curve_errors("v100:fp16", n)]

    assert ours() == published
    # The other rule for the operands (trap: only the first n is rounded to nearest).
    monkeypatch.setattr(g10_tensor_cores, "FIRST_TO_NEAREST", ())
    assert [x == y for x, y in zip(ours(), published, strict=True)] == [False] + 4 * [True]
    # One fraction bit more in the alignment.
    monkeypatch.setitem(g10_tensor_cores.SPECS, "v100:fp16", "fp16_fp16_fp32[rtz]:fused4x24")
    assert ours()[1:] != published[1:]


@pytest.mark.slow
def test_tensor_cores_all_fast_points(tmp_path: Path, data_dir: Path) -> None:
    outcome = ps.figures.run("experiments.g10_tensor_cores", out=tmp_path, data_dir=data_dir)
    assert not outcome.mismatches
    assert Counter(check.grade for check in outcome.checks) == {"A": 2 * 5 * 9, "C": 11}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "total"), [("g09_narrow_range", 240), ("g10_tensor_cores", 211)])
def test_all_published_sizes(name: str, total: int, tmp_path: Path, data_dir: Path) -> None:
    outcome = ps.figures.run(f"experiments.{name}", out=tmp_path, fast=False, data_dir=data_dir)
    assert not outcome.mismatches
    assert len(outcome.checks) == total
