"""Predictions from statistics: the counts of really rounding, and its SQNR within 0.1 dB."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.errors import Events, Prediction, TensorStatistics
from precsim.formats.carrier import FLOAT32, FLOAT64
from precsim.rounding.events import classify
from precsim.rounding.kernel.kernel import round_array
from precsim.training.data import digits
from tests.analysis.what_if.test_statistics import patterns

F32: Any = np.float32
NUMBERS = [*ps.list_formats(kind="float"), *ps.list_formats(kind="fixed")]
MODES = [m for m in ps.RoundingMode if m is not ps.RoundingMode.STOCHASTIC]
BLOCKS = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8")
FLUSHING = ("flush_after_rounding", "flush_before_rounding", "nearest_of_zero_and_min")


def counted(x: np.ndarray, spec: ps.RoundingSpec) -> list[int]:
    """Return the events of really rounding float64 numbers, by the kernel in NumPy."""
    events = classify(x, round_array(x, None, spec), spec)
    return [int(np.sum(np.broadcast_to(mask, x.size))) for mask in events]


def predicted(prediction: Prediction) -> list[int]:
    return [getattr(prediction, name) for name in Events._fields]


def differences(
    x: np.ndarray, stats: TensorStatistics, specs: Iterator[ps.RoundingSpec]
) -> Iterator[str]:
    """Yield what was not predicted as it is, with another scale for each rounding."""
    wide = x.astype(np.float64)
    for n, spec in enumerate(specs):
        scale = 2.0 ** (0, -9, 14)[n % 3]
        got = predicted(ps.errors.predict(stats, spec, scale=scale))
        expected = counted(wide * scale, spec)
        if got != expected:
            yield f"{spec} x {scale}: {got}, {expected}"


def made_of_integers() -> np.ndarray:
    """Return numbers that are short significands times powers of two, and their neighbours."""
    rng = np.random.default_rng(5)
    short = rng.integers(1, 1 << 13, 2000) * 2.0 ** rng.integers(-45, 20, 2000)
    ends = np.array([65504, 65520, 65519.996, 448, 464, 480, 57344, 61440, 2.0**-25, 2.0**-10])
    ends = np.concatenate([ends, [2.0**-14 * (1 - 2.0**-11), 2.0**-7, 127.998, 128, 8, 0.99998]])
    numbers = np.concatenate([short, ends, ends * 2.0**-14, ends * 2.0**9]).astype(np.float32)
    signed = np.concatenate([numbers, -numbers])
    return np.concatenate([signed, np.nextafter(signed, F32(0)), np.nextafter(signed, F32(9e9))])


@pytest.mark.long
@np.errstate(invalid="ignore")
def test_counts_are_those_of_rounding_in_every_format_and_mode() -> None:
    gaussian = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    x = np.concatenate([made_of_integers(), patterns(FLOAT32, 600), gaussian])
    stats = ps.errors.statistics(x)
    specs = (ps.RoundingSpec(format=fmt, mode=mode) for fmt in NUMBERS for mode in MODES)
    assert list(differences(x, stats, specs)) == []


@pytest.mark.slow
@np.errstate(invalid="ignore")
@pytest.mark.parametrize("seed", range(4))
def test_counts_of_many_random_patterns(seed: int) -> None:
    x = patterns(FLOAT32, 20_000, seed)
    stats = ps.errors.statistics(x)
    specs = (ps.RoundingSpec(format=fmt, mode=mode) for fmt in NUMBERS for mode in MODES)
    assert list(differences(x, stats, specs)) == []


@np.errstate(invalid="ignore")
def test_counts_are_those_of_rounding_with_every_other_rule() -> None:
    x = np.concatenate([made_of_integers(), patterns(FLOAT32, 600)])
    rules = ["fp16:saturate", "e5m2:saturate_infinity", "e4m3:rtz:saturate", "q3.4:wrap"]
    rules += ["q3.8:saturate_zero", "q3.4:saturate_symmetric:rtn", "uq0.8:rtp", "fp16:rtp:saturate"]
    rules += [f"{fmt}:{rule}" for fmt in ("fp16", "e5m2", "e4m3") for rule in FLUSHING]
    rules += ["fp16:flush_as_chop", "fp16:flush_as_chop:rtp", "e2m1:nan_to_zero", "float(e=6,p=9)"]
    specs = map(ps.RoundingSpec.parse, rules)
    assert list(differences(x, ps.errors.statistics(x), specs)) == []


@np.errstate(invalid="ignore")
def test_counts_of_float64_numbers() -> None:
    x = patterns(FLOAT64, 400)
    x = np.where(np.abs(x) < 2.0**-900, 2.0**-30, np.where(np.abs(x) > 2.0**900, 70000.0, x))
    near = np.nextafter([65520.0, 2.0**-25, 464.0, 2.0**128, 2.0**-126], [[0.0], [np.inf]])
    x = np.concatenate([x, near.reshape(-1), [65520, 2.0**-25, 464, 2.0**127]])
    specs = (ps.RoundingSpec(format=fmt) for fmt in NUMBERS)
    assert list(differences(x, ps.errors.statistics(x), specs)) == []


@pytest.mark.parametrize(
    ("spec", "end"), [("fp16", 65520.0), ("bf16", 2.0**128 - 2.0**119), ("e5m2", 61440.0)]
)
def test_the_first_number_that_overflows(spec: str, end: float) -> None:
    numbers = F32([np.nextafter(F32(end), F32(0)), end])
    overflowed = [
        ps.errors.predict(ps.errors.statistics(x), spec).overflowed for x in (numbers[:1], numbers)
    ]
    assert overflowed == [0, 1]


@cache
def weights_and_gradients() -> dict[str, np.ndarray]:
    """Return those of a network of two layers that has learnt handwritten digits a while."""
    data = digits.load(0)
    x, y = jnp.asarray(data.train_inputs.reshape(-1, 64)), jnp.asarray(data.train_targets)
    rng = np.random.default_rng(0)
    params = {
        "w1": jnp.asarray(rng.standard_normal((64, 128)) / 8, jnp.float32),
        "w2": jnp.asarray(rng.standard_normal((128, 10)) / 11, jnp.float32),
    }

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        logits = jax.nn.relu(x @ params["w1"]) @ params["w2"]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])

    gradients = params
    step: Callable[..., Any] = jax.jit(jax.grad(loss))
    for _ in range(60):
        gradients = step(params)
        params = {name: params[name] - 0.5 * gradients[name] for name in params}
    named = {"weights": params, "gradients": gradients}
    return {f"{a}/{b}": np.asarray(x) for a, tree in named.items() for b, x in tree.items()}


@pytest.mark.long
@pytest.mark.parametrize("scale", [1.0, 2.0**9])
def test_weights_and_gradients_in_every_format(scale: float) -> None:
    for name, x in weights_and_gradients().items():
        stats = ps.errors.statistics(x, block_size=32, axis=0)
        scaled = x.astype(np.float64) * scale
        for fmt in NUMBERS:
            spec = ps.RoundingSpec(format=fmt)
            prediction = ps.errors.predict(stats, spec, scale=scale)
            assert predicted(prediction) == counted(scaled, spec), (name, fmt)
            ratio = ps.sqnr(round_array(scaled, None, spec), scaled)
            assert prediction.sqnr == pytest.approx(ratio, abs=0.1, nan_ok=True), (name, fmt)


def test_weights_and_gradients_in_block_formats() -> None:
    for name, x in weights_and_gradients().items():
        stats = ps.errors.statistics(x, block_size=32, axis=0)
        for fmt in BLOCKS:
            prediction = ps.errors.predict(stats, fmt)
            assert predicted(prediction) == list(ps.errors.range_rates(x, fmt, axis=0)), (name, fmt)
            ratio = ps.sqnr(ps.round_to(x, fmt, axis=0), x)
            assert prediction.sqnr == pytest.approx(ratio, abs=0.1), (name, fmt)


def test_blocks_of_several_vectors_are_refused() -> None:
    stats = ps.errors.statistics(np.ones((32, 64), np.float32), block_size=32)
    with pytest.raises(ValueError, match=r"spec is mxfp4_32x32, .* one vector a block"):
        ps.errors.predict(stats, "mxfp4_32x32")


@pytest.mark.parametrize("axis", [0, 1])
def test_block_formats_with_zeros_and_lost_blocks(axis: int) -> None:
    x = np.resize(made_of_integers(), (30, 70))
    x[::7, ::5] = 0.0
    x[3, 3], x[17, 69], x[29, 2] = np.nan, np.inf, -np.inf
    stats = ps.errors.statistics(x, block_size=32, axis=axis)
    for fmt in BLOCKS:
        for mode in ("rne", "rtz", "raz"):
            spec = f"{fmt}:{mode}"
            prediction = ps.errors.predict(stats, spec)
            assert predicted(prediction) == list(ps.errors.range_rates(x, spec, axis=axis)), spec
            assert math.isnan(prediction.sqnr)


def test_weights_stored_in_few_bits_lose_nothing_in_more() -> None:
    x = round_array(
        np.random.default_rng(0).standard_normal(999), None, ps.RoundingSpec.parse("bf16")
    )
    stats = ps.errors.statistics(x.astype(np.float32))
    for fmt in ("bf16", "fp32", "tf32", "fp16"):
        assert ps.errors.predict(stats, fmt).sqnr == math.inf
    assert ps.errors.predict(stats, "e4m3").sqnr < 40


def test_sqnr_of_special_values() -> None:
    def predict(x: list[float], spec: str) -> float:
        return ps.errors.predict(ps.errors.statistics(F32(x)), spec).sqnr

    assert predict([0.0, 0.0], "fp16") == math.inf
    assert predict([], "fp16") == math.inf
    assert predict([1.0, 1e6], "fp16") == -math.inf
    assert math.isnan(predict([1.0, 500.0], "e4m3"))  # NaN is what it becomes
    assert math.isnan(predict([1.0, np.nan], "fp16"))
    assert predict([1.0, 1e-9], "e4m3") == pytest.approx(180, abs=0.1)


def test_one_number_is_predicted_exactly() -> None:
    for x in (0.1, -0.1, 3e-6, 300.7):
        stats = ps.errors.statistics(F32([x]))
        for fmt in ("e4m3", "bf16", "fp16", "q3.8"):
            y = np.asarray(F32([x]), np.float64)
            ratio = ps.sqnr(round_array(y, None, ps.RoundingSpec(format=fmt)), y)
            assert ps.errors.predict(stats, fmt).sqnr == pytest.approx(ratio, rel=1e-9)


def test_shares_have_the_names_of_range_rates() -> None:
    x = F32([1.0, 1e-9, 0.0, -0.0, 1e-2, 500.0])
    prediction, rates = (
        ps.errors.predict(ps.errors.statistics(x), "e4m3"),
        ps.errors.range_rates(x, "e4m3"),
    )
    names = ("underflow_of_all", "underflow_of_nonzero", "subnormal_of_nonzero", "overflow_of_all")
    assert [getattr(prediction, n) for n in names] == [getattr(rates, n) for n in names]


def test_refusals() -> None:
    stats = ps.errors.statistics(F32([1.0, 0.3]), block_size=16)
    cases: list[tuple[Any, Any, float, str]] = [
        (stats, "bf16:sr", 1.0, "spec rounds stochastically"),
        (stats, "fp16", 3.0, "scale is 3.0; allowed are powers of two"),
        (stats, "fp16", 0.0, "scale is 0.0; allowed are powers of two"),
        (stats, "fp16", 2.0**1023 * 2, "scale is inf; allowed are powers of two"),
        (stats, "fp16", 2.0**-1030, "scale takes numbers out of float64's normal range"),
        (stats, "nvfp4", 1.0, "spec is nvfp4, whose scales follow from more than the exponents"),
        (stats, "int8", 1.0, "spec is int8, whose scales follow"),
        (stats, "mxfp4", 1.0, "stats have blocks of 16, but mxfp4 has blocks of 32"),
    ]
    for given, spec, scale, message in cases:
        with pytest.raises(ValueError, match=message):
            ps.errors.predict(given, spec, scale=scale)
    with pytest.raises(TypeError, match="stats is list; allowed is what statistics returns"):
        ps.errors.predict([1.0], "fp16")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stats are values that JAX traces"):
        jax.jit(lambda x: ps.errors.predict(ps.errors.statistics(x), "fp16").sqnr)(F32([1.0]))
    tiny = ps.errors.statistics(F32([2.0**-140] * 32), block_size=32)
    with pytest.raises(
        ValueError, match="stats have 1 blocks whose numbers mxfp8_e5m2 has no scale"
    ):
        ps.errors.predict(tiny, "mxfp8_e5m2")
    infinite = ps.errors.statistics(F32([1.0, np.inf]), block_size=32)
    with pytest.raises(ValueError, match="stats have 1 infinities"):
        ps.errors.predict(infinite, "mxfp4:saturate_infinity")


def test_a_format_that_ends_within_a_cell_is_refused() -> None:
    # Its largest value has 12 significant bits that are no run of ones.
    x = F32(2 - 2.0**-10 + 2.0**-13) * F32([2.0**7, 1.0])
    fmt = ps.FloatFormat(name="long", precision=12, exponent_bits=4, specials=ps.Specials.FN)
    with pytest.raises(ValueError, match="spec is long, whose range ends between"):
        ps.errors.predict(ps.errors.statistics(x), fmt, scale=2.0)
