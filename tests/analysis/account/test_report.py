"""Reports for people: text, tables, JSON, CSV, pages, scalars; of rows that are made by hand."""

import csv
import io
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

import precsim as ps

OperationRow = ps.OperationRow


def _row(**given: Any) -> Any:
    counts = ("underflowed", "subnormal", "overflowed", "saturated", "nan", "not_finite")
    plain: dict[str, Any] = {
        "primitive": "mul",
        "line": "src/model.py:12:4 (loss)",
        "source": "y = x * w",
        "scope": "",
        "is_backward": False,
        "how": "rounded once",
        "format": "bf16",
        "times": 1,
        "elements": 4,
        "share": 0.0,
        "through": 0.0,
        "local_error": 0.001,
        "max_relative": 0.002,
        "max_ulps": 0.5,
        "inherited_error": 0.0,
        "total_error": 0.001,
        "incoming_error": 0.0,
        "condition": math.nan,
        "sqnr": 50.0,
        "turns": (),
        "error2": 1e-5,
        "size2": 1.0,
        "differing": 4,
        **dict.fromkeys(counts, 0),
    }
    return OperationRow(**(plain | given))


def _report(*rows: Any, policy: Any = "bf16", value: Any = 1.5, reference_value: Any = 1.0) -> Any:
    return ps.Report(
        policy=policy,
        reference="fp64",
        of="",
        nodes=1,
        value=value,
        reference_value=reference_value,
        aligned_value=reference_value,
        rows=rows,
        result=None,
        reference_result=None,
        cuts=(),
        unending=(),
    )


LONG = "model/encoder/layer_with_a_long_name/attention/softmax[heads]/bold"
REPORT = _report(
    _row(share=0.75, scope="layer0", primitive="dot_general", format="bf16_bf16_fp32->bf16"),
    _row(share=-0.5, scope=LONG, condition=3e4, inherited_error=0.3, through=0.4),
    _row(share=0.25, scope="layer0", is_backward=True, underflowed=3, subnormal=2),
    _row(line="", source="", sqnr=math.inf, error2=0.0, times=7, turns=(0.25, -0.25)),
)
HOSTILE = _report(
    _row(share=0.5, scope="<script>alert(1)</script>", source='"><img src=x onerror=y>'),
    _row(share=-0.1, scope="[red]&amp;[/red]", format="'<b>'", primitive="]]>"),
    policy="<i>bf16</i>",
)
EMPTY = _report(value=1.0)
BROKEN = _report(
    _row(share=math.nan, overflowed=2, not_finite=2),
    *(_row(share=share, scope="\ud800") for share in (math.inf, -math.inf, 1e308, 1e308)),
    value=math.inf,
)
EVERY = pytest.mark.parametrize("report", [REPORT, HOSTILE, EMPTY, BROKEN])


def test_print_says_headline_and_largest_shares() -> None:
    text = str(REPORT)
    assert "bf16 against fp64" in text
    assert "value 1.5, reference 1, change 0.5, remainder 0, gross 1.5 (3 times the change)" in text
    assert "The account closes: the shares sum to the change." in text
    assert "cancellation" not in text
    assert "an ill-conditioned operation" in " ".join(text.split())
    assert "+150" in text
    assert "3 underflowed, 2" in text
    assert "4 operations. Shares are in % of the change." in text


@EVERY
def test_print_has_at_most_100_columns(report: Any) -> None:
    assert max(map(len, str(report).split("\n"))) <= 100


def test_shares_that_are_nan_come_first_and_do_not_mix_up_the_others() -> None:
    shares = (0.1, math.nan, 0.3, math.nan, 0.2)
    report = _report(*(_row(share=x, scope=f"s{n}") for n, x in enumerate(shares)))
    assert [group.name for group in report.by_scope()] == ["s1", "s3", "s2", "s4", "s0"]
    assert [line.split()[-2] for line in str(report).split("\n")[-7:-2]] == [
        *("nan", "nan", "+60", "+40", "+20")
    ]
    assert len(report.top(5)) == 3


def test_print_says_why_there_is_no_account() -> None:
    assert "The account does not close: 2 results of `y = x * w` at model.py:12 (mul #1)" in str(
        BROKEN
    )
    assert "Nothing is lost" in str(EMPTY)
    open_account = _report(_row(share=0.2))
    assert "The account does not close: the shares" in str(open_account)


