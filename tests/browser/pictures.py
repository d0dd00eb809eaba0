"""Take the pictures of the documentation: python -m tests.browser.pictures docs/explore."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.browser.driving import DESKTOP, PHONE, open_panel, opened, serving_answers, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize


class Picture(NamedTuple):
    """A panel with what is chosen there, on a screen."""

    panel: str
    chosen: dict[str, str]
    size: "ViewportSize"
    look: Literal["light", "dark"]


PICTURES = {
    "bits-desktop-light": Picture("bits", {"value": "3.14159"}, DESKTOP, "light"),
    "sum-desktop-dark": Picture("sum", {"format": "bf16"}, DESKTOP, "dark"),
    "tensor-core-desktop-light": Picture("tensor-core", {}, DESKTOP, "light"),
    "loss-scale-desktop-dark": Picture("loss-scale", {}, DESKTOP, "dark"),
    "line-phone-light": Picture("line", {"value": "2.6", "format": "e2m1"}, PHONE, "light"),
    "bits-phone-dark": Picture("bits", {"value": "3.14159", "format": "bf16"}, PHONE, "dark"),
}
HEIGHT = 1000
LARGEST = 150_000
"""Bytes of a picture in the repository."""


def take(browser: "Browser", folder: Path) -> list[Path]:
    """Write the pictures as PNG files and return their paths."""
    taken = []
    with serving_answers() as address, opened(browser, address) as page:
        for name, picture in PICTURES.items():
            page.set_viewport_size({"width": picture.size["width"], "height": HEIGHT})
            page.emulate_media(color_scheme=picture.look)
            open_panel(page, picture.panel, **picture.chosen)
            page.wait_for_timeout(300)  # the style of a panel that waits fades
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            taken.append(path)
    return taken


def main() -> int:
    """Take the pictures; return 1 where one is too large."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with started() as browser:
        sizes = {path.name: path.stat().st_size for path in take(browser, folder)}
    for name, size in sizes.items():
        sys.stdout.write(f"{size:7} {name}\n")
    return int(max(sizes.values()) > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
