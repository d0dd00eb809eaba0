"""The kernel equals the oracle: every mode, overflow and subnormal policy, both carriers.

Inputs are a grid of the points where a rounding changes: values, midpoints, ends of the format and
of the carrier, and their neighbours in the carrier.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT64, Carrier
from precsim.rounding.kernel.kernel import round_array, round_bits

Format = ps.FloatFormat | ps.FixedPointFormat
Grid = Callable[[Format, Any], np.ndarray]
Compare = Callable[..., None]


def test_kernel_equals_oracle(
    fmt: Format,
    carrier: Carrier,
    specs: Any,
    draws: Any,
    oracle: Any,
    grid: Grid,
    assert_same_bits: Compare,
) -> None:
    """Each spec takes a share of the grid; together they cover it."""
    points = grid(fmt, carrier.float_dtype)
    always = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], points.dtype)
    stride = max(1, points.size // 12)
    for k, spec in enumerate(specs(fmt)):
        x = np.concatenate([points[k % stride :: stride], always])
        r = draws(x.size, k)
        rounded = round_array(x, r if spec.mode == "sr" else None, spec)
        assert_same_bits(rounded, oracle(x, r, spec), inputs=x, what=spec)


@pytest.mark.slow
def test_kernel_equals_oracle_on_the_whole_grid(
    fmt: Format,
    carrier: Carrier,
    specs: Any,
    draws: Any,
    oracle: Any,
    grid: Grid,
    assert_same_bits: Compare,
) -> None:
    """Compiled too: every spec, which takes long."""
    x = grid(fmt, carrier.float_dtype)
    for k, spec in enumerate(specs(fmt)):
        r = draws(x.size, k)
        expected = oracle(x, r, spec)
        assert_same_bits(round_array(x, r, spec), expected, inputs=x, what=spec)
        with jax.enable_x64(carrier is FLOAT64):
            compiled = jax.jit(lambda x, r, spec=spec: ps.round_to(x, spec, random_bits=r))(x, r)
        assert_same_bits(compiled, expected, inputs=x, what=f"{spec}, jit")


AGREEING = ["fp16:sr17:b:nearest_of_zero_and_min", "bf16", "e4m3:rtp", "e5m2fnuz:sr8:c:saturate"]
AGREEING += ["e8m0:rna", "e2m1:rto:flush_after_rounding", "tf32:sr:c", "fp32:rtn", "q3.20:wrap"]
AGREEING += ["float(e=inf,p=7):raz", "uq0.8:sr3:a:saturate_infinity", "q-2.8:rnz"]
AGREEING += ["binary8p1uf:rno", "binary6p2ue:satpropagate:rtn", "e8m0:even_code"]
AGREEING += ["q3.4:rnp:sat_sym", "q3.4:rnn:sat_zero", "e2m1:ml_dtypes", "e4m3:rno:infinity_or_max"]
EAGER = ("fp16:sr17:b:nearest_of_zero_and_min", "binary8p1uf:rno")
AGREEING_IN_FLOAT64 = ["fp64:rtz", "fp32:sr31", "float(e=9,p=3):flush_after_rounding", "q3.4:wrap"]


@pytest.mark.parametrize("name", [*AGREEING, *AGREEING_IN_FLOAT64])
def test_numpy_eager_jit_and_vmap_agree(
    name: str, draws: Any, grid: Grid, assert_same_bits: Compare
) -> None:
    """Two are also run operation by operation: each is compiled, which takes long."""
    spec = ps.RoundingSpec.parse(name)
    dtype = np.float64 if name in AGREEING_IN_FLOAT64 else np.float32
    x = np.resize(grid(spec.format, dtype), (8, 64))
    r = draws(x.size, 0).reshape(x.shape)
    expected = round_array(x, r, spec)
    with jax.enable_x64(dtype is np.float64):
        mapped = jax.vmap(lambda x, r: ps.round_to(x, spec, random_bits=r))
        assert_same_bits(jax.jit(mapped)(x, r), expected, inputs=x, what="jit, vmap")
        if name in EAGER:
            eager = round_array(jnp.asarray(x), jnp.asarray(r), spec)
            assert_same_bits(eager, expected, inputs=x, what="eager")


def test_float32_does_not_depend_on_64_bit_types(grid: Grid, assert_same_bits: Compare) -> None:
    """The same bits with and without jax_enable_x64, and float32 stays float32."""
    specs = [*AGREEING[5:8], *AGREEING[-7:]]
    x = np.resize(grid(ps.get_format("e4m3"), np.float32), 512)
    with jax.enable_x64(True):
        results = jax.jit(lambda x: [ps.round_to(x, spec, random_bits=3) for spec in specs])(x)
    for spec, result in zip(specs, results, strict=True):
        assert_same_bits(result, ps.round_to(x, spec, random_bits=3), inputs=x, what=spec)


def test_short_way_equals_the_general_way(
    fmt: Format, carrier: Carrier, specs: Any, grid: Grid, assert_same_bits: Compare
) -> None:
    """Plain values are rounded in place; with a tail of zeros they go the way of results."""
    x = grid(fmt, carrier.float_dtype)
    patterns = x.view(carrier.uint_dtype)
    zero = np.zeros_like(patterns)
    for spec in specs(fmt, all_subnormals=True):
        if spec.mode != "sr" and spec.overflow == "saturate":
            short = round_bits(patterns, spec, carrier).view(x.dtype)
            general = round_bits(patterns, spec, carrier, tail=zero, rest=zero).view(x.dtype)
            assert_same_bits(short, general, inputs=x, what=spec)


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        ("fp16", 0x7FC00000, 0xFFC00000),
        ("e4m3:saturate:sr8", 0x7FC00000, 0xFFC00000),
        ("e2m1", 0x7FC00000, 0xFFC00000),  # kept also where the format has no NaN
        ("e4m3fnuz", 0x7FC00000, 0x7FC00000),  # its one NaN has no sign
        ("e8m0:saturate", 0x7FC00000, 0x7FC00000),
    ],
)
def test_nan_becomes_quiet_and_keeps_its_sign_where_it_has_one(
    name: str, positive: int, negative: int
) -> None:
    x = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFC00000], np.uint32).view(np.float32)
    expected = [positive, positive, negative, negative]
    assert ps.round_to(x, name, random_bits=7).view(np.uint32).tolist() == expected
    as_jax = ps.round_to(jnp.asarray(x), name, random_bits=7)
    assert np.asarray(as_jax).view(np.uint32).tolist() == expected


# Shapes, types and refusals of the public function.


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3), (130, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_dtype_and_library_are_kept(shape: tuple[int, ...], dtype: Any) -> None:
    rounded = ps.round_to(np.full(shape, 0.3, dtype), "e4m3")
    assert isinstance(rounded, np.ndarray)
    assert rounded.shape == shape
    assert rounded.dtype == dtype
    assert (rounded == dtype(0.3125)).all()
    if dtype is np.float32:
        as_jax = ps.round_to(jnp.full(shape, 0.3), "e4m3")
        assert isinstance(as_jax, jax.Array)
        assert as_jax.shape == shape
        assert as_jax.dtype == dtype


def test_inputs_are_not_changed_and_views_are_read_in_order() -> None:
    for size in (10, 40_000):
        x = np.arange(size, dtype=np.float32).reshape(2, -1)[:, ::-1]
        before = x.copy()
        rounded = ps.round_to(x.T, "e4m3:saturate")
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(rounded, ps.round_to(before.T.copy(), "e4m3:saturate"))


def test_result_of_any_size_can_be_written_to() -> None:
    for size in (10, 40_000):
        rounded = ps.round_to(np.zeros(size, np.float32), "e4m3")
        rounded += 1
        assert (rounded == 1).all()


def test_python_numbers_count_as_float64() -> None:
    assert ps.round_to(1 + 2.0**-40, "fp64").item() == 1 + 2.0**-40
    assert ps.round_to([1, 2, 17], "e4m3").tolist() == [1.0, 2.0, 16.0]
    assert ps.round_to([2**60], "bf16").item() == 2.0**60
    for numbers in ([2**60 + 1], [2**53 + 1, 0.5], 10**400):
        with pytest.raises(
            TypeError, match=r"x has \d+(\.\.\.\d+)?, which is not exact in float64"
        ):
            ps.round_to(numbers, "e4m3")


@pytest.mark.parametrize("dtype", [np.int32, np.complex64, np.longdouble])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"x has dtype .*; allowed are float32 and float64"):
        ps.round_to(np.zeros(2, dtype), "e4m3")


@pytest.mark.parametrize("name", ["fp64", "float(e=9,p=3)", "float(e=6,p=30)", "q20.20"])
def test_a_carrier_that_cannot_hold_the_format_is_refused(name: str) -> None:
    assert ps.round_to(1.0, name).item() == 1.0
    for x in (np.float32(1.0), jnp.float32(1.0)):
        with pytest.raises(ValueError, match=r"a float32 carrier cannot hold .*\(use float64\)"):
            ps.round_to(x, name)
    with pytest.raises(ValueError, match="a float64 carrier cannot hold"):
        ps.round_to(1.0, "float(e=12,p=3)")


def test_mode_and_overflow_arguments_replace_those_of_the_spec() -> None:
    assert ps.round_to(500.0, "e4m3:rtz", overflow="saturate").item() == 448.0
    assert ps.round_to(3.9, "q3.0:wrap", mode="rtz").item() == 3.0
    assert (
        ps.round_to(0.3, ps.RoundingSpec.parse("bf16:sr8"), mode="rne").item()
        == ps.round_to(0.3, "bf16").item()
    )
    with pytest.raises(ValueError, match=r"mode is 'rnee'; allowed are .*did you mean 'rne'"):
        ps.round_to(1.0, "e4m3", mode="rnee")
