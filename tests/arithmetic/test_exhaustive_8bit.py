"""Every pair of values of the 8-bit formats, and every triple of a 6-bit format, against the oracle.

The exact results are float64 numbers, so each distinct one is rounded by the oracle once:

* Sums: values are multiples of 2**-17 (e5m2fnuz) or more, and below 2**17; a sum needs at most 36 bits.
* Products of two significands of at most 5 bits need 10 bits.
* Sums of a product and a value, 6 bits: multiples of 2**-8 (e3m2) below 2**11, at most 20 bits.
* Quotients are not float64 numbers, but different ones have different float64 quotients: a/b and c/d
  differ relatively by abs(ad - bc)/(ad), which is 2**-11 or more for significands of at most 5 bits, and
  float64 division errs by 2**-53. So the float64 quotient tells which exact one it is, and the oracle
  gets that one as a fraction.
"""

from functools import cache, partial

import jax
import numpy as np
import pytest

from precsim.arithmetic.elementwise import fma
from precsim.rounding.spec import RoundingMode, RoundingSpec
from tests.arithmetic.conftest import (
    OPERATIONS,
    Floats,
    assert_same_bits,
    finite_values,
    round_each,
)

PAIRWISE = ("add", "subtract", "multiply", "divide")
OTHERS = ["ieee_e4m3", "ieee_e3m4", "e4m3fnuz", "e4m3b11fnuz", "e5m2fnuz"]
OTHER_RULES = ["e4m3:rtz", "e4m3:rtp:saturate", "e5m2:rtn", "e5m2:rna", "e5m2:rto", "e4m3:raz"]


@cache
def pairs(name: str) -> tuple[Floats, Floats]:
    """All pairs of finite values, with both zeros."""
    values = finite_values(name)
    x, y = np.meshgrid(values, values, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def exact_float64(operation: str, x: Floats, y: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(getattr(np, operation)(x, y))


def check_all_pairs(operation: str, text: str, *, jitted: bool) -> None:
    spec = RoundingSpec.parse(text)
    x, y = pairs(spec.format.name)
    exact = exact_float64(operation, x, y)
    if spec.mode is RoundingMode.TOWARD_NEGATIVE and operation in ("add", "subtract"):
        addend = y if operation == "add" else -y
        cancels = (exact == 0) & ((x != 0) | (np.signbit(x) != np.signbit(addend)))
        exact = np.where(cancels, -0.0, exact)
    expected = round_each(exact, spec, (x, y) if operation == "divide" else ())
    run = partial(OPERATIONS[operation][0], spec=spec)
    a, b = x.astype(np.float32), y.astype(np.float32)
    got = (jax.jit(run) if jitted else run)(a, b)
    assert_same_bits(got, expected.astype(np.float32), x, y, note=f"{text} {operation}")


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
@pytest.mark.parametrize("operation", PAIRWISE)
def test_every_pair_jitted(operation: str, name: str) -> None:
    check_all_pairs(operation, name, jitted=True)


@pytest.mark.slow
@pytest.mark.parametrize("text", OTHERS + OTHER_RULES)
@pytest.mark.parametrize("operation", PAIRWISE)
def test_every_pair_in_other_formats_and_modes(operation: str, text: str) -> None:
    check_all_pairs(operation, text, jitted=False)


def check_all_triples(text: str, *, jitted: bool) -> None:
    spec = RoundingSpec.parse(text)
    values = finite_values(spec.format.name)
    x, y, z = (a.reshape(-1) for a in np.meshgrid(values, values, values, indexing="ij"))
    expected = round_each(x * y + z, spec)
    run = partial(fma, spec=spec)
    a, b, c = (v.astype(np.float32) for v in (x, y, z))
    got = (jax.jit(run) if jitted else run)(a, b, c)
    assert_same_bits(got, expected.astype(np.float32), x, y, z, note=f"{text} fma")


def test_every_triple_of_e2m3() -> None:
    check_all_triples("e2m3", jitted=True)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["e3m2", "e3m2:rtz", "e2m3:rtp", "e2m1"])
def test_every_triple_of_other_narrow_formats(text: str) -> None:
    check_all_triples(text, jitted=False)


def test_all_values_take_part() -> None:
    counts = {"e4m3": 254, "e5m2": 248, "e2m3": 64, "e3m2": 64}
    for name, count in counts.items():
        values = finite_values(name)
        assert values.size == count
        assert np.unique(values).size == count - 1  # both zeros
