"""Q formats: two's complement integers with a binary point."""

from fractions import Fraction

import numpy as np
import pytest

import precsim as ps

# (name, width, resolution, min, max): range [-2**I, 2**I - 2**-F], sign bit not counted.
FACTS = [
    ("q3.4", 8, 0.0625, -8.0, 7.9375),
    ("q3.12", 16, 2.0**-12, -8.0, 8.0 - 2.0**-12),
    ("q7.8", 16, 2.0**-8, -128.0, 128.0 - 2.0**-8),
    ("q0.7", 8, 2.0**-7, -1.0, 1.0 - 2.0**-7),
    ("uq0.8", 8, 2.0**-8, 0.0, 1.0 - 2.0**-8),
    ("uq8.0", 8, 1.0, 0.0, 255.0),
    ("q-2.8", 7, 2.0**-8, -0.25, 0.25 - 2.0**-8),
    ("q9.-3", 7, 8.0, -512.0, 504.0),
    ("uq1.0", 1, 1.0, 0.0, 1.0),
    ("q51.1", 53, 0.5, -(2.0**51), 2.0**51 - 0.5),
]


def fixed(name: str) -> ps.FixedPointFormat:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FixedPointFormat)
    return fmt


@pytest.mark.parametrize(("name", "width", "resolution", "low", "high"), FACTS)
def test_width_and_range(name: str, width: int, resolution: float, low: float, high: float) -> None:
    fmt = fixed(name)
    found = (fmt.width, fmt.resolution, fmt.min_value, fmt.max_value)
    assert found == (width, resolution, low, high)
    assert str(fmt) == name


@pytest.mark.parametrize("name", ["q3.4", "uq0.8", "q-2.8", "q9.-3", "uq1.0", "q3.7"])
def test_values_are_the_integers_times_the_resolution(name: str) -> None:
    fmt = fixed(name)
    codes = np.arange(1 << fmt.width)
    integers = codes - (codes >> (fmt.width - 1) << fmt.width if fmt.is_signed else 0)
    exact = [Fraction(int(n)) * Fraction(fmt.resolution) for n in integers]
    assert [Fraction(float(v)) for v in ps.decode(codes, fmt)] == exact


def test_widest_format_round_trips_at_its_ends() -> None:
    fmt = fixed("q51.1")
    codes = np.array([0, 1, (1 << 52) - 1, 1 << 52, (1 << 53) - 1], np.uint64)
    values = ps.decode(codes, fmt)
    assert values.tolist() == [0.0, 0.5, 2.0**51 - 0.5, -(2.0**51), -0.5]
    np.testing.assert_array_equal(ps.encode(values, fmt), codes)


@pytest.mark.parametrize("name", ["q0.0", "q-1.1", "q53.0", "uq54.0", "q30.23"])
def test_width_is_checked(name: str) -> None:
    with pytest.raises(ValueError, match=r"the width is -?\d+ bits, sign included; allowed are"):
        ps.get_format(name)
