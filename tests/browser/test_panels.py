"""What every panel shows, and the definitions beside it."""

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

import precsim as ps
from precsim.formats.written import parse_number
from tests.browser.driving import open_panel, section

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def rows(page: "Page") -> list[list[str]]:
    """Return the texts of the cells of all tables that are seen."""
    found: list[list[str]] = section(page).evaluate(
        "it => [...it.querySelectorAll('tbody tr')]"
        ".map(row => [...row.children].map(cell => cell.innerText.trim()))"
    )
    return found


def test_roundings(page: "Page") -> None:
    open_panel(page, "roundings", value="3.14159", format="e4m3")
    values = {row[1]: row[2] for row in rows(page) if len(row) > 2}
    modes = [mode for mode in ps.options.RoundingMode if mode is not mode.STOCHASTIC]
    for mode in modes:
        value = ps.oracle.round_exact(Fraction("3.14159"), f"e4m3:{mode}").value
        assert parse_number(values[str(mode)]) == value


def test_value_table(page: "Page") -> None:
    open_panel(page, "table", format="e4m3")
    found = {int(row[0], 16): float(parse_number(row[2])) for row in rows(page)}
    assert len(found) == 256
    for code, value in found.items():
        expected = ps.oracle.decode_exact(code, "e4m3")
        assert (value, math.isnan(value)) == (expected, False) or math.isnan(expected)


def shown_result(page: "Page") -> float:
    return float(parse_number(section(page).locator(".value output").inner_text()))


@pytest.mark.parametrize("arrangement", ["as given", "reversed"])
def test_a_sum_that_swallows_its_addends(page: "Page", arrangement: str) -> None:
    open_panel(page, "sum", addends="2048, 1 x 5", format="fp16", arrangement=arrangement)
    total = 0.0
    for addend in [2048, *[1] * 5][:: -1 if arrangement == "reversed" else 1]:
        total = ps.oracle.compute_exact("add", total, addend, spec="fp16").value
    assert shown_result(page) == total


@pytest.mark.parametrize("machine", ["v100", "h100"])
def test_a_tensor_core_that_drops_bits(page: "Page", machine: str) -> None:
    a, b, c = [-(2.0**13), -0.5, -0.25, -0.125], [2.0**10, 1.0, 1.0, 1.0], 2.0**23
    open_panel(page, "tensor-core", machine=machine, operands="fp16")  # these numbers are there
    assert shown_result(page) == ps.oracle.fused_dot_exact(a, b, c, f"{machine}:fp16")


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "nvfp4"])
def test_a_block_and_its_scale(page: "Page", name: str) -> None:
    elements = ["0.11", "-0.42", "0.9", "1.3", "-6.5", "3.2"]
    open_panel(page, "block", block=name, elements=", ".join(elements))
    shown = [float(parse_number(row[3])) for row in rows(page)]
    has_tensor_scale = name == "nvfp4"  # then values have many digits, of which four are shown
    given = np.array(elements, np.float32 if has_tensor_scale else np.float64)
    expected = ps.dequantize(ps.quantize(given, name)).tolist()
    assert shown == pytest.approx(expected, rel=10**-3 / 2 if has_tensor_scale else 0, abs=0)


def test_loss_scaling_moves_gradients_into_the_range(page: "Page") -> None:
    open_panel(page, "loss-scale", format="fp16")
    slider = section(page).locator("input[type=range]")
    shares = []
    for place in ("min", "max"):
        end = slider.get_attribute(place)
        assert end is not None
        slider.fill(end)
        shares.append(section(page).locator(".value").inner_text())
    assert shares[0] != shares[1]
