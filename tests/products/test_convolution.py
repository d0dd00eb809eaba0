"""Convolutions and their gradients, against loops over pixels and against float64 convolutions."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.products.windows import Windows, patches
from tests.products.conftest import assert_same_bits, normal, reference

FORWARD, DGRAD, WGRAD = "fp16_fp16_fp16", "e5m2_e4m3_fp16", "e4m3_e5m2_fp32->bf16"
X, W = (2, 5, 6, 3), (3, 2, 3, 4)


class Case(NamedTuple):
    """A convolution by explicit index arithmetic."""

    stride: int
    padding: str

    def begin_and_size(self, axis: int, x: Any = X, w: Any = W) -> tuple[int, int]:
        """First padding and number of outputs along an image axis (TensorFlow's rules)."""
        size, window = x[axis], w[axis - 1]
        if self.padding == "VALID":
            return 0, (size - window) // self.stride + 1
        count = -(-size // self.stride)
        return max((count - 1) * self.stride + window - size, 0) // 2, count


CASES = [Case(1, "SAME"), Case(2, "SAME"), Case(1, "VALID"), Case(2, "VALID")]
slow = pytest.mark.slow
each_case = pytest.mark.parametrize(
    "case", [CASES[0], *(pytest.param(case, marks=slow) for case in CASES[1:])], ids=str
)


def operands(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, filters and a cotangent."""
    rng = np.random.default_rng(0)
    out = (X[0], case.begin_and_size(1)[1], case.begin_and_size(2)[1], W[3])
    return normal(rng, None, X), normal(rng, None, W), normal(rng, None, out)


def pixel(x: np.ndarray, n: int, row: int, column: int) -> np.ndarray:
    """Read the channels of a pixel; zeros outside the image."""
    inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
    return x[n, row, column] if inside else np.zeros(x.shape[3], x.dtype)


def windows(x: np.ndarray, case: Case) -> np.ndarray:
    """Input of each output, in the order (row, column, channel)."""
    (top, height), (left, width) = case.begin_and_size(1), case.begin_and_size(2)
    rows = [
        np.concatenate(
            [
                pixel(x, n, i * case.stride - top + u, j * case.stride - left + v)
                for u in range(W[0])
                for v in range(W[1])
            ]
        )
        for n, i, j in itertools.product(range(X[0]), range(height), range(width))
    ]
    return np.array(rows)


def cotangents(g: np.ndarray, case: Case) -> np.ndarray:
    """Cotangents that reach each input, in the order (flipped row, flipped column, filter)."""
    top, left = case.begin_and_size(1)[0], case.begin_and_size(2)[0]

    def reaching(n: int, row: int, column: int) -> np.ndarray:
        if row % case.stride or column % case.stride:
            return np.zeros(W[3], g.dtype)
        return pixel(g, n, row // case.stride, column // case.stride)

    rows = [
        np.concatenate(
            [
                reaching(n, i + top - (W[0] - 1 - u), j + left - (W[1] - 1 - v))
                for u in range(W[0])
                for v in range(W[1])
            ]
        )
        for n, i, j in itertools.product(range(X[0]), range(X[1]), range(X[2]))
    ]
    return np.array(rows)


@pytest.mark.long
@each_case
def test_convolution_is_a_product_over_windows(case: Case) -> None:
    x, w, g = operands(case)
    y, dx, dw = with_gradients(
        lambda x, w: ps.conv(
            x, w, FORWARD, dgrad=DGRAD, wgrad=WGRAD, stride=case.stride, padding=case.padding
        ),
        (x, w, g),
    )
    patches, flat_g = windows(x, case), g.reshape(-1, W[3])
    assert_same_bits(y, reference(patches, w.reshape(-1, W[3]), FORWARD).reshape(g.shape))
    assert_same_bits(dw, reference(patches.T, flat_g, WGRAD).reshape(W))
    flipped = w[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, W[2])
    assert_same_bits(dx, reference(cotangents(g, case), flipped, DGRAD).reshape(X))


def with_gradients(
    convolve: Callable[..., Any], operands: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Return a convolution and its gradients, compiled as one."""

    def run(x: Any, w: Any, g: Any) -> Any:
        y, pull = jax.vjp(convolve, x, w)
        return y, *pull(g)

    return tuple(map(np.asarray, jax.jit(run)(*operands)))


def float64_convolution(x: Any, w: Any, case: Case) -> Any:
    return lax.conv_general_dilated(
        x, w, (case.stride, case.stride), case.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "case", [CASES[1], *(pytest.param(case, marks=slow) for case in CASES[2:])], ids=str
)
def test_convolution_and_gradients_obey_their_bounds(case: Case) -> None:
    """Operands exact in fp16, sums in fp32: within gamma(K, 2**-24) of the float64 convolution."""
    x, w, g = (np.asarray(ps.round_to(v, "fp16")) for v in operands(case))
    with jax.enable_x64(True):

        def exact(*operands: np.ndarray) -> tuple[np.ndarray, ...]:
            wide = tuple(v.astype(np.float64) for v in operands)
            return with_gradients(lambda x, w: float64_convolution(x, w, case), wide)

        expected, sizes = exact(x, w, g), exact(*map(np.abs, (x, w, g)))
    got = with_gradients(
        lambda x, w: ps.conv(x, w, "fp16_fp16_fp32", stride=case.stride, padding=case.padding),
        (x, w, g),
    )
    lengths = [W[0] * W[1] * W[2], W[0] * W[1] * W[3], g.size // W[3]]
    for value, exactly, size, length in zip(got, expected, sizes, lengths, strict=True):
        assert value.shape == exactly.shape
        assert (np.abs(value - exactly) <= ps.gamma(length, 2**-24) * size).all()


def test_shapes_are_those_of_jax() -> None:
    for size, (rows, columns), stride in itertools.product((2, 5), [(2, 3)], (1, 3)):
        x, w = np.ones((1, size, 7, 1), np.float32), np.ones((rows, columns, 1, 2), np.float32)
        for padding in ("SAME", "VALID") if size >= rows else ("SAME",):
            case = Case(stride, padding)

            def convolve(x: Any, w: Any, case: Case = case) -> Any:
                return ps.conv(x, w, FORWARD, stride=case.stride, padding=case.padding)

            def unrounded(x: Any, w: Any, case: Case = case) -> Any:
                return float64_convolution(x, w, case)

            got = jax.eval_shape(convolve, x, w)
            assert got.shape == jax.eval_shape(unrounded, x, w).shape


def test_libraries_and_vmap() -> None:
    case = CASES[0]
    x, w, _ = operands(case)
    expected = reference(windows(x, case), w.reshape(-1, W[3]), "fp16_fp16_fp32").reshape(
        2, 5, 6, 4
    )
    result = ps.conv(x, w, "fp16_fp16_fp32")
    assert type(result) is np.ndarray
    assert_same_bits(result, expected)
    each = jax.jit(jax.vmap(lambda x: ps.conv(x[None], w, "fp16_fp16_fp32")[0]))
    assert_same_bits(each(x), expected)


@slow
def test_native_backend() -> None:
    x, w, _ = operands(CASES[0])
    emulated, native = (ps.conv(x, w, "fp16_fp16_fp32", backend=b) for b in ("emulated", "native"))
    np.testing.assert_allclose(native, emulated, rtol=1e-4, atol=1e-5)


@slow
def test_float64_carrier() -> None:
    x, w, _ = operands(CASES[0])
    single = ps.conv(x, w, "fp16_fp16_fp32")
    double = ps.conv(x.astype(np.float64), w.astype(np.float64), "fp16_fp16_fp32")
    assert_same_bits(double, single.astype(np.float64))


@slow
def test_stochastic_outputs_take_bits_of_their_own() -> None:
    case = CASES[1]
    x, w, g = operands(case)
    rng = np.random.default_rng(1)
    shapes = {"forward": g.shape, "dgrad": X, "wgrad": W}
    draws = {key: rng.integers(0, 1 << 32, s, dtype=np.uint32) for key, s in shapes.items()}
    spec = "fp16_fp16_fp32->bf16[sr]"
    results = with_gradients(
        lambda x, w: ps.conv(x, w, spec, stride=case.stride, random_bits=draws), (x, w, g)
    )
    patches = windows(x, case)
    flipped = w[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, W[2])
    exact = {
        "forward": reference(patches, w.reshape(-1, W[3]), "fp16_fp16_fp32"),
        "dgrad": reference(cotangents(g, case), flipped, "fp16_fp16_fp32"),
        "wgrad": reference(patches.T, g.reshape(-1, W[3]), "fp16_fp16_fp32"),
    }
    for (key, total), got in zip(exact.items(), results, strict=True):
        bits = draws[key]
        expected = ps.round_to(total.reshape(bits.shape), "bf16:sr", random_bits=bits)
        assert_same_bits(got, expected, key)


ERRORS = [
    ({"backend": "reference"}, "backend is 'reference'; allowed for conv are 'auto', 'emulated'"),
    ({"backend": "fast"}, "backend is 'fast'"),
    ({"padding": "FULL"}, "padding is 'FULL'; allowed are 'SAME', 'VALID'"),
    ({"stride": 0}, "stride is 0; allowed is one integer from 1 on"),
    (
        {"stride": (2, 1, 1)},
        r"stride is \(2, 1, 1\); allowed is one integer from 1 on, or 2 of them",
    ),
    (
        {"spec": "fp16_fp16_fp32->bf16[sr]", "random_bits": np.zeros((2, 5, 6), np.uint32)},
        r"random_bits \(forward\) has shape \(2, 5, 6\); allowed is \(2, 5, 6, 4\)",
    ),
    (
        {"spec": "fp16_fp16_fp32->bf16[sr]", "random_bits": np.zeros((2, 5, 6, 4), np.uint8)},
        "has dtype uint8; allowed are integers of at least the 32 bits",
    ),
    ({"spec": "fp16_fp16_fp32->bf16[sr]"}, "random_bits is missing"),
    ({"spec": "fp16_fp16_fp64"}, "float32 carrier cannot hold fp64"),
    ({"wgrad": "fp61_fp16_fp16"}, "unknown format 'fp61'"),
    ({"w": np.ones((3, 2, 2, 4), np.float32)}, r"\(2, 5, 6, 3\) and \(3, 2, 2, 4\); allowed"),
    ({"x": np.ones((5, 6, 3), np.float32)}, r"\(5, 6, 3\) and \(3, 2, 3, 4\); allowed"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[str(message) for _, message in ERRORS])
def test_errors(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "x": np.ones(X, np.float32),
        "w": np.ones(W, np.float32),
        "spec": FORWARD,
    }
    with pytest.raises(ValueError, match=message):
        ps.conv(**arguments | change)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": "h100:bf16"},
        {"spec": "nvfp4_nvfp4_fp32"},
        {"spec": "int8_int8_int32"},
        {"dgrad": "e4m3[scale=row]_e4m3[scale=row]_fp32"},
    ],
)
def test_what_needs_float32_takes_nothing_else(change: dict[str, Any]) -> None:
    """Convolutions, and gradients of products, once failed inside or had other numbers."""
    spec = {"spec": FORWARD} | change
    message = r"x has dtype float64; allowed for '.*' is float32"
    with pytest.raises(TypeError, match=message):
        ps.conv(np.ones(X), np.ones(W), **spec)
    with pytest.raises(TypeError, match=message.replace("x", "a", 1)):
        ps.matmul(np.ones((2, 3)), np.ones((3, 2)), **spec, backend="emulated")
    convolve = partial(ps.conv_general_dilated(**spec), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    with jax.enable_x64(True), pytest.raises(TypeError, match=message.replace("x", "lhs", 1)):
        convolve(np.ones(X), np.ones(W), (1, 1), "SAME")


EMPTY = [
    ((0, 3, 3, 2), (2, 2, 2, 3), 1, "SAME"),
    ((2, 3, 3, 0), (2, 2, 0, 3), 1, "SAME"),
    ((2, 3, 3, 2), (2, 2, 2, 0), 2, "VALID"),
    ((2, 1, 3, 2), (2, 2, 2, 3), 1, "VALID"),
    ((2, 0, 3, 2), (2, 2, 2, 3), 2, "SAME"),
    ((1, 2, 2, 1), (4, 4, 1, 1), 1, "VALID"),
]


@pytest.mark.long
@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "padding"), EMPTY)
def test_empty_images_filters_and_results_have_lax_s_shapes_and_zero_gradients(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int, padding: str
) -> None:
    x, w = jnp.ones(x_shape), jnp.ones(w_shape)
    names = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    expected = jax.eval_shape(
        lambda x, w: lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=names), x, w
    )
    run = partial(ps.conv, spec=FORWARD, stride=stride, padding=padding)
    y, pull = jax.vjp(run, x, w)
    assert (y.shape, str(y.dtype), bool((y == 0).all())) == (expected.shape, "float32", True)
    for gradient, of in zip(pull(y), (x, w), strict=True):
        assert (gradient.shape, bool((gradient == 0).all())) == (of.shape, True)
    numpy = run(np.ones(x_shape, np.float32), np.ones(w_shape, np.float32))
    assert (type(numpy), numpy.shape) == (np.ndarray, expected.shape)


@pytest.mark.long
def test_padding_beside_infinite_weights_is_nan_as_in_lax() -> None:
    x, w = jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)).at[0, 0, 0, 0].set(jnp.inf)
    got = ps.conv(x, w, "fp32_fp32_fp32")
    names = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=names)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    assert int(jnp.isnan(got).sum()) == 5


