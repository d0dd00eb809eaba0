"""Every public function on arrays of every dtype and library: taken, widened or refused."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim._arrays import is_lax
from tests.public_names import NOT_OF_ARRAYS, public_objects

VALUES = np.array([[1.0, 2.0], [0.5, 4.0]], np.float32)
"""Numbers that every dtype below has."""

ONE = np.ones((2, 2), np.float32)
CODES = np.array([[1, 2], [3, 7]], np.uint8)
SPEC = "fp16_fp16_fp16"
FILTERS = np.ones((1, 2, 1), np.float32)
CONTRACT = (((1,), (0,)), ((), ()))

NUMBERS: dict[str, Callable[[Any], Any]] = {
    **{
        name: partial(lambda name, x: getattr(ps.ieee, name)(x, 1.0), name)
        for name in (
            *("equal", "greater", "less", "less_equal", "maximum", "maximum_number", "minimum"),
            *("minimum_number", "not_equal", "total_order"),
        )
    },
    **{
        name: partial(lambda name, x: getattr(ps, name)(x, "fp16"), name)
        for name in ("erf", "exp", "log", "reciprocal", "rsqrt", "sigmoid", "sqrt", "tanh")
    },
    "absolute_error": lambda x: ps.errors.absolute_error(x, 1.0),
    "accumulate": lambda x: ps.accumulate(x, "fp16"),
    "add": lambda x: ps.add(x, 1.0, "fp16"),
    "all_reduce": lambda x: ps.all_reduce(x, "ring:fp16"),
    "backward_error": lambda x: ps.backward_error(ONE, x, ONE),
    "calibrate": lambda x: ps.calibrate(x, "int8").scale,
    "conv": lambda x: ps.conv(x.reshape(1, 2, 2, 1), ONE.reshape(2, 2, 1, 1).astype(like(x)), SPEC),
    "divide": lambda x: ps.divide(1.0, x, "fp16"),
    "conv_general_dilated": lambda x: ps.conv_general_dilated(SPEC)(
        x[None], FILTERS, (1,), "VALID", preferred_element_type=np.float32
    ),
    "dot_general": lambda x: ps.dot_general(SPEC)(x, x, CONTRACT, None, np.float32),
    "einsum": lambda x: ps.einsum(SPEC)("ij,jk", x, ONE, preferred_element_type=np.float32),
    "embedding": lambda x: ps.embedding(x, [1, 0], "fp16"),
    "encode": lambda x: ps.encode(x, "fp16"),
    "exponent_histogram": ps.errors.exponent_histogram,
    "feedback_all_reduce": lambda x: ps.feedback_all_reduce(x, x, "ring:fp16")[0],
    "fma": lambda x: ps.fma(1.0, 2.0, x, "fp16"),
    "greater_equal": lambda x: ps.ieee.greater_equal(1.0, x),
    "matmul": lambda x: ps.matmul(x, x, SPEC),
    "multiply": lambda x: ps.multiply(x, 3.0, "fp16"),
    "quantize": lambda x: ps.quantize(x, "mxfp4").codes,
    "recommend": lambda x: ps.recommend(x, sqnr=30)["values"].bits,
    "scale_statistics": lambda x: ps.errors.scale_statistics(x, "mxfp4").codes,
    "statistics": lambda x: float(ps.errors.statistics(x).amax),
    "range_rates": lambda x: tuple(ps.errors.range_rates(x, "e4m3")),
    "relative_error": lambda x: ps.relative_error(x, 1.0),
    "round_to": lambda x: ps.round_to(x, "e2m1"),
    "round_to_steps": lambda x: ps.round_to_steps(x, 0.5, "int4"),
    "scaled_matmul": lambda x: ps.scaled_matmul(
        x, x, "h100:e4m3:promote128", a_scales=x[:, :1], b_scales=x[:1], backend="reference"
    ),
    "segment_sum": lambda x: ps.segment_sum(x, [1, 0], "fp16", num_segments=2),
    "sqnr": lambda x: ps.sqnr(x, ONE),
    "subtract": lambda x: ps.subtract(1.0, x, "fp16"),
    "to_integer": lambda x: ps.ieee.to_integer(x, "int8"),
    "ulp": lambda x: ps.ulp(x, "e4m3"),
    "ulp_error": lambda x: ps.ulp_error(x, 1.0, "e4m3"),
}
"""Functions of numbers."""

INTEGERS: dict[str, Callable[[Any], Any]] = {
    "convert": lambda x: ps.convert(x, "e4m3", "fp16"),
    "decode": lambda x: ps.decode(x, "e4m3"),
    "from_integer": lambda x: ps.ieee.from_integer(x, "fp16"),
    "pack_codes": lambda x: ps.pack_codes(x, 4),
    "ids of embedding": lambda x: ps.embedding(np.ones((8, 2), np.float32), x, "fp16"),
    "ids of segment_sum": lambda x: ps.segment_sum(
        np.ones(4, np.float32), x.reshape(-1), "fp16", num_segments=9
    ),
    "random_bits of round_to": lambda x: ps.round_to(ONE, "fp16:sr2", random_bits=x),
    "random_bits of accumulate": lambda x: ps.accumulate(ONE, "fp16:sr2", random_bits=x),
    "random_bits of matmul": lambda x: ps.matmul(
        ONE, ONE, SPEC + "->bf16[sr2]", random_bits=x, backend="reference"
    ),
}
"""Functions of integers, and arguments that are integers."""

DROP_INS = ("conv_general_dilated", "dot_general", "einsum")

NARROW: list[Any] = [
    np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3,
    ml_dtypes.float8_e3m4, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3b11fnuz,
    ml_dtypes.float8_e5m2fnuz, ml_dtypes.float8_e8m0fnu, ml_dtypes.float6_e2m3fn,
    ml_dtypes.float6_e3m2fn, ml_dtypes.float4_e2m1fn,
]  # fmt: skip
INTEGER: list[Any] = [np.dtype(f"{sign}int{n}") for sign in ("", "u") for n in (8, 16, 32, 64)]
INTEGER += [ml_dtypes.int4, ml_dtypes.uint4]
NEITHER: list[Any] = [
    bool,
    np.complex64,
    np.complex128,
    np.longdouble,
    object,
    "U3",
    "S3",
    "M8[s]",
    "m8[s]",
]


def like(x: Any) -> Any:
    """Return the carrier's dtype of an array."""
    return np.float64 if x.dtype == np.float64 else np.float32


