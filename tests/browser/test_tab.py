"""The page without a server: how it starts, what it says, and that it asks nobody else."""

import re
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import precsim as ps
from precsim.explorer import site
from tests.browser.driving import DESKTOP, PATIENCE, opened, serving_files

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def test_first_answer(browser: "Browser", folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How long it takes is printed and no condition: that depends on the machine."""
    with serving_files(folder) as address:
        start = time.perf_counter()
        with opened(browser, address) as page:
            seconds = time.perf_counter() - start
            assert (
                float(page.inner_text("#value"))
                == ps.oracle.round_exact(Fraction(1, 10), "fp16").value
            )
    with capsys.disabled():
        print(f"\nfirst answer {seconds:.1f} s after the page was opened")  # noqa: T201


def test_page_says_what_it_is_and_where_it_runs(tab: "Page") -> None:
    text = tab.inner_text("#about")
    assert text.startswith(f"precsim {ps.__version__} on Python 3.")
    assert "in this tab" in text


def test_loading_shows_how_far_it_is(browser: "Browser", folder: Path) -> None:
    context = browser.new_context(viewport=DESKTOP)
    context.add_init_script(
        """addEventListener("DOMContentLoaded", () => {
            const line = document.getElementById("loading");
            window.said = [];
            const keep = () => window.said.push(line.textContent);
            new MutationObserver(keep).observe(line, { childList: true, characterData: true });
        });"""
    )
    with serving_files(folder) as address:
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#loading", state="detached", timeout=PATIENCE)
        said = page.evaluate("window.said")
    context.close()
    percents = [int(found[1]) for line in said if (found := re.search(r"(\d+) %", line))]
    assert len(percents) > 10
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_without_its_runtime_the_page_says_what_brings_it(
    browser: "Browser", tmp_path: Path
) -> None:
    site.build(tmp_path, tmp_path / "none")
    with serving_files(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function(
            "() => document.getElementById('loading').textContent.includes('npm install')",
            timeout=PATIENCE,
        )
        assert "cannot be loaded" in page.inner_text("#loading")
        page.close()


def test_a_missing_file_is_named(browser: "Browser", folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "precsim.zip").unlink()
    with serving_files(tmp_path / "page") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function(
            "() => document.getElementById('loading').textContent.includes('precsim.zip is missing')",
            timeout=PATIENCE,
        )
        page.close()


@pytest.mark.parametrize("where", ["page", "worker"])
def test_a_request_to_another_origin_is_noticed(
    browser: "Browser", folder: Path, where: str
) -> None:
    """The check of every other test can fail."""
    ask = "fetch('http://other.invalid/').catch(() => null)"
    in_worker = f"new Worker(URL.createObjectURL(new Blob([`{ask}.then(() => postMessage(1))`])))"
    program = {
        "page": f"() => {ask}",
        "worker": f"() => new Promise((resolve) => {{ {in_worker}.onmessage = resolve; }})",
    }

    def look() -> None:
        with serving_files(folder) as address, opened(browser, address) as page:
            page.evaluate(program[where])

    with pytest.raises(AssertionError, match=r"other\.invalid"):
        look()
