"""What a reader does with bits, numbers and formats, and the definitions beside it."""

import random
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

import precsim as ps
from precsim.formats.written import parse_number
from tests.browser.driving import open_panel, section, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def shown_value(page: "Page") -> float:
    return float(parse_number(page.inner_text("#value")))


def shown_bits(page: "Page") -> str:
    return "".join(section(page).locator(".bit").all_inner_texts())


def expect_value(page: "Page", value: float, fmt: ps.FloatFormat | ps.FixedPointFormat) -> None:
    """Wait for the bits of a value, and compare what is shown beside them."""
    bits = f"{ps.oracle.encode_exact(value, fmt):0{fmt.width}b}"
    page.wait_for_function(
        "bits => [...document.querySelectorAll('section:not([hidden]) .bit')]"
        ".map(each => each.textContent).join('') === bits",
        arg=bits,
    )
    assert shown_value(page) == value


def test_each_bit_that_is_turned_over_changes_the_value(page: "Page") -> None:
    fmt = ps.get_format("fp16")
    assert isinstance(fmt, ps.FloatFormat)
    open_panel(page, "bits", value="1", format="fp16")
    code, draw = ps.oracle.encode_exact(1, fmt), random.Random(3)
    for place in [0, 15, *draw.sample(range(16), 6)]:
        section(page).locator(".bit").nth(place).click()
        code ^= 1 << (15 - place)
        value = ps.oracle.decode_exact(code, fmt)
        if value == value:  # noqa: PLR0124 (is no NaN)
            expect_value(page, value, fmt)
        else:
            settle(page)


def test_a_number_that_is_typed_and_other_formats(page: "Page") -> None:
    open_panel(page, "bits")
    section(page).get_by_label("Number", exact=True).fill("3.14159")
    for name in ("fp16", "bf16", "e4m3", "e2m1", "q3.4", "fp32"):
        section(page).get_by_label("Format", exact=True).select_option(name)
        fmt = ps.get_format(name)
        assert isinstance(fmt, ps.FloatFormat | ps.FixedPointFormat)
        expect_value(page, ps.oracle.round_exact(Fraction("3.14159"), fmt).value, fmt)


@pytest.mark.parametrize("typed", ["1/3", "pi", "0x1.8p-3", "-0", "1e400", "2^-24", "65520"])
def test_numbers_as_people_write_them(page: "Page", typed: str) -> None:
    fmt = ps.get_format("fp16")
    assert isinstance(fmt, ps.FloatFormat)
    open_panel(page, "bits")
    section(page).get_by_label("Number", exact=True).fill(typed)
    expect_value(page, ps.oracle.round_exact(parse_number(typed), fmt).value, fmt)


def test_a_mode_that_is_chosen(page: "Page") -> None:
    fmt = ps.get_format("e4m3")
    assert isinstance(fmt, ps.FloatFormat)
    open_panel(page, "bits", value="3.14159", format="e4m3")
    section(page).locator("summary").first.click()
    for mode in ("rtz", "rtp", "rtn", "raz"):
        section(page).get_by_label("Rounding", exact=True).select_option(mode)
        value = ps.oracle.round_exact(Fraction("3.14159"), f"e4m3:{mode}").value
        expect_value(page, value, fmt)


def test_a_format_that_is_made(page: "Page") -> None:
    open_panel(page, "bits", value="3.14159", format="e4m3")
    section(page).get_by_label("Format", exact=True).select_option("own")
    section(page).get_by_label("precision").fill("5")
    section(page).get_by_label("exponent bits").fill("6")
    section(page).get_by_label("bias", exact=True).fill("")
    section(page).get_by_label("infinities and NaNs").select_option("ieee")
    made = ps.FloatFormat(name="made", precision=5, exponent_bits=6)
    expect_value(page, ps.oracle.round_exact(Fraction("3.14159"), made).value, made)


def test_what_cannot_be_read_gets_one_line_and_keeps_the_page(page: "Page") -> None:
    open_panel(page, "bits", value="3")
    section(page).get_by_label("Number", exact=True).fill("3.1q")
    line = section(page).locator("[role=alert]")
    line.wait_for(state="visible")
    assert "3.1q" in line.inner_text()
    section(page).get_by_label("Number", exact=True).fill("5")
    line.wait_for(state="hidden")
    assert shown_value(page) == 5


def test_a_link_shows_the_same_to_everybody(page: "Page") -> None:
    open_panel(page, "bits", value="3")
    section(page).get_by_label("Number", exact=True).fill("0.7")
    page.wait_for_function("() => location.hash.includes('0.7')")
    address = page.url
    open_panel(page, "table", format="e2m1")
    page.goto(address)
    settle(page)
    assert section(page).get_by_label("Number", exact=True).input_value() == "0.7"
    assert shown_value(page) == ps.oracle.round_exact(Fraction("0.7"), "fp16").value