@pytest.mark.parametrize("by", ["operation", "scope", "primitive", "line"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal_and_lose_nothing(by: Any, width: Any) -> None:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(REPORT.table(by, 3))
    lines = file.getvalue().split("\n")
    assert max(map(len, lines)) <= width
    assert "…" not in file.getvalue()
    words = {"operation": ("+150", "-100", "30000"), "scope": ("+150", "+50"), "line": ("+50",)}
    for word in words.get(by, ()):
        assert word in file.getvalue()
    if by == "operation":
        assert "3 of 4 operations" in file.getvalue()
        assert sum(map(file.getvalue().count, "[]")) == 2


def test_tables_leave_out_columns_that_say_nothing() -> None:
    headings = [str(c.header) for c in _report(_row(share=0.5)).table().columns]
    assert headings == ["where", "operation", "format", "share\n%", "SQNR\ndB"]


def test_operations_of_one_line_are_told_apart_wherever_they_are_shown() -> None:
    product = {"primitive": "mul", "line": "model.py:3 (f)", "source": "x * y * z"}
    report = _report(
        _row(share=0.25, **product),
        _row(share=0.5, **product, scope="layer", not_finite=1, underflowed=1),
        _row(share=0.125, **product, is_backward=True),
    )
    names = ["mul #1", "mul #2", "mul, backward"]
    assert [str(cell) for cell in report.table().columns[1].cells] == [names[n] for n in (1, 0, 2)]
    for n, sentence in zip((1, 0, 2), report.top(3), strict=True):
        assert sentence.startswith(f"`x * y * z` at model.py:3 ({names[n]}) makes ")
    assert "1 result of `x * y * z` at model.py:3 (mul #2) became infinite" in report.obstacles[0]
    for name in names:
        assert f"<td>{name}</td>" in report.to_html()
        assert f"<td>{name}</td>" in report._repr_html_()
    assert "model.py:3 layer mul #2" in report.to_html()


def test_shares_without_a_change_are_told_as_they_are() -> None:
    report = _report(_row(share=1e-3), _row(share=-1e-3), value=1.0)
    assert "+0.001" in str(report)
    assert "%" not in str(report.table().columns[3].header)


@EVERY
def test_json_is_read_again(report: Any) -> None:
    again = ps.Report.from_json(report.to_json())
    assert str(again) == str(report)
    assert repr(again.rows) == repr(report.rows)  # nan is not equal to itself
    assert again.to_json() == report.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text is no JSON"),
        ("[" * 100_000, "text is no JSON"),
        ("[]", "text is []; allowed is an object"),
        ('{"policy": "bf16"}', "text has no 'reference'"),
        (REPORT.to_json().replace('"nodes": 1', '"nodes": true'), "nodes of text is True"),
        (REPORT.to_json().replace('"rows": [', '"rows": [3,'), "row 0 of text is 3"),
        (
            REPORT.to_json().replace('"share": 0.75', '"share": "x"'),
            "share of row 0 of text is 'x'",
        ),
        (REPORT.to_json().replace('"share": 0.75', f'"share": 1{"0" * 400}'), "share of row 0"),
        (REPORT.to_json().replace('"turns": []', '"turns": 1'), "turns of row 0 of text is 1"),
    ],
)
def test_bad_json_gets_one_line(text: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        ps.Report.from_json(text)
    assert "\n" not in str(caught.value)


def test_csv_has_a_row_for_each_operation() -> None:
    table = list(csv.DictReader(io.StringIO(REPORT.to_csv())))
    assert [float(row["share"]) for row in table] == [row.share for row in REPORT.rows]
    assert table[1]["scope"] == LONG
    assert table[3]["sqnr"] == "inf"
    assert table[3]["turns"] == "0.25 -0.25"
    assert tuple(table[0]) == OperationRow._fields


@pytest.mark.parametrize("method", ["to_json", "to_csv", "to_html"])
def test_files_are_never_replaced_unless_told(method: Any, tmp_path: Any) -> None:
    write, path = getattr(REPORT, method), tmp_path / "report"
    assert write(path) == path.read_text("utf-8")
    with pytest.raises(FileExistsError, match="which exists; allowed with overwrite=True"):
        write(path)
    write(str(path), overwrite=True)
    with pytest.raises(FileNotFoundError, match="whose folder does not exist"):
        write(tmp_path / "no" / "report")
    with pytest.raises(IsADirectoryError, match="which is a folder"):
        write(tmp_path)
    with pytest.raises(TypeError, match="path is 3; allowed are names of files"):
        write(3)
    assert list(tmp_path.iterdir()) == [path]


class _Page(HTMLParser):
    """What a page consists of; tags that are not closed are an error."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[Any] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(text)
        assert self.inside == []

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "onerror")]
        if tag not in ("meta", "img", "br"):
            self.inside.append(tag)

    def handle_startendtag(self, tag: Any, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: Any) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: Any) -> None:
        self.words.append(data)


@EVERY
@pytest.mark.parametrize("method", ["to_html", "_repr_html_"])
def test_pages_are_whole_and_need_nothing_else(report: Any, method: Any, tmp_path: Any) -> None:
    report.to_html(tmp_path / "page.html")
    page = _Page(getattr(report, method)())
    assert not {"script", "link", "iframe", "i", "b"} & set(page.tags)
    assert page.links == []
    assert any("against fp64" in words for words in page.words)


def test_pages_show_text_as_it_is() -> None:
    words = _Page(HOSTILE.to_html()).words
    assert any("<script>alert(1)</script>" in each for each in words)
    assert any("[red]&amp;[/red]" in each for each in words)


def test_pages_have_all_parts() -> None:
    words = _Page(REPORT.to_html()).words
    titles = ("What loses most", "Shares by scope", "Shares along the program", "All operations")
    assert set(titles) < set(words)
    assert "What left the range of its format" in words
    assert "3 underflowed, 2 subnormal" in words


def test_pages_hold_pictures() -> None:
    with ps.plots.figure() as axes:
        axes[0].set(xlabel="step", ylabel="<loss>")
        axes[0].plot([1, 2])
    page = _Page(REPORT.to_html(pictures=[axes[0].figure]))
    assert [link[:26] for link in page.links] == ["data:image/svg+xml;base64,"]
    assert "<loss> over step" in page.words
    with pytest.raises(TypeError, match="pictures has 3; allowed are matplotlib's Figures"):
        REPORT.to_html(pictures=[3])


@pytest.mark.long
def test_pages_of_long_programs_have_few_bars() -> None:
    report = _report(*(_row(share=(-1.0) ** n * n, scope=f"s{n}") for n in range(2000)))
    page = report.to_html()
    assert page.count("<title>s") <= 2 * 400
    assert page.count("s1999") >= 1
    assert "The first 30 of 2000." in page


class _Writer:
    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}

    def add_scalar(self, tag: Any, value: Any, step: Any) -> None:
        self.found[tag] = value, step


def test_scalars_go_to_any_writer() -> None:
    writer, other = _Writer(), type("Other", (), {})()
    other.scalar = writer.add_scalar
    for each in (writer, other):
        writer.found.clear()
        REPORT.write_scalars(each, 5)
        assert writer.found["precsim/share/layer0"] == (0.75, 5)
        assert writer.found["precsim/underflowed/layer0, backward"] == (3.0, 5)
        assert "precsim/sqnr/(no scope)" not in writer.found
    with pytest.raises(TypeError, match="writer is 3; allowed is what has add_scalar"):
        REPORT.write_scalars(3, 5)


def test_bad_arguments_of_tables() -> None:
    with pytest.raises(ValueError, match="by is 'layer'; allowed are 'operation', 'scope'"):
        REPORT.table("layer")
    with pytest.raises(ValueError, match="k is -1; allowed are integers from 0 on"):
        REPORT.table(k=-1)


def test_bars_of_a_group_and_along_the_program_point_the_same_way() -> None:
    """A share with the sign of a change below 0 pointed up here and to the left there."""
    page = _report(_row(share=-0.5), _row(share=-0.25, line=""), value=-0.75).to_html()
    assert page.count('class="more"') >= 4
    assert 'class="less"' not in page


def test_text_parts_no_number_from_its_unit_and_has_few_exponents() -> None:
    rows = [_row(share=0.1 + n / 1000, max_ulps=1234.0, line="x" * n + ".py:1") for n in range(40)]
    lines = [line for n in range(40) for line in str(_report(rows[n])).split("\n")]
    assert [line for line in lines if line.strip().startswith(("%", "ulp"))] == []
    assert any("(up to 1200 ulp)" in line for line in lines)
