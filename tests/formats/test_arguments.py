"""Names that are near, integers that are integers; `BlockFormat` from strings."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.arguments import integer, member, nearest, not_allowed, shown, unknown
from precsim.formats.numbers import registered
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode

KNOWN = [*ps.list_formats(), *registered]
NEAR = [
    ("fp15", "fp16"),
    ("bf61", "bf16"),
    ("BF17", "bf16"),
    ("bfloat", "bfloat16"),
    ("flaot32", "float32"),
    ("e4m4", "e4m3"),
    ("e4m3fnz", "e4m3fnuz"),
    ("mxfp", "mxfp4"),
    ("ieee", "ieee_e4m3"),
    ("binary8p4es", "binary8p4se"),
    ("q3.13", "q3.12"),
]
FAR = ["posit8", "posit16", "takum16", "fp8", "int", "fp128", "x", "", "nf4", "a_" * 120, "tensor"]


@pytest.mark.parametrize(("name", "near"), NEAR)
def test_a_near_name_is_suggested(name: str, near: str) -> None:
    assert nearest(name, KNOWN) == near


@pytest.mark.parametrize("name", FAR)
def test_a_far_name_suggests_nothing(name: str) -> None:
    """ "posit8" once suggested int8."""
    found = nearest(name, KNOWN)
    assert found is None or found.startswith(name)


@pytest.mark.parametrize("name", ["posit8", "takum16", "lns8"])
def test_another_kind_of_format_is_not_taken_for_ours(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown format '{name}'; known are fp64, fp32"):
        ps.get_format(name)


def test_the_words_of_a_name_are_near() -> None:
    assert nearest("flush", list(SubnormalMode)) == "flush_after_rounding"
    assert nearest("code", ["even_significand", "even_code"]) == "even_code"
    assert nearest("rnee", list(RoundingMode)) == "rne"
    assert nearest("up", list(RoundingMode)) is None
    assert nearest("clamp", list(OverflowMode)) is None


def test_errors_of_names() -> None:
    assert str(not_allowed("order", "pairwize", ["pairwise", "exact"])) == (
        "order is 'pairwize'; allowed are 'pairwise', 'exact'; did you mean 'pairwise'?"
    )
    assert str(not_allowed("order", 3, ["exact"])) == "order is 3; allowed are 'exact'"
    assert str(unknown("command", "zzz", ["a", "b"])) == "unknown command 'zzz'; known are a, b"
    assert member(RoundingMode, "rtz", "mode") is RoundingMode.TOWARD_ZERO
    with pytest.raises(ValueError, match=r"^mode is 'rtzz'; allowed .* did you mean 'rtz'\?$"):
        member(RoundingMode, "rtzz", "mode")


@pytest.mark.parametrize("value", [7, np.int8(7), np.uint64(7), np.array(7), jnp.asarray(7)])
def test_integers_of_every_library(value: Any) -> None:
    assert integer(value, "n", 7, 7) == 7
    assert type(integer(value, "n")) is int


@pytest.mark.parametrize("value", [7.0, "7", None, True, np.True_, np.array([7]), 1j, np.nan])
def test_other_values_are_no_integers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^n is .*; allowed are integers from 1 on$"):
        integer(value, "n", 1)


def test_bounds_of_integers_are_named() -> None:
    with pytest.raises(ValueError, match=r"^n is 0; allowed are integers from 1 to 9$"):
        integer(0, "n", 1, 9)
    with pytest.raises(ValueError, match=r"^n is 0\.5; allowed are integers$"):
        integer(0.5, "n")


FIELDS: list[tuple[Any, dict[str, Any]]] = [
    (ps.FloatFormat, {"precision": 3, "exponent_bits": 4, "bias": 2}),
    (ps.FixedPointFormat, {"integer_bits": 3, "fraction_bits": 4}),
    (ps.AffineFormat, {"bits": 4, "granularity": "block", "block_size": 32}),
    (ps.BlockFormat, {"element": "e4m3", "scale": "e8m0", "block_size": 32}),
]
COUNTS = [
    (kind, name) for kind, fields in FIELDS for name in fields if isinstance(fields[name], int)
]


@pytest.mark.parametrize(("kind", "name"), COUNTS, ids=lambda v: getattr(v, "__name__", v))
def test_fields_that_count_are_integers(kind: Any, name: str) -> None:
    """`precision=3.0` and `True` were taken; NumPy's integers become Python's."""
    fields = dict(FIELDS)[kind]
    for wrong in (float(fields[name]), True, "3"):
        with pytest.raises(ValueError, match=f"{name} is {wrong!r}; allowed are integers"):
            kind(name="x", **fields | {name: wrong})
    made = kind(name="x", **fields | {name: np.int16(fields[name])})
    assert made == kind(name="x", **fields)
    assert type(getattr(made, name)) is int


def test_block_formats_take_names_of_formats() -> None:
    made = ps.BlockFormat(name="mine", element="e4m3", scale="e8m0", block_size=32)
    assert made == ps.get_format("mxfp8_e4m3")
    nvfp4 = ps.get_format("nvfp4")
    assert isinstance(nvfp4, ps.BlockFormat)
    made = ps.BlockFormat(
        name="mine",
        element="E2M1",
        scale="e4m3",
        block_size=16,
        tensor_scale="fp32",
        scale_rule=nvfp4.scale_rule,
    )
    assert made == nvfp4
    assert ps.BlockFormat(name="x", element="q1.6", scale="e8m0", block_size=32) == ps.get_format(
        "mxint8"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"element": "e4m4"}, r"^unknown format 'e4m4'; did you mean 'e4m3'\?$"),
        ({"element": "mxfp4"}, "^element is 'mxfp4'; allowed are formats of single numbers$"),
        ({"element": 8}, "^element is 8; allowed are formats of single numbers$"),
        ({"scale": "q3.4"}, "^scale is q3.4; allowed are floating-point formats$"),
        ({"scale": None}, "^scale is None; allowed are formats of single numbers$"),
        ({"tensor_scale": "q3.4"}, "^tensor_scale is q3.4; allowed are floating-point formats$"),
    ],
)
def test_block_formats_name_the_field_of_a_wrong_format(
    change: dict[str, Any], message: str
) -> None:
    fields: dict[str, Any] = {"element": "e4m3", "scale": "e8m0", "block_size": 32}
    with pytest.raises(ValueError, match=message):
        ps.BlockFormat(name="x", **fields | change)


LONG, DIGITS = "x" * 9_999, "9" * 9_999
IMAGE = np.ones((1, 1, 1, 1), np.float32)
LONG_NAMES: dict[str, Callable[[], object]] = {
    "format": lambda: ps.get_format(LONG),
    "format with lines": lambda: ps.get_format("e4m3\n" * 999),
    "fixed point": lambda: ps.get_format(f"q{DIGITS}.4"),
    "float": lambda: ps.get_format(f"float(e=5,p={DIGITS})"),
    "P3109": lambda: ps.get_format(f"binary{DIGITS}p3se"),
    "affine": lambda: ps.get_format(f"int{DIGITS}"),
    "affine block": lambda: ps.get_format(f"int8_block{DIGITS}"),
    "no format": lambda: ps.get_format([LONG]),  # type: ignore[arg-type]
    "kind": lambda: ps.list_formats(kind=LONG),
    "new name": lambda: ps.register_format(ps.FloatFormat(name=f"{LONG}!", **HALF)),
    "known name": lambda: ps.register_format(ps.FloatFormat(name=f"fp32{' ' * 999}", **HALF)),
    "field": lambda: ps.FloatFormat(name="x", precision=10**9_999, exponent_bits=5),
    "element": lambda: ps.BlockFormat(name="x", element=LONG, scale="e8m0", block_size=32),
    "rounding option": lambda: ps.RoundingSpec.parse(f"e4m3:{LONG}"),
    "random bits": lambda: ps.RoundingSpec.parse(f"e4m3:sr{DIGITS}"),
    "twice": lambda: ps.RoundingSpec.parse("e4m3" + ":rtz" * 999),
    "mode": lambda: ps.round_to(1.0, "e4m3", mode=LONG),
    "number": lambda: ps.round_to(10**99, "e4m3"),
    "order": lambda: ps.accumulate([1.0], "e4m3", order=LONG),
    "blocks": lambda: ps.accumulate([1.0], "e4m3", order=f"blocked{DIGITS}"),
    "matmul": lambda: ps.MatmulSpec.parse("x" * 999),
    "matmul, too long": lambda: ps.MatmulSpec.parse(LONG),
    "no matmul": lambda: ps.MatmulSpec.parse([LONG]),  # type: ignore[arg-type]
    "operand": lambda: ps.MatmulSpec.parse(f"h100:{'x' * 900}"),
    "accumulator": lambda: ps.MatmulSpec.parse(f"h100:bf16:acc={'x' * 900}"),
    "output": lambda: ps.MatmulSpec.parse(f"h100:bf16->{'x[' * 400}"),
    "schedule": lambda: ps.MatmulSpec.parse(f"h100:bf16:{'x' * 900}"),
    "policy": lambda: ps.Policy.parse(LONG),
    "setting": lambda: ps.Policy.parse(f"c=bf16,{LONG}"),
    "key": lambda: ps.Policy.parse(f"c=bf16,{LONG}=1"),
    "functions": lambda: ps.Policy.parse(f"c=bf16,fn={LONG}"),
    "loss scale": lambda: ps.Policy.parse(f"c=bf16,scale={LONG}"),
    "scaling": lambda: ps.Policy.parse(f"c=bf16,tensor={LONG}"),
    "backend": lambda: ps.matmul([[1.0]], [[1.0]], "fp16_fp16_fp16", backend=LONG),
    "padding": lambda: ps.conv(IMAGE, IMAGE, "fp16_fp16_fp16", padding=LONG),
    "stride": lambda: ps.conv(IMAGE, IMAGE, "fp16_fp16_fp16", stride=[LONG]),  # type: ignore[list-item]
}
HALF: dict[str, Any] = {"precision": 11, "exponent_bits": 5}


@pytest.mark.parametrize("call", LONG_NAMES.values(), ids=LONG_NAMES)
def test_long_names_are_not_echoed_whole(call: Callable[[], object]) -> None:
    """A name of 100,000 letters filled the screen; 5,000 digits gave Python's own message."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert len(message) < 450
    assert "\n" not in message
    assert "set_int_max_str_digits" not in message


def test_values_in_messages_are_short_and_in_one_line() -> None:
    assert shown("bf16") == "'bf16'"
    assert shown(RoundingMode.TO_ODD) == "'rto'"
    assert shown("a" * 50 + "b" * 50) == f"'{'a' * 30}...{'b' * 15}'"
    assert shown(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert shown(10**5_000) == "a number of thousands of digits"
