"""Exact sums of exact products equal rationals: NumPy, jit, vmap, gradients, both carriers."""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic.sums.superaccumulator import CARRY_EVERY, Range, layout, range_of
from precsim.formats.carrier import FLOAT32, FLOAT64
from precsim.products.orders.exact import accumulator_bits
from tests.arithmetic.conftest import exact_multiply, rounded
from tests.products.conftest import DATA, assert_same_bits

SPECS = (
    "fp16_fp16_fp16:exact",
    "e4m3_e5m2_bf16[rtz]:exact",
    "bf16_bf16_fp32[rtn]:exact",
    "fp32_fp32_fp32:exact",
    "q3.4_q3.8_q3.4[wrap]:exact",
    "raw_e8m0_fp32:exact",
    "float(e=inf,p=9)_tf32_fp32->bf16:exact",
    "fp16_bf16_fp32:exact:product=fp16",
)

COMPILED = (SPECS[0], SPECS[4])
"""NumPy and JAX run the same source. Compiling takes seconds: two of the specs, all if slow."""


def exact_dot(a: list[float], b: list[float], c: float, spec: ps.MatmulSpec) -> float:
    """The definition: add rationals, round once; a zero sum is +0, toward negative -0."""
    terms = [exact_multiply(x, y) for x, y in zip(a, b, strict=True)]
    if spec.product is not None:
        terms = [rounded(x, spec.product) for x in terms]
    special = [x for x in [*terms, c] if isinstance(x, float) and not math.isfinite(x)]
    total = sum(special) if special else sum((Fraction(x) for x in terms), Fraction(c))
    result = rounded(total, spec.accumulator)
    return result if spec.output is None else rounded(result, spec.output)


def oracle(a: np.ndarray, b: np.ndarray, c: np.ndarray, spec: ps.MatmulSpec) -> np.ndarray:
    a = a if spec.lhs is None else np.asarray(ps.round_to(a, spec.lhs))
    b = b if spec.rhs is None else np.asarray(ps.round_to(b, spec.rhs))
    rows = [
        [exact_dot(x, y, float(c[i, j]), spec) for j, y in enumerate(b.T.tolist())]
        for i, x in enumerate(a.tolist())
    ]
    return np.array(rows, np.float64).astype(a.dtype)


@pytest.mark.long
@pytest.mark.parametrize("text", SPECS)
def test_definition(text: str) -> None:
    check(text, is_compiled=text in COMPILED)


@pytest.mark.slow
@pytest.mark.parametrize("text", SPECS)
def test_every_spec_compiled(text: str) -> None:
    check(text, is_compiled=True)


def check(text: str, *, is_compiled: bool) -> None:
    spec = ps.MatmulSpec.parse(text)
    assert ps.MatmulSpec.parse(str(spec)) == spec
    product = jax.jit(lambda a, b, c: ps.matmul(a, b, spec, c=c))
    for seed, data in enumerate(DATA):
        rng = np.random.default_rng(seed)
        a, b, c = (
            data(rng, None if part is None or part.format.width is None else part, shape)
            for part, shape in ((spec.lhs, (3, 17)), (spec.rhs, (17, 4)), (None, (3, 4)))
        )
        expected = oracle(a, b, c, spec)
        note = f"{text} {data.__name__}"
        assert_same_bits(
            ps.matmul(a, b, spec, c=c, backend="reference"), expected, note, any_nan=True
        )
        if is_compiled:
            assert_same_bits(product(a, b, c), expected, note, any_nan=True)


def test_what_no_other_order_sums() -> None:
    """Terms of 2**200 cancel; of 2**-149 one remains, which the last bit of float32 needs."""
    a = np.array([[2.0**100, 2.0**-149, -(2.0**100), 1.0]], np.float32)
    b = np.array([[2.0**100], [1.0], [2.0**100], [2.0**-148]], np.float32)
    got = {
        order: ps.matmul(a, b, f"fp32_fp32_fp32:{order}", backend="reference").item()
        for order in ("exact", "two_sum", "sequential")
    }
    assert got["exact"] == 3 * 2.0**-149
    assert got["sequential"] == math.inf
    assert math.isnan(got["two_sum"])


def test_an_infinity_in_one_operand_only() -> None:
    """Each operand is looked through for what is not finite."""
    x, y = np.full((1, 2), np.inf, np.float32), np.ones((2, 1), np.float32)
    for a, b in ((x, y), (y.T, x.T)):
        got = ps.matmul(a, b, "fp16_fp16_fp32:exact", backend="reference")
        assert np.asarray(got).item() == np.inf


@pytest.mark.long
def test_long_sums_carry() -> None:
    """More terms than limbs take without carrying, all with all digits set; batches; no c."""
    k = CARRY_EVERY + 700
    a = np.full((2, 1, k), -448.0, np.float32)
    a[1] = 416.0
    b = np.full((k, 2), 448.0, np.float32)
    b[:, 1] = 2.0**-9
    expected = np.array([[[-448.0, -448 * 2.0**-9]], [[416.0, 416 * 2.0**-9]]])
    expected[..., 0] *= 448
    spec = "e4m3_e4m3_fp32:exact"
    want = np.asarray(ps.round_to((expected * k), "fp32")).astype(np.float32)
    assert_same_bits(ps.matmul(a, b, spec, backend="reference"), want)
    assert_same_bits(jax.vmap(lambda a: ps.matmul(a, b, spec))(a), want)


