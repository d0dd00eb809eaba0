"""Everybody can use the page: by keyboard alone, with a screen reader, on any width and look."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.driving import DESKTOP, NODE_MODULES, PHONE, open_panel, panels, section, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

WIDTHS = {"desktop": DESKTOP, "phone": PHONE}
SMALL = {"format": "e2m1", "addends": "1, 0.3 x 9", "source": "typed"}
"""What keeps the tables short, as each of their cells is checked."""
FOCUSED = """() => {
    const it = document.activeElement;
    const frame = it.getBoundingClientRect();
    const style = getComputedStyle(it);
    return {
        text: (it.getAttribute("aria-label") ?? it.innerText ?? "").trim(),
        href: it.getAttribute("href") ?? "",
        inPanel: Boolean(it.closest("section")),
        key: `${it.tagName} ${it.id} ${it.dataset.key ?? ""} ${it.name ?? ""} ${it.innerText ?? ""}`,
        isSeen: frame.width > 0 && (style.outlineStyle !== "none" || style.boxShadow !== "none"),
        isBody: it === document.body,
    };
}"""
REACHABLE = """() => {
    const all = document.querySelectorAll(
        "section:not([hidden]) :is(button, a[href], input, select, textarea, summary)");
    const radios = new Set();
    return [...all].filter((it) => {
        if (it.disabled || !it.checkVisibility()) return false;
        if (it.type !== "radio") return true;
        const isNew = !radios.has(it.name); // one of a group is reached by Tab, the others by arrows
        radios.add(it.name);
        return isNew;
    }).length;
}"""


def press_tab_until(page: "Page", wanted: str, most: int = 60) -> None:
    """Press Tab until the focus is on the link of a panel."""
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found["href"].partition("?")[0] == f"#/{wanted}":
            assert found["isSeen"], f"the focus on {wanted} is not seen"
            return
    raise AssertionError(f"Tab does not reach the link of {wanted}")


def test_a_keyboard_alone_reaches_every_panel_and_all_that_is_in_it(served: "Page") -> None:
    page = served
    open_panel(page, "bits", **SMALL)
    for name in panels(page):
        page.evaluate("document.activeElement.blur()")
        press_tab_until(page, name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#panel-{name}:not([hidden])")
        settle(page)
        count = page.evaluate(REACHABLE)
        assert count > 0
        seen: list[Any] = []
        page.evaluate("document.getElementById('panels').focus()")
        for _ in range(count + 60):
            page.keyboard.press("Tab")
            found = page.evaluate(FOCUSED)
            if not found["inPanel"]:
                break
            assert found["isSeen"], f"{name}: the focus is not seen on {found}"
            seen.append(found["key"])
        assert len(seen) >= count, f"{name}: Tab reaches {len(seen)} of {count}"


def test_a_bit_is_turned_over_by_keyboard_alone(page: "Page") -> None:
    open_panel(page, "bits", value="1", format="fp16")
    section(page).locator(".bit").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('value').textContent === '-1'")
    assert page.evaluate("document.activeElement.dataset.key") == "bit-0"  # the focus stays


def faults(page: "Page", *rules: str) -> list[str]:
    """Return what axe-core finds, by all its rules or by a few."""
    if not page.evaluate("'axe' in window"):
        page.evaluate((NODE_MODULES / "axe-core" / "axe.min.js").read_text("utf-8"))
    chosen = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = page.evaluate("(chosen) => axe.run(document, chosen)", chosen)
    return [
        f"{each['id']}: {each['help']}: {json.dumps(node['target'])}: {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(("width", "look"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_no_fault_on_any_panel(page: "Page", look: Any, width: str) -> None:
    page.set_viewport_size(WIDTHS[width])
    page.emulate_media(color_scheme=look)
    found = {}
    for name in panels(page):
        open_panel(page, name, **SMALL)
        if wrong := faults(page):
            found[name] = wrong
    assert found == {}


@pytest.mark.parametrize(("width", "look"), [("desktop", "dark"), ("phone", "light")])
def test_colors_differ_enough_in_the_other_looks_too(served: "Page", look: Any, width: str) -> None:
    served.set_viewport_size(WIDTHS[width])
    served.emulate_media(color_scheme=look)
    found = {}
    for name in panels(served):
        open_panel(served, name, **SMALL)
        if wrong := faults(served, "color-contrast"):
            found[name] = wrong
    assert found == {}


def test_no_panel_is_wider_than_its_screen(served: "Page") -> None:
    page = served
    wide = {}
    for width in (360, PHONE["width"], 768, DESKTOP["width"], 1600):
        page.set_viewport_size({"width": width, "height": 800})
        for name in panels(page):
            open_panel(page, name)
            needed = page.evaluate("document.scrollingElement.scrollWidth")
            if needed > width:
                wide[name, width] = needed
    assert wide == {}


def test_the_switch_of_the_look_is_kept(page: "Page") -> None:
    select = page.get_by_label("Look")
    colors = []
    for look in ("light", "dark", "auto"):
        select.select_option(look)
        colors.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.evaluate("localStorage.getItem('precsim-look')")
    assert colors[0] == colors[2] != colors[1]  # the system's look is light
