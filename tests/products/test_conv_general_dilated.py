"""A drop-in for `lax.conv_general_dilated`: every configuration, both gradients, Flax."""

import inspect
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.products import windows
from tests.products.conftest import assert_same_bits, normal

EXACT = "fp32_fp32_fp32"
"""On small integers, where every order of a sum has the same bits."""

fast = {"xla_backend_optimization_level": 0}


def integers(rng: np.random.Generator, shape: Sequence[int]) -> Any:
    return jnp.asarray(rng.integers(-4, 5, shape), jnp.float32)


def random_call(seed: int) -> tuple[Any, Any, dict[str, Any]]:
    """Draw operands and arguments: 0 to 3 dimensions, in any order, both kinds of groups."""
    rng = np.random.default_rng(seed)
    draw: Any = lambda low, high, n: rng.integers(low, high, n).tolist()
    rank = seed % 4
    features, batch = [(1, 1), (*draw(2, 4, 1), 1), (1, *draw(2, 4, 1))][seed % 3]
    images, channels, filters = draw(1, 3, 3)
    named = rng.integers(0, 2) == 0
    order: Any = lambda: tuple(rng.permutation(rank + 2).tolist())
    numbers: Any = lax.ConvDimensionNumbers(order(), order(), order())
    sizes = [images * batch, channels * features, *draw(1, 6, rank)]
    window = [filters * features * batch, channels, *draw(1, 4, rank)]
    arguments = {
        "window_strides": draw(1, 4, rank),
        "padding": str(rng.choice(["SAME", "VALID", "SAME_LOWER"]))
        if named
        else [tuple(draw(-1, 4, 2)) for _ in range(rank)],
        "lhs_dilation": None if named else draw(1, 3, rank),
        "rhs_dilation": draw(1, 3, rank),
        "dimension_numbers": numbers,
        "feature_group_count": features,
        "batch_group_count": batch,
    }
    shapes = [
        [size for _, size in sorted(zip(places, given, strict=True))]
        for places, given in ((numbers.lhs_spec, sizes), (numbers.rhs_spec, window))
    ]
    return *(integers(rng, shape) for shape in shapes), arguments


def with_gradients(convolve: Callable[..., Any], arguments: dict[str, Any]) -> Callable[..., Any]:
    def run(x: Any, w: Any) -> Any:
        y, pull = jax.vjp(lambda x, w: convolve(x, w, **arguments), x, w)
        return y, *pull(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape) % 7 - 3)

    return run


slow = pytest.mark.slow


