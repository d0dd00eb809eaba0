"""Histograms and loss scales: each share is that of rounding every number."""

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.explorer.asked import RULE, with_rule
from precsim.explorer.data import EXAMPLES, tensor
from precsim.explorer.ranges import SCALES, both_edges, losses
from precsim.formats.written import approximate, parse_number


def _formats() -> list[str]:
    names = [*ps.list_formats(kind="float"), *ps.list_formats(kind="fixed")]
    found = [name for name in names if "error" not in _shares("1", name)]
    assert len(found) > len(names) // 2
    return found


def _shares(values: str, rule: str) -> dict[str, Any]:
    return answer({"question": "histogram", "values": values, "formats": [rule]})


def _rules(name: str) -> Iterator[ps.RoundingSpec]:
    """Yield every rule of a format, one part changed at a time, without chance."""
    spec = ps.RoundingSpec.parse(name)
    for part, kind in RULE.items():
        for member in kind:
            if member is not ps.RoundingMode.STOCHASTIC:
                with suppress(ValueError):
                    yield with_rule(spec, {part: member})


def _signed(fmt: Any, random: Random) -> list[float]:
    """Return numbers of both signs: at the ends of a format, and random ones around them."""
    is_fixed = isinstance(fmt, ps.FixedPointFormat)
    low = fmt.resolution if is_fixed else fmt.min_subnormal
    normal = low if is_fixed else fmt.min_normal
    high = fmt.max_value if is_fixed else fmt.max_finite
    last = fmt.resolution if is_fixed else math.ldexp(1, fmt.emax - fmt.precision + 1)
    near = [k / 4 * low for k in range(1, 9)] + [normal - low / 2, normal + low / 4]
    ends = [high + k / 4 * last for k in range(-2, 9)] + [4 * high]
    between = [math.ldexp(1 + random.random(), random.randint(-8, 4)) for _ in range(4)]
    with np.errstate(over="ignore"):
        sizes = [float(np.float64(x)) for x in (*near, *ends, *between) if 0 < x < math.inf]
    return [sign * size for size in sizes for sign in (1, -1)]


@pytest.mark.parametrize("name", ["fp16", "e4m3", "e5m2", "e2m1", "e8m0", "q3.4", "uq0.8"])
def test_losses_are_those_of_range_rates(name: str) -> None:
    """Every number of both signs, and both infinities, under every rule of a format."""
    for spec in _rules(name):
        values = [*_signed(spec.format, Random(name)), math.inf, -math.inf]
        typed = ", ".join(str(Fraction(x)) if math.isfinite(x) else str(x) for x in values)
        rates = ps.errors.range_rates(np.array(values), spec)
        expected = rates.underflowed, rates.overflowed, rates.saturated
        assert losses(tensor({"values": typed}), both_edges(spec)) == expected, spec


@pytest.mark.parametrize("name", _formats())
def test_losses_are_those_of_the_definition(name: str) -> None:
    """In all formats, of each number by itself: its value, and its flags."""
    overflows = ps.oracle.Flags.OVERFLOW | ps.oracle.Flags.INVALID
    for spec in _rules(name):
        known = both_edges(spec)
        for x in _signed(spec.format, Random(name)):
            value, flags = ps.oracle.round_exact(x, spec)
            is_beyond = bool(flags & overflows)
            is_kept = math.isfinite(value) and spec.overflow is not ps.OverflowMode.WRAP
            expected = (
                value == 0 and not is_beyond,
                is_beyond and not is_kept,
                is_beyond and is_kept,
            )
            found = losses(tensor({"values": str(Fraction(x))}), known)
            assert found == expected, (str(spec), x)


