"""No float32 input brings an elementary function closer to a rounding boundary than its error.

The functions give results with a relative error below 2**-59. Rounding boundaries of all formats of
precision <= 24 are numbers of 25 significant bits. Here the distance of every result to the nearest
number of 25 bits is computed, in units of 2**-63 of its leading bit: where it is above 32 units
(2**-59 of the next power of two), the boundary and the exact result cannot have changed places.
Results that are put next to 1, 1/2 or x (see `elementary_bits`) are 64 units away from it. Only
results that are put exactly have distance 0.

The tests marked slow and gpu try everything: minutes on a GPU, about an hour on two CPU cores (with
-m slow).

    JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu -rA
    tests/arithmetic/elementary/test_hard_cases.py

The default run tries the inputs of few bits, where results are close to boundaries for a reason.
"""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precsim.arithmetic.elementary import bits as elementary_bits
from precsim.formats.carrier import FLOAT32, Carrier
from precsim.rounding.kernel import wide

LOG = logging.getLogger(__name__)
ERROR = 32
"""Bound of the error: 2**-59 of a number below 2 is below 2**-58, this many units."""
CHUNK = 1 << 23
SIGN = 0x80000000
INFINITY = 0x7F800000
Function = Callable[..., wide.Wide]
FUNCTIONS: dict[str, Function] = {
    "exp": elementary_bits.exponential,
    "log": elementary_bits.logarithm,
    "tanh": elementary_bits.hyperbolic_tangent,
    "erf": elementary_bits.error_function,
    "sigmoid": elementary_bits.logistic,
    "rsqrt": elementary_bits.reciprocal_root,
}
SIGNED = ("exp", "sigmoid")
"""Functions with other results for negative arguments.

Tanh and erf are odd, log and rsqrt refuse them."""


def distances(bits: Any, function: Function) -> Any:
    """Return each result's distance to the nearest number of 25 bits, at most 2**32 - 1."""
    xp = jnp if isinstance(bits, jax.Array) else np
    zero, far = np.uint32(0), np.uint32(0xFFFFFFFF)
    result = function(wide.unpack(bits, FLOAT32), FLOAT32)
    high, low = result.hi & np.uint32(0x7F), result.lo
    from_below = xp.where((high == 0x7F) & (low != zero), zero - low, far)
    is_number = result.hi >= np.uint32(
        SIGN
    )  # it is not where the function is not defined, as log(1)
    return xp.where(is_number, xp.minimum(xp.where(high == 0, low, far), from_below), far)


def closest(function: Function, begin: int, end: int) -> tuple[int, int]:
    """Return the smallest distance but 0 over a range of patterns, and a pattern that has it."""

    def of_chunk(start: Any) -> Any:
        patterns = start + jnp.arange(CHUNK, dtype=jnp.uint32)
        return distances(patterns, function) - np.uint32(1)

    smallest = jax.jit(lambda start: jnp.min(of_chunk(start)))
    place = jax.jit(lambda start: jnp.argmin(of_chunk(start)))
    found = [int(smallest(np.uint32(start))) + 1 for start in range(begin, end, CHUNK)]
    start = begin + CHUNK * int(np.argmin(found))
    return min(found), start + int(place(np.uint32(start)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_of_few_bits_are_no_hard_cases(name: str) -> None:
    """All bf16 numbers; multiples of 2**-26 from 0 and 1 on: x, x / 4 + 1/2 ... are boundaries."""
    bf16 = np.arange(1 << 16, dtype=np.uint32) << 16
    fine = (np.arange(1, 1 << 15) * 2.0**-26).astype(np.float32)
    fine = np.concatenate([fine, -fine, 1 - 2 * fine, 1 + 2 * fine])
    patterns = np.concatenate([bf16, fine.view(np.uint32)])
    finite = (patterns & np.uint32(INFINITY)) != INFINITY
    positive = (patterns > 0) & (patterns < SIGN)
    patterns = patterns[finite & (positive | ((name in SIGNED) & (patterns > SIGN)))]
    found = distances(patterns, FUNCTIONS[name])
    assert found.size > 50_000
    assert np.min(found - np.uint32(1)) + 1 > ERROR


@pytest.mark.parametrize("units", [1, 20, 1 << 20])
def test_a_distance_on_either_side_is_seen(units: int) -> None:
    """Results made to lie this many units above and below numbers of 24 bits."""
    bits = np.array([1.0, 1.5, 3.0 * 2.0**-140], np.float32).view(np.uint32)

    def above(x: wide.Wide, _: Carrier) -> wide.Wide:
        return x._replace(lo=x.lo + np.uint32(units))

    def below(x: wide.Wide, _: Carrier) -> wide.Wide:
        return x._replace(hi=x.hi | np.uint32(0x7F), lo=x.lo - np.uint32(units))

    for function in (above, below):
        assert distances(bits, function).tolist() == [units] * 3


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_float32_is_a_hard_case(name: str) -> None:
    """All inputs: 2**32 of exp and sigmoid, 2**31 of the others."""
    for sign in (0, SIGN)[: 1 + (name in SIGNED)]:
        distance, pattern = closest(FUNCTIONS[name], sign, sign + INFINITY)
        LOG.info("%s: at least %d units, the closest from %#010x", name, distance, pattern)
        assert distance > ERROR
