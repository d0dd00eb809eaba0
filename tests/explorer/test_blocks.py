"""Blocks: what `quantize` stores, element by element."""

import numpy as np
import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.formats.written import exact_decimal

NUMBERS = [0.11, -0.42, 0.9, 1.3, -0.07, 0.003, 2.4, -6.5, 0.0, 96.0] * 4


@pytest.mark.parametrize("name", ps.list_formats(kind="block"))
def test_elements_and_scales_are_those_of_quantize(name: str) -> None:
    numbers = np.array(NUMBERS, np.float32)
    given = ", ".join(map(exact_decimal, numbers.tolist()))
    found = answer({"question": "block", "values": given, "format": name})
    stored = ps.quantize(numbers, name)
    rounded = np.asarray(ps.dequantize(stored)).tolist()
    for row, value in zip(found["rows"], rounded, strict=True):
        assert abs(float(row["value"]) - value) <= abs(value) * 1e-3  # four digits, float32
    size = found["block_size"]
    assert [block["first"] for block in found["blocks"]] == list(range(0, len(NUMBERS), size))
    scales = [int(block["scale"]["code"], 16) for block in found["blocks"]]
    assert scales == np.asarray(stored.scales).tolist()
    codes = [int(row["element"]["code"], 16) for row in found["rows"]]
    assert codes == np.asarray(stored.codes).tolist()


def test_an_outlier_makes_the_others_zero() -> None:
    found = answer({"question": "block", "values": "0.1, 0.2, 96", "format": "mxfp4"})
    assert [row["value"] for row in found["rows"]] == ["0", "0", "96"]
    assert [row["is_lost"] for row in found["rows"]] == [True, True, False]
    assert found["lost"] == "66.7 %"
    assert found["blocks"][0]["scale"]["value"] == "16"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "fp16"}, "format is fp16; allowed here are block formats"),
        ({"format": "int8"}, "format is int8; allowed here are block formats"),
        ({"values": "1, inf"}, "values has inf; allowed here are finite numbers"),
        ({"values": "1e300"}, "values has a number outside float32's normal range"),
        ({"values": "1 x 129"}, "values has more than 128 numbers"),
        ({"mode": "sr"}, "mode is 'sr'; allowed here are the modes without chance"),
    ],
)
def test_blocks_that_are_refused(changes: dict[str, str], said: str) -> None:
    found = answer({"question": "block", "values": "1, 2", "format": "mxfp4", **changes})
    assert said in found["error"]
