"""What the picture on the home page shows."""

import re
from pathlib import Path

import numpy as np

import precsim as ps
from docs.front_picture import FORMATS, VALUE, bits_of, running_sums
from experiments import g05_swamping as g05


def test_bits_are_those_of_the_formats() -> None:
    texts = {name: "".join(bit for bit, _ in bits_of(VALUE, name)) for name in FORMATS}
    assert texts["fp16"] == "0010111001100110"
    assert texts["e4m3"] == "00011101"
    parts = [part for _, part in bits_of(VALUE, "e4m3")]
    assert parts == ["sign", *["exponent"] * 4, *["significand"] * 3]


def test_sum_stops_at_four() -> None:
    assert running_sums("bf16")[-1] == 4.0


def test_caption_of_the_readme_says_what_is_added() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    caption = " ".join(re.findall(r"^Left: .*?\n\n", readme, re.DOTALL | re.MULTILINE)[0].split())
    half = np.sqrt(3.0)
    assert f"numbers of mean 1, drawn from {1 - half:.2f} to {1 + half:.2f}" in caption
    fmt = g05.FORMAT
    assert "ten significant bits" in caption
    assert "p=10" in fmt
    stop = int(g05.PUBLISHED["nearest"])
    step = ps.ulp(float(stop), fmt).item()
    assert (
        f"stops at {stop}: the next value is {step:g} away, so each term is rounded away" in caption
    )
    assert 1 + half < step / 2
