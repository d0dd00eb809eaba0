"""The NumPy program of docs/explanation/what-a-run-computes.md has the bits of `ps.train`."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from tests.training.conftest import assert_same_bits

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "what-a-run-computes.md"
MAX_LINES = 120
SCALE = 2.0**22
"""So large that fp16 overflows: the first steps are skipped."""
POLICIES = {
    "fp32": "fp32",
    "bf16": "bf16",
    "bf16_mixed": "bf16_mixed",
    "fp16": "fp16",
    "fp16_mixed": f"fp16_mixed,scale=dynamic@{SCALE:.0f}",
    "q3.8": "q3.8",
}
FAST = ("fp32", "bf16", "fp16_mixed", "q3.8")
PLACES = ("input", "hidden", "output", "logits")


def blocks() -> list[str]:
    """Return the page's program, and the lines that count events."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the names that the page's lines define."""
    path = tmp_path_factory.mktemp("page") / "reproduced.py"
    path.write_text("".join(blocks()), "utf-8")
    return runpy.run_path(str(path), run_name="reproduced")


def test_program_is_short_and_needs_neither_precsim_nor_jax() -> None:
    script = blocks()[0]
    assert len(script.splitlines()) < MAX_LINES
    imported = re.findall(r"^\s*(?:import|from) (\w+)", "".join(blocks()), re.MULTILINE)
    assert imported == ["numpy", "sklearn"]


def check(program: dict[str, Any], name: str, **options: Any) -> ps.TrainResult:
    """Train both ways and compare weights, losses, loss scales and skipped steps."""
    run = ps.train(ps.TrainConfig(policy=ps.Policy.parse(POLICIES[name]), **options))
    weights, history = program["train"](name, len(run.losses), scale=SCALE)
    for layer, own in zip(("hidden", "output"), weights, strict=True):
        assert_same_bits(own[:-1], run.weights[f"{layer}/w"], f"{layer}/w")
        assert_same_bits(own[-1], run.weights[f"{layer}/b"], f"{layer}/b")
    losses, scales, taken = map(np.array, zip(*history, strict=True))
    assert_same_bits(losses, run.losses, "losses")
    assert_same_bits(scales, run.loss_scales, "loss scales")
    assert_same_bits(taken, run.taken, "taken")
    assert run.skipped_steps == (5 if name == "fp16_mixed" else 0)
    return run


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in POLICIES]
)
def test_numpy_alone_reproduces_a_run(program: dict[str, Any], name: str) -> None:
    """Forty steps, and every count of the first one."""
    run = check(program, name, steps=40)
    program["COUNTED"].clear()
    program["train"](name, 1, scale=SCALE)
    counted = program["count_events"]()
    for where, events in (("forward", run.forward_events), ("backward", run.backward_events)):
        assert set(events) == set(PLACES)
        for place, steps in events.items():
            expected = counted.get(f"{place} {where}", np.zeros(7))
            assert steps[0].tolist() == expected.tolist(), f"{place} {where}"


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_numpy_alone_reproduces_a_long_run(program: dict[str, Any], name: str) -> None:
    check(program, name, steps=900)
