"""`MatmulSpec`: the grammar, equality, and use as a static argument."""

import itertools
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps
from precsim.products.product import _broadcast_product
from precsim.products.specs.spec import MatmulSpec
from tests.products.test_reference import NAMED, drawn_spec

CANONICAL = [
    *NAMED,
    "raw_raw_float(e=6,p=10)",
    "bf16[rtz:saturate]_q3.4[wrap]_fp32[rtn]->e4m3[sr8:saturate]:product=fp16[rto]:adder=fp32[rtz]",
    "q3.8_q3.8_fp32->q3.8[sr]",
    "fp16[flush_after_rounding]_fp16_fp16[saturate_infinity]",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_string_round_trip(text: str) -> None:
    spec = MatmulSpec.parse(text)
    assert MatmulSpec.parse(str(spec)) == spec
    assert str(MatmulSpec.parse(str(spec))) == str(spec)
    assert MatmulSpec.parse(spec) is spec


def test_names_with_underscores_side_by_side_survive_the_round_trip() -> None:
    """``mxfp8_e5m2``, ``mxfp8``, ``e5m2`` joined are ``mxfp8``, ``e5m2`` and another, too."""
    names = [n for n in ps.list_formats() if isinstance(ps.get_format(n), ps.BlockFormat)]
    for lhs, rhs, last in itertools.product([*names, "e5m2"], [*names, "e2m1"], ["e5m2", "e2m1"]):
        spec = MatmulSpec(lhs=lhs, rhs=rhs, accumulator=last)
        assert MatmulSpec.parse(str(spec)) == spec, str(spec)


def test_drawn_specs_survive_the_round_trip() -> None:
    for seed in range(300):
        spec = drawn_spec(seed)
        assert MatmulSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("binary16_half_f32", "fp16_fp16_fp32"),
        ("e4m3_e4m3_fp16:sequential", "e4m3_e4m3_fp16"),
        ("e4m3[infinity:rne]_e4m3[gradual]_fp16", "e4m3_e4m3_fp16"),
        ("fp16_fp16_fp16:adder=fp32:product=raw", "fp16_fp16_fp16:adder=fp32"),
        ("fp16_fp16_fp16:adder=fp32:product=bf16", "fp16_fp16_fp16:product=bf16:adder=fp32"),
        ("fp16_fp16_fp32->raw", "fp16_fp16_fp32"),
        ("h200:bf16", "h100:bf16"),
        ("h200:e4m3_e5m2->bf16:promote128", "h100:e4m3_e5m2->bf16:promote128"),
    ],
)
def test_other_spellings(text: str, canonical: str) -> None:
    assert str(MatmulSpec.parse(text)) == canonical
    assert MatmulSpec.parse(text) == MatmulSpec.parse(canonical)


def test_fields() -> None:
    spec = MatmulSpec.parse("bf16[rtz]_raw_fp32[rtn]->e4m3:product=fp16:adder=tf32")
    made = MatmulSpec(
        lhs=ps.RoundingSpec.parse("bf16:rtz"),
        rhs=None,
        accumulator="fp32:rtn",
        output=ps.get_format("e4m3"),
        product="fp16",
        adder="tf32",
    )
    assert spec == made
    assert hash(spec) == hash(made)
    assert spec != MatmulSpec.parse("bf16[rtz]_raw_fp32[rtn]->e4m3:product=fp16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bf16", "matmul spec 'bf16' is not understood; allowed is LHS_RHS_ACCUMULATOR"),
        ("bf16_bf16", "is not understood"),
        ("bf16_bf16_fp32_fp32", "is not understood"),
        ("", "is not understood"),
        ("bf61_bf16_fp32", "unknown format 'bf61'; did you mean 'bf16'"),
        ("bf16_bf16_fp32->bf61", "unknown format 'bf61'"),
        ("bf16_bf16_fp32->", "format '' is not understood"),
        ("bf16[rtz_bf16_fp32", "is not understood"),
        ("bf16[rtx]_bf16_fp32", "unknown rounding option 'rtx'; did you mean 'rtz'"),
        ("bf16[wrap]_bf16_fp32", "allowed are 'infinity', 'infinity_or_max', 'saturate'"),
        ("bf16_bf16_raw", "has no accumulator; 'raw' is allowed for operands only"),
        ("bf16_bf16_fp32:sequentail", "did you mean 'sequential'"),
        ("bf16_bf16_fp32:product=", "format '' is not understood"),
        ("bf16_bf16_fp32:output=bf16", "order is 'output=bf16'"),
        ("bf16_bf16_fp32:product=bf16:product=fp16", "gives product twice"),
        ("bf16_bf16_fp32:sequential:sequential", "gives order twice"),
        ("bf16_bf16_fp32:rht=8", "order is 'rht=8'"),
        ("b200:mxfp8:rht=16", "allowed for the block formats of a tensor core are operands"),
        ("bf16_bf16_fp32:product=bf16[sr]", "product is 'bf16:sr'; stochastic"),
        ("bf16_bf16_fp32:adder=bf16[sr]", "adder is 'bf16:sr'; stochastic"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MatmulSpec.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="matmul spec is 3; allowed are a string or a MatmulSpec"):
        MatmulSpec.parse(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="format is None"):
        MatmulSpec(accumulator=None)


