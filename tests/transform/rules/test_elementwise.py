"""Where the carrier's own operation, rounded, is one rounding of the exact result."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.formats.carrier import FLOAT32
from precsim.rounding.spec import RoundingSpec
from precsim.transform.rules import elementwise

EIGHT = [
    *("e4m3", "q3.4:sr4", "e4m3:rtz"),
    *[pytest.param(text, marks=pytest.mark.slow) for text in ("e5m2", "e3m4", "uq2.6", "q3.4")],
]
OPERATIONS = {
    "add": (lax.add, ps.add),
    "sub": (lax.sub, ps.subtract),
    "mul": (lax.mul, ps.multiply),
    "div": (lax.div, ps.divide),
}


@pytest.mark.long
@pytest.mark.parametrize("text", EIGHT)
def test_the_fast_way_is_one_rounding_for_all_pairs_of_eight_bit_values(text: str) -> None:
    spec = RoundingSpec.parse(text)
    values = np.unique(ps.decode(np.arange(256, dtype=np.uint8), spec.format).astype(np.float32))
    x, y = np.meshgrid(values, values)
    for name, (platform, exact) in OPERATIONS.items():
        if not elementwise.is_fast(name, spec, FLOAT32, anywhere=False):
            continue
        bits = np.arange(x.size, dtype=np.uint8).reshape(x.shape) if "sr" in text else None
        fast = jax.jit(
            lambda x, y, platform=platform, bits=bits: ps.round_to(
                platform(x, y), spec, random_bits=bits
            )
        )(x, y)
        np.testing.assert_array_equal(fast, exact(x, y, spec, random_bits=bits), err_msg=name)


def test_which_operations_go_the_fast_way() -> None:
    def is_fast(name: str, text: str, *, anywhere: bool = False) -> bool:
        return elementwise.is_fast(name, RoundingSpec.parse(text), FLOAT32, anywhere=anywhere)

    assert all(is_fast(name, "fp16") for name in ("add", "sub", "mul", "div", "sqrt"))
    assert not is_fast("add", "fp16:rtz")  # the first rounding may reach a value of the format
    assert is_fast("mul", "fp16:rtz")  # 22 bits: exact in float32
    assert not is_fast("mul", "bf16")  # products below 2**-126
    assert is_fast("mul", "bf16", anywhere=True)
    assert not is_fast("mul", "bf16:saturate", anywhere=True)  # float32 would give infinity
    assert not is_fast("add", "float(e=8,p=12)", anywhere=True)  # 26 bits do not fit
    assert is_fast("add", "q3.12")
    assert not is_fast("mul", "q3.12")
    assert not is_fast("div", "q3.4")


ZEROS = np.array([-0.0, 0.0, 1, -1], np.float32)
SUMS_WITH_ZERO: dict[str, Callable[[Any], Any]] = {
    "x + 0": lambda x: x + 0.0,
    "0 + x": lambda x: 0.0 + x,
    "x - -0": lambda x: x - (-0.0),
    "0 - x": lambda x: 0.0 - x,
    "x + zeros": lambda x: x + np.zeros(4, np.float32),
    "x * -x + 0": lambda x: x * -x + 0.0,
    "sum of one": lambda x: x[:1].sum(),
}


@pytest.mark.long
@pytest.mark.parametrize("policy", ["fp16", "bf16", "e=bf16", "float(e=5,p=6)", "fp16,fn=portable"])
def test_known_zeros_leave_the_sign_of_a_zero_to_ieee(policy: str) -> None:
    """Defect: XLA takes x + 0 for x, so that -0 + 0 was -0 under `jit`."""
    for name, fun in SUMS_WITH_ZERO.items():
        want = np.asarray(fun(ZEROS))
        run = ps.emulate(fun, policy)
        for got in (jax.jit(run)(ZEROS), run(ZEROS)):
            assert (np.signbit(np.asarray(got)) == np.signbit(want)).all(), name
    slope = jax.grad(lambda x: ps.emulate(lambda x: (x + 0.0) * 3 - x, policy)(x).sum())(ZEROS)
    assert np.asarray(slope).tolist() == [2, 2, 2, 2]
