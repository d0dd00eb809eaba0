"""Names of formats: aliases, suggestions, registration, equality."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.formats.catalogue import FORMATS

ALIASES = [(fmt.name, alias) for fmt, aliases in FORMATS.items() for alias in aliases]


@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_alias_is_the_same_format(name: str, alias: str) -> None:
    assert ps.get_format(alias) is ps.get_format(name)


def test_names_ignore_case_and_outer_spaces() -> None:
    assert ps.get_format(" FP16 ") is ps.get_format("fp16")
    assert ps.get_format("Q3.4") == ps.get_format("q3.4")


def test_a_format_is_returned_as_it_is() -> None:
    fmt = ps.get_format("bf16")
    assert ps.get_format(fmt) is fmt


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("fp15", "fp16"), ("bfloat", "bfloat16"), ("e4m4", "e4m3"), ("flot32", "float32")],
)
def test_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{wrong}'; did you mean '{near}'"):
        ps.get_format(wrong)


def test_a_name_like_none_lists_all() -> None:
    with pytest.raises(ValueError, match=r"known are fp64, fp32, .*also float\(e=W,p=P\), qI.F"):
        ps.get_format("###")


@pytest.mark.parametrize("wrong", [None, 16, np.int8, np.dtype(bool), complex, np.ones(1)])
def test_other_types_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="allowed are a name or a format"):
        ps.get_format(wrong)


def test_spelled_out_float() -> None:
    assert ps.get_format("float(e=5,p=11)") == ps.get_format("fp16")
    assert ps.get_format("float(e=8, p=8)") == ps.get_format("bf16")
    fmt = ps.get_format("float(e=6, p=10)")
    assert isinstance(fmt, ps.FloatFormat)
    assert fmt.name == "float(e=6,p=10)"
    assert (fmt.exponent_bits, fmt.precision, fmt.specials) == (6, 10, ps.Specials.IEEE)
    unlimited = ps.get_format("float(e=inf,p=10)")
    assert isinstance(unlimited, ps.FloatFormat)
    assert unlimited.exponent_bits is None


def test_spelled_out_fixed_point() -> None:
    fmt = ps.get_format("uq-2.8")
    assert fmt == ps.FixedPointFormat(name="x", integer_bits=-2, fraction_bits=8, is_signed=False)


@pytest.mark.parametrize(
    "name",
    ["float(e=5)", "float(p=11,e=5)", "float(e=5,p=11", "q3", "q3.", "qq3.4", "uq.8", "q3.4.5"],
)
def test_misspelled_families_are_unknown(name: str) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        ps.get_format(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("float(e=0,p=5)", "exponent_bits"),
        ("float(e=5,p=0)", "precision"),
        ("float(e=5,p=54)", "precision"),
    ],
)
def test_impossible_floats_name_the_field(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.get_format(name)


def test_kinds() -> None:
    kinds = {kind: ps.list_formats(kind=kind) for kind in ("float", "fixed", "block", "affine")}
    assert sorted(name for names in kinds.values() for name in names) == sorted(ps.list_formats())
    assert {"fp64", "bf16", "e8m0", "binary8p4se"} <= set(kinds["float"])
    assert {"q3.12", "uq0.8"} <= set(kinds["fixed"])
    with pytest.raises(ValueError, match=r"kind is 'posit'; allowed are 'float', 'fixed', "):
        ps.list_formats(kind="posit")


@pytest.mark.usefixtures("registry")
def test_registered_format_is_found_by_name_and_alias() -> None:
    fmt = ps.FloatFormat(name="nine_bits", precision=4, exponent_bits=5)
    assert ps.register_format(fmt, aliases=("b9",)) is fmt
    assert ps.get_format("nine_bits") is ps.get_format("b9") is fmt
    assert ps.list_formats()[-1] == "nine_bits"
    ps.register_format(fmt, aliases=("b9",))
    assert ps.list_formats().count("nine_bits") == 1


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "taken", ["fp16", "half", "FP16", "q3.4", "Q3.4", "float(e=3,p=3)", "mxfp4_rceil", "int5"]
)
def test_a_name_is_never_given_away(taken: str) -> None:
    other = ps.FloatFormat(name=taken, precision=5, exponent_bits=5)
    with pytest.raises(ValueError, match="already means"):
        ps.register_format(other)
    with pytest.raises(ValueError, match="already means"):
        ps.register_format(dataclasses.replace(other, name="new"), aliases=("newer", taken))
    for name in ("new", "newer"):
        with pytest.raises(ValueError, match="unknown format"):
            ps.get_format(name)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "name", ["", "two words", "a:b", "tab\t", "a[b]", "a=b", "a,b", "a>b", "a/b", "_a", "a__b", "é"]
)
def test_names_that_would_break_the_grammar_are_refused(name: str) -> None:
    fmt = ps.FloatFormat(name=name, precision=5, exponent_bits=5)
    with pytest.raises(ValueError, match=r"is not allowed; allowed are letters, digits and '\.'"):
        ps.register_format(fmt)
    with pytest.raises(ValueError, match=r"is not allowed; allowed are letters, digits and '\.'"):
        ps.register_format(dataclasses.replace(fmt, name="fine"), aliases=(name,))


@pytest.mark.usefixtures("registry")
def test_a_number_format_has_a_name_that_products_can_be_spelled_with() -> None:
    fmt = ps.FloatFormat(name="nine_bits", precision=4, exponent_bits=5)
    with pytest.raises(ValueError, match="'nine_bits' has '_', which strings of matrix products"):
        ps.register_format(fmt)
    ps.register_format(fmt, aliases=("b9",))
    spec = ps.MatmulSpec.parse("b9_b9_fp32")
    assert ps.MatmulSpec.parse(str(spec)) == spec


def test_formats_are_frozen_and_hashable() -> None:
    for name in ("e4m3", "q3.4"):
        fmt = ps.get_format(name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            fmt.name = "other"  # type: ignore[misc]
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(fmt, "colour", "red")
        assert {fmt: 1}[dataclasses.replace(fmt, name="x", source="y")] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"precision": 5},
        {"bias": 8},
        {"specials": "ieee"},
        {"has_subnormals": False},
        {"exponent_bits": 5},
    ],
    ids=str,
)
def test_formats_of_other_values_differ(change: dict[str, Any]) -> None:
    fmt = ps.get_format("e4m3")
    assert isinstance(fmt, ps.FloatFormat)
    assert dataclasses.replace(fmt, **change) != fmt


def test_equal_formats_share_one_compilation() -> None:
    traced = []

    def decode(codes: jax.Array, fmt: ps.FloatFormat) -> Any:
        traced.append(fmt.name)
        return ps.decode(codes, fmt)

    compiled = jax.jit(decode, static_argnums=1)
    codes = np.arange(4, dtype=np.uint8)
    first = ps.FloatFormat(
        name="a", precision=4, exponent_bits=4, specials=ps.Specials.FN, source="one"
    )
    second = ps.FloatFormat(
        name="b", precision=4, exponent_bits=4, specials=ps.Specials.FN, source="two"
    )
    for fmt in (first, second, ps.get_format("e4m3")):
        compiled(codes, fmt)
    assert traced == ["a"]
    compiled(codes, ps.get_format("ieee_e4m3"))
    assert len(traced) == 2


INVALID = [
    ({"precision": 0}, "precision is 0"),
    ({"precision": 54}, "precision is 54"),
    ({"exponent_bits": 0}, "exponent_bits is 0"),
    ({"specials": "posit"}, "posit"),
    ({"specials": "fnuz", "has_negative_zero": True}, "fnuz"),
    ({"specials": "fnuz", "is_signed": False}, "fnuz"),
    ({"is_signed": False, "has_negative_zero": True}, "has_negative_zero is True"),
    ({"precision": 1}, "specials 'ieee' needs precision >= 2"),
    ({"exponent_bits": None, "specials": "fn"}, "specials 'fn' need codes, hence exponent_bits"),
    ({"exponent_bits": None, "specials": "none"}, "specials 'none' need codes"),
]


@pytest.mark.parametrize(("change", "message"), INVALID, ids=str)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"name": "x", "precision": 3, "exponent_bits": 4} | change
    with pytest.raises(ValueError, match=message):
        ps.FloatFormat(**fields)
