"""Block and affine formats: facts, names, and where they are refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.events import count_events

F: Any = np.float32

FACTS = [
    # name, element, its width, largest element and its exponent, scale, block size, bits per
    # element
    ("mxfp8_e4m3", "e4m3", 8, 448.0, 8, "e8m0", 32, 8.25),
    ("mxfp8_e5m2", "e5m2", 8, 57344.0, 15, "e8m0", 32, 8.25),
    ("mxfp6_e3m2", "e3m2", 6, 28.0, 4, "e8m0", 32, 6.25),
    ("mxfp6_e2m3", "e2m3", 6, 7.5, 2, "e8m0", 32, 6.25),
    ("mxfp4", "e2m1", 4, 6.0, 2, "e8m0", 32, 4.25),
    ("mxint8", "q1.6", 8, 127 / 64, 0, "e8m0", 32, 8.25),
    ("nvfp4", "e2m1", 4, 6.0, 2, "e4m3", 16, 4.5),
]


@pytest.mark.parametrize(
    ("name", "element", "width", "largest", "emax", "scale", "size", "bits"), FACTS
)
def test_facts(
    name: str,
    element: str,
    width: int,
    largest: float,
    emax: int,
    scale: str,
    size: int,
    bits: float,
) -> None:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.BlockFormat)
    assert fmt.element == ps.get_format(element)
    assert fmt.element.width == width
    values = ps.decode(np.arange(1 << width), fmt.element)
    assert np.max(values[np.isfinite(values)]) == largest
    assert 2.0**fmt.emax <= largest < 2.0 ** (fmt.emax + 1)
    assert (fmt.emax, str(fmt.scale), fmt.block_size, fmt.bits_per_element) == (
        emax,
        scale,
        size,
        bits,
    )
    assert (fmt.tensor_scale is None) == (name != "nvfp4")
    assert fmt.source


def test_names_of_block_formats() -> None:
    assert ps.get_format("mxfp8") is ps.get_format("mxfp8_e4m3")
    assert ps.get_format("mxfp4_e2m1") is ps.get_format("mxfp4")
    assert ps.get_format("mxfp4_floor") == ps.get_format("mxfp4")
    for rule in ("ceil", "even", "rceil", "nearest", "max_abs"):
        fmt = ps.get_format(f"mxfp8_{rule}")
        assert fmt == dataclasses.replace(ps.get_format("mxfp8_e4m3"), scale_rule=rule)
        assert str(ps.RoundingSpec.parse(f"mxfp8_{rule}:rtz")) == f"mxfp8_{rule}:rtz"
    assert ps.get_format("nvfp4") == ps.get_format("nvfp4_transformer_engine")
    assert ps.get_format("nvfp4_torchao") != ps.get_format("nvfp4")
    squares: Any = dataclasses.replace(ps.get_format("nvfp4_torchao"), across=16)
    assert ps.get_format("nvfp4_16x16_torchao") == squares
    assert ps.get_format("mxfp8_1x64") == dataclasses.replace(ps.get_format("mxfp8"), block_size=64)
    assert dataclasses.replace(squares, across=32, block_size=32).bits_per_element == 4 + 8 / 1024
    for wrong in ("mxfp5", "mxfp4_round", "fp16_floor", "nvfp4_0x16", "nvfp4_torchao_16x16"):
        with pytest.raises(ValueError, match="unknown format"):
            ps.get_format(wrong)


@pytest.mark.parametrize(
    ("name", "codes", "symmetric", "granularity", "size", "bits"),
    [
        ("int8", (-128, 127), False, "tensor", None, 8.0),
        ("uint8", (0, 255), False, "tensor", None, 8.0),
        ("int4_symmetric", (-7, 7), True, "tensor", None, 4.0),
        ("uint4_symmetric", (1, 15), True, "tensor", None, 4.0),
        ("int8_channel", (-128, 127), False, "channel", None, 8.0),
        ("uint3_block64", (0, 7), False, "block", 64, 3 + 35 / 64),
        ("int16_symmetric_block128", (-32767, 32767), True, "block", 128, 16.25),
    ],
)
def test_names_of_affine_formats(
    name: str,
    codes: tuple[int, int],
    symmetric: bool,
    granularity: str,
    size: int | None,
    bits: float,
) -> None:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.AffineFormat)
    assert (fmt.min_code, fmt.max_code) == codes
    assert (fmt.is_symmetric, fmt.granularity.value, fmt.block_size) == (
        symmetric,
        granularity,
        size,
    )
    assert fmt.bits_per_element == bits
    assert fmt == ps.get_format(fmt.name)
    assert fmt.name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("int1", "bits is 1; allowed are integers from 2 to 16"),
        ("uint17", "bits is 17"),
        ("int", "unknown format"),
        ("int8_block", "unknown format"),
        ("int8_block0", "unknown format"),
        ("int8_channel_symmetric", "unknown format"),
    ],
)
def test_misspelled_affine_names(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.get_format(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"element": ps.get_format("e8m0")}, "element is e8m0; allowed are signed"),
        ({"element": ps.get_format("fp32")}, "element is fp32"),
        ({"element": ps.get_format("float(e=inf,p=4)")}, "element is float"),
        ({"scale": ps.get_format("e2m1")}, "scale is e2m1; allowed are formats with NaN"),
        ({"scale": ps.get_format("e4m3")}, "scale_rule 'floor' gives powers of two"),
        ({"block_size": 0}, "block_size is 0"),
        ({"across": 0}, "across is 0"),
        ({"scale_rule": "torchao"}, "order of float32 operations"),
        ({"tensor_scale": ps.get_format("fp32")}, "tensor_scale is fp32; scale_rule 'floor'"),
        ({"scale_rule": "round"}, "scale_rule is 'round'; allowed are 'floor'"),
    ],
)
def test_impossible_block_formats_name_the_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(ps.get_format("mxfp4"), **change)


def test_impossible_affine_formats_name_the_field() -> None:
    with pytest.raises(ValueError, match="block_size is None; allowed are integers from 1 on"):
        ps.AffineFormat(name="x", bits=8, granularity="block")
    with pytest.raises(ValueError, match="block_size is 4, but granularity is 'tensor'"):
        ps.AffineFormat(name="x", bits=8, block_size=4)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int8"])
def test_formats_are_frozen_and_hashable(name: str) -> None:
    fmt: Any = ps.get_format(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fmt.name = "other"
    assert {fmt: 1}[dataclasses.replace(fmt, name="x", source="y")] == 1


@pytest.mark.usefixtures("registry")
def test_registered_block_format_is_found_with_every_rule() -> None:
    mine = dataclasses.replace(ps.get_format("mxfp4"), name="mine", block_size=8)
    assert ps.register_format(mine, aliases=("my4",)) is mine
    assert ps.get_format("my4") is mine
    assert ps.list_formats(kind="block")[-1] == "mine"
    assert ps.get_format("my4_rceil") == dataclasses.replace(mine, scale_rule="rceil")
    with pytest.raises(ValueError, match="already means"):
        ps.register_format(dataclasses.replace(mine, name="int8"))


FP32 = ps.RoundingSpec.parse("fp32")
REFUSING: dict[str, Callable[[str], object]] = {
    "decode": lambda fmt: ps.decode([0], fmt),
    "encode": lambda fmt: ps.encode([0.0], fmt),
    "ulp": lambda fmt: ps.ulp(1.0, fmt),
    "round_exact": lambda fmt: ps.oracle.round_exact(1.0, fmt),
    "add": lambda fmt: ps.add(1.0, 1.0, fmt),
    "accumulate": lambda fmt: ps.accumulate([1.0, 2.0], fmt),
    "matmul_spec": lambda fmt: ps.MatmulSpec(accumulator=ps.RoundingSpec.parse(fmt)),
    "matmul_string": lambda fmt: ps.MatmulSpec.parse(f"bf16_bf16_fp32->{fmt}"),
    "gamma": lambda fmt: ps.gamma(3, fmt),
    "count_events": lambda fmt: count_events(F([1.0]), F([1.0]), fmt),
}


@pytest.mark.parametrize("call", REFUSING)
@pytest.mark.parametrize(("name", "kind"), [("mxfp4", "a block"), ("int8", "an affine")])
def test_what_takes_single_numbers_refuses_them(call: str, name: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"is {name}, {kind} format, whose elements share scales"):
        REFUSING[call](name)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mxfp4:wrap", "overflow is 'wrap' for mxfp4"),
        ("mxfp4:saturate_symmetric", "allowed are 'infinity', 'infinity_or_max', 'saturate'"),
        ("mxint8:infinity", "overflow is 'infinity' for mxint8"),
        ("mxint8:flush_after_rounding", "fixed point has no subnormals"),
        ("int8:wrap", "overflow is 'wrap' for int8; allowed are 'saturate'"),
        ("int8:flush_after_rounding", "fixed point has no subnormals"),
        ("mxfp4:nan_to_zero", "nans is 'nan_to_zero', but mxfp4 has NaN"),
        ("int8:nan_to_max", "nans is 'nan_to_max', but int8 has NaN"),
    ],
)
def test_rounding_specs_that_make_no_sense(spec: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.RoundingSpec.parse(spec)


@pytest.mark.parametrize(
    "spec", ["mxfp4", "mxint8:saturate_symmetric", "nvfp4:sr8:b", "int8:rtn", "mxfp8_e5m2:infinity"]
)
def test_rounding_specs_round_trip(spec: str) -> None:
    parsed = ps.RoundingSpec.parse(spec)
    assert str(parsed) == spec
    assert ps.RoundingSpec.parse(str(parsed)) == parsed
