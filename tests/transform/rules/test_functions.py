"""Tables of functions against integer arithmetic that is correctly rounded too."""

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.spec import RoundingSpec
from precsim.transform.rules import functions
from tests.transform.by_hand import bf16, f32

NAMES = ("exp", "log", "tanh", "erf", "logistic", "rsqrt")
CASES = [
    pytest.param(name, text, marks=() if name in fast else pytest.mark.slow)
    for text, fast in {"bf16": ("exp", "rsqrt"), "fp16": ("tanh",), "e4m3": (), "q3.8": ()}.items()
    for name in NAMES
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "text"), CASES)
def test_tables_are_correctly_rounded(name: str, text: str) -> None:
    """The integer arithmetic of `ps.exp` and others is an independent way to the same bits."""
    spec = RoundingSpec.parse(text)
    table = functions._table(name, spec)
    assert table is not None
    indices = functions._indices_of(spec.format)
    assert indices.width is not None
    codes = np.arange(1 << indices.width, dtype=np.uint16)
    x = np.asarray(ps.decode(codes, indices), np.float32)
    x = x[ps.round_to(x, spec.format) == x]
    found = functions._looked_up(table, jnp.asarray(x), spec)
    np.testing.assert_array_equal(found, functions._INTEGER[name](x, spec))


def test_powers_have_tables_too_ties_included() -> None:
    x = f32([1.0078125, 1.5, -3.0, 0.0])
    cubes = ps.emulate(lambda x: x**3, "bf16")(x)
    np.testing.assert_array_equal(cubes, bf16(bf16(x) ** 3).astype(np.float32))