def test_two_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="x has dtype float64, w float32; allowed is one dtype"):
        ps.conv(np.ones(X), np.ones(W, np.float32), FORWARD)


@pytest.mark.parametrize(
    "spec",
    [
        "bf16_bf16_bf16[sr]",
        pytest.param("bf16_bf16_fp32:exact", marks=slow),
        pytest.param("mxfp8_mxfp8_fp32[rtz]:fused2x25", marks=slow),
    ],
)
def test_new_orders_are_those_of_the_product_over_patches(spec: str) -> None:
    """Exact, stochastic (one seed per output), block-scaled: sums over (row, column, channel)."""
    rng = np.random.default_rng(8)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 3, 3, 2), (2, 2, 2, 3)))
    seeds = rng.integers(0, 2**32, (1, 2, 2, 3), dtype=np.uint32)
    flat = np.stack([x[0, i : i + 2, j : j + 2].reshape(-1) for i in range(2) for j in range(2)])
    got = ps.conv(x, w, spec, padding="VALID", random_bits=seeds)
    rows, bits = w.reshape(-1, 3), seeds.reshape(-1, 3)
    want = ps.matmul(flat, rows, spec, random_bits=bits, backend="reference")
    assert np.asarray(got).tobytes() == np.asarray(want).tobytes(), spec


