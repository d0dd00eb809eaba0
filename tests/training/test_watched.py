"""Products of a step: their bits are those of `matmul`, and every rounding is counted once."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT32
from precsim.products.windows import Windows, as_rows, patches
from precsim.rounding.kernel.limits import limits
from precsim.rounding.spec import RoundingSpec
from precsim.training import watched as products
from precsim.training.recipes.tensor_scaling import current_scale
from precsim.training.watched import UNGUARDED, Setting, probe
from precsim.transform.noise import bits_at
from precsim.transform.watch import NUM_EVENTS
from tests.training.conftest import DISTINCT, assert_same_bits, single

KEY = jax.random.key(0)
SPREAD = 14
"""Operands have exponents between -SPREAD and SPREAD / 2: all kinds of events, none beyond fp32."""


def spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return single(rng.standard_normal(shape) * 2.0 ** rng.integers(-SPREAD, SPREAD // 2, shape))


def operands(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [spread(rng, shape) for shape in shapes]


def reference(a: np.ndarray, b: np.ndarray, spec: Any) -> np.ndarray:
    return np.asarray(ps.matmul(a, b, spec, backend="reference"))


def without_output(spec: ps.MatmulSpec) -> ps.MatmulSpec:
    return ps.MatmulSpec(
        lhs=spec.lhs,
        rhs=spec.rhs,
        product=spec.product,
        adder=spec.adder,
        accumulator=spec.accumulator,
        order=spec.order,
    )


def counts(x: Any, spec: RoundingSpec | None) -> np.ndarray:
    """Return what `range_rates` counts, as a vector in the order of `Events`."""
    assert spec is not None
    r = ps.errors.range_rates(np.asarray(x), spec)
    return np.array(
        [r.elements, r.nonzero, r.underflowed, r.subnormal, r.overflowed, r.saturated, r.nan]
    )


def counts_of_result(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec) -> np.ndarray:
    if spec.output is None:
        return np.zeros(NUM_EVENTS)
    return counts(reference(a, b, without_output(spec)), spec.output)


@partial(jax.jit, static_argnums=(0, 1))
def both_passes(product: Any, setting: Setting, x: Any, w: Any, g: Any) -> tuple[Any, ...]:
    """Return y, what the forward pass counts, dx, dw, what the backward pass counts."""
    run = lambda *a: product(*a, KEY, setting)
    y, back, forward = jax.vjp(run, x, w, probe(), has_aux=True)
    return y, forward, *back(g)


def run_linear(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec, backend: str) -> Any:
    policy = replace(ps.Policy.parse("bf16"), forward=spec)
    setting = Setting(policy, backend, "layer")
    return products.linear(jnp.asarray(a), jnp.asarray(b), probe(), KEY, setting)


SHARED = replace(DISTINCT, dgrad=DISTINCT.forward, wgrad=DISTINCT.forward)
"""One spec for the three products, so that the backward pass takes factors of the forward pass."""


@pytest.fixture(
    scope="module",
    params=[("auto", DISTINCT), (f"auto{UNGUARDED}", DISTINCT), (f"auto{UNGUARDED}", SHARED)],
)
def linear(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    backend, policy = request.param
    x, w, g = operands((6, 9), (9, 5), (6, 5))
    x[0, 0] = w[0, 0] = 300  # their product is beyond fp16
    setting = Setting(policy, backend, "hidden")
    return policy, x, w, g, both_passes(products.linear, setting, x, w, g)


@pytest.mark.long
def test_gradients_of_linear_are_products_by_their_specs(linear: tuple[Any, ...]) -> None:
    p, x, w, g, (y, _, dx, dw, _) = linear
    assert_same_bits(y, reference(x, w, p.forward))
    assert_same_bits(dx, reference(g, w.T, p.dgrad))
    assert_same_bits(dw, reference(x.T, g, p.wgrad))


def test_events_of_linear(linear: tuple[Any, ...]) -> None:
    """Each tensor counts once: operands at their first product, results where they are rounded."""
    p, x, w, g, (_, forward, _, _, backward) = linear
    expected = counts(x, p.forward.lhs) + counts(w, p.forward.rhs)
    expected = expected + counts_of_result(x, w, p.forward)
    assert forward.events.tolist() == expected.tolist()
    expected = counts(g, p.dgrad.lhs) + counts_of_result(g, w.T, p.dgrad)
    expected = expected + counts_of_result(x.T, g, p.wgrad)
    assert backward.events.tolist() == expected.tolist()
    # Underflow, subnormals and overflow all occurred, so none of this is 0 = 0.
    assert p is SHARED or all((forward.events + backward.events)[2:5] > 0)
    assert forward.untrusted == backward.untrusted == 0


def test_first_layer_has_no_gradient_of_its_data() -> None:
    x, w, g = operands((6, 9), (9, 5), (6, 5))
    setting = Setting(DISTINCT, f"auto{UNGUARDED}", "hidden", is_first=True)
    _, _, dx, dw, backward = both_passes(products.linear, setting, x, w, g)
    assert not dx.any()
    assert_same_bits(dw, reference(x.T, g, DISTINCT.wgrad))
    # Cotangents are counted where they are rounded: without dgrad, as operand of wgrad.
    expected = counts(g, DISTINCT.wgrad.rhs) + counts_of_result(x.T, g, DISTINCT.wgrad)
    assert backward.events.tolist() == expected.tolist()


@pytest.fixture(scope="module", params=[DISTINCT, SHARED])
def conv(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    x, w, g = operands((2, 4, 3, 2), (3, 3, 2, 4), (2, 4, 3, 4))
    setting = Setting(request.param, f"auto{UNGUARDED}", "conv")
    return request.param, x, w, g, both_passes(products.conv, setting, x, w, g)


@pytest.mark.long
def test_gradients_of_conv_are_those_of_the_public_one(conv: tuple[Any, ...]) -> None:
    p, x, w, g, (y, _, dx, dw, _) = conv

    @jax.jit
    def explicit(x: Any, w: Any, g: Any) -> Any:
        y, back = jax.vjp(lambda x, w: ps.conv(x, w, p.forward, dgrad=p.dgrad, wgrad=p.wgrad), x, w)
        return y, *back(g)

    for got, expected in zip((y, dx, dw), explicit(x, w, g), strict=True):
        assert_same_bits(got, expected)


def test_events_of_conv(conv: tuple[Any, ...]) -> None:
    """Operands are counted as the product sees them, pixels once a window, padding as zeros."""
    p, x, w, g, (_, forward, _, _, backward) = conv
    windows = Windows.over(x.shape[1:3], w.shape[:2])
    turned = windows.of_cotangents(x.shape[1:3], w.shape[:2])
    rows, of_g = (
        np.asarray(as_rows(patches(jnp.asarray(t), w.shape[:2], over)))
        for t, over in ((x, windows), (g, turned))
    )
    filters, columns = w.reshape(-1, w.shape[3]), g.reshape(-1, w.shape[3])
    expected = counts(rows, p.forward.lhs) + counts(w, p.forward.rhs)
    expected = expected + counts_of_result(rows, filters, p.forward)
    assert forward.events.tolist() == expected.tolist()
    flipped = np.flip(w, (0, 1)).swapaxes(2, 3).reshape(-1, w.shape[2])
    expected = counts(of_g, p.dgrad.lhs) + counts_of_result(of_g, flipped, p.dgrad)
    expected = expected + counts_of_result(rows.T, columns, p.wgrad)
    assert backward.events.tolist() == expected.tolist()
    assert (forward.events + backward.events)[3] > 0


@pytest.mark.long
def test_first_conv_has_no_gradient_of_its_data() -> None:
    x, w, g = operands((1, 4, 4, 1), (3, 3, 1, 2), (1, 4, 4, 2))
    setting = Setting(DISTINCT, f"auto{UNGUARDED}", "conv", is_first=True)
    _, _, dx, dw, backward = both_passes(products.conv, setting, x, w, g)
    assert not dx.any()
    assert dw.any()
    assert backward.events[0] == g.size


def test_rounding_forward_and_backward() -> None:
    x, g = operands((7,), (7,))
    setting = Setting(ps.Policy.parse("e=e4m3"), "auto", "logits")

    @jax.jit
    def run(x: Any, g: Any) -> Any:
        rounded = lambda x, probe: products.rounded(x, probe, KEY, setting)
        y, back, forward = jax.vjp(rounded, x, probe(), has_aux=True)
        return (y, forward), back(g)

    (y, forward), (dx, backward) = run(x, g)
    spec = setting.policy.elementwise
    for value, exact, seen in ((y, x, forward), (dx, g, backward)):
        assert_same_bits(value, ps.round_to(exact, "e4m3"))
        assert seen.events.tolist() == counts(exact, spec).tolist()


@pytest.mark.parametrize("fmt", ["e4m3:saturate", "e5m2:saturate", "fp16", "q3.4", "e2m1"])
def test_tensor_scale_is_the_largest_power_of_two_that_fits(fmt: str) -> None:
    spec = RoundingSpec.parse(fmt)
    top = np.uint32(limits(spec, FLOAT32).max_positive).view(np.float32)
    scales = jax.jit(partial(current_scale, spec=spec))
    rng = np.random.default_rng(0)
    tensors = [single(rng.standard_normal(20) * 2.0**k) for k in range(-75, 91, 15)]
    ends = [[top], [np.nextafter(top, np.float32(np.inf))], [-top, 0.0], [top / 2, -1e-30]]
    for x in tensors + [single([*end, *[0.0] * (20 - len(end))]) for end in ends]:
        scale, inverse = map(float, scales(x))
        assert np.frexp(scale)[0] == 0.5
        assert scale * inverse == 1.0
        largest = float(np.abs(x).max())
        assert largest * scale <= top < 2 * largest * scale


@pytest.mark.long
@pytest.mark.parametrize("values", [[0.0, -0.0], [np.inf, 1.0], [-np.inf], [1.0, np.nan], []])
def test_tensors_without_a_largest_element_are_not_scaled(values: list[float]) -> None:
    """torchao (issue 3356) and others divided by an amax of 0: the loss was NaN."""
    scale, inverse = current_scale(jnp.asarray(single(values)), RoundingSpec.parse("e4m3"))
    assert (float(scale), float(inverse)) == (1.0, 1.0)


@pytest.mark.parametrize("value", [2.0**-149, 2.0**-127, 3e38])
def test_scales_of_extreme_tensors_are_bounded(value: float) -> None:
    scale, inverse = current_scale(jnp.asarray(single([value])), RoundingSpec.parse("e4m3"))
    assert float(scale) == (2.0**-100 if value > 1 else 2.0**100)
    assert float(scale) * float(inverse) == 1.0


@partial(jax.jit, static_argnums=3)
def fp8_linear(x: Any, w: Any, g: Any, policy: ps.Policy) -> tuple[Any, ...]:
    setting = Setting(policy, f"auto{UNGUARDED}", "hidden")
    return tuple(both_passes(products.linear, setting, x, w, g))


@pytest.mark.long
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("policy", ["fp16", "mxfp8", "fp8_current"])
def test_empty_tensors_have_the_shapes_and_zeros_of_their_products(
    policy: str, shape: tuple[int, int, int]
) -> None:
    rows, depth, columns = shape
    x, w, g = (np.ones(s, np.float32) for s in ((rows, depth), (depth, columns), (rows, columns)))
    y, _, dx, dw, _ = fp8_linear(x, w, g, ps.Policy.parse(policy))
    assert_same_bits(y, np.full(g.shape, depth, np.float32))
    assert_same_bits(dx, np.full(x.shape, columns, np.float32))
    assert_same_bits(dw, np.full(w.shape, rows, np.float32))


@pytest.mark.long
def test_fp8_current_never_overflows() -> None:
    """Tensors far beyond and below the formats are scaled: no overflow, saturation or underflow."""
    policy = ps.Policy.parse("fp8_current")
    rng = np.random.default_rng(0)
    x, w, g = (single(rng.uniform(0.5, 1, s)) for s in ((4, 6), (6, 3), (4, 3)))
    ordinary = fp8_linear(x, w, g, policy)
    for p, q, r in ((20, 20, 20), (-30, 5, -40), (30, -30, 60)):
        y, forward, dx, dw, backward = fp8_linear(x * 2.0**p, w * 2.0**q, g * 2.0**r, policy)
        for watched in (forward, backward):
            assert watched.events[0] > 0
            assert not np.asarray(watched.events)[2:].any()
            assert watched.untrusted == 0
        # Powers of two pass through: the same bits, but for the exponent.
        assert_same_bits(y, np.ldexp(ordinary[0], p + q))
        assert_same_bits(dx, np.ldexp(ordinary[2], q + r))
        assert_same_bits(dw, np.ldexp(ordinary[3], p + r))


def test_scaled_product_is_that_of_scaled_operands() -> None:
    policy = ps.Policy.parse("fp8_current")
    rng = np.random.default_rng(1)
    x, w, g = (single(rng.standard_normal(s)) for s in ((4, 6), (6, 3), (4, 3)))
    y = fp8_linear(x, w, g, policy)[0]
    parts = {"x": (x, policy.forward.lhs), "w": (w, policy.forward.rhs)}
    scales = {n: float(current_scale(jnp.asarray(v), s)[0]) for n, (v, s) in parts.items() if s}
    unrounded = without_output(policy.forward)
    total = reference(x * single(scales["x"]), w * single(scales["w"]), unrounded)
    total = total / single(scales["x"] * scales["w"])
    assert_same_bits(y, ps.round_to(total, "bf16"))


@pytest.mark.long
def test_stochastic_products_are_reproducible() -> None:
    """Noise depends on key, place and element only: it can be had apart, and twice."""
    policy = ps.Policy.parse("q3.8_sr")
    spec = policy.forward
    rng = np.random.default_rng(0)
    x, w = single(rng.uniform(-1, 1, (8, 4))), single(rng.uniform(-1, 1, (4, 8)))
    setting = Setting(policy, f"auto{UNGUARDED}", "hidden")
    product = jax.jit(lambda key: products.linear(x, w, probe(), key, setting)[0])
    total = reference(x, w, without_output(spec))
    assert spec.output is not None
    for key in (KEY, jax.random.key(1)):
        bits = np.asarray(bits_at(key, "hidden/forward", (8, 8)))
        assert_same_bits(product(key), ps.round_to(total, spec.output, random_bits=bits))
    assert_same_bits(product(KEY), product(KEY))
    assert (product(KEY) != product(jax.random.key(1))).any()


@pytest.mark.long
def test_stochastic_accumulators_have_bits_of_their_own() -> None:
    """One seed to an element, from the key and the product's path; the output has other bits."""
    spec = ps.MatmulSpec.parse("bf16_bf16_bf16[sr]->e5m2[sr]")
    a, b = operands((3, 7), (7, 2))
    for backend in ("emulated", f"emulated{UNGUARDED}"):
        got = run_linear(a, b, spec, backend)[0]
        seeds = np.asarray(bits_at(KEY, "layer/forward/accumulator", (3, 2)))
        total = ps.matmul(a, b, "bf16_bf16_bf16[sr]", random_bits=seeds, backend="reference")
        noise = np.asarray(bits_at(KEY, "layer/forward", (3, 2)))
        assert_same_bits(got, ps.round_to(total, "e5m2:sr", random_bits=noise))


@pytest.mark.long
def test_block_formats_are_multiplied_and_counted() -> None:
    spec = ps.MatmulSpec.parse("mxfp8_mxfp8_fp32[rtz]:fused2x25")
    a, b = operands((3, 7), (7, 2))
    got, watched = run_linear(a, b, spec, "emulated")
    assert_same_bits(got, reference(a, b, spec))
    assert watched.events[0] == a.size + b.size


@pytest.mark.long
@pytest.mark.parametrize(("fmt", "share"), [("q3.8", 2), ("bf16", 1)])
def test_an_operand_in_its_format_is_not_counted_again(fmt: str, share: int) -> None:
    """Defect: numbers that were rounded before stood twice in the denominator of underflow."""
    a, b = operands((3, 7), (7, 2))
    a = single(ps.round_to(a, "q3.8"))
    spec = ps.MatmulSpec.parse(f"{fmt}_{fmt}_fp32")
    _, watched = run_linear(a, b, spec, "emulated")
    expected = counts(b, spec.rhs) + (counts(a, spec.lhs) if share == 1 else 0)
    assert watched.events.tolist() == expected.tolist()
    assert watched.events.dtype == np.int32
