"""One colour per format, in every picture; lines that differ without colour."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.plots import looks
from precsim.formats.registry import Format
from precsim.transform.presets import PRESETS

COLOURS = {
    "fp32": "#0072B2",
    "fp16": "#009E73",
    "bf16": "#D55E00",
    "e4m3": "#CC79A7",
    "e5m2": "#E69F00",
    "q3.8": "#56B4E9",
}
# Machado, Oliveira and Fernandes (2009): what eyes see without the cones for red, green or blue, by
# matrices for linear light.
CONES = {
    cone: np.reshape(matrix, (3, 3))
    for cone, matrix in {
        "red": (0.152, 1.053, -0.205, 0.115, 0.786, 0.099, -0.004, -0.048, 1.052),
        "green": (0.367, 0.861, -0.228, 0.280, 0.673, 0.047, -0.012, 0.043, 0.969),
        "blue": (1.256, -0.077, -0.179, -0.078, 0.931, 0.148, 0.005, 0.691, 0.304),
    }.items()
}


@pytest.mark.parametrize(
    ("label", "fmt"),
    [
        ("FP16", "fp16"),
        ("float16", "fp16"),
        ("mixed_float16", "fp16"),
        ("h100:e4m3:promote128", "e4m3"),
        ("e4m3:rtz:saturate", "e4m3"),
        ("p=bf16,c=bf16", "bf16"),
        ("bf16_kahan", "bf16"),
        ("fp8_current", "e4m3"),
        ("mxfp8_e5m2", "e5m2"),
        ("nvfp4", "e2m1"),
        ("q3.8_sr", "q3.8"),
        ("float(e=5,p=11), nearest", "fp16"),
        ("int8_symmetric", "int8"),
        ("mxint8", "int8"),
    ],
)
def test_the_first_format_in_a_label_decides(label: str, fmt: str) -> None:
    assert ps.plots.format_color(label) == looks.LOOKS[fmt][0]
    assert ps.plots.line_styles(["other", label])[label]["marker"] == looks.LOOKS[fmt][1]


def test_colours_of_the_common_formats() -> None:
    assert {name: ps.plots.format_color(name) for name in COLOURS} == COLOURS


def test_every_format_and_policy_has_a_colour() -> None:
    for name in (*ps.list_formats(), *PRESETS, "uq3.5", "float(e=4,p=3)", "E2M5"):
        assert ps.plots.format_color(name) is not None
    for words in ("exact", "half an ulp", "nearest", "100 terms", "v100", ""):
        assert ps.plots.format_color(words) is None


def test_colours_and_markers_of_the_table_differ() -> None:
    assert all(isinstance(ps.get_format(name), Format) or name == "int8" for name in looks.LOOKS)
    for part in zip(*looks.LOOKS.values(), strict=True):
        assert len(set(part)) == len(looks.LOOKS)


@pytest.mark.parametrize("missing", CONES)
def test_common_formats_differ_for_colour_blind_readers(missing: str) -> None:
    def seen(color: str) -> np.ndarray:
        light = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        left = np.clip(CONES[missing] @ linear, 0, 1)
        shown: np.ndarray = np.where(
            left <= 0.0031308, left * 12.92, 1.055 * left ** (1 / 2.4) - 0.055
        )
        return shown

    for (one, x), (other, y) in combinations(COLOURS.items(), 2):
        assert np.abs(seen(x) - seen(y)).max() > 0.1, (one, other)


def test_lines_differ_without_colour() -> None:
    for labels in (map(str, range(20)), [f"bf16, {k}" for k in range(4)], COLOURS):
        styles = ps.plots.line_styles(labels).values()
        looks_in_grey = {(s["marker"], str(s["linestyle"])) for s in styles}
        assert len(looks_in_grey) == len(styles)


def test_long_lines_have_ten_markers() -> None:
    for style in ps.plots.line_styles(["fp32", "fp16", "bf16"], 1000).values():
        first, every = style["markevery"]
        assert every == 100
        assert first < every
    assert ps.plots.line_styles(["fp32"], 9)["fp32"]["markevery"] == (0, 1)


def test_the_documented_table_is_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "analysis.md"
    rows = re.findall(r"^\| (\S+?),? .*`(#\w{6})`", page.read_text("utf-8"), flags=re.MULTILINE)
    assert dict(rows) == {name: color for name, (color, _) in looks.LOOKS.items()}
