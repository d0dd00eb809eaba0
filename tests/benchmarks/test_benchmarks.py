"""Timing, ratios, checks and skip messages of benchmarks; what the command prints and returns."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from benchmarks import __main__ as command
from benchmarks import calls, catalogue, inputs, limits, peers, presets, report, worker
from benchmarks.case import Case, Contender, Goal, Setting, SkipError, Wrong, against_exact
from benchmarks.timing import interleave, paired_ratio
from precsim.transform.presets import ALIASES, PRESETS
from tests.surface.public_calls import CALLS

FP16, E4M3, BF16 = (ps.get_format(name) for name in ("fp16", "e4m3", "bf16"))
TINY = Case(
    name="nearest/fp16",
    build=lambda setting: {},
    goals=(
        Goal(measured="slow", against="fast", at_most=0.5),
        Goal(measured="slow", against="gone"),
    ),
    size=10,
)


def tiny(contenders: dict[str, Contender | str]) -> Case:
    return Case(name="tiny/one", build=lambda setting: contenders, goals=TINY.goals, size=10)


@pytest.mark.long
def test_contenders_take_turns() -> None:
    order: list[str] = []
    times = interleave(
        {name: partial(order.append, name) for name in "abc"}, rounds=4, sample_seconds=0.0
    )
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys("abc", 4)
    # Two calls each that compile and estimate; then in every round one untimed and one timed.
    assert "".join(order) == "aabbcc" * 5


@pytest.mark.long
def test_processor_time_leaves_out_what_others_take() -> None:
    seconds = 0.02
    calls = {"asleep": partial(time.sleep, seconds)}
    times = interleave(calls, rounds=3, sample_seconds=0.0, clock=time.process_time)
    assert max(times["asleep"]) < seconds / 2
    assert min(interleave(calls, rounds=3, sample_seconds=0.0)["asleep"]) >= seconds


def test_calls_of_every_public_function_of_arrays_are_measured() -> None:
    called = {name.partition(" ")[0] for name in CALLS}
    of_training = {"apply_updates", "value_and_grad"} | {n for n in called if "LossScale" in n}
    # One of each kind is measured, `less`, `equal` and `maximum`.
    alike = {"not_equal", "less_equal", "greater", "greater_equal", "total_order"}
    alike |= {"minimum", "minimum_number", "maximum_number"}
    assert set(calls.FUNCTIONS) == called - of_training - alike


@pytest.mark.long
def test_a_call_as_a_case() -> None:
    outcome = worker.measure(catalogue.find("calls/small/ulp")[0], Setting(size=4, quick=True))
    jax_row, numpy_row, _ = outcome["rows"]
    assert (jax_row["against"], jax_row["goal"]) == ("jnp", 6.0)
    assert (numpy_row["against"], numpy_row["goal"]) == ("precsim, JAX arrays", 2.0)
    assert (numpy_row["wrong"], numpy_row["compared"]) == (0, 16)


def test_ratios_are_those_within_a_round() -> None:
    against = [1.0, 10.0, 100.0, 2.0, 4.0]
    measured = [factor * x for factor, x in zip((2.0, 2.0, 3.0, 4.0, 1.0), against, strict=True)]
    assert paired_ratio(measured, against) == (2.0, 2.0, 3.0)
    assert paired_ratio([6.0], [2.0, 5.0]) == (3.0, 3.0, 3.0)


def test_rows_of_a_case() -> None:
    wait = lambda: sum(range(20_000))
    found: dict[str, Contender | str] = {
        "fast": Contender(run=lambda: None),
        "slow": Contender(run=wait, check=lambda: Wrong(2, 7)),
        "gone": "not here today",
        "other": Contender(run=lambda: None, is_peer=True),
    }
    outcome = worker.measure(tiny(found), Setting(size=10, quick=True))
    assert outcome["skipped"] == {"tiny/one: gone": "not here today"}
    row, peer = outcome["rows"]
    assert (row["measured"], row["goal"], row["reached"], row["own"]) == ("slow", 0.5, False, True)
    assert (row["wrong"], row["compared"], row["ratio"] > 1) == (2, 7, True)
    assert (peer["measured"], peer["against"], peer["own"]) == ("other", "slow", False)
    assert command.is_wrong(outcome)
    assert not command.is_wrong({"rows": [peer, {**row, "own": False}, {**row, "wrong": 0}]})
    cells = report.cells("tiny/one", row)
    assert (cells[0], cells[3], cells[6]) == ("tiny/one", "1e1", "<= 0.50")
    assert (cells[7], cells[8]) == ("[red]no[/]", "[red]2/7[/]")
    assert report.time({**row, "size": 1, "nanoseconds": 2.5e6}) == "2.5 ms"


def test_a_case_that_cannot_run_says_why() -> None:
    def build(setting: Setting) -> dict[str, Contender | str]:
        raise SkipError("no such machine")

    case = Case(name="tiny/two", build=build, goals=TINY.goals, size=1)
    assert worker.measure(case, Setting(size=1))["skipped"] == {"tiny/two": "no such machine"}


def test_wrong_results_are_counted() -> None:
    x = np.array([1.0, -0.0, 1e9, np.nan, 0.3, np.inf], np.float32)
    exact = lambda k: ps.oracle.round_exact(float(x[k]), "e4m3").value
    right = ps.round_to(x, "e4m3")
    places = np.arange(x.size)
    assert against_exact(lambda: right, places, exact)() == (0, 6)
    # The sign of zero counts, the payload of NaN does not, and an unrounded number is wrong.
    assert against_exact(lambda: np.abs(right), places, exact)() == (1, 6)
    assert against_exact(lambda: x, places, exact)() == (3, 6)


def test_inputs_hold_ties_and_special_values() -> None:
    x = inputs.make_input(5000)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, inputs.make_input(5000))
    compared = x[inputs.chosen(x.size)]
    assert compared.size == inputs.COMPARED
    assert np.isnan(compared).any()
    assert np.isinf(compared).sum() >= 2
    assert np.signbit(compared[compared == 0]).any()
    for fmt in (FP16, E4M3, BF16):
        assert isinstance(fmt, ps.FloatFormat)
        quantum = Fraction(fmt.min_subnormal)
        finite = [abs(Fraction(float(v))) for v in compared if np.isfinite(v)]
        assert {quantum / 2, quantum, quantum * 3 / 2, quantum * 5 / 2} <= set(finite)


@pytest.mark.parametrize("name", ["fp16", "e4m3", "e5m2", "e2m1", "ieee_e4m3"])
def test_the_loop_in_c_rounds_correctly(name: str) -> None:
    x = inputs.make_input(20_000)
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    try:
        loop, result = limits.c_loop(x, fmt)
    except SkipError as reason:
        pytest.skip(str(reason))
    loop.run()
    right = ps.round_to(x, name)
    same = (result.view(np.uint32) == right.view(np.uint32)) | (np.isnan(result) & np.isnan(right))
    assert same.all()


def test_limits_and_peers_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(BF16, ps.FloatFormat)
    assert isinstance(E4M3, ps.FloatFormat)
    with pytest.raises(SkipError, match="does not cover bf16"):
        limits.c_loop(np.zeros(1, np.float32), BF16)
    limits.library.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SkipError, match="no C compiler"):
        limits.c_loop(np.zeros(1, np.float32), E4M3)
    limits.library.cache_clear()
    for name in ("gfloat", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    x = np.array([0.3, 500.0], np.float32)
    found = dict(peers.nearest(x, E4M3))
    assert (found["torch"], found["gfloat"]) == ("not installed (torch)", "not installed (gfloat)")
    assert not isinstance(found["ml_dtypes"], str)
    run, as_numpy = found["ml_dtypes"]
    assert as_numpy(run()).tolist()[0] == 0.3125
    tf32 = ps.get_format("tf32")
    assert isinstance(tf32, ps.FloatFormat)
    assert dict(peers.nearest(x, tf32))["ml_dtypes"] == "has no dtype for tf32"


def test_names_are_unique_and_found() -> None:
    names = [case.name for case in catalogue.all_cases()]
    assert len(names) == len(set(names))
    assert [case.name for case in catalogue.find("nearest/bf16")] == ["nearest/bf16"]
    assert {case.name for case in catalogue.find("gpu")} == {n for n in names if n[:4] == "gpu/"}
    formats = ps.list_formats(kind="float")
    assert {f"nearest/{name}" for name in formats if name not in ("fp32", "fp64")} <= set(names)
    for case in catalogue.all_cases():
        assert case.goals
        assert case.size >= (case.quick_size or 0)


@pytest.mark.long
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "neerest"]) == 2
    assert "did you mean 'nearest'?" in capsys.readouterr().err
    assert command.main(["--list", "--only", "stochastic"]) == 0
    assert capsys.readouterr().out.split() == [case.name for case in catalogue.find("stochastic")]
    with pytest.raises(SystemExit):
        command.main(["--fast"])
    capsys.readouterr()
    out = tmp_path / "out.json"
    assert command.main(["--quick", "--only", "nearest/e4m3", "--json", str(out)]) == 0
    assert "nearest/e4m3" in capsys.readouterr().out
    facts = json.loads(out.read_text())
    assert {"jax", "numpy", "precsim", "python"} <= set(facts["versions"])
    assert facts["command"].startswith("python -m benchmarks --quick")
    outcome = facts["cases"]["nearest/e4m3"]
    assert outcome["device"].startswith("cpu")
    rows = {(row["measured"], row["against"]): row for row in outcome["rows"]}
    assert rows["jit", "np.copyto"]["goal"] == 1.3
    assert all(row["nanoseconds"] > 0 for row in rows.values())
    assert (rows["jit", "negate"]["wrong"], rows["eager", "jit"]["wrong"]) == (0, 0)
    assert rows["jit", "negate"]["compared"] == inputs.COMPARED


def test_all_presets_are_measured_run_and_compiled() -> None:
    assert {*presets.NAMES, presets.PLAIN} == set(PRESETS) - set(ALIASES)
    case = catalogue.find("presets/bf16")[0]
    assert [goal.measured for goal in case.goals] == ["bf16, run", "bf16, compile"]
    assert [goal.against for goal in case.goals] == ["fp32, run", "fp32, compile"]


def test_rows_of_a_gpu_are_skipped_without_one() -> None:
    case = catalogue.find("gpu/e4m3")[0]
    if jax.default_backend() != "cpu":
        pytest.skip("there is one")
    outcome = worker.measure(case, Setting(size=10))
    assert outcome["skipped"] == {"gpu/e4m3": "JAX finds no accelerator"}


def test_synchronous_programs_run_on_the_thread_that_calls_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(setting: Setting) -> dict[str, Contender]:
        switched.append(f"built {setting.size}")
        return {}

    switched: list[str] = []
    monkeypatch.setattr(catalogue, "find", lambda _: [replace(TINY, build=build)])
    monkeypatch.setattr(
        jax.config, "update", lambda name, value: switched.append(f"{name} {value}")
    )
    worker.main([TINY.name, "10", "synchronous"])
    assert switched == ["jax_cpu_enable_async_dispatch False", "built 10"]


def test_a_worker_that_breaks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nValueError: no")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: broken)
    outcome = command.run(TINY, quick=True, peers=False)
    assert outcome["skipped"] == {TINY.name: "failed: ValueError: no"}

    def words_of(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, stdout=json.dumps(command[3:]), stderr="")

    monkeypatch.setattr(subprocess, "run", words_of)
    asked = command.run(TINY, quick=False, peers=False, processor_time=True, synchronous=True)
    assert list(asked) == [TINY.name, "10", "processor_time", "synchronous"]

    def stop(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", command.LIMIT_SECONDS)

    monkeypatch.setattr(subprocess, "run", stop)
    assert "stopped after" in command.run(TINY, quick=True, peers=False)["error"]
