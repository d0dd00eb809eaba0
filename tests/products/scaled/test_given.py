"""Scales that are given: equal to current ones where they are the same, delayed, calibrated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32
E4M3, E5M2 = "e4m3:scale=tensor", "e5m2:scale=tensor"


def operands(m: int, k: int, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(m)
    return [single(rng.normal(1, 2, s)) for s in ((m, k), (k, n), (m, n))]


@pytest.mark.parametrize("fmt", ["int8", "uint4", "int8_symmetric", E4M3, f"{E5M2}:pow2"])
def test_the_range_of_an_operand_gives_its_current_scale(fmt: str) -> None:
    a, b, _ = operands(3, 9, 4)
    spec = ps.MatmulSpec(lhs=fmt, rhs=fmt, accumulator="fp32")
    scales = {"a": ps.calibrate(a, fmt), "b": ps.calibrate(b, fmt)}
    got = ps.matmul(a, b, spec, scales=scales, backend="reference")
    assert_same_bits(got, ps.matmul(a, b, spec, backend="reference"))


def test_a_number_is_a_scale_and_codes_saturate() -> None:
    a, b = F([[-300.0, 2.3, 0.25]]), F([[1.0], [1.0], [1.0]])
    given = {"a": 1.0, "b": 1.0}
    spec = "int8_int8_int32"
    assert ps.matmul(a, b, spec, scales=given, backend="reference").item() == -128 + 2
    given = {"a": ps.Scale(scale=1.0, zero_point=100), "b": 1.0}  # type: ignore[dict-item]
    assert ps.matmul(a, b, spec, scales=given, backend="reference").item() == -228 + 2
    assert ps.matmul(-a, b, spec, scales=given, backend="reference").item() == 27 - 2
    spec = "e4m3[scale=tensor]_raw_fp32"
    assert (
        ps.matmul(10 * a, b, spec, scales={"a": 1.0}, backend="reference").item() == -448 + 24 + 2.5
    )


@pytest.mark.long
def test_compiled_gradients_take_the_scales_and_give_the_amax_of_the_cotangent() -> None:
    a, b, g = operands(4, 4, 4)
    scales = {"a": ps.Scale(scale=2.0**-8), "b": ps.Scale(scale=0.0625), "g": ps.Scale(scale=0.5)}
    spec = "e4m3[scale=tensor:pow2]_e4m3[scale=tensor:pow2]_fp32"

    @jax.jit
    def run(a: Any, b: Any, g: Any, scales: Any) -> Any:
        y, pullback = jax.vjp(lambda *x: ps.matmul(x[0], x[1], spec, scales=x[2]), a, b, scales)
        return y, pullback(g)

    assert np.abs(a).max() > 448 * 2.0**-8  # saturates; the gradient is straight-through
    y, (da, db, of_scales) = run(a, b, g, scales)
    for got, x, z, pair in ((y, a, b, "ab"), (da, g, b.T, "gb"), (db, a.T, g, "ag")):
        given = dict(zip("ab", (scales[name] for name in pair), strict=True))
        assert_same_bits(got, ps.matmul(x, z, spec, scales=given, backend="reference"))
    assert of_scales["g"].scale == np.abs(g).max()
    assert of_scales["a"].scale == 0


def transformer_engine(amaxes: list[float], length: int, algorithm: str, margin: int) -> list[Any]:
    """Return the factors of pytorch/fp8.py in NumPy: roll, choose, compute."""
    history, scale, found = np.zeros(length, np.float32), F(1), []
    for amax in amaxes:
        history[0] = amax
        chosen = history.max() if algorithm == "max" else history[0]
        history = np.roll(history, -1)
        history[0] = 0
        with np.errstate(all="ignore"):
            factor = F(448) / chosen / F(2.0**margin)
        if not (chosen > 0 and np.isfinite(chosen)):
            factor = scale
        scale = np.finfo(np.float32).max if np.isinf(factor) else F(factor)
        found.append(scale)
    return found


@pytest.mark.parametrize("algorithm", ["max", "most_recent"])
@pytest.mark.parametrize("margin", [0, 3])
def test_delayed_scales_are_those_of_transformer_engine(algorithm: str, margin: int) -> None:
    amaxes = [3.0, 100.0, 7.0, 0.0, 0.1, 1e-39, 5.0, np.inf, 0.3, 0.2, np.nan, 0.7]
    options: Any = {"length": 3, "algorithm": algorithm, "margin": margin}
    state = ps.DelayedScale.start(E4M3, **options)
    found = []
    for amax in amaxes:
        state = state.update(F([-amax, 0.0]))
        found.append(state.factor)
    assert_same_bits(np.stack(found), np.stack(transformer_engine(amaxes, **options)))
    assert state.scale.scale == F(1) / state.factor


def test_delayed_state_goes_through_jit_and_scan() -> None:
    xs = single(np.random.default_rng(1).normal(size=(5, 8)))
    state = ps.DelayedScale.start(E4M3, length=2)
    last, factors = jax.lax.scan(
        lambda s, x: (s.update(x), s.factor), jax.tree.map(jnp.asarray, state), jnp.asarray(xs)
    )
    for x, factor in zip(xs, factors, strict=True):
        assert state.factor == factor
        state = state.update(x)
    assert_same_bits(last.history, state.history)


def test_calibrated_ranges() -> None:
    x = single(np.linspace(-1, 3, 4001))
    assert ps.calibrate(x, "int8_symmetric").scale == F(3) / F(127)
    found = ps.calibrate(x, "uint8")
    assert (found.scale, found.zero_point) == (F(4) / F(255), 64)
    x[7] = 1000.0
    clipped = ps.calibrate(x, "int8_symmetric", method="percentile", percentile=99.9)
    assert abs(F(clipped.scale) * 127 - 3) < 0.01
    least = ps.calibrate(x, E4M3, method="mse")
    assert F(least.factor) >= F(ps.calibrate(x, E4M3).factor)


def test_mse_is_the_least_of_its_ranges() -> None:
    """Of 64 parts of the range, by brute force over `quantize` of the clamped sample."""
    x = single(np.random.default_rng(3).standard_t(3, 200))
    errors = []
    for k in range(64, 0, -1):
        top = np.abs(x).max() * F(k / 64)
        scale = top / F(7)
        codes = np.clip(np.round(x.astype(np.float64) / np.float64(scale)), -7, 7)
        errors.append(np.sum((codes * np.float64(scale) - x) ** 2))
    best = np.abs(x).max() * F((64 - int(np.argmin(errors))) / 64) / F(7)
    assert ps.calibrate(x, "int4_symmetric", method="mse").scale == best


def test_what_is_refused() -> None:
    ones = np.ones((2, 2), np.float32)
    for spec, scales, said in (
        ("int8_int8_int32", {"c": 1.0}, "scales has keys ['c']; allowed are a, b, g"),
        ("bf16_int8_fp32", {"a": 1.0}, "scales has key 'a'; no operand of 'bf16_int8_fp32'"),
        (
            "int8_channel_int8_int32",
            {"a": 1.0},
            "scale of 'a' is given; 'int8_channel' has several",
        ),
        ("int8_int8_int32->bf16[sr]", {"a": 1.0}, "scales are given; 'int8_int8_int32->bf16[sr]'"),
    ):
        with pytest.raises(ValueError, match="scale") as caught:
            ps.matmul(ones, ones, spec, scales=scales, random_bits=np.zeros((2, 2), int))
        assert str(caught.value).startswith(said)
    with pytest.raises(ValueError, match="fmt is int8_channel; allowed are formats with one scale"):
        ps.calibrate(ones, "int8_channel")
    with pytest.raises(ValueError, match="fmt is int8; allowed are elements with one scale"):
        ps.DelayedScale.start("int8")
