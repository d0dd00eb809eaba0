"""The error of elementary functions before they are rounded, against MPFR."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gmpy2  # type: ignore[import-untyped]
import numpy as np
import pytest

from precsim.arithmetic.elementary import bits as elementary_bits
from precsim.formats.carrier import Carrier
from precsim.rounding.kernel import wide
from tests.arithmetic.conftest import CARRIERS, Floats

PRECISION = 300


class Case(NamedTuple):
    """A function, its values, and the arguments between which none is put beside a boundary."""

    function: Callable[..., wide.Wide]
    exact: Callable[[Any], Any]
    smallest: float
    lowest: float
    highest: float


CASES = {
    "exp": Case(elementary_bits.exponential, gmpy2.exp, 2.0**-17, -100, 100),
    "log": Case(elementary_bits.logarithm, gmpy2.log, 0, 0, 2.0**126),
    "tanh": Case(elementary_bits.hyperbolic_tangent, gmpy2.tanh, 2.0**-27, -20.12, 20.12),
    "erf": Case(elementary_bits.error_function, gmpy2.erf, 0, -6.06, 6.06),
    "sigmoid": Case(
        elementary_bits.logistic, lambda x: 1 / (1 + gmpy2.exp(-x)), 2.0**-17, -100, 39.8
    ),
    "rsqrt": Case(elementary_bits.reciprocal_root, gmpy2.rec_sqrt, 0, 0, 2.0**126),
}


def arguments(case: Case, size: int, carrier: Carrier, seed: int) -> Floats:
    """Return numbers of all sizes, of moderate size, and next to 1."""
    rng = np.random.default_rng(seed)
    wide_range = np.ldexp(rng.uniform(1, 2, size), rng.integers(-148, 126, size))
    moderate = rng.uniform(0, 1, size) * rng.choice([1, 10, 100], size)
    near_one = 1 + np.ldexp(rng.uniform(-1, 1, size), rng.integers(-23, 0, size))
    x = np.concatenate([wide_range, moderate, near_one])
    if case.lowest < 0:
        x *= rng.choice([-1, 1], x.size)
    x = x.astype(carrier.float_dtype)
    kept = (np.abs(x) >= case.smallest) & (x != 0) & (x != 1)
    values: Floats = x[kept & (x > case.lowest) & (x < case.highest)]
    return values


def exactly(result: wide.Wide, k: int, width: int) -> Any:
    """Return one result as an MPFR number."""
    significand = (int(result.hi[k]) << width) | int(result.lo[k])
    sign = -1 if result.negative[k] else 1
    return gmpy2.mpfr(sign * significand) * gmpy2.mpfr(2) ** (
        int(result.exponent[k]) - 2 * width + 1
    )


def largest_error(name: str, carrier: Carrier, size: int, seed: int) -> float:
    """Return the binary logarithm of the largest relative error."""
    case = CASES[name]
    x = arguments(case, size, carrier, seed)
    result = case.function(wide.unpack(x.view(carrier.uint_dtype), carrier), carrier)
    assert np.all(np.asarray(result.hi) >= carrier.sign_bit)
    with gmpy2.context(precision=PRECISION):
        errors = [
            exactly(result, k, carrier.width) / case.exact(gmpy2.mpfr(value)) - 1
            for k, value in enumerate(x.tolist())
        ]
        return float(gmpy2.log2(max(map(abs, errors))))


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS.keys())
@pytest.mark.parametrize("name", CASES)
def test_error_is_below_its_bound(name: str, carrier: Carrier) -> None:
    found = largest_error(name, carrier, 1000, 1)
    assert -2 * carrier.width - 1 < found < 5 - 2 * carrier.width


@pytest.mark.slow
@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS.keys())
@pytest.mark.parametrize("name", CASES)
def test_error_is_below_its_bound_on_many(name: str, carrier: Carrier) -> None:
    found = max(largest_error(name, carrier, 30_000, seed) for seed in range(3))
    assert found < 5 - 2 * carrier.width
