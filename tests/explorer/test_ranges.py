"""Histograms and loss scales: each share is that of rounding every number."""

import math
from fractions import Fraction

import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.explorer.data import EXAMPLES, tensor
from precsim.explorer.ranges import SCALES, edges, losses
from precsim.formats.written import approximate

RULES = (
    *("fp16", "bf16", "e4m3", "e5m2:rtz", "e2m1", "q3.4", "fp16:raz", "e4m3:saturate", "e8m0"),
    *("fp16:flush_after_rounding", "fp16:flush_before_rounding", "fp16:nearest_of_zero_and_min"),
    *("e5m2:rtp", "e4m3:rnz", "p3109_k8p4se"),
)


@pytest.mark.parametrize("rule", RULES)
def test_edges_are_where_the_definition_changes(rule: str) -> None:
    spec = ps.RoundingSpec.parse(rule)
    found = edges(spec)
    tiny = Fraction(1, 10**6)

    def is_zero(x: Fraction) -> bool:
        return ps.oracle.round_exact(x, spec).value == 0

    def is_over(x: Fraction) -> bool:
        return ps.oracle.Flags.OVERFLOW in ps.oracle.round_exact(x, spec).flags

    if found.zero:
        assert is_zero(found.zero * (1 - tiny))
        assert is_zero(found.zero) is not found.zero_is_kept
        assert not is_zero(found.zero * (1 + tiny))
    assert not is_over(found.overflow * (1 - tiny))
    assert is_over(found.overflow) is found.overflows
    assert is_over(found.overflow * (1 + tiny))


@pytest.mark.parametrize("rule", ["fp16", "e4m3", "fp16:rtz", "fp16:flush_after_rounding"])
@pytest.mark.parametrize("power", [-3, 0, 12])
def test_losses_are_those_of_rounding_every_number(rule: str, power: int) -> None:
    numbers = tensor({"values": "1e-3, 3e-6, 2e-8, 2**-25, 2**-24, 65519, 65520, 464, 465, 0.01"})
    scale = Fraction(2) ** power
    rounded = [ps.oracle.round_exact(Fraction(x) * scale, rule) for x in numbers.sizes]
    zero = sum(value == 0 for value, _ in rounded)
    over = sum(ps.oracle.Flags.OVERFLOW in flags for _, flags in rounded)
    assert losses(numbers, edges(ps.RoundingSpec.parse(rule)), scale) == (zero, over)


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