def given(dtype: Any, values: np.ndarray = VALUES) -> np.ndarray:
    if np.dtype(dtype).kind in "Mm":
        return values.astype("i8").astype(dtype)
    return values.astype(dtype)


def assert_same(got: Any, expected: Any) -> None:
    got, expected = (x if isinstance(x, tuple) else (x,) for x in (got, expected))
    for x, y in zip(got, expected, strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_refused(function: Callable[[Any], Any], x: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        function(x)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 160


def test_the_table_has_every_public_function() -> None:
    objects = public_objects().items()
    functions = {name.rpartition(".")[2] for name, value in objects if inspect.isfunction(value)}
    assert functions <= NUMBERS.keys() | INTEGERS.keys() | NOT_OF_ARRAYS


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_dtype_are_taken_or_widened_or_refused(name: str) -> None:
    function = NUMBERS[name]
    expected = function(VALUES)
    only_float32 = {"scaled_matmul": "a", "round_to_steps": "x"}
    if name in only_float32:
        words = f"{only_float32[name]} has dtype float64; allowed is float32"
        assert_refused(function, given(np.float64), words)
    elif name not in DROP_INS:  # which are JAX's: no float64 without jax_enable_x64
        function(given(np.float64))
    for dtype in NARROW:
        assert_same(function(given(dtype)), expected)
    for dtype in (*INTEGER, *NEITHER):
        assert_refused(function, given(dtype), "has dtype .*; allowed are float32 and float64")
    assert_refused(function, np.ma.array(VALUES, mask=VALUES > 3), "is a masked array; allowed")


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_every_dtype_are_taken_or_refused(name: str) -> None:
    function = INTEGERS[name]
    expected = function(CODES)
    for dtype in INTEGER:
        assert_same(function(given(dtype, CODES)), expected)
    for dtype in (*NEITHER, *NARROW, np.float32, np.float64):
        words = r"has dtype .*; allowed are integers|integers of more than 64 bits"
        if dtype is not object:
            assert_refused(function, given(dtype, CODES), words)
    assert_refused(function, np.ma.array(CODES), "is a masked array")
    assert_refused(function, jax.random.key(0), "is a PRNG key; allowed are integers")


class Tensor:
    """What precsim may know of another library's array: DLPack, and a device."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device
        self.dtype, self.shape = "torch.something", array.shape

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __array__(self) -> Any:
        raise AssertionError("DLPack goes first")


class Series:
    """What precsim may know of a table's column."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype = array, array.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


SOME = ("accumulate", "add", "exp", "equal", "matmul", "quantize", "round_to", "total_order", "ulp")


@pytest.mark.parametrize("name", SOME)
def test_arrays_of_other_libraries_on_the_cpu_are_taken_and_numpy_is_returned(name: str) -> None:
    function = NUMBERS[name]
    expected = function(VALUES)
    got = function(Tensor(VALUES))
    assert not isinstance(got, jax.Array)
    assert_same(got, expected)
    assert_same(function(Tensor(jnp.asarray(VALUES, jnp.bfloat16))), expected)
    assert_same(function(Series(VALUES)), expected)
    assert_refused(function, Series(CODES), "has dtype uint8")
    assert_refused(function, Tensor(CODES), "has dtype uint8")
    assert_refused(function, Tensor(VALUES, (2, 0)), r"a device that is no CPU \(DLPack kind 2\)")


def test_a_tensor_that_does_not_export_says_why() -> None:
    class Differentiable(Tensor):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    assert_refused(
        NUMBERS["round_to"], Differentiable(VALUES), "x is a Differentiable.*use tensor.det"
    )


def test_integers_of_other_libraries() -> None:
    assert ps.decode(Tensor(CODES), "e4m3").shape == (2, 2)
    assert ps.decode(Series(CODES), "e4m3").shape == (2, 2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_narrow_jax_arrays_are_widened_with_a_gradient(dtype: Any) -> None:
    x = jnp.asarray(VALUES, dtype)
    y, g = jax.value_and_grad(lambda x: ps.round_to(x, "e4m3").sum())(x)
    assert (y.dtype, float(y), g.dtype) == (np.float32, 7.5, dtype)
    assert g.astype(np.float32).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("dtype", NARROW)
def test_widening_is_exact_for_every_code_also_in_jax(dtype: Any) -> None:
    fmt = ps.get_format(dtype)
    width = int(fmt.width or 0)
    codes = np.arange(1 << width, dtype=np.uint16 if width > 8 else np.uint8)
    expected = ps.decode(codes, fmt)
    wide = ps.multiply(codes.view(dtype), 1.0, "fp32")
    np.testing.assert_array_equal(wide, expected)
    assert (np.signbit(wide) == np.signbit(expected))[~np.isnan(expected)].all()
    if "float6" not in str(np.dtype(dtype)):  # which XLA's CPU backend has not
        same = jax.jit(lambda x: ps.ieee.maximum(x, x))(jnp.asarray(codes.view(dtype)))
        np.testing.assert_array_equal(np.asarray(same), expected)


def test_dot_general_refuses_complex_operands_whose_imaginary_part_it_would_drop() -> None:
    z = jnp.asarray(VALUES + 1j)
    with pytest.raises(TypeError, match="lhs has dtype complex64; allowed are float32 and float64"):
        ps.dot_general(SPEC)(z, z, CONTRACT)
    for dtype in (jnp.int32, jnp.complex64, bool):
        with pytest.raises(TypeError, match=r"preferred_element_type is .*; allowed are float32"):
            ps.dot_general(SPEC)(jnp.ones((2, 2)), jnp.ones((2, 2)), CONTRACT, None, dtype)
    narrow = jnp.asarray(VALUES, jnp.bfloat16)
    assert ps.dot_general(SPEC)(narrow, narrow, CONTRACT).dtype == jnp.bfloat16


def test_accumulate_of_a_masked_array_is_refused() -> None:
    masked = np.ma.array([1.0, 1e30], mask=[False, True])
    for x in (masked, [masked, masked]):
        with pytest.raises(TypeError, match="x is a masked array; allowed are arrays without mask"):
            ps.accumulate(x, "fp16")


def test_float64_is_never_narrowed_silently() -> None:
    wide = np.array([[1.0, 1 + 2.0**-40]])
    assert ps.segment_sum(wide, jnp.array([0]), "fp64", num_segments=1).tolist() == wide.tolist()
    refusals: list[Callable[[], Any]] = [
        lambda: ps.dot_general("raw_raw_fp64")(wide, wide, (((1,), (1,)), ((), ()))),
        lambda: ps.embedding(wide, jnp.array([0]), "fp64"),
        lambda: jax.jit(lambda i: ps.segment_sum(wide, i, "fp64", num_segments=1))(jnp.array([0])),
        lambda: jax.jit(lambda r: ps.round_to(wide, "fp64:sr2", random_bits=r))(
            jnp.array([[0, 1]])
        ),
    ]
    for refused in refusals:
        with pytest.raises(ValueError, match=r"float64.*jax_enable_x64 only"):
            refused()
    with jax.enable_x64(True):
        assert ps.embedding(wide, jnp.array([0]), "fp64").tolist() == wide.tolist()


def test_integers_that_jax_would_cut_to_32_bits_are_no_segments_and_no_rows() -> None:
    rows, ids = np.ones((2, 1), np.float32), np.array([0, 2**32])
    assert ps.segment_sum(jnp.asarray(rows), ids, "fp16", num_segments=1).tolist() == [[1.0]]
    assert ps.segment_sum(rows, ids, "fp16", num_segments=1).tolist() == [[1.0]]
    np.testing.assert_array_equal(ps.embedding(rows, ids, "fp16"), [[1.0], [np.nan]])


def test_a_list_of_rows_of_different_shapes_is_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match="a is a list of rows of different shapes; allowed are rows"
    ):
        ps.matmul([[1.0], [1.0, 2.0]], VALUES, SPEC)
    with pytest.raises(ValueError, match="codes is a list of rows"):
        ps.decode([[1], [1, 2]], "e4m3")


SHAPES = [(), (1,), (0,), (0, 3), (2, 0), (1, 1)]
OF_ANY_SHAPE = set(NUMBERS) - {
    "accumulate", "all_reduce", "backward_error", "calibrate", "conv", *DROP_INS, "feedback_all_reduce", "embedding", "exponent_histogram", "matmul",
    "quantize", "range_rates", "recommend", "round_to_steps", "scale_statistics", "scaled_matmul", "segment_sum", "sqnr",
    "statistics",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OF_ANY_SHAPE))
def test_elementwise_functions_keep_every_shape_also_empty_ones(name: str) -> None:
    for shape in SHAPES:
        for x in (np.ones(shape, np.float32), np.ones(shape).tolist()):
            assert np.shape(NUMBERS[name](x)) == np.shape(x)


def test_sums_of_nothing_are_zero_and_copies_of_nothing_are_empty() -> None:
    for order in ("sequential", "pairwise", "kahan", "two_sum", "blocked4", "exact"):
        for shape, axis in (((0,), None), ((0, 3), 0), ((3, 0), 0), ((), None), ((1,), 0)):
            total = ps.accumulate(np.ones(shape, np.float32), "fp16", axis=axis, order=order)
            assert total.shape == (shape[1:] if axis == 0 else ())
            assert (total == (0.0 if 0 in shape else 1.0)).all()
    assert ps.segment_sum(np.ones((0, 2)), [], "fp16", num_segments=3).tolist() == [[0.0, 0.0]] * 3
    assert ps.segment_sum(np.ones((2, 0)), [0, 1], "fp16", num_segments=0).shape == (0, 0)
    assert ps.embedding(np.ones((0, 2)), [], "fp16").shape == (0, 2)
    assert np.isnan(ps.embedding(np.ones((0, 2)), [[1]], "fp16")).tolist() == [[[True, True]]]
    assert ps.pack_codes(np.zeros((2, 0), np.uint8), 6).shape == (2, 0)


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_dot_general_of_empty_operands(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = jnp.ones((m, k)), jnp.ones((k, n))
    y, pull = jax.vjp(lambda a, b: ps.dot_general(SPEC)(a, b, CONTRACT), a, b)
    assert (y.shape, float(y.sum())) == ((m, n), 0.0)
    assert [g.shape for g in pull(y)] == [a.shape, b.shape]


def test_numbers_of_numpy_in_lists_are_exact_too() -> None:
    """Defect: they were compared as float64, so that an inexact one passed."""
    for x in ([np.int64(2**53 + 1)], (np.uint64(2**53 + 1), 1.0)):
        with pytest.raises(
            TypeError, match="x has 9007199254740993, which is not exact in float64"
        ):
            ps.round_to(x, "fp64")
    assert ps.round_to([np.int64(3), np.float32(0.5)], "fp64").tolist() == [3.0, 0.5]


def test_a_module_that_another_thread_still_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: of two policies trained side by side, one failed with an AttributeError."""
    name = "precsim._lax_arrays"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert not is_lax(1.0)


def test_arrays_in_the_other_byte_order_are_taken() -> None:
    """Files often have it; NumPy computes with it, and so does precsim."""
    for dtype in (np.float32, np.float64):
        x = VALUES.astype(dtype)
        swapped = x.astype(x.dtype.newbyteorder())
        assert not swapped.dtype.isnative
        for name in ("round_to", "ulp", "accumulate", "encode"):
            assert_same(NUMBERS[name](swapped), NUMBERS[name](x))
    codes = np.arange(5, dtype=np.uint16)
    assert_same(ps.decode(codes.astype(">u2"), "fp16"), ps.decode(codes, "fp16"))


def test_operands_of_several_carriers_are_named() -> None:
    with pytest.raises(
        TypeError, match="operands have dtypes x float32, y float64; allowed is one"
    ):
        ps.add(np.ones(1, np.float32), np.float64(0.1), "fp32")
