"""Every public name is shown in use, in a snippet of a page outside the reference."""

import pytest

from docs.extensions.snippets import pages, results_only, shown_names, used_names
from tests.public_names import public_objects


def test_every_public_name_is_shown_in_use() -> None:
    shown = shown_names(page.read_text(encoding="utf-8") for page in pages())
    assert sorted(public_objects().keys() - shown) == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("```python\nps.add(1, 2)\n```", {"add"}),
        ("```pycon\n>>> precsim.errors.range_rates(x)\n```", {"errors.range_rates"}),
        (
            "```python\nfrom precsim.options import Blocked, Exact\n```",
            {"options.Blocked", "options.Exact"},
        ),
        ("`ps.add` and\n```text\nps.add(1, 2)\n```", set()),
    ],
)
def test_only_snippets_count(page: str, names: set[str]) -> None:
    assert used_names(page) == names


def test_results_count_where_they_are_made() -> None:
    assert shown_names(["```python\nps.cost(f)\n```"]) == {"cost", "Cost"}
    assert "MatmulSpec" not in shown_names(["```python\nps.matmul(a, b, 'fp16')\n```"])
    assert {"Cost", "Report"} <= results_only() | {"Report"}
    assert not results_only() & {"RoundingSpec", "FloatFormat", "options.Exact"}
