"""Probes are what they say: values of the formats, and places that hold what the names say."""

import numpy as np
import pytest

import precsim as ps
from precsim.formats.floating import FloatFormat
from precsim.products.identify import probes
from precsim.products.identify.black_box import Answer, BlackBox, explains
from precsim.products.identify.facts import gather
from precsim.products.identify.probes import Formats
from precsim.products.identify.roundings import significant_bits

NAMES = ("fp32", "tf32", "fp16", "bf16", "e5m2", "e4m3", "e2m1")


def formats_of(name: str) -> Formats:
    fmt = ps.get_format(name)
    assert isinstance(fmt, FloatFormat)
    return Formats(fmt, fmt)


@pytest.mark.parametrize("name", NAMES)
def test_operands_are_values_of_their_formats(name: str) -> None:
    rng, formats = np.random.default_rng(0), formats_of(name)
    size = formats, 16, 16, 40
    drawn = [
        *probes.mixed(rng, *size, slice(0, 40), probes.WIDE),
        *probes.layered(rng, *size, probes.WIDE),
        *probes.ties(*size, [3, 8, 11, 24]),
        *probes.cancelled(rng, *size, slice(4, 40), probes.Sizes(formats.highest - 6, 0)),
        *probes.residual(rng, *size, 4, formats.highest),
        *probes.tiny(rng, *size, -14),
        *probes.extreme(rng, *size),
        *probes.alignment(*size, (0, 1, 2), formats.highest - 1)[:2],
        *probes.held(*size, formats.lowest)[:2],
    ]
    for operand in drawn:
        assert np.isfinite(operand).all()
        np.testing.assert_array_equal(ps.round_to(operand, name), operand)


@pytest.mark.parametrize("name", NAMES)
def test_sums_that_tie_have_no_subnormal_operands(name: str) -> None:
    """A subnormal there hid every machine that flushes."""
    formats = formats_of(name)
    for operand in probes.ties(formats, 16, 16, 40, [3, 8, 11, 24]):
        assert np.abs(operand[operand != 0]).min() >= 2.0**formats.lhs.emin


@pytest.mark.parametrize("name", NAMES)
def test_mixed_operands_have_no_subnormals(name: str) -> None:
    formats = formats_of(name)
    a, b = probes.mixed(np.random.default_rng(0), formats, 16, 16, 40, slice(8, 24), probes.WIDE)
    assert not a[:, :8].any()
    assert not b[24:].any()
    assert np.abs(a[a != 0]).min() >= 2.0**formats.lhs.emin


@pytest.mark.parametrize(
    ("spec", "step", "within", "near"),
    [
        ("h100:fp16", 16, "cut off", 25),
        ("a100:fp16", 8, "cut off", 24),
        ("v100:fp16", 4, "cut off", 23),
        ("h100:e4m3", 32, "cut off", 13),
        ("mi100:fp16", 4, "exact", None),
        ("mi250:fp16", 4, "nested", 23),
        ("fp16_fp16_fp32:blocked8", 8, "nested", 23),
        ("fp16_fp16_fp32", None, "", 23),
    ],
)
def test_steps_and_bits_are_read(
    spec: str, step: int | None, within: str, near: int | None
) -> None:
    operand = "e4m3" if "e4m3" in spec else "fp16"
    box = BlackBox(lambda a, b: ps.matmul(a, b, spec, backend="reference"), 16, 16, 96)
    facts = gather(box, formats_of(operand), np.random.default_rng(0))
    assert (facts.step, facts.within) == (step, within)
    assert facts.near.is_all == (near is None)
    assert near is None or facts.near.bits == near


@pytest.mark.parametrize(
    ("x", "bits"), [(1.0, 1), (1.5, 2), (1 + 2.0**-23, 24), (3 * 2.0**-149, 2)]
)
def test_significant_bits(x: float, bits: int) -> None:
    assert significant_bits(np.array([x, 0, np.inf], np.float32)) == bits


def test_a_spec_explains_what_it_computes() -> None:
    a = np.array([[1, 2.0**-24]], np.float32)
    b = np.ones((2, 1), np.float32)
    spec = ps.MatmulSpec.parse("fp32_fp32_fp32")
    assert explains(spec, [Answer(a, b, np.ones((1, 1), np.float32))])
    assert not explains(spec, [Answer(a, b, np.full((1, 1), 1 + 2.0**-23, np.float32))])
