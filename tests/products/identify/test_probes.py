"""Probes are what they say: values of the formats, and places that hold what the names say."""

import numpy as np
import pytest

import precsim as ps
from precsim.formats.floating import FloatFormat
from precsim.products.identify import probes
from precsim.products.identify.black_box import Answer, BlackBox, explains, modelled
from precsim.products.identify.blocks import adds_two
from precsim.products.identify.facts import Facts, gather
from precsim.products.identify.probes import Formats
from precsim.products.identify.roundings import Cut, Roundings, Singles, significant_bits

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
        *probes.subnormal(*size)[:2],
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


def facts_of(spec: str, operand: str) -> Facts:
    box = BlackBox(lambda a, b: ps.matmul(a, b, spec, backend="reference"), 16, 16, 160)
    return gather(box, formats_of(operand), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("spec", "operand", "step", "part"),
    [
        # The second chain has one step, which is not full.
        ("fp16_fp16_fp32[rno]:fused64x22:promote128", "fp16", 64, 160),
        # Steps of few products, and results that count few units.
        ("bf16_bf16_fp32->e5m2[rna]:fused2x23:promote2", "bf16", 2, 160),
        # Units of the large products' sign are never lost, and few are counted.
        ("bf16_bf16_float(e=8,p=14)[raz]->e4m3[rna]:exact2:promote6", "bf16", 2, 6),
        ("bf16_bf16_fp32[rtp]:exact4:promote32", "bf16", 4, 32),
        # Chains of whole steps, of which each is seen.
        ("bf16_bf16_fp32[rnp]:dot2:promote6", "bf16", 2, 6),
        ("bf16_bf16_fp32:fused4x25:promote16", "bf16", 4, 16),
        # Pairs of pairs behind results of few bits, which count fewer units than a step has.
        ("fp16_fp16_bf16[rno]->e5m2[rtz]:pairs16:promote64:product=fp16[rtz]", "fp16", 16, 64),
        ("bf16_bf16_fp32->e5m2:pairs8", "bf16", 8, 160),
        # All products in pairs: no longer step is behind them.
        ("e5m2_e5m2_fp32[rna]->e5m2[rtz]:pairwise:product=fp16", "e5m2", None, 16),
    ],
)
def test_steps_and_parts_are_read(spec: str, operand: str, step: int | None, part: int) -> None:
    facts = facts_of(spec, operand)
    assert (facts.step, facts.part) == (step, part)


@pytest.mark.parametrize("operand", ["e4m3", "e5m2", "fp16"])
def test_subnormals_that_are_flushed_are_not_taken_for_lost_units(operand: str) -> None:
    left = f"{operand}[flush_after_rounding]"
    facts = facts_of(f"{left}_{left}_fp32:exact", operand)
    assert facts.within == "exact"
    assert facts.far.is_all


@pytest.mark.parametrize(
    ("spec", "flushes"),
    [
        ("bf16_bf16_fp16", False),
        ("bf16_bf16_fp16[flush_after_rounding]", True),
        ("bf16_bf16_fp32[flush_after_rounding]", False),  # far below random sums
    ],
)
def test_sums_that_are_flushed_are_seen(spec: str, flushes: bool) -> None:
    assert facts_of(spec, "bf16").flushes == flushes


@pytest.mark.parametrize("spec", ["fp16_fp16_bf16:product=fp16[rtz]", "fp16_fp16_fp16[rtz]"])
def test_numbers_that_overflow_to_the_largest_are_not_taken_for_held(spec: str) -> None:
    assert facts_of(spec, "fp16").top == 16


@pytest.mark.parametrize("sticky", ["", "+sticky"])
@pytest.mark.parametrize("mode", ["rne", "rtz", "rnz", "rtp"])
@pytest.mark.parametrize("bits", [5, 8, 11, 15])
def test_a_single_product_is_cut_off_as_by_a_fused_step(bits: int, mode: str, sticky: str) -> None:
    spec = ps.MatmulSpec.parse(f"bf16_bf16_tf32[{mode}]:fused4x{bits}{sticky}")
    a, b = probes.single(np.random.default_rng(bits), formats_of("bf16"), 16, 16, 4)
    singles = Singles(Answer(a, b, modelled(spec, a, b)))
    assert spec.lhs is not None
    assert spec.rhs is not None
    roundings = Roundings(spec.lhs, spec.rhs, spec.accumulator)
    assert singles.agree(roundings, Cut(bits, bool(sticky)))


@pytest.mark.parametrize("schedule", ["", ":promote8", ":promote16"])
@pytest.mark.parametrize("order", ["pairs8", "exact8", "descending8"])
@pytest.mark.parametrize(
    "roundings",
    ["fp32[rtn]", "bf16[rno]->e5m2[rtz]", "tf32[raz]", "float(e=8,p=14)[rnp]->fp16"],
)
@pytest.mark.parametrize("product", ["", ":product=fp16[rtz]"])
def test_a_spec_adds_its_own_two_products(
    order: str, schedule: str, roundings: str, product: str
) -> None:
    """The short test before longer ones rejects nothing that they accept."""
    spec = ps.MatmulSpec.parse(f"fp16_fp16_{roundings}:{order}{schedule}{product}")
    a, b = probes.residual(np.random.default_rng(0), formats_of("fp16"), 16, 16, 40, 0, 15)
    assert adds_two(spec, Answer(a, b, modelled(spec, a, b)))


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


@pytest.mark.parametrize(
    ("spec", "adds_several"),
    [
        ("fp16_fp16_fp16", False),
        ("fp16_fp16_fp32[rto]->e5m2[rtz]:pairwise", False),
        ("fp16_fp16_tf32[rno]->bf16:blocked9", False),
        ("fp16_fp16_fp16[rtz]:kahan", False),
        ("fp16_fp16_bf16[rnp]->e5m2:kahan", False),
        ("fp16_fp16_fp16:two_sum", False),
        ("fp16_fp16_bf16[rto]->e5m2:exact", False),
        ("fp16_fp16_float(e=8,p=14)[rto]->e5m2[saturate]:evenodd4:product=fp16[rtz]", True),
        ("mi100:fp16", True),
        ("h100:fp16->bf16", True),
    ],
)
def test_neighbours_tell_steps_from_running_sums(spec: str, adds_several: bool) -> None:
    """So steps are tried first where their length cannot be read: one took minutes."""
    assert facts_of(spec, "fp16").adds_several == adds_several