@pytest.mark.long
def test_gradients() -> None:
    rng = np.random.default_rng(1)
    a, b, g = (rng.standard_normal(s).astype(np.float32) for s in ((4, 4),) * 3)
    da, db = jax.vjp(partial(ps.matmul, spec="bf16_bf16_fp32:exact"), a, b)[1](g)
    assert_same_bits(da, ps.matmul(g, b.T.copy(), "bf16_bf16_fp32:exact", backend="reference"))
    assert_same_bits(db, ps.matmul(a.T.copy(), g, "bf16_bf16_fp32:exact", backend="reference"))


@pytest.mark.long
def test_float64_carriers() -> None:
    rng = np.random.default_rng(2)
    for data in ("patterns", "normal"):
        a = rng.standard_normal((2, 9))
        if data == "patterns":
            a = rng.integers(0, 2**64, (2, 9), dtype=np.uint64).view(np.float64)
            a[~np.isfinite(a)] = -1.0
        b, c = np.ldexp(a.T[::-1], -300), np.full((2, 2), -5e-324)
        spec = ps.MatmulSpec.parse("fp64_fp64_fp64:exact")
        assert_same_bits(ps.matmul(a, b, spec, c=c, backend="reference"), oracle(a, b, c, spec))
        with jax.enable_x64(True):
            assert_same_bits(ps.matmul(a, b, spec, c=c, backend="emulated"), oracle(a, b, c, spec))


@pytest.mark.parametrize("fmt", ["fp64", "fp16:rtz", "bf16:sr"])
def test_accumulate(fmt: str) -> None:
    rng = np.random.default_rng(3)
    carrier = np.float64 if fmt == "fp64" else np.float32
    x = (rng.standard_normal((3, 40)) * 2.0 ** rng.integers(-40, 9, (3, 40))).astype(carrier)
    x[1, 4], x[2, 3], x[2, 8] = np.inf, np.inf, -np.inf
    noise: Any = rng.integers(0, 2**32, x.shape, dtype=np.uint32) if fmt.endswith("sr") else None
    got = ps.accumulate(x, fmt, axis=1, order="exact", random_bits=noise)
    draw = 0 if noise is None else int(noise[0, 0])
    exact = sum(map(Fraction, x[0].tolist()), Fraction(0))
    assert got[0] == ps.oracle.round_exact(exact, fmt, random_bits=draw).value
    if fmt == "fp64":
        assert got[0] == math.fsum(x[0])
    assert got[1] == np.inf
    assert np.isnan(got[2])
    with jax.enable_x64(True):
        run = jax.jit(partial(ps.accumulate, spec=fmt, axis=1, order="exact"))
        assert_same_bits(run(x, random_bits=noise), got)


@pytest.mark.long
def test_empty_and_zero_sums() -> None:
    nothing = np.zeros((2, 0), np.float32)
    c = np.array([[1.5, -0.0], [np.inf, np.nan]], np.float32)
    for spec, zero in (("fp16_fp16_fp16:exact", 0.0), ("fp16_fp16_fp16[rtn]:exact", -0.0)):
        got = ps.matmul(nothing, nothing.T.copy(), spec, c=c, backend="reference")
        expected = np.array([[1.5, zero], [np.inf, np.nan]], np.float32)
        assert_same_bits(got, expected)
        assert_same_bits(ps.matmul(nothing, nothing.T.copy(), spec, c=c), expected)
    empty = np.zeros((0, 2), np.float32)
    assert_same_bits(ps.accumulate(empty, "fp16", axis=0, order="exact"), np.zeros(2, np.float32))


def test_width_of_the_accumulator() -> None:
    """16-bit digits that hold K = 1000 products of the format's whole range."""
    widths = {
        fmt: accumulator_bits(ps.MatmulSpec.parse(f"{fmt}_{fmt}_fp32:exact"), 1000, FLOAT32)
        for fmt in ("e4m3", "fp16", "bf16", "fp32", "q3.4")
    }
    assert widths == {"e4m3": 48, "fp16": 96, "bf16": 544, "fp32": 576, "q3.4": 32}


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"has 2147483648 terms; allowed are fewer than 2\*\*31"):
        layout(range_of(None, FLOAT64), 2**31, FLOAT64)
    assert layout(Range(0, 2, 2), 2**31 - 1, FLOAT32).limbs * 16 >= 2 + 31
    with pytest.raises(ValueError, match="adder is 'fp32'; allowed with order 'exact' is None"):
        ps.MatmulSpec.parse("fp16_fp16_fp16:exact:adder=fp32")
    with pytest.raises(ValueError, match=r"did you mean 'exact'\?"):
        ps.MatmulSpec.parse("fp16_fp16_fp16:exakt")