@pytest.mark.parametrize(
    ("image", "window", "options"),
    [
        ((5, 4), (3, 3), {}),
        ((6,), (2,), {"strides": (4,), "padding": "VALID"}),
        ((4, 3), (2, 3), {"padding": ((2, -1), (0, 5)), "rhs_dilation": (2, 1)}),
        ((3, 4, 2), (2, 2, 1), {"lhs_dilation": (2, 3, 1), "padding": ((1, 1), (0, 0), (1, 0))}),
    ],
)
def test_windows_hold_their_pixels_in_order(
    image: tuple[int, ...], window: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Pixel by pixel of the window, each with its channels; and each is counted as often."""
    windows, channels = Windows.over(image, window, **options), 2
    ids = np.arange(1, np.prod(image) * channels + 1).reshape(*image, channels)
    pixels: dict[tuple[int, ...], np.ndarray] = {}
    for at in np.ndindex(*image):
        spread = zip(at, windows.lhs_dilation, windows.padding, strict=True)
        pixels[tuple(i * step + low for i, step, (low, _) in spread)] = ids[at]
    expected = np.zeros((*windows.counts(image, window), *window, channels), int)
    for at in np.ndindex(*expected.shape[:-1]):
        steps = windows.strides, windows.rhs_dilation
        starts = np.multiply(at[: len(image)], steps[0]) + np.multiply(at[len(image) :], steps[1])
        expected[at] = pixels.get(tuple(starts.tolist()), 0)
    held = np.asarray(patches(jnp.asarray(ids, np.float32), window, windows)).astype(int)
    assert held.reshape(expected.shape).tolist() == expected.tolist()
    counted = np.bincount(expected.reshape(-1), minlength=ids.size + 1)[1:].reshape(ids.shape)
    assert np.broadcast_to(windows.times(image, window), ids.shape).tolist() == counted.tolist()
