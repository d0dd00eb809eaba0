"""The dot products that are compared with MMA-Sim; where it is installed, some of them."""

import subprocess
import sys

import numpy as np
import pytest

import precsim as ps
from conformance import mmasim


@pytest.mark.parametrize("kind", mmasim.KINDS)
def test_numbers_are_of_the_operands(kind: str) -> None:
    operand = kind.partition(":")[2]
    fmt = ps.get_format({"xf32": "fp32"}.get(operand, operand))
    for sort in mmasim.SORTS:
        a, b, c = mmasim.drawn(sort, operand, 6, 50, np.random.default_rng(0))
        assert (a.shape, b.shape, c.shape) == ((50, 6), (50, 6), (50,))
        for x in (a, b):
            assert np.array_equal(ps.round_to(x, fmt), x, equal_nan=True)


def test_the_steps_are_those_of_the_machines() -> None:
    for kind, (rule, length) in mmasim.KINDS.items():
        order = ps.MatmulSpec.parse(kind).order
        assert str(order).startswith(rule.replace("parts", "floored") + str(length))
        assert str(order).endswith("p2") == (rule == "parts")


def test_a_wrong_rule_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def dot(length: int, kind: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(c + (a * b).sum(axis=1, dtype=np.float32), np.float32)

    assert mmasim.compare("mi250:fp16", 2000, {"pairs": dot}) > 0
    assert "mi250:fp16, 2000, " in capsys.readouterr().out


def test_without_mma_sim_there_is_one_line() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys; sys.modules['torch'] = None; "
                "from conformance import mmasim; sys.exit(mmasim.main([]))"
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (
        2,
        "error: torch is not installed; MMA-Sim needs it\n",
    )