@pytest.mark.long
@pytest.mark.parametrize("seed", [7, *(pytest.param(n, marks=slow) for n in (2, *range(8, 50)))])
@pytest.mark.parametrize("backend", ["emulated", pytest.param("native", marks=slow)])
def test_results_and_gradients_are_those_of_lax(seed: int, backend: str) -> None:
    x, w, arguments = random_call(seed)
    f = ps.conv_general_dilated(EXACT, backend=backend)

    def both(x: Any, w: Any) -> Any:
        return [with_gradients(g, arguments)(x, w) for g in (f, lax.conv_general_dilated)]

    for got, expected in zip(*jax.jit(both, compiler_options=fast)(x, w), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.long
def test_native_convolutions_are_lax_s_with_its_gradients() -> None:
    x, w, arguments = random_call(6)
    native = ps.conv_general_dilated("bf16_bf16_fp32", backend="native")
    run = jax.jit(with_gradients(native, arguments))
    plain = jax.jit(with_gradients(lax.conv_general_dilated, arguments))
    for got, expected in zip(run(x, w), plain(x, w), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    text = run.lower(x, w).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "dot_general" not in text


def by_loops(
    x: np.ndarray,
    w: np.ndarray,
    *,
    stride: int,
    padding: tuple[int, int],
    spread: int,
    reach: int,
    features: int = 1,
    batch: int = 1,
) -> np.ndarray:
    """Convolve images of one dimension by `fma` in bf16: places first, then channels."""
    (count, size, _), (window, shared, filters) = x.shape, w.shape
    wide = np.zeros((count, (size - 1) * spread + 1 + sum(padding) + 8, x.shape[2]), x.dtype)
    for n in range(size):
        wide[:, n * spread + padding[0] + 4] = x[:, n]  # 4 more, which negative padding needs
    length = (size - 1) * spread + 1 + sum(padding)
    results = (length - ((window - 1) * reach + 1)) // stride + 1
    y = np.zeros((count // batch, results, filters), np.float32)
    each, images = filters // (features * batch), count // batch
    for out, f in product(range(results), range(filters)):
        group = f // each
        rows = slice(group * images, (group + 1) * images) if batch > 1 else slice(None)
        total = np.zeros(images, np.float32)
        for place, c in product(range(window), range(shared)):
            channel = c + (group * shared if features > 1 else 0)
            pixel = wide[rows, out * stride + place * reach + 4, channel]
            total = np.asarray(ps.fma(pixel, np.full_like(pixel, w[place, c, f]), total, "bf16"))
        y[:, out, f] = total
    return y


@pytest.mark.long
@pytest.mark.parametrize(("features", "batch"), [(1, 1), (2, 1), (1, 2)])
def test_bits_are_those_of_a_loop_of_fused_multiply_adds(features: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    shapes = (2, 4, 2 * features), (2, 2, 2 * features * batch)
    x, w = (np.asarray(ps.round_to(normal(rng, None, s), "bf16")) for s in shapes)
    expected = by_loops(
        x, w, stride=2, padding=(2, -1), spread=2, reach=2, features=features, batch=batch
    )
    options: dict[str, Any] = {
        "lhs_dilation": (2,),
        "rhs_dilation": (2,),
        "feature_group_count": features,
        "batch_group_count": batch,
    }
    f = ps.conv_general_dilated("raw_raw_bf16")
    got = f(x, w, (2,), [(2, -1)], dimension_numbers=("NWC", "WIO", "NWC"), **options)
    assert_same_bits(got, expected)
    assert_same_bits(
        ps.conv(x, w, "raw_raw_bf16", stride=2, padding=[(2, -1)], **options), expected
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", ["feature_group_count", pytest.param("batch_group_count", marks=slow)]
)
def test_groups_are_convolutions_side_by_side_gradients_too(kind: str) -> None:
    rng = np.random.default_rng(1)
    by_features = kind == "feature_group_count"
    x = jnp.asarray(normal(rng, None, (2, 4, 4)))
    w = jnp.asarray(normal(rng, None, (3, 2 if by_features else 4, 6)))
    run: Callable[..., Any] = lambda x, w, **o: ps.conv(
        x, w, "bf16_bf16_bf16", wgrad="fp16_fp16_fp16", **o
    )

    def apart(x: Any, w: Any) -> Any:
        images, filters = jnp.split(x, 2, -1 if by_features else 0), jnp.split(w, 2, -1)
        return jnp.concatenate([run(i, f) for i, f in zip(images, filters, strict=True)], -1)

    def both(x: Any, w: Any) -> Any:
        grouped = with_gradients(lambda x, w: run(x, w, **{kind: 2}), {})
        return grouped(x, w), with_gradients(apart, {})(x, w)

    for got, expected in zip(*jax.jit(both, compiler_options=fast)(x, w), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.long
def test_windows_of_many_pixels_make_no_long_program() -> None:
    rng = np.random.default_rng(5)
    x, w = integers(rng, (2, 3, 20, 4)), integers(rng, (2, 3, 50, 3))
    options: Any = {"window_strides": (3, 1), "padding": [(90, 9), (1, 0)], "rhs_dilation": (2, 1)}
    f = jax.jit(lambda x, w: ps.conv_general_dilated(EXACT)(x, w, **options))
    expected = lax.conv_general_dilated(x, w, **options)
    np.testing.assert_array_equal(np.asarray(f(x, w)), np.asarray(expected))
    assert f.lower(x, w).as_text().count("stablehlo.slice") < 20


def test_taken_pixels_are_those_of_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    x = jnp.arange(2 * 5 * 6 * 3, dtype=jnp.float32).reshape(2, 5, 6, 3)
    over = windows.Windows.over((5, 6), (2, 3), [(1, 2), (0, -1)], (2, 1), (1, 2), (2, 1))
    sliced = windows.patches(x, (2, 3), over)
    monkeypatch.setattr(windows, "_SLICES", 0)
    assert_same_bits(windows.patches(x, (2, 3), over), sliced)


@pytest.mark.long
def test_dimension_numbers_in_every_form() -> None:
    rng = np.random.default_rng(2)
    x, w = integers(rng, (2, 3, 5)), integers(rng, (4, 3, 2))
    f = ps.conv_general_dilated(EXACT)
    expected = lax.conv_general_dilated(x, w, (1,), "VALID")
    forms: tuple[Any, ...] = (
        None,
        ("NCH", "OIH", "NCH"),
        ["NCW", "OIW", "NCW"],
        lax.conv_dimension_numbers(x.shape, w.shape, ("NCH", "OIH", "NCH")),
    )
    for numbers in forms:
        got = f(x, w, (1,), "valid", dimension_numbers=numbers, precision="highest")
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    turned = f(x, w, (1,), "VALID", dimension_numbers=("NCH", "OIH", "HCN"))
    np.testing.assert_array_equal(np.asarray(turned), np.asarray(expected).T)


def test_the_signature_is_that_of_lax() -> None:
    theirs = list(inspect.signature(lax.conv_general_dilated).parameters.values())
    ours = list(inspect.signature(ps.conv_general_dilated(EXACT)).parameters.values())
    taken = [(p.name, p.default) for p in theirs if p.name != "out_sharding"]
    assert [(p.name, p.default) for p in ours][:-1] == [*taken, ("random_bits", None)]
    assert ours[-1].kind is inspect.Parameter.VAR_KEYWORD


@pytest.mark.long
@pytest.mark.parametrize(
    ("dtype", "preferred"),
    [
        (jnp.bfloat16, None),
        pytest.param(jnp.bfloat16, jnp.float32, marks=slow),
        pytest.param(jnp.float16, None, marks=slow),
    ],
)
def test_dtypes_are_those_of_lax(dtype: Any, preferred: Any) -> None:
    rng = np.random.default_rng(3)
    x, w = integers(rng, (1, 1, 3)).astype(dtype), integers(rng, (1, 1, 2)).astype(dtype)
    options = {"padding": "SAME", "preferred_element_type": preferred}
    expected = lax.conv_general_dilated(x, w, (1,), **options)
    got = ps.conv_general_dilated(EXACT)(x, w, (1,), **options)
    assert got.dtype == expected.dtype
    assert_same_bits(got.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.long
def test_two_flax_models_of_one_string_compile_once() -> None:
    linen = pytest.importorskip("flax.linen")
    traced = []

    def run(kernel: Any, x: Any, model: Any) -> Any:
        traced.append(model)
        return model.apply({"params": {"kernel": kernel}}, x)

    jitted = jax.jit(run, static_argnames="model")
    rng = np.random.default_rng(4)
    x, w = normal(rng, None, (1, 4, 2)), normal(rng, None, (3, 1, 2))
    first, second = (
        jitted(
            w,
            x,
            model=linen.Conv(
                2,
                (3,),
                feature_group_count=2,
                use_bias=False,
                conv_general_dilated=ps.conv_general_dilated("bf16_bf16_fp32"),
            ),
        )
        for _ in range(2)
    )
    assert len(traced) == 1
    assert_same_bits(first, second)
    assert_same_bits(first, ps.conv(x, w, "bf16_bf16_fp32", feature_group_count=2))


def test_drop_ins_of_equal_specs_are_equal() -> None:
    for make in (ps.dot_general, ps.conv_general_dilated, ps.einsum):
        one, same = make("bf16_bf16_fp32"), make(ps.MatmulSpec.parse("bf16_bf16_fp32"), dgrad=None)
        assert one == same
        assert hash(one) == hash(same)
        assert one != make("bf16_bf16_fp32", dgrad="fp16_fp16_fp32")
        assert one != make("bf16_bf16_fp32", backend="native")


@pytest.mark.slow
def test_flax_nnx_conv() -> None:
    nnx = pytest.importorskip("flax.nnx")
    x = normal(np.random.default_rng(0), None, (2, 5, 4))
    f = ps.conv_general_dilated("e4m3_e4m3_fp16")
    layer = nnx.Conv(
        4, 6, (3,), strides=2, feature_group_count=2, rngs=nnx.Rngs(0), conv_general_dilated=f
    )
    kernel = np.asarray(layer.kernel[...])
    expected = ps.conv(x, kernel, "e4m3_e4m3_fp16", stride=2, feature_group_count=2)
    assert_same_bits(nnx.jit(lambda layer, x: layer(x))(layer, x), expected)


X, W = np.ones((1, 4, 6), np.float32), np.ones((2, 4, 3), np.float32)
ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"lhs": X.astype(np.complex64)}, "lhs has dtype complex64; allowed are float32"),
    ({"rhs": W.astype(np.int32)}, "rhs has dtype int32; allowed are float32"),
    (
        {"lhs": X.astype(np.float64)},
        "lhs has dtype float64, which JAX has with jax_enable_x64 only",
    ),
    ({"preferred_element_type": np.int32}, "preferred_element_type is int32; allowed are float32"),
    ({"rhs": W[:, :3]}, r"shapes are \(1, 4, 6\) and \(2, 3, 3\); allowed are \(batch"),
    ({"feature_group_count": 2}, "feature_group_count is 2, batch_group_count 1"),
    ({"feature_group_count": 0}, "feature_group_count is 0; allowed are integers from 1 on"),
    (
        {"feature_group_count": 2, "batch_group_count": 2},
        "feature_group_count is 2, batch_group_count 2; allowed is one of them above 1",
    ),
    (
        {"padding": "FULL"},
        "padding is 'FULL'; allowed are 'SAME', 'VALID', 'SAME_LOWER', and a pair",
    ),
    ({"padding": [(1, 1), (1, 1)]}, r"padding is \[\(1, 1\), \(1, 1\)\]; allowed are 'SAME'"),
    ({"padding": [(-4, -4)]}, r"padding is \[\(-4, -4\)\], which cuts more from the image \(6,\)"),
    ({"lhs_dilation": (2,)}, "padding is 'SAME' beside a dilated image; allowed is a pair"),
    ({"window_strides": (0,)}, "window_strides is 0; allowed are integers from 1 on"),
    ({"rhs_dilation": (1, 1)}, r"rhs_dilation is \(1, 1\); allowed are 1 integers from 1 on"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_errors(change: dict[str, Any], message: str) -> None:
    arguments = {"lhs": X, "rhs": W.transpose(2, 1, 0), "window_strides": (1,), "padding": "SAME"}
    if "rhs" in change:
        change = change | {"rhs": change["rhs"].transpose(2, 1, 0)}
        message = message.replace(r"\(2, 3, 3\)", r"\(3, 3, 2\)")
    with pytest.raises((TypeError, ValueError), match=message):
        ps.conv_general_dilated(EXACT)(**arguments | change)


def test_unknown_backends_and_formats_are_refused() -> None:
    for make, name in ((ps.conv_general_dilated, "conv_general_dilated"), (ps.einsum, "einsum")):
        with pytest.raises(ValueError, match="unknown format 'fp61'"):
            make("fp61_fp16_fp16")
        with pytest.raises(ValueError, match=f"backend is 'reference'; allowed for {name} are"):
            make(EXACT, backend="reference")
