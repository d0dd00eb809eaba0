"""The emulated backend returns the reference's bits: every kind of spec and of data."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products import emulated
from precsim.products.emulated import emulated_matmul, unguarded_matmul
from precsim.products.orders.float32 import fast_step
from precsim.products.reference import reference_matmul
from tests.products.conftest import DATA, assert_same_bits, normal, reference, single

SPECS = [
    "fp16_fp16_fp32", "fp16_fp16_fp16", "e4m3_e4m3_fp16", "q3.12_q3.12_q3.12", "fp32_fp32_fp32",
    "tf32_tf32_fp32->e4m3", "raw_raw_bf16", "fp16_fp16_fp16:adder=fp32",
]  # fmt: skip
MORE_SPECS = [
    "bf16_bf16_bf16", "q3.8_q3.8_q3.8", "e5m2_e5m2_e5m2[saturate]", "fp16_fp16_fp32[rtz]",
    "bf16_bf16_fp32", "raw_raw_fp32", "e5m2_e5m2_fp16", "bf16_bf16_fp32[rtz]",
    "fp16_fp16_bf16[raz:saturate]",
    "fp16_fp16_fp16[rtn]", "bf16_bf16_bf16[rtp]:adder=fp32", "fp16_fp16_fp16[flush_after_rounding]",
    "bf16_bf16_bf16[nearest_of_zero_and_min]", "e4m3_e4m3_e4m3[rto]", "e2m1_e2m1_e3m2[rnz]",
    "fp16_fp16_float(e=inf,p=7)", "tf32_tf32_tf32[rna]", "q3.4_q3.4_q3.4[wrap]", "q3.8_q3.8_fp32",
    "q3.4_q3.4_q3.4[rtn]:adder=fp32", "uq0.8_q3.4_q7.8[rtz]", "fp16_fp16_fp16:product=fp16",
    "e4m3_e4m3_fp32:product=bf16[rtz]:adder=fp16", "e4m3fnuz_e5m2fnuz_e4m3fnuz",
    "fp16_fp16_e8m0[raz:saturate]", "fp32_fp32_fp32[rtz]", "fp16_fp16_fp32->q3.4[rtn]",
    "fp16_fp16_float(e=8,p=22)", "fp16_fp16_float(e=8,p=23)", "q11.1_q11.1_q1.11[wrap]",
    "fp16_fp16_fp16[saturate_infinity]", "fp16_fp16_fp32[rto]->e8m0",
]  # fmt: skip
CUSTOM = [
    {"is_signed": False},
    {"has_negative_zero": False},
    {"bias": 140, "has_subnormals": False},
]


def check(spec: ps.MatmulSpec, *, with_first_value: bool) -> None:
    rng = np.random.default_rng(0)
    first = normal(rng, None, (6, 7))
    first[:2, :6] = single([[0, -0.0, 2**-140, math.inf, math.nan, 3e38], [-(2**-126)] * 6])
    for data in DATA:
        a, b = data(rng, spec.lhs, (6, 24)), data(rng, spec.rhs, (24, 7))
        c = first if with_first_value else None
        got = ps.matmul(a, b, spec, c=c, backend="emulated")
        assert_same_bits(got, reference_matmul(a, b, c, spec), f"{spec} {data.__name__}")


@pytest.mark.long
@pytest.mark.parametrize("name", SPECS)
def test_equals_the_reference(name: str) -> None:
    check(ps.MatmulSpec.parse(name), with_first_value=False)


@pytest.mark.long
def test_equals_the_reference_with_a_first_value() -> None:
    check(ps.MatmulSpec.parse("bf16_bf16_bf16"), with_first_value=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS + MORE_SPECS)
def test_equals_the_reference_for_more_specs(name: str) -> None:
    for with_first_value in (False, True):
        check(ps.MatmulSpec.parse(name), with_first_value=with_first_value)


@pytest.mark.parametrize("options", CUSTOM, ids=str)
def test_formats_like_fp32_are_not_taken_for_it(options: dict[str, Any]) -> None:
    like_fp32 = ps.FloatFormat(name="like_fp32", precision=24, exponent_bits=8, **options)
    half = ps.RoundingSpec.parse("fp16")
    spec = ps.MatmulSpec(lhs=half, rhs=half, accumulator=ps.RoundingSpec(format=like_fp32))
    assert fast_step(spec) is None
    if like_fp32.is_signed:
        return
    a, b = single([[-1, -0.0, 60000], [-0.0, -0.0, -0.0]]), single([[1], [1], [60000]])
    assert_same_bits(ps.matmul(a, b, spec), reference(a, b, spec))


def test_accumulators_without_zero_bring_subnormals_into_any_sum() -> None:
    """The smallest value of e8m0 is a float32 subnormal, which float32 arithmetic would flush."""
    a, b = single([[0, 1]]), single([[1], [1]])
    spec = "fp16_fp16_e8m0[raz:saturate]"
    assert reference(a, b, spec).item() == 2
    assert ps.matmul(a, b, spec).item() == 2


@pytest.mark.parametrize(
    ("name", "length"),
    [
        *(("fp16_fp16_fp16", k) for k in (0, 1, 300)),
        pytest.param("bf16_bf16_fp32", 300, marks=pytest.mark.slow),
    ],
)
def test_lengths(name: str, length: int) -> None:
    rng = np.random.default_rng(length)
    a, b = normal(rng, None, (3, length)), normal(rng, None, (length, 4))
    assert_same_bits(ps.matmul(a, b, name), reference(a, b, name))


@pytest.mark.parametrize(
    ("name", "length"), [("fp16_fp16_fp32", 1), ("fp16_fp16_fp16", 1), ("fp16_fp16_fp16", 2)]
)
def test_sum_of_negative_zeros_is_positive(name: str, length: int) -> None:
    """The accumulator starts as +0. XLA would simplify 0 + x to x in a loop of one step."""
    a, b = np.zeros((2, length), np.float32), -np.ones((length, 2), np.float32)
    assert_same_bits(ps.matmul(a, b, name), np.zeros((2, 2), np.float32))
    if name == "fp16_fp16_fp32":
        constant = jax.jit(lambda a, b: ps.matmul(a, b, name, c=jnp.zeros((2, 2), jnp.float32)))
        assert_same_bits(constant(a, b), np.zeros((2, 2), np.float32))


def test_nan_has_one_pattern_in_both_backends() -> None:
    """Also where the last sum overflows without infinity, and for a NaN `c` without sums."""
    a, b = single([[-400], [math.nan]]), single([[400]])
    assert_same_bits(ps.matmul(a, b, "e4m3_e4m3_e4m3"), reference(a, b, "e4m3_e4m3_e4m3"))
    nothing = np.zeros((1, 0), np.float32)
    c = -single([[math.nan]])
    for backend in ("emulated", "reference"):
        got = ps.matmul(nothing, nothing.T, "fp16_fp16_fp16", c=c, backend=backend)
        assert_same_bits(got, single([[math.nan]]))


SHAPES = [
    ((5,), (5,)),
    ((5,), (5, 3)),
    ((2, 5), (5,)),
    ((4, 2, 5), (5,)),
    ((5,), (4, 5, 3)),
    ((4, 2, 5), (5, 3)),
    ((2, 5), (4, 5, 3)),
    ((2, 1, 2, 5), (4, 5, 3)),
    ((0, 5), (5, 3)),
    ((2, 5), (5, 0)),
    ((0, 2, 5), (5, 3)),
    ((3, 0), (2, 0, 4)),
]


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES, ids=str)
def test_shapes_are_those_of_jax(shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, shape_a), normal(rng, None, shape_b)
    shape = np.matmul(a, b).shape
    assert reference(a, b, "fp16_fp16_fp32").shape == shape
    traced = jax.eval_shape(lambda a, b: ps.matmul(a, b, "fp16_fp16_fp32"), a, b)
    assert traced.shape == shape


@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [((2, 1, 2, 5), (4, 5, 3)), ((3, 0), (2, 0, 4))], ids=str
)
def test_batches(shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
    """Batched products equal the single ones, in both backends."""
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, shape_a), normal(rng, None, shape_b)
    got = ps.matmul(a, b, "fp16_fp16_fp32")
    assert_same_bits(reference(a, b, "fp16_fp16_fp32"), got)
    batch = got.shape[:-2]
    many_a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    many_b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    for k in np.ndindex(batch):
        assert_same_bits(got[k], reference(many_a[k], many_b[k], "fp16_fp16_fp32"))


@pytest.mark.parametrize("shape_c", [(), (3,), (2, 1), (4, 2, 3), (1, 2, 3)], ids=str)
def test_first_value_broadcasts(shape_c: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (4, 2, 5)), normal(rng, None, (5, 3))
    c = np.asarray(normal(rng, None, shape_c))
    full = np.broadcast_to(c, (4, 2, 3))
    expected = reference(a, b, "raw_raw_fp32", full)
    for backend in ("emulated", "reference"):
        assert_same_bits(ps.matmul(a, b, "raw_raw_fp32", c=c, backend=backend), expected)


def test_vectors_take_first_values_of_the_results_shape() -> None:
    rng = np.random.default_rng(0)
    x, y, b = normal(rng, None, (5,)), normal(rng, None, (5,)), normal(rng, None, (5, 3))
    c = normal(rng, None, (3,))
    for left, right, first in ((x, b, c), (b.T, y, c), (x, y, 0.5)):
        a2, b2 = np.atleast_2d(left), right[:, None] if right.ndim == 1 else right
        c2 = single(first).reshape(a2.shape[0], b2.shape[1])
        got = reference(left, right, "fp16_fp16_fp32", first)
        assert_same_bits(got, reference(a2, b2, "fp16_fp16_fp32", c2).reshape(np.shape(first)))
    traced = jax.eval_shape(lambda c: ps.matmul(b.T, y, "fp16_fp16_fp32", c=c), c)
    assert traced.shape == (3,)


@pytest.mark.long
def test_transformations() -> None:
    """Vmap of vmap and jit, with elements on both sides of the range guard."""
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (2, 3, 4, 6)), normal(rng, None, (3, 6, 5))
    a[1, 2] *= np.float32(2.0**-70)
    b[2] *= np.float32(2.0**-70)

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32")

    expected = reference(a, b, "bf16_bf16_fp32")
    nested = jax.vmap(jax.vmap(product), in_axes=(0, None))
    assert_same_bits(jax.jit(nested)(a, b), expected)


def test_vmap_over_any_axis() -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (4, 3, 6)), normal(rng, None, (6, 5, 3))
    mapped = jax.vmap(lambda a, b: ps.matmul(a, b, "fp16_fp16_fp32"), in_axes=(1, 2), out_axes=2)
    expected = reference(np.moveaxis(a, 1, 0), np.moveaxis(b, 2, 0), "fp16_fp16_fp32")
    assert_same_bits(jax.jit(mapped)(a, b), np.moveaxis(expected, 0, 2))


@pytest.mark.parametrize(
    "name", ["fp64_fp64_fp64", pytest.param("raw_raw_fp32[rtz]->fp16", marks=pytest.mark.slow)]
)
def test_float64_carrier(name: str) -> None:
    rng = np.random.default_rng(0)
    for scale in (1, 2.0**-1040, 2.0**500):
        a, b = rng.standard_normal((3, 5)), rng.standard_normal((5, 4)) * scale
        assert_same_bits(ps.matmul(a, b, name), reference(a, b, name), scale)


def test_libraries() -> None:
    """NumPy in, writable NumPy out; jax as soon as one operand is, `c` included."""
    ones = np.ones((2, 2), np.float32)
    for backend in ("emulated", "reference"):
        result = ps.matmul(ones, ones, "fp16_fp16_fp32", backend=backend)
        assert type(result) is np.ndarray
        assert result.flags.writeable
        for k in range(3) if backend == "reference" else [2]:
            a, b, c = (jnp.asarray(ones) if j == k else ones for j in range(3))
            assert isinstance(ps.matmul(a, b, "fp16_fp16_fp32", c=c, backend=backend), jax.Array)


def test_stochastic_output_takes_bits_of_the_results_shape() -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (2, 4, 5)), normal(rng, None, (5, 3))
    name = "fp16_fp16_fp32->bf16[sr]"
    exact = reference(a, b, "fp16_fp16_fp32")
    bits = rng.integers(0, 1 << 32, (2, 4, 3), dtype=np.uint32)
    for x, y, draws, total in (
        (a, b, bits, exact),
        (a, b, bits[0], exact),
        (a, b[:, 0], bits[..., 0], exact[..., 0]),
        (a[0, 0], b[:, 0], bits[0, 0, 0], exact[0, 0, 0]),
    ):
        expected = ps.round_to(
            total, "bf16:sr", random_bits=np.broadcast_to(draws, np.shape(total))
        )
        for backend in ("emulated", "reference"):
            if backend == "reference" or y is not b:
                got = ps.matmul(x, y, name, random_bits=draws, backend=backend)
                assert_same_bits(got, expected, backend)


@pytest.mark.slow
def test_adder_in_float32_changes_368_of_65536_results_or_so() -> None:
    """How many depends on the data (normal, 256 x 256 x 256); see also test_reference.py."""
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (256, 256)), normal(rng, None, (256, 256))
    once, twice = (ps.matmul(a, b, f"fp16_fp16_fp16{adder}") for adder in ("", ":adder=fp32"))
    assert 200 < np.count_nonzero(once != twice) < 600


@pytest.mark.parametrize("text", ["bf16_bf16_fp32", "mxfp8_mxfp8_fp32", "nvfp4_nvfp4_fp32"])
def test_unguarded_product_tells_whether_it_can_be_trusted(text: str) -> None:
    spec = ps.MatmulSpec.parse(text)
    rng = np.random.default_rng(0)
    a, b = (ps.round_to(normal(rng, None, shape), "bf16") for shape in ((3, 5), (5, 4)))
    for scale in (1, 2.0**-120):
        small = a * np.float32(scale)
        got, is_exact = unguarded_matmul(small, b, None, spec)
        # The elements of nvfp4 are of one size, whatever the scale of the whole operand is.
        assert bool(is_exact) == (scale == 1 or text.startswith("nvfp4"))
        if is_exact:
            assert_same_bits(got, reference(small, b, spec))


@pytest.mark.long
def test_range_guard_decides_which_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard, products below float32's normal range would be flushed to zero."""
    spec = ps.MatmulSpec.parse("bf16_bf16_fp32")
    a, b = np.full((2, 2), 2.0**-75, np.float32), np.full((2, 2), 2.0**-60, np.float32)
    expected = np.full((2, 2), 2.0**-134, np.float32)
    assert_same_bits(reference_matmul(a, b, None, spec), expected)
    assert_same_bits(emulated_matmul(a, b, None, spec), expected)
    monkeypatch.setattr(emulated, "exact_range", lambda *_: True)
    uncompiled = inspect.unwrap(emulated_matmul)
    unguarded = jax.jit(lambda a, b: uncompiled(a, b, None, spec))
    assert (np.asarray(unguarded(a, b)) != expected).all()