def test_specs_are_static_and_equal_ones_share_a_compilation() -> None:
    traces = []

    def product(a: Any, spec: MatmulSpec) -> Any:
        traces.append(spec)
        return ps.matmul(a, a, spec)

    compiled = jax.jit(product, static_argnums=1)
    a = jnp.ones((3, 3))
    half = ps.FloatFormat(name="my_half", precision=11, exponent_bits=5, source="mine")
    specs = [
        MatmulSpec.parse("fp16_fp16_fp32"),
        MatmulSpec.parse("binary16_half_f32:sequential"),
        MatmulSpec(
            lhs=ps.RoundingSpec(format=half),
            rhs=ps.RoundingSpec(format=half, mode="rne"),
            accumulator="fp32",
        ),
    ]
    assert len(set(specs)) == 1
    run: Any = _broadcast_product
    before = run._cache_size()
    for spec in specs:
        compiled(a, spec)
        ps.matmul(a, a, spec)
    assert len(traces) == 1
    assert run._cache_size() == before + 1
    compiled(a, MatmulSpec.parse("fp16_fp16_fp32[rtz]"))
    assert len(traces) == 2


def test_format_with_underscore_round_trips() -> None:
    parse = ps.RoundingSpec.parse
    spec = ps.MatmulSpec(lhs=parse("ieee_e4m3"), rhs=parse("ieee_e3m4"), accumulator=parse("fp16"))
    assert str(spec) == "e4m3ieee_e3m4_fp16"
    assert ps.MatmulSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("bf16", "bf16_bf16_fp32"),
        ("e4m3->bf16", "e4m3_e4m3_fp32->bf16"),
        ("fp64:pairwise", "fp64_fp64_fp32:pairwise"),
        ("bf16_fp16", "bf16_fp16_fp32"),
        ("nvfp4", "b200:nvfp4"),
        ("h10:bf16", "h100:bf16"),
        ("H100:e4m3:promote128", "h100:e4m3:promote128"),
        ("a100_bf16", "a100:bf16"),
        ("hello:bf16", None),
        ("posit8", None),
    ],
)
def test_messages_say_what_may_be_meant(text: str, meant: str | None) -> None:
    ones = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="is not understood") as caught:
        ps.matmul(ones, ones, text)
    message = str(caught.value)
    assert repr(text) in message
    assert ("did you mean" in message) == (meant is not None)
    assert meant is None or message.endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize(
    "text", ["a_" * 120, "h100:" + "a_" * 120, "_" * 20, "a" * 10**6, "a:" * 400]
)
def test_long_strings_are_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MatmulSpec.parse(text)
    assert time.process_time() - began < 1  # 6 s before; some 0.1 s is needed
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def roundings(
    *, stochastic: bool = False, fused: bool = False
) -> st.SearchStrategy[ps.RoundingSpec]:
    """Formats of every family with options that they have."""
    narrow = ["bf16", "fp16", "e4m3", "e5m2", "e3m2", "float(e=6,p=10)"]
    wide = ["fp32", "fp64", "ieee_e4m3", "e4m3fnuz", "binary8p4se", "float(e=inf,p=7)"]
    fixed = ["q3.4", "uq0.8", "q-2.9"]
    modes = ["rne", "rna", "rtz", "raz", "rtp", "rtn", "rto"] + ["sr", "sr5"] * stochastic
    floats = st.builds(
        lambda *parts: ":".join(filter(None, parts)),
        st.sampled_from(narrow if fused else narrow + wide),
        st.sampled_from(modes),
        st.sampled_from(["", "saturate", "infinity_or_max"]),
        st.sampled_from(["", "saturate_infinity"]),
        st.sampled_from(["", "flush_after_rounding"]),
    )
    integers = st.builds(
        lambda *parts: ":".join(parts),
        st.sampled_from(fixed),
        st.sampled_from(modes),
        st.sampled_from(["saturate", "wrap", "saturate_symmetric"]),
    )
    return (floats if fused else floats | integers).map(ps.RoundingSpec.parse)


def plain_specs() -> st.SearchStrategy[MatmulSpec]:
    optional = st.none() | roundings()
    orders = st.sampled_from(["sequential", "pairwise", "blocked8", "kahan", "two_sum"])
    return st.builds(
        MatmulSpec,
        lhs=optional,
        rhs=optional,
        product=optional,
        adder=optional,
        accumulator=roundings(stochastic=True),
        output=st.none() | roundings(stochastic=True),
        order=orders,
    )


