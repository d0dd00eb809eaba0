"""Minimum and maximum against the rules of IEEE 754-2019, 9.6; which operand gets the gradient."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.arithmetic.conftest import CARRIERS, SPECIAL_VALUES, everywhere

EXTREMA: dict[str, tuple[Callable[..., Any], bool, bool]] = {
    "minimum": (ps.ieee.minimum, False, False),
    "maximum": (ps.ieee.maximum, True, False),
    "minimum_number": (ps.ieee.minimum_number, False, True),
    "maximum_number": (ps.ieee.maximum_number, True, True),
}
"""Each function: whether it takes the larger, whether a number goes before NaN."""


def extremum(x: float, y: float, takes_larger: bool, number_first: bool) -> float:
    """IEEE 754-2019, 9.6, one pair at a time."""
    if math.isnan(x) or math.isnan(y):
        other = y if math.isnan(x) else x
        return other if number_first else math.nan
    # Zeros by their sign.
    ascending = sorted([x, y], key=lambda v: (v, math.copysign(1, v)))
    return ascending[takes_larger]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", EXTREMA)
def test_extremum_of_every_pair_of_special_values(name: str, carrier: str) -> None:
    function, *rule = EXTREMA[name]
    values = SPECIAL_VALUES.astype(carrier)
    x, y = (v.reshape(-1) for v in np.meshgrid(values, values))
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    expected = np.array([extremum(a, b, *rule) for a, b in pairs], carrier)
    unsigned = f"u{x.itemsize}"
    canonical = np.where(np.isnan(expected), np.array(np.nan, carrier), expected).view(unsigned)
    for way, got in everywhere(function, x, y).items():
        assert got.dtype == x.dtype
        # NaN included: the same bits.
        np.testing.assert_array_equal(got.view(unsigned), canonical, err_msg=way)


def test_signalling_nan_becomes_the_canonical_quiet_one() -> None:
    signalling = np.array([0xFF800001], np.uint32).view(np.float32)
    one = np.ones(1, np.float32)
    for function, _, number_first in EXTREMA.values():
        for x, y in itertools.permutations([signalling, one]):
            expected = 0x3F800000 if number_first else 0x7FC00000
            assert function(x, y).view(np.uint32).tolist() == [expected]
        assert function(signalling, signalling).view(np.uint32).tolist() == [0x7FC00000]


def test_gradient_goes_to_the_operand_that_is_returned() -> None:
    """Ties go to x; a zero has a sign, so +0 and -0 are no tie; NaN has no gradient."""
    nan = math.nan
    x = jnp.array([1.0, 2.0, 2.0, 0.0, -0.0, nan, 1.0], jnp.float32)
    y = jnp.array([2.0, 1.0, 2.0, -0.0, 0.0, 1.0, nan], jnp.float32)
    by_x = {
        "minimum": [1, 0, 1, 0, 1, 0, 0],
        "maximum": [0, 1, 1, 1, 0, 0, 0],
        "minimum_number": [1, 0, 1, 0, 1, 0, 1],
        "maximum_number": [0, 1, 1, 1, 0, 0, 1],
    }
    for name, (function, _, number_first) in EXTREMA.items():
        both = jax.jit(jax.vmap(jax.grad(function, argnums=(0, 1))))(x, y)
        has_gradient = [1, 1, 1, 1, 1, int(number_first), int(number_first)]
        assert both[0].tolist() == by_x[name], name
        assert (both[0] + both[1]).tolist() == has_gradient, name


def test_largest_of_an_array_by_reduction() -> None:
    x = np.array([3.0, -1.0, math.nan, 7.0], np.float32)
    assert (
        float(jax.lax.reduce(jnp.asarray(x), np.float32(-np.inf), ps.ieee.maximum_number, (0,)))
        == 7
    )
