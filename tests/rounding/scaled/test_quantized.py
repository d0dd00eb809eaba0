"""`quantize` and `dequantize`: axes, libraries, transformations, gradients, wrong arguments."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

F: Any = np.float32

# One of each way through the code, and the others: a compilation takes a second or two.
COMPILED = ("mxfp8_e4m3", "nvfp4", "int4_symmetric_block8")
MORE = (
    "mxfp4_nearest",
    "mxfp6_e3m2_even",
    "mxint8_rceil:rtz",
    "mxfp8_e5m2:sr6",
    "nvfp4_torchao",
    "nvfp4_four_over_six",
    "int8",
    "uint8_channel",
    "e4m3:scale=2x3",
    "int4_symmetric_block8:sr",
)


def numbers(shape: tuple[int, ...], seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 2.0 ** rng.integers(-140, 100, (*shape[:-1], 1))
    x[rng.random(shape) < 0.1] = 0.0
    x[rng.random(shape) < 0.02] = np.nan
    x[rng.random(shape) < 0.02] = -np.inf
    with np.errstate(under="ignore"):
        return x.astype(np.float32)


def bytes_of(q: ps.Quantized) -> list[Any]:
    """Return the arrays of `q` as integers, with one pattern for NaN."""
    arrays = [
        np.asarray(a) for a in (q.codes, q.scales, q.tensor_scale, q.zero_points) if a is not None
    ]
    return [
        np.where(np.isnan(a), F(np.nan), a).view(np.uint32) if a.dtype.kind == "f" else a
        for a in arrays
    ]


def assert_same(one: ps.Quantized, other: ps.Quantized) -> None:
    assert (one.format, one.axis, one.dtype) == (other.format, other.axis, other.dtype)
    for a, b in zip(bytes_of(one), bytes_of(other), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def check_libraries(name: str, draws: Any, assert_same_bits: Any) -> None:
    """NumPy, example by example, gives the bits of one compiled function over all examples."""
    spec = ps.RoundingSpec.parse(name)
    x = numbers((4, 6, 70))
    random_bits = draws(x.size, 2).reshape(x.shape) if spec.num_random_bits else None

    @jax.jit
    @jax.vmap
    def compiled(x: Any, r: Any) -> tuple[ps.Quantized, Any]:
        q = ps.quantize(x, spec, axis=1, random_bits=r)
        return q, ps.dequantize(q)

    q, values = compiled(x, random_bits)
    assert isinstance(q.codes, jax.Array)
    for k in range(4):
        r = None if random_bits is None else random_bits[k]
        expected = ps.quantize(x[k], spec, axis=1, random_bits=r)
        assert_same(jax.tree.map(lambda a, k=k: a[k], q), expected)
        assert_same_bits(values[k], ps.dequantize(expected))
        rounded = ps.round_to(x[k], spec, axis=1, random_bits=r)
        assert_same_bits(rounded, ps.dequantize(expected))


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILED)
def test_numpy_jit_and_vmap_give_the_same_bits(
    name: str, draws: Any, assert_same_bits: Any
) -> None:
    check_libraries(name, draws, assert_same_bits)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_formats_under_jit(name: str, draws: Any, assert_same_bits: Any) -> None:
    check_libraries(name, draws, assert_same_bits)


def test_large_numpy_arrays_run_compiled(
    monkeypatch: pytest.MonkeyPatch, assert_same_bits: Any
) -> None:
    x = numbers((6, 40)).astype(float)
    direct, values = ps.quantize(x, "mxfp8"), ps.round_to(x, "mxfp8")
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 1)
    compiled = ps.quantize(x, "mxfp8")
    assert isinstance(compiled.codes, np.ndarray)
    assert compiled.codes.flags.writeable
    assert_same(compiled, direct)
    assert_same_bits(ps.dequantize(compiled), values)


@pytest.mark.slow
def test_large_numpy_arrays_are_rounded_compiled(assert_same_bits: Any) -> None:
    x = numbers((1 << 12, 100))
    parts = [ps.round_to(part, "mxfp4") for part in np.split(x, 8)]
    assert_same_bits(ps.round_to(x, "mxfp4"), np.concatenate(parts))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_blocks_run_along_the_axis(axis: int, assert_same_bits: Any) -> None:
    x = numbers((35, 5, 33))
    for name in ("mxfp4", "int8_block16", "uint4_channel"):
        if name.endswith("channel"):
            rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
            expected = [ps.round_to(row, "uint4") for row in rows]
            moved = np.stack(expected).reshape(np.moveaxis(x, axis, 0).shape)
            expected_all = np.moveaxis(moved, 0, axis)
        else:
            last = ps.round_to(np.ascontiguousarray(np.moveaxis(x, axis, -1)), name)
            expected_all = np.moveaxis(last, -1, axis)
        assert_same_bits(ps.round_to(x, name, axis=axis), expected_all, what=name)
        q = ps.quantize(x, name, axis=axis)
        assert q.shape == x.shape
        assert q.axis == axis - 3 * (axis >= 0)


def test_a_short_last_block_is_filled_up_with_zeros(assert_same_bits: Any) -> None:
    x = numbers((3, 37))
    filled = np.pad(x, [(0, 0), (0, 27)])
    q, whole = ps.quantize(x, "mxfp4"), ps.quantize(filled, "mxfp4")
    assert (q.codes.shape, q.scales.shape) == ((3, 37), (3, 2))
    assert np.array_equal(q.scales, whole.scales)
    assert np.array_equal(q.codes, whole.codes[:, :37])
    assert_same_bits(ps.dequantize(q), ps.dequantize(whole)[:, :37])
    # Zeros do not change the range of an affine block either, which contains 0 anyway.
    assert_same_bits(ps.round_to(x, "int8_block32"), ps.round_to(filled, "int8_block32")[:, :37])


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int8", "int8_channel", "int8_block4"])
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_empty_arrays(name: str, shape: tuple[int, ...]) -> None:
    q = ps.quantize(np.zeros(shape, np.float32), name)
    assert q.shape == ps.dequantize(q).shape == shape


def test_rounding_twice_changes_nothing_under_the_ocp_rule() -> None:
    x = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    for name in ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8"):
        once = ps.round_to(x, name)
        assert np.array_equal(ps.round_to(once, name), once)


def test_quantized_is_a_pytree() -> None:
    q = ps.quantize(np.ones((2, 32), np.float32), "nvfp4")
    leaves, structure = jax.tree.flatten(q)
    assert len(leaves) == 3
    again = jax.tree.unflatten(structure, leaves)
    assert_same(again, q)
    scales = jax.jit(lambda q: q.scales)(q)
    assert np.array_equal(scales, q.scales)


def test_eager_jax_gives_the_same_bits_and_the_tangent_unchanged(assert_same_bits: Any) -> None:
    x = numbers((3, 40))
    tangent = np.arange(120, dtype=np.float32).reshape(3, 40)
    values, out = jax.jvp(lambda x: ps.round_to(x, "mxfp4"), (jnp.asarray(x),), (tangent,))
    assert_same_bits(values, ps.round_to(x, "mxfp4"))
    assert np.array_equal(out, tangent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nvfp4", "int8"])
def test_gradient_is_straight_through(name: str) -> None:
    x = jnp.asarray(np.linspace(-3, 3, 40, dtype=np.float32))
    weights = jnp.arange(40.0)
    gradient = jax.grad(lambda x: (weights * ps.round_to(x, name)).sum())(x)
    assert np.array_equal(gradient, weights)


def test_stochastic_bits_broadcast_and_are_needed() -> None:
    x = np.full((2, 32), 1.1, np.float32)
    low, high = (ps.round_to(x, "mxfp4:sr8", random_bits=r) for r in (0, 255))
    assert set(low.flat) == {1.0}
    assert set(high.flat) == {1.5}
    with pytest.raises(ValueError, match="random_bits is missing: mode 'sr' of mxfp4:sr"):
        ps.round_to(x, "mxfp4:sr")
    with pytest.raises(ValueError, match=r"random_bits has shape \(3,\)"):
        ps.quantize(x, "mxfp4:sr", random_bits=np.zeros(3, int))


@pytest.mark.parametrize(
    ("x", "fmt", "options", "words"),
    [
        ([1.0], "fp16", {}, "fmt is fp16, a format of single numbers"),
        ([1.0], "mxfp4", {"axis": 1}, "axis is 1; allowed are integers from -1 to 0"),
        (1.0, "mxfp4", {}, r"x has shape \(\); allowed are arrays of at least one axis"),
        ([1.0], "mxfp4", {"overflow": "wrap"}, "overflow is 'wrap' for mxfp4"),
        ([1.0], "nvfp4", {}, "a float64 carrier cannot hold nvfp4"),
    ],
)
def test_wrong_arguments(x: Any, fmt: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.quantize(x, fmt, **options)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="x has dtype int16"):
        ps.quantize(np.ones(1, np.int16), "mxfp4")
    with pytest.raises(TypeError, match="q is list; allowed is what quantize returns"):
        ps.dequantize([1])  # type: ignore[arg-type]
    mx: Any = ps.get_format("mxfp4")
    wide = replace(mx, name="wide", element=ps.get_format("float(e=9,p=3)"))
    with pytest.raises(ValueError, match=r"a float32 carrier cannot hold wide \(use float64"):
        ps.quantize(F([1]), wide)
