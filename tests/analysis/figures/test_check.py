"""The rules by which a number matches a published one."""

import math

import pytest

from precsim.analysis.figures.check import Check, Kind

MATCHES: list[tuple[float | tuple[float, float], float, Kind, float, bool]] = [
    (0.1, 0.1, "exact", 0, True),
    (0.1, 0.1 + 2**-56, "exact", 0, False),
    (math.inf, math.inf, "exact", 0, True),
    (math.inf, 1e300, "exact", 0, False),
    (1.692729273e-04, 0.0001692729273394234, "digits", 9, True),
    (1.692729273e-04, 0.0001692729274394234, "digits", 9, False),
    (15.403683, 15.403682708740234, "digits", 7, True),
    (4.0, 4.03, "relative", 0.01, True),
    (-4.0, -4.05, "relative", 0.01, False),
    (math.inf, math.inf, "relative", 0.01, True),
    (4.0, 4.04, "absolute", 0.05, True),
    (4.0, 4.06, "absolute", 0.05, False),
    ((33, 52), 33, "range", 0, True),
    ((33, 52), 53, "range", 0, False),
    (0.1, math.nan, "exact", 0, False),
    (0.1, math.nan, "digits", 9, False),
    (0.1, math.nan, "relative", 9, False),
    ((33, 52), math.nan, "range", 0, False),
]


@pytest.mark.parametrize(("published", "computed", "kind", "tolerance", "matched"), MATCHES)
def test_each_rule(
    published: float | tuple[float, float],
    computed: float,
    kind: Kind,
    tolerance: float,
    matched: bool,
) -> None:
    check = Check("a number", published, computed, kind, tolerance)
    assert check.matched is matched
    assert check.grade == "A"
    assert check.rule


def test_a_rule_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'range' does not fit"):
        Check("a number", 1.0, 1.0, "range")
    with pytest.raises(ValueError, match="kind 'exact' does not fit"):
        Check("a number", (1.0, 2.0), 1.0)
