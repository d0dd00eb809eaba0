"""What the picture on the home page shows."""

from docs.front_picture import FORMATS, VALUE, bits_of, running_sums


def test_bits_are_those_of_the_formats() -> None:
    texts = {name: "".join(bit for bit, _ in bits_of(VALUE, name)) for name in FORMATS}
    assert texts["fp16"] == "0010111001100110"
    assert texts["e4m3"] == "00011101"
    parts = [part for _, part in bits_of(VALUE, "e4m3")]
    assert parts == ["sign", *["exponent"] * 4, *["significand"] * 3]


def test_sum_stops_at_four() -> None:
    assert running_sums("bf16")[-1] == 4.0
