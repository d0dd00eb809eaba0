"""`precsim analyze`: tables, JSON, CSV, a page; bad input; folders with bad files."""

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import precsim as ps
from precsim.analysis.files import report as file_report
from precsim.cli import analyze
from precsim.cli.main import main

random = np.random.default_rng(3)
WEIGHTS: dict[str, np.ndarray] = {
    "model.layers.0.self_attn.q_proj.weight": random.normal(size=(8, 64)).astype(np.float32) / 50,
    "lm_head": random.normal(size=(4, 32)).astype(ml_dtypes.bfloat16),
    "steps": np.arange(4),
    "scale": np.array(70_000.0, np.float32),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(WEIGHTS, path)
    return path


def test_table_tells_what_each_format_loses(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(model), "--format", "fp16", "e4m3", "mxfp4", "int8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    q = WEIGHTS["model.layers.0.self_attn.q_proj.weight"]
    rates, wanted = ps.errors.range_rates(q, "e4m3"), ps.sqnr(ps.round_to(q, "e4m3"), q)
    start = rows.index(["F32", "8x64"])
    row = next(row for row in rows[start:] if row[:1] == ["e4m3"])
    assert row[1] == f"{100 * rates.underflow_of_nonzero:.2f}"
    assert row[2] == f"{100 * rates.subnormal_of_nonzero:.2f}"
    assert row[5] == f"{wanted:.1f}"
    assert row[6] == "2^8"
    assert "F32 8x64" in out
    assert "BF16 4x32" in out
    text = re.sub(r"\s", "", out)
    assert "".join(f"not analysed: {model}:steps I64 (no floats of 8 bits or more)".split()) in text
    assert "".join(f"fp16 -inf {model}:scale".split()) in text
    assert "All 3 tensors" in out


def display_width(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_and_nothing_is_cut(
    width: int, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["analyze", str(model), "--format", "fp16", "int4_symmetric_block32", "e5m2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(display_width, lines)) <= width
    text = re.sub(r"\s", "", "".join(line[: width // 3] for line in lines))
    assert "…" not in "".join(lines)
    for name in ("q_proj.weight", "lm_head"):
        assert name in re.sub(r"\s", "", "".join(lines)) or name in text
    assert "int4_symmetric_block32" in re.sub(r"\s", "", "".join(line[:24] for line in lines))


def test_json_and_csv_have_the_same_numbers(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["analyze", str(model), "--format", "fp16", "e4m3", "mxfp8"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main([*words, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3 * 3
    assert tuple(rows[0]) == file_report.COLUMNS
    by_name = {tensor["tensor"]: tensor for tensor in told["tensors"]}
    for row in rows:
        found = by_name[row["tensor"]]["formats"][row["format"]]
        assert int(row["underflowed"]) == found["underflowed"]
        assert row["sqnr_db"] == str(found["sqnr_db"])
    assert by_name["scale"]["formats"]["fp16"]["sqnr_db"] == "-inf"
    assert by_name["scale"]["formats"]["fp16"]["best_scale_exponent"] == -1
    assert told["totals"]["fp16"]["worst_tensor"] == f"{model}:scale"
    assert told["skipped"][0]["tensor"] == "steps"
    assert told["failures"] == {}


def test_csv_of_no_tensor_has_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    assert main(["analyze", str(tmp_path / "x.npy"), "--csv"]) == 0
    assert capsys.readouterr().out == ",".join(file_report.COLUMNS) + "\n"


class Page(HTMLParser):
    """What a page loads, and whether its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta",):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, html = tmp_path / "<b>x&y.safetensors", tmp_path / "page.html"
    save_file(WEIGHTS | {"<script>alert(1)</script>": np.ones(2, np.float32)}, path)
    assert main(["analyze", str(path), "--html", str(html)]) == 0
    text = html.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert "http" not in text
    assert "<script" not in text
    assert "<script>alert(1)</script>" in page.text
    assert 'name="viewport"' in text
    assert "@media print" in text
    for word in ("lm_head", "e4m3", "-inf", "2^8"):
        assert any(word in part for part in page.text)


def test_an_existing_page_stays(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = model.with_name("page.html")
    html.write_text("mine")
    assert main(["analyze", str(model), "--html", str(html)]) == 2
    assert capsys.readouterr().err == (
        f"precsim: error: --html is {html}, which exists; name a new file\n"
    )
    assert html.read_text() == "mine"


def test_folders_and_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "x.npy", np.array([1.0, 2.0], np.float32))
    np.savez(tmp_path / "y.npz", w=np.array([1.0], np.float16), b=np.array([True]))
    save_file({"first": np.ones(2, np.float32)}, tmp_path / "m-1-of-2.safetensors")
    save_file({"second": np.ones(2, np.float32)}, tmp_path / "m-2-of-2.safetensors")
    (tmp_path / "notes.txt").write_text("no tensors")
    index = tmp_path / "m.safetensors.index.json"
    shards = {"first": "m-1-of-2.safetensors", "second": "m-2-of-2.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert main(["analyze", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    places = [(Path(t["file"]).name, t["tensor"]) for t in told["tensors"]]
    assert places == [
        ("x.npy", ""),
        ("m-1-of-2.safetensors", "first"),
        ("m-2-of-2.safetensors", "second"),
        ("y.npz", "w"),
    ]
    assert [item["tensor"] for item in told["skipped"]] == ["b"]
    assert main(["analyze", str(index), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [t["tensor"] for t in told["tensors"]] == ["first", "second"]


def test_what_an_index_names_and_no_shard_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"first": np.ones(2, np.float32)}, tmp_path / "m-1.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    shards = {"first": "m-1.safetensors", "lost": "m-1.safetensors", "gone": "m-2.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    for path in (tmp_path, index):
        assert main(["analyze", str(path), "--csv"]) == 1
        lines = capsys.readouterr().err.splitlines()
        lacking = f"it lacks 1 tensors that {index.name} names, first 'lost'"
        missing = f"{index.name} names it, and it does not exist"
        assert lines == [
            f"precsim: error: {tmp_path}/m-1.safetensors: {lacking}",
            f"precsim: error: {tmp_path}/m-2.safetensors: {missing}",
        ]
    index.write_text(json.dumps({"weight_map": {"first": "../m-1.safetensors"}}))
    assert main(["analyze", str(index)]) == 2
    assert "allowed are .safetensors files beside it" in capsys.readouterr().err


def test_one_bad_file_of_a_folder_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = model.with_name("bad.npy")
    bad.write_bytes(b"\x93NUMPY")
    assert main(["analyze", str(model.parent), "--csv"]) == 1
    out, err = capsys.readouterr()
    assert "lm_head" in out
    assert err == f"precsim: error: {bad}: it ends inside its header\n"
    assert main(["analyze", str(bad)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"precsim: error: {bad}: it ends inside its header\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "empty has no .npy, .npz, .safetensors file"),
        (["model.bin"], "pickled files are not read, since they can run any program"),
        (["x.txt"], "x.txt is of a kind that is not read; allowed are .npy, .npz, .safetensors"),
        (["x.npy", "--format", "fp17"], "unknown format 'fp17'"),
        (["x.npy", "--format", "bf16:sr"], "--format is 'bf16:sr'; allowed are roundings without"),
        (["x.npy", "--html", "nowhere/p.html"], "--html is nowhere/p.html; nowhere is no folder"),
        (["x.npy", "--json", "--csv"], "not allowed with argument"),
        ([], "the following arguments are required: PATH"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("model.bin", "x.txt"):
        Path(name).touch()
    np.save("x.npy", np.ones(2, np.float32))
    assert main(["analyze", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_names_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("\x1b[2Jclear", "two\nlines", "x" * 5000)
    save_file({name: np.ones(2, np.float32) for name in names}, tmp_path / "x.safetensors")
    assert main(["analyze", str(tmp_path / "x.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "?[2Jclear" in out
    assert "(5000 characters)" in re.sub(r"\s+", " ", out)


def test_progress_is_shown_on_a_terminal_only(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(model), "--csv"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["analyze", str(model), "--csv"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert "kB/s" in err


def test_interruption_is_status_130(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(analyze, "analyse_files", interrupted)
    assert main(["analyze", str(model)]) == 130
    assert capsys.readouterr().err == "precsim: error: interrupted\n"
