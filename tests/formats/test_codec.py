"""decode and encode: every code of every small format, against ml_dtypes, under NumPy and jit."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from tests.rounding.conftest import bits

ML_DTYPES: dict[str, Any] = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "ieee_e4m3": ml_dtypes.float8_e4m3,
    "ieee_e3m4": ml_dtypes.float8_e3m4,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
FIXED = ("q3.4", "uq0.8", "q3.12", "q7.8", "q3.8", "q-2.8", "q9.-3", "uq10.-2")
OTHER = ("float(e=6,p=10)", "float(e=1,p=3)", "float(e=4,p=12)", "float(e=9,p=3)")
FORMATS = (*ML_DTYPES, *FIXED, *OTHER)


def codes_of(name: str) -> np.ndarray:
    width = ps.get_format(name).width
    assert width is not None
    return np.arange(1 << width, dtype=np.uint8 if width <= 8 else np.uint16)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_decode_equals_ml_dtypes(name: str) -> None:
    codes = codes_of(name)
    decoded = ps.decode(codes, name)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(bits(decoded), bits(codes.view(ML_DTYPES[name]).astype("f4")))


@pytest.mark.parametrize("name", FORMATS)
def test_encode_inverts_decode(name: str) -> None:
    codes = codes_of(name)
    values = ps.decode(codes, name)
    encoded = ps.encode(values, name)
    assert encoded.dtype == codes.dtype
    is_number = ~np.isnan(values)
    np.testing.assert_array_equal(encoded[is_number], codes[is_number])
    np.testing.assert_array_equal(bits(ps.decode(encoded, name)), bits(values))


@pytest.mark.parametrize("name", FORMATS)
def test_float64_values_give_the_same_codes(name: str) -> None:
    values = ps.decode(codes_of(name), name)
    wide = values.astype(np.float64)
    np.testing.assert_array_equal(ps.encode(wide, name), ps.encode(values, name))


@pytest.mark.parametrize("name", ["fp16", "e4m3", "e8m0", "e5m2fnuz", "e2m1", "q3.4", "q9.-3"])
def test_jit_gives_the_same_bits(name: str) -> None:
    codes = codes_of(name)
    decoded = jax.jit(lambda c: ps.decode(c, name))(codes)
    assert isinstance(decoded, jax.Array)
    np.testing.assert_array_equal(bits(decoded), bits(ps.decode(codes, name)))
    encoded = jax.jit(lambda v: ps.encode(v, name))(decoded)
    assert encoded.dtype == codes.dtype
    np.testing.assert_array_equal(encoded, ps.encode(np.asarray(decoded), name))


def test_eager_jax_gives_the_same_bits() -> None:
    codes = jnp.arange(256, dtype=jnp.uint8)
    decoded = ps.decode(codes, "e5m2")
    assert isinstance(decoded, jax.Array)
    np.testing.assert_array_equal(bits(decoded), bits(ps.decode(np.asarray(codes), "e5m2")))
    np.testing.assert_array_equal(ps.encode(decoded, "e5m2")[:125], codes[:125])
    with pytest.raises(ValueError, match=r"3\.299.* is not in e5m2"):
        ps.encode(decoded.at[17].set(3.3), "e5m2")


def test_decoded_subnormals_survive_jit() -> None:
    """A decode by multiplication would flush these to zero: they are float32 subnormals."""
    values = jax.jit(lambda c: ps.decode(c, "bf16"))(np.arange(1, 128, dtype=np.uint16))
    np.testing.assert_array_equal(bits(values), np.arange(1, 128, dtype=np.uint32) << 16)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", np.uint32), ("fp64", np.uint64)])
def test_carrier_formats_round_trip(name: str, dtype: Any) -> None:
    width = 8 * np.dtype(dtype).itemsize
    rng = np.random.default_rng(4)
    patterns = rng.integers(0, 1 << width, 200_000, dtype=dtype)
    top_bit = dtype(1) << dtype(width - 1)
    subnormals = rng.integers(0, 1 << (23 if width == 32 else 52), 20_000, dtype=dtype)
    patterns = np.concatenate([patterns, subnormals, subnormals | top_bit, [dtype(0), top_bit]])
    values = ps.decode(patterns, name)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(values.view(dtype)[number], patterns[number])
    np.testing.assert_array_equal(ps.encode(values, name)[number], patterns[number])
    assert np.isnan(patterns.view(values.dtype)[~number]).all()


@pytest.mark.parametrize(
    ("name", "codes"),
    [("e4m3", (0x7F, 0xFF)), ("e5m2", (0x7E, 0xFE)), ("fp16", (0x7E00, 0xFE00))],
)
def test_nan_is_quiet_and_keeps_its_sign(name: str, codes: tuple[int, int]) -> None:
    nan = np.array([0x7FC00001, 0xFF800001], np.uint32).view(np.float32)
    assert ps.encode(nan, name).tolist() == list(codes)
    assert np.signbit(ps.decode(list(codes), name)).tolist() == [False, True]


def test_nan_of_fnuz_is_the_code_of_negative_zero() -> None:
    assert ps.encode([np.nan, -np.nan], "e4m3fnuz").tolist() == [0x80, 0x80]


def test_codes_out_of_range_are_refused_where_values_can_be_looked_at() -> None:
    assert ps.decode([0xB8, -0x48], "e4m3").tolist() == [-1.0, -1.0]
    assert ps.decode(np.array([-1, 1], np.int8), "q3.4").tolist() == [-0.0625, 0.0625]
    for codes in ([0x38, 0x100], [-0x81], np.array([0x138], np.uint16), jnp.array([0x138])):
        with pytest.raises(
            ValueError, match=r"codes has -?\d+; allowed for e4m3 of 8 bits are 0 to"
        ):
            ps.decode(codes, "e4m3")
        with pytest.raises(ValueError, match="codes has"):
            ps.convert(codes, "e4m3", "fp16")
    # A program cannot refuse values: there the bits above the width are ignored.
    assert jax.jit(lambda c: ps.decode(c, "e4m3"))(jnp.array([0x138])).tolist() == [1.0]


def test_no_codes_have_no_values() -> None:
    empty: list[Any] = [[], [[], []], np.zeros((0, 3), np.uint8), jnp.zeros(0, jnp.uint8)]
    for codes in empty:
        assert ps.decode(codes, "e4m3").shape == np.shape(codes)
        assert ps.convert(codes, "e4m3", "fp16").shape == np.shape(codes)
    assert ps.encode([], "e4m3").shape == (0,)
    assert ps.decode(0x38, "e4m3").shape == ()


REFUSED = [
    ("fp16", 3.14159),
    ("fp16", 65520.0),
    ("fp16", 2.0**-25),
    ("e4m3", 449.0),
    ("e4m3", 480.0),
    ("e4m3", np.inf),
    ("e4m3", 1e300),
    ("e4m3", 5e-324),
    ("e2m1", np.nan),
    ("e2m1", np.inf),
    ("e4m3fnuz", -0.0),
    ("e8m0", 0.0),
    ("e8m0", 3.0),
    ("e8m0", -1.0),
    ("q3.4", 8.0),
    ("q3.4", -8.0625),
    ("q3.4", 0.03125),
    ("q3.4", -0.0),
    ("q3.4", np.nan),
    ("uq0.8", -0.5),
    ("uq0.8", 1.0),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_encode_refuses_what_is_not_in_the_format(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"is not in {name}; round it first") as caught:
        ps.encode(value, name)
    assert str(value) in str(caught.value)


def test_encode_names_the_first_bad_value() -> None:
    with pytest.raises(ValueError, match=r"^3\.3 is not in e4m3"):
        ps.encode([[1.0, 2.0], [3.3, 4.4]], "e4m3")


def test_under_jit_a_value_outside_the_format_gets_the_code_of_zero() -> None:
    encode = jax.jit(lambda x: ps.encode(x, "e4m3"))
    assert encode(jnp.array([3.3, 448.0, np.inf, 1e-9])).tolist() == [0, 0x7E, 0, 0]


def test_float32_values_of_a_wider_format_are_refused_with_the_remedy() -> None:
    """A float32 1.0 once ended in an OverflowError of NumPy."""
    for name in ("fp64", "float(e=9,p=3)", "float(e=6,p=30)", "q20.20"):
        with pytest.raises(ValueError, match=r"float32 carrier cannot hold .*\(use float64\)"):
            ps.encode(np.float32(1.0), name)


def test_wide_formats_under_jax_need_64_bits() -> None:
    """Without them decode once returned zeros in float32, for any code."""
    with pytest.raises(ValueError, match="jax_enable_x64"):
        ps.decode(jnp.array([1], jnp.uint32), "q20.20")
    with jax.enable_x64(True):
        wide = jax.jit(lambda c: ps.decode(c, "q20.20"))(jnp.array([1], jnp.uint32))
    assert wide.dtype == np.float64
    assert float(wide[0]) == 2.0**-20


@pytest.mark.parametrize("codes", [[1.0], [True], np.array(["a"])])
def test_codes_must_be_integers(codes: Any) -> None:
    with pytest.raises(TypeError, match=r"codes has dtype .*; allowed are integers"):
        ps.decode(codes, "e4m3")


@pytest.mark.parametrize("dtype", [np.int32, np.longdouble, ml_dtypes.int4, np.complex64])
def test_values_must_be_carriers(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"values has dtype .*; allowed are float32 and float64"):
        ps.encode(np.zeros(2, dtype), "e4m3")


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)])
def test_shapes_are_kept(shape: tuple[int, ...]) -> None:
    values = ps.decode(np.zeros(shape, np.uint8), "e4m3")
    assert values.shape == shape
    assert ps.encode(values, "e4m3").shape == shape


def test_format_without_negative_zero_has_one_zero() -> None:
    """Its code with only the sign bit set once decoded to -0."""
    fmt = ps.FloatFormat(
        name="one_zero",
        precision=3,
        exponent_bits=3,
        specials=ps.Specials.FN,
        has_negative_zero=False,
    )
    assert bits(ps.decode([0x00, 0x20], fmt)).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"-0\.0 is not in one_zero"):
        ps.encode(-0.0, fmt)


def test_format_without_subnormals_decodes_field_zero_as_zero() -> None:
    fmt = ps.FloatFormat(name="coarse", precision=3, exponent_bits=3, has_subnormals=False)
    assert bits(ps.decode([0, 1, 2, 3], fmt)).tolist() == [0, 0, 0, 0]
    assert ps.decode([4, 5], fmt).tolist() == [0.25, 0.3125]
    assert ps.encode([0.0, 0.25], fmt).tolist() == [0, 4]
