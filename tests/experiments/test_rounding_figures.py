"""Figures on formats, precision, sums, stochastic rounding: matched numbers, independent loops.

The independent loops use NumPy's float16, whose operations are correctly rounded, exact rationals,
or integers.
"""

import json
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from experiments import g05_swamping as g05
from experiments import g06_error_growth as g06
from experiments import g07_stochastic_ode as g07
from experiments import g08_few_random_bits as g08
from experiments import g16_classics as g16
from precsim.cli.main import main

MUTATED = """
import sys

import precsim as ps

ps.RoundingSpec.__init__.__kwdefaults__["mode"] = "rna"  # ties away, not to even

from precsim.cli.main import main

sys.exit(main(["reproduce", *sys.argv[1:]]))
"""


def score(module: Any) -> tuple[Counter[str], list[str]]:
    """Return how many numbers of each class match, and the names of those that do not."""
    checks = module.check(module.compute(fast=True))
    good = Counter[str](check.grade for check in checks if check.matched)
    return good, [check.name for check in checks if not check.matched]


@pytest.mark.slow  # `.ci/run` runs all figures so
def test_exact_figures_in_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "g01", "g04", "--jobs", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "87/87" in printed
    assert "49/49" in printed
    for name, grades in (("g01_formats", {"A": 87}), ("g04_more_precision", {"A": 22, "B": 27})):
        facts = json.loads((tmp_path / name / "provenance.json").read_text())
        assert Counter(check["grade"] for check in facts["checks"]) == grades


@pytest.mark.long
def test_few_random_bits() -> None:
    assert score(g08) == ({"A": 54, "C": 3}, [])


@pytest.mark.slow
def test_sums_growth_equations_and_classics() -> None:
    assert score(g05) == ({"B": 29, "C": 6}, [])
    assert score(g06) == ({"B": 8, "C": 5}, [])
    assert score(g07) == ({"B": 72, "C": 7}, [])
    assert score(g16) == ({"A": 15, "B": 12, "C": 1}, [])


def test_sums_in_chunks_by_exact_rationals() -> None:
    x = np.asarray(ps.round_to(np.linspace(-0.7, 2.7, 128).reshape(64, 2), g05.FORMAT), np.float32)

    def add(a: Fraction, b: Fraction) -> Fraction:
        return Fraction(ps.oracle.round_exact(a + b, g05.FORMAT).value)

    def total(numbers: list[Fraction]) -> Fraction:
        result = Fraction(0)
        for number in numbers:
            result = add(result, number)
        return result

    found = np.asarray(g05.sums(x, None, (24, 40, 64), spec=g05.FORMAT, order="blocked8"))
    for i, n in enumerate((24, 40, 64)):
        for lane in range(2):
            exact = [Fraction(v) for v in x[:n, lane].tolist()]
            chunks = [total(exact[first : first + 8]) for first in range(0, n, 8)]
            assert found[i, lane] == float(total(chunks))


def test_matrix_times_vector_in_numpy_halves() -> None:
    n, stream, again = 34, np.random.RandomState(5), np.random.RandomState(5)
    nearest, _ = g06.error(stream, n, "fp16")
    a = 1e-3 * again.random_sample(g06.ROWS * n).reshape(n, g06.ROWS)
    x = again.random_sample(n)
    y = np.zeros(g06.ROWS, np.float16)
    for column, entry in zip(a, x, strict=True):
        y += (column * entry).astype(np.float16)
    assert nearest == pytest.approx(np.abs(y / (x @ a) - 1).max(), rel=1e-12)
    assert stream.random_sample() == again.random_sample()  # neither more nor less was drawn


@pytest.mark.long
def test_stochastic_sums_have_no_drift() -> None:
    noise = np.random.default_rng(1)
    nearest, stochastic = g06.error(np.random.RandomState(1), 3000, "bf16", noise=noise)
    assert stochastic < nearest / 3


@pytest.mark.long
def test_integrations_in_numpy_halves() -> None:
    steps = np.array([10, 57, 300], np.int32)
    found = g07.errors("decay", steps, "fp16", "fp16")
    turns = np.array([32, 100], np.int32)
    h = (2 * np.pi / turns).astype(np.float16)
    points = np.asarray(g07.circle(turns, h.astype(np.float32), None, spec="fp16"))
    for n, ours in zip(steps, found, strict=True):
        y, width = np.float16(1 / 64), np.float16(1 / n)
        for _ in range(n):
            y = y - width * y
        assert ours == float(y) - np.exp(-1) / 64
    for k, n in enumerate(turns):
        u, v = np.float16(1), np.float16(0)
        for _ in range(n):
            u, v = u + h[k] * v, v - h[k] * u
        assert points[:, k].tolist() == [u, v]


@pytest.mark.long
def test_stochastic_integration_depends_on_the_key_only() -> None:
    steps = np.array([50, 80], np.int32)
    runs = [
        g07.errors("decay", steps, "bf16", "bf16:sr", jax.random.key(seed)) for seed in (1, 1, 2)
    ]
    assert runs[0].tolist() == runs[1].tolist()
    assert runs[0].tolist() != runs[2].tolist()


def count(rule: str, n: int, d: int) -> Fraction:
    """Return the bias by integers: k of 2**d parts of an ulp, and every word of n bits."""
    ulp, errors = 2**d, []
    for k in range(ulp):
        low, rest = divmod(k << n, ulp)  # the fraction in units of 2**-n, and what it loses
        kept = {
            "SRFF": low,
            "SRF": low + (2 * rest >= ulp),
            "SRC": low + (2 * rest > ulp or (2 * rest == ulp and low % 2)),
        }[rule]
        errors += [ulp * (kept + word >= 2**n) - k for word in range(2**n)]
    return Fraction(sum(errors), len(errors) * ulp)


@pytest.mark.parametrize("rule", g08.RULES)
def test_bias_by_integers(rule: str) -> None:
    assert g08.bias(rule, 2, 5) == count(rule, 2, 5) == g08.closed_form(rule, 2, 5)
    assert g08.bias(rule, 3, 2) == count(rule, 3, 2) == 0  # more random bits than discarded ones


def test_terms_of_the_drift_have_every_fraction_equally_often() -> None:
    terms = g08.terms_of_every_fraction()
    assert terms.sum() == 0
    counts = Counter((terms * 128 % 256).tolist())
    assert set(counts.values()) == {4}
    assert len(counts) == 256


@pytest.mark.long
def test_ties_away_everywhere(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MUTATED, "g01", "--out", str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    summary, _, table = done.stdout.partition("do not match")
    assert "86/87" in summary
    wrong = [line for line in table.splitlines() if "464.0 to e4m3" in line]
    assert len(wrong) == 1
    assert "126" in wrong[0]
    assert "127.0" in wrong[0]
