"""Value tables: every code once, with its value, class and name."""

from typing import Any

import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.formats.written import exact_decimal


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e8m0", "q3.4", "p3109_k8p4se"])
def test_small_formats_have_all_codes(name: str) -> None:
    found = answer({"question": "table", "format": name})
    fmt = ps.get_format(name)
    assert len(found["rows"]) == 1 << (fmt.width or 0)
    for code, row in enumerate(found["rows"]):
        value = ps.oracle.decode_exact(code, name)
        assert row["code"] == f"{code:#0{2 + -(-(fmt.width or 0) // 4)}x}"
        assert row["value"] == exact_decimal(value)
        assert row["binary"] == f"{code:0{fmt.width}b}"
        assert (row["kind"] == "NaN") == (value != value)  # noqa: PLR0124 (NaN)
        assert (row["kind"] == "zero") == (value == 0)
    assert found["before"] is None
    assert found["after"] is None


def test_classes_and_names_of_e4m3() -> None:
    rows = answer({"question": "table", "format": "e4m3"})["rows"]
    kinds = [row["kind"] for row in rows]
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert counts == {"NaN": 2, "normal": 238, "subnormal": 14, "zero": 2}
    names = {row["name"]: row["value"] for row in rows if row["name"]}
    assert names == {
        "smallest positive": "0.001953125",
        "smallest normal": "0.015625",
        "largest": "448",
    }


def test_larger_formats_have_pages() -> None:
    seen: list[str] = []
    after: Any = 0
    while after is not None:
        found = answer({"question": "table", "format": "float(e=4,p=6)", "first": str(after)})
        seen += [row["code"] for row in found["rows"]]
        after = found["after"]
    assert seen == [f"{code:#05x}" for code in range(1 << 10)]
    last = answer({"question": "table", "format": "fp16", "first": "65280"})
    assert (last["before"], last["after"], len(last["rows"])) == (65024, None, 256)


def test_a_page_that_the_format_has_not_is_the_first() -> None:
    found = answer({"question": "table", "format": "e4m3", "first": "4096"})
    assert found["rows"][0]["code"] == "0x00"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "fp32"}, "format fp32 has 32 bits; allowed for a table are at most 16"),
        ({"first": "-1"}, "first is '-1'; allowed are codes in decimal"),
        ({"first": "9" * 20}, "first is"),
    ],
)
def test_tables_that_are_refused(changes: dict[str, str], said: str) -> None:
    found = answer({"question": "table", "format": "e4m3", **changes})
    assert said in found["error"]
