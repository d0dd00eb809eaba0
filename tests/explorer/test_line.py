"""Number lines: the values, what goes to each, and the way of one number."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.explorer.line import cells
from precsim.formats.written import parse_number

SMALL = ("e2m1", "e3m2", "e8m0", "q3.4", "uq0.8")


def line(**changes: str) -> dict[str, Any]:
    asked = {"question": "line", "value": "0.1", "view": "number", "scale": "linear"}
    found = answer({**asked, "format": "e4m3", **changes})
    assert "error" not in found, found
    return found


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_whole_range_of_a_small_format_has_all_values_in_order(name: str, scale: str) -> None:
    found = line(format=name, view="whole", scale=scale)
    codes = range(1 << (ps.get_format(name).width or 0))
    values = {ps.oracle.decode_exact(code, name) for code in codes}
    drawn = [parse_number(point["short"]) for point in found["points"]]
    assert drawn == sorted(value for value in values if abs(value) < float("inf"))
    places = [point["at"] for point in found["points"]]
    assert places == sorted(places)
    assert 0 <= places[0] < places[-1] <= 100


@pytest.mark.parametrize("view", ["number", "zero", "whole"])
@pytest.mark.parametrize("value", ["0.1", "-0", "nan", "inf", "-1e400", "1e-400"])
@pytest.mark.parametrize("name", ["fp64", "e8m0", "e2m1"])
def test_every_view_of_every_number(view: str, value: str, name: str) -> None:
    found = line(format=name, view=view, value=value, scale="log")
    assert len(found["points"]) >= 2
    assert len(found["lanes"]) >= 15


TINY = "float(e=2,p=3)"
RULES = (
    *(f"e2m1:{mode}" for mode in ps.RoundingMode if mode != "sr"),
    *(f"{TINY}:{rule}" for rule in ("flush_after_rounding", "nearest_of_zero_and_min")),
    *(f"{TINY}:{rule}" for rule in ("flush_before_rounding", "rtz:flush_as_chop", "flush_as_chop")),
    *("q1.2:rne", "q1.2:rto:wrap"),
)


@pytest.mark.parametrize("rule", RULES)
def test_numbers_of_an_interval_become_its_value_and_no_others(rule: str) -> None:
    spec = ps.RoundingSpec.parse(rule)
    codes = range(1 << (spec.format.width or 0))
    decoded = (ps.oracle.decode_exact(code, spec.format) for code in codes)
    values = sorted({Fraction(value) for value in decoded if math.isfinite(value)})
    found = cells(values, spec)
    assert found[0]["low"] == values[0]
    assert found[-1]["high"] == values[-1]
    eighth = min(high - low for low, high in pairwise(values)) / 8
    for k in range(int((values[-1] - values[0]) / eighth) + 1):
        x = values[0] + k * eighth
        becomes = ps.oracle.round_exact(x, spec).value
        inside = [
            cell
            for cell in found
            if (cell["low"] < x or (cell["low"] == x and cell["has_low"]))
            and (x < cell["high"] or (x == cell["high"] and cell["has_high"]))
        ]
        assert [cell["value"] for cell in inside] == [becomes]


def test_a_stochastic_rounding_has_no_intervals() -> None:
    assert line(mode="sr")["cells"] == []