@pytest.mark.parametrize(
    ("rule", "values", "underflow", "overflow", "saturated"),
    [
        ("q3.4", "-8, -8, 1", "0 %", "0 %", "0 %"),
        ("uq0.8", "-0.5, 0.5", "0 %", "0 %", "50 %"),
        ("e8m0", "-1, 1", "0 %", "50 %", "0 %"),
        ("binary8p4ue", "-1, 1", "0 %", "50 %", "0 %"),
        ("fp16:rtn", "-2**-30", "0 %", "0 %", "0 %"),
        ("fp16:rtn", "2**-30", "100 %", "0 %", "0 %"),
        ("fp16:rtp", "-2**-30", "100 %", "0 %", "0 %"),
        ("e4m3:saturate", "465", "0 %", "0 %", "100 %"),
    ],
)
def test_the_sign_of_a_number_decides(
    rule: str, values: str, underflow: str, overflow: str, saturated: str
) -> None:
    found = _shares(values, rule)["formats"][0]
    names = "underflow", "overflow", "saturated"
    assert [found[name] for name in names] == [underflow, overflow, saturated]


@pytest.mark.parametrize("rule", ["fp16", "e4m3", "fp16:rtz", "fp16:flush_after_rounding"])
@pytest.mark.parametrize("power", [-3, 0, 12])
def test_losses_are_those_of_rounding_every_number(rule: str, power: int) -> None:
    values = "-1e-3, 3e-6, 2e-8, -2**-25, 2**-24, 65519, -65520, 464, -465, 0.01"
    scale = Fraction(2) ** power
    numbers = [Fraction(parse_number(x)) for x in values.split(",")]
    rounded = [ps.oracle.round_exact(x * scale, rule) for x in numbers]
    zero = sum(value == 0 for value, _ in rounded)
    over = sum(ps.oracle.Flags.OVERFLOW in flags for _, flags in rounded)
    spec = ps.RoundingSpec.parse(rule)
    found = losses(tensor({"values": values}), both_edges(spec), scale)
    assert (found.underflowed, found.overflowed + found.saturated) == (zero, over)


def test_a_histogram_counts_every_number_once() -> None:
    found = answer({"question": "histogram", "example": "gradients", "formats": ["fp16", "q3.4"]})
    assert sum(each["count"] for each in found["bins"]) == found["count"] == 2000
    assert max(each["height"] for each in found["bins"]) == 100
    sizes = sorted(abs(x) for x in EXAMPLES["gradients"].values())
    assert found["smallest"] == approximate(Fraction(sizes[0]))
    for each in found["bins"]:
        low = math.ldexp(1, int(each["exponent"].removeprefix("2^")))
        assert each["count"] == sum(low <= x < 2 * low for x in sizes)
    assert [each["name"] for each in found["formats"]] == ["fp16", "q3.4"]


def test_loss_scales_move_gradients_into_the_range_of_fp16() -> None:
    found = answer(
        {"question": "loss_scales", "values": "1e-3, 3e-6, 2e-8, 1e-9", "format": "fp16"}
    )
    assert [each["index"] for each in found["scales"]] == list(range(len(SCALES)))
    by_label = {each["label"]: each for each in found["scales"]}
    assert by_label["1"]["underflow"] == "50 %"
    assert by_label["2^10"]["underflow"] == "0 %"
    assert by_label["2^30"]["overflow"] == "25 %"
    assert found["scales"][found["one"]]["label"] == "1"
    best = found["scales"][found["best"]]
    assert (best["zero"], best["over"]) == (0, 0)


def test_no_number_at_all_and_very_many_exponents() -> None:
    for values in ("0, nan", "1e-4000, 1e4000"):
        found = answer({"question": "histogram", "values": values, "formats": ["fp16", "fp64"]})
        assert "error" not in found
        assert all(0 <= each["at"] <= 100 for each in found["bins"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"formats": "fp16"}, "formats is no list"),
        ({"formats": ["fp16"] * 9}, "formats is no list of at most 8"),
        ({"formats": ["fp16:sr"]}, "mode is 'sr'"),
        ({"formats": ["nvfp4"]}, "allowed are formats of single numbers"),
        ({"values": "1 x 5001"}, "values has more than 5000 numbers"),
        ({"example": "losses"}, "example is 'losses'; allowed are"),
    ],
)
def test_histograms_that_are_refused(changes: dict[str, object], said: str) -> None:
    request = {"question": "histogram", "values": "1", "formats": ["fp16"], **changes}
    assert said in answer(request)["error"]
