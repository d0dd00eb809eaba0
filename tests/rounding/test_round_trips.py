"""What is parsed prints a string that parses to the same: formats and specs of every family."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import precsim as ps
from precsim.rounding.modes import (
    EvenRule,
    InfinityMode,
    NanMode,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)

SETTINGS = hypothesis.settings(deadline=None, derandomize=True, max_examples=200)


@st.composite
def names(draw: st.DrawFn) -> str:
    """Draw a name of any family: registered, or spelled out."""
    family = draw(st.sampled_from(["registered", "float", "fixed", "p3109", "block", "affine"]))
    match family:
        case "float":
            exponent = draw(st.sampled_from(["inf", *map(str, range(2, 17))]))
            return f"float(e={exponent},p={draw(st.integers(2, 53))})"
        case "fixed":
            fraction = draw(st.integers(-20, 40))
            integer = draw(st.integers(1 - fraction, 52 - fraction))
            return f"{draw(st.sampled_from(['', 'u']))}q{integer}.{fraction}"
        case "p3109":
            width, is_signed = draw(st.integers(3, 16)), draw(st.booleans())
            precision = draw(st.integers(1, width - is_signed))
            domain = draw(st.sampled_from("ef"))
            return f"binary{width}p{precision}{'s' if is_signed else 'u'}{domain}"
        case "block":
            name = draw(st.sampled_from(["mxfp4", "mxfp8", "mxfp6_e3m2", "mxint8"]))
            rules = [
                rule for rule in ps.ScaleRule if not rule.has_tensor_scale and rule != "max_abs"
            ]
            return f"{name}_{draw(st.sampled_from(rules))}"
        case "affine":
            parts = [f"{draw(st.sampled_from(['', 'u']))}int{draw(st.integers(2, 16))}"]
            parts += draw(st.sampled_from([[], ["symmetric"]]))
            parts += draw(st.sampled_from([[], ["tensor"], ["channel"], ["block32"]]))
            return "_".join(parts)
    return draw(st.sampled_from(ps.list_formats()))


def format_of(name: str) -> Any:
    """Return the format of a name, or give up on a combination that no format has."""
    try:
        return ps.get_format(name)
    except ValueError:
        hypothesis.reject()


@pytest.mark.long
@SETTINGS
@hypothesis.given(names())
def test_the_name_of_a_format_means_it(name: str) -> None:
    fmt = format_of(name)
    assert ps.get_format(fmt.name) == fmt
    assert ps.get_format(f" {fmt.name.upper()} ") == fmt
    assert ps.get_format(str(fmt)) == fmt


@pytest.mark.long
@SETTINGS
@hypothesis.given(names(), st.data())
def test_the_string_of_a_spec_means_it(name: str, data: st.DataObject) -> None:
    """Every field drawn by itself; what a spec refuses is no spec."""
    fields: dict[str, Any] = {}
    kinds: dict[str, Any] = {
        "mode": RoundingMode,
        "overflow": OverflowMode,
        "infinities": InfinityMode,
        "nans": NanMode,
        "even": EvenRule,
        "subnormals": SubnormalMode,
        "stochastic_variant": StochasticVariant,
    }
    for field in data.draw(st.sets(st.sampled_from(sorted(kinds)), max_size=4)):
        fields[field] = data.draw(st.sampled_from(kinds[field]))
    if fields.get("mode") == "sr":
        fields["num_random_bits"] = data.draw(st.integers(0, 32))
    try:
        spec = ps.RoundingSpec(format=format_of(name), **fields)
    except ValueError:
        hypothesis.reject()
    assert ps.RoundingSpec.parse(str(spec)) == spec
    assert str(ps.RoundingSpec.parse(str(spec))) == str(spec)