def fused_specs() -> st.SearchStrategy[MatmulSpec]:
    schedules = ["flat", "promote32", "splitk2x32", "splitk3x4+residue16", "residue16", "mma"]
    blocks = st.builds(
        ps.FusedBlock,
        length=st.sampled_from([4, 8, 16]),
        fraction_bits=st.integers(8, 30),
        zero_exponent=st.none() | st.integers(-140, -126),
        schedule=st.sampled_from(schedules),
        sticky=st.booleans(),
    )
    return st.builds(
        MatmulSpec,
        lhs=roundings(fused=True),
        rhs=roundings(fused=True),
        accumulator=roundings(stochastic=True, fused=True),
        output=st.none() | roundings(stochastic=True),
        order=blocks,
    )


def machine_specs() -> st.SearchStrategy[MatmulSpec]:
    names = [
        "h100:bf16",
        "a100:tf32",
        "ada:e4m3:acc=fp16",
        "b200:e2m1_e5m2",
        "v100:fp16",
        "b200:mxfp4",
    ]
    return st.builds(
        lambda name, output: replace(MatmulSpec.parse(name), output=output),
        st.sampled_from(names),
        st.none() | roundings(stochastic=True),
    )


@pytest.mark.long
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(plain_specs() | fused_specs() | machine_specs())
def test_what_a_spec_prints_parses_to_it(spec: MatmulSpec) -> None:
    assert MatmulSpec.parse(str(spec)) == spec
    assert str(MatmulSpec.parse(str(spec))) == str(spec)
    assert MatmulSpec.parse(str(spec)).needs_two_words == spec.needs_two_words


def test_core_is_the_typed_problem() -> None:
    core = MatmulSpec.parse("b200:nvfp4").core
    assert (core.terms, core.is_block_scaled, core.lhs.element) == (4, True, ps.get_format("e2m1"))
    assert core.lhs.blocks == ps.get_format("nvfp4")
    assert MatmulSpec.parse("h100:bf16").core.lhs.blocks is None
    with pytest.raises(
        TypeError, match="order of 'bf16_bf16_fp32' is 'sequential'; allowed is a Fused"
    ):
        _ = MatmulSpec.parse("bf16_bf16_fp32").core


def test_every_machine_that_is_listed_is_one() -> None:
    """Machines of the same bits share a string, so that only the spec comes back."""
    names = ps.list_machines()
    assert len(set(names)) == len(names)
    for name in names:
        spec = ps.MatmulSpec.parse(name)
        assert ps.MatmulSpec.parse(str(spec)) == spec
        assert ":" in str(spec)
    refused = [f"{name.partition(':')[0]}:fp64" for name in names]
    for name in dict.fromkeys(refused):
        with pytest.raises(ValueError, match="its operands are") as error:
            ps.MatmulSpec.parse(name)
        machine = name.partition(":")[0]
        listed = {other.split(":")[1] for other in names if other.startswith(f"{machine}:")}
        said = str(error.value).partition("its operands are ")[2].partition(";")[0].split(", ")
        assert sorted(said) == sorted(listed)


def test_mma_is_a_schedule_of_fp8_on_h100_and_b200_alone() -> None:
    """It changes bits, so no other machine may take it; specs without a machine may."""
    taken, said = set(), set()
    for name in (*ps.list_machines(), "h200:e4m3", "h200:fp16", "avx512:bf16->bf16"):
        try:
            MatmulSpec.parse(f"{name}:mma")
            taken.add(name)
        except ValueError as error:
            said.add(str(error).partition(", not")[0])
    assert said == {"schedule 'mma' is for fp8 operands of h100, b200"}
    fp8 = {
        f"{m}:{x}{end}"
        for m in ("h100", "b200")
        for x in ("e4m3", "e5m2")
        for end in ("", ":acc=fp16")
    }
    assert taken == fp8 | {"h200:e4m3"}
    what_if = MatmulSpec.parse("fp16_fp16_fp32:floored8x24:mma")
    assert str(what_if) == "fp16_fp16_fp32:floored8x24:mma"
    assert MatmulSpec.parse(str(what_if)) == what_if


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mi300x", "'mi300x' names no operand; those of mi300x are fp16, bf16, xf32, e4m3fnuz"),
        ("h100:->bf16", "names no operand; those of h100 are fp16"),
        ("mi300x:tf32", "e5m2fnuz; did you mean 'xf32'?"),
        ("h200:e2m1", "h200 has no product 'h200:e2m1'; its operands are fp16"),
        ("h200:fp16:acc=bf16", "h200 has no accumulator 'bf16'"),
        ("h100:fp8", "h100 has no product 'h100:fp8'; its operands are fp16"),
    ],
)
def test_messages_of_machines(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        MatmulSpec.parse(text)
    assert message in str(error.value)
