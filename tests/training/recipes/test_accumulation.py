"""Gradient accumulation: the mean of the microbatches, in each format and order of division."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.recipes.accumulation import Accumulator, Measured, accumulate_gradients
from tests.training.conftest import assert_same_bits, single


def given(part: Any, n: Any, passed_on: Any) -> tuple[Measured, Any]:
    """Return the one gradient of a microbatch as it is."""
    return Measured(jnp.float32(1)), part[0]


def mean_of(rows: Any, accumulator: str, **options: Any) -> np.ndarray:
    run = lambda x: accumulate_gradients(
        given, x, len(rows), Accumulator.parse(accumulator), **options
    )
    return np.asarray(jax.jit(run)(rows)[1])


def by_hand(rows: np.ndarray, text: str) -> np.ndarray:
    """The same mean in NumPy, one rounded operation at a time."""
    accumulator = Accumulator.parse(text)
    spec, first = accumulator.rounding, accumulator.divides_first
    kahan = accumulator.is_compensated
    total = lost = np.zeros(rows.shape[1:], np.float32)
    count = np.float32(len(rows))
    for row in rows:
        g = ps.divide(row, count, spec) if first else row
        if kahan:
            g = ps.subtract(g, lost, spec)
        new = ps.add(total, g, spec)
        if kahan:
            lost = ps.subtract(ps.subtract(new, total, spec), g, spec)
        total = new
    return np.asarray(total if first else ps.divide(total, count, "fp32"))


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["fp32", "bf16", "fp16:first", "fp16:kahan", "bf16:kahan:first", "e4m3:rtz:saturate"]
)
def test_has_the_bits_of_one_rounded_operation_at_a_time(text: str) -> None:
    rng = np.random.default_rng(3)
    rows = single(rng.standard_normal((6, 9)) * 2.0 ** rng.integers(-9, 3, 9))
    assert_same_bits(mean_of(rows, text), by_hand(rows, text))
    assert str(Accumulator.parse(str(Accumulator.parse(text)))) == str(Accumulator.parse(text))


@pytest.mark.long
def test_one_thousand_small_gradients() -> None:
    """claims.md, row 43: 1000 x 1e-3 is 0.9785 in fp16 and 0.5 in bf16."""
    rows = np.full((1000, 1), 1e-3, np.float32)
    assert [round(float(by_hand(rows, f)[0] * 1000), 4) for f in ("fp16", "bf16")] == [0.9785, 0.5]


def test_error_of_44_microbatches_depends_on_the_accumulator() -> None:
    """claims.md, row 43: fp32 5e-7, fp16 7e-4, bf16 6e-3, E5M2 0.21, E4M3 0.11 (0.83 if divided).

    Each partial sum is at most sum|g|, so n roundings give at most n u sum|g|; and the order of the
    formats is that of u. Divided first, most gradients of this size are below E4M3's smallest.
    """
    rng = np.random.default_rng(0)
    rows = single(0.02 * rng.standard_normal((44, 200)) + 0.01 * rng.standard_normal(200))
    exact = rows.astype(np.float64).mean(0)
    found = {}
    for text, u in {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}.items():
        got = by_hand(rows, text)
        assert (abs(got - exact) <= 44 * u * abs(rows).mean(0)).all()
        found[text] = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    for text in ("e5m2:saturate", "e4m3:saturate", "e4m3:saturate:first"):
        got = by_hand(rows, text)
        found[text] = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    assert list(found.values())[:3] == sorted(found.values())[:3]
    assert found["e4m3:saturate"] < found["e5m2:saturate"] < found["e4m3:saturate:first"]


@pytest.mark.long
def test_a_stochastic_accumulator_is_right_on_average_and_kahan_within_an_ulp() -> None:
    """To nearest, 200 x 0.005 is 0.914; a mean of 1000 is within 5 standard errors of 1."""
    rows = jnp.full((200, 1000), 5e-3)
    sr = Accumulator.parse("bf16:sr")

    @jax.jit
    def sums(step: Any) -> Any:
        run = accumulate_gradients(given, rows, 200, sr, key=jax.random.key(step))
        return 200 * run[1]

    first, second = sums(2), sums(3)
    error = float(first.std()) / np.sqrt(first.size)
    assert abs(float(first.mean()) - 1) < 5 * error < 0.01
    assert (first != second).mean() > 0.5  # another step, other bits
    one = np.full((200, 1), 5e-3, np.float32)
    assert round(float(200 * by_hand(one, "bf16")[0]), 3) == 0.914
    assert abs(float(200 * by_hand(one, "bf16:kahan")[0]) - 1) <= 2.0**-7


@pytest.mark.long
def test_equals_the_larger_batch_and_its_loss() -> None:
    """Forgetting 1/K multiplies the learning rate by K (claims.md, row 44)."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(-8, 8, (12, 3)), rng.integers(-8, 8, 12)
    batch = single(x), single(y)
    w = {"w": jnp.float32([1, -2, 3]), "count": jnp.arange(2)}

    def loss(w: Any, x: Any, y: Any) -> Any:
        return jnp.mean((x @ w["w"] - y) ** 2)

    def run(part: Any, n: Any, mean: Any) -> Any:
        value, gradient = jax.value_and_grad(loss, allow_int=True)(w, *part)
        summed = {"loss": value, "steps": jnp.int32(1)}
        return Measured(summed, jnp.abs(part[0]).max(), mean / 2 + n), gradient

    start = jnp.float32(8)
    accumulated = lambda b: accumulate_gradients(run, b, 4, passed_on=start)
    measured, gradient, finite = jax.jit(accumulated)(batch)
    assert float(measured.passed_on) == (((8 / 2 + 0) / 2 + 1) / 2 + 2) / 2 + 3
    value, expected = jax.value_and_grad(loss, allow_int=True)(w, *batch)
    assert gradient["count"].dtype == jax.dtypes.float0
    np.testing.assert_allclose(gradient["w"], expected["w"], rtol=1e-6)
    np.testing.assert_allclose(measured.summed["loss"] / 4, value, rtol=1e-6)
    assert (int(measured.summed["steps"]), bool(finite)) == (4, True)
    assert float(measured.largest) == abs(x).max()


@pytest.mark.long
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_saturating_accumulator_hides_no_overflow(bad: float) -> None:
    """E4M3 would make 448 of an infinite gradient, and the loss scale would never back off."""
    rows = single([[1.0], [bad], [2.0]])
    run = lambda x: accumulate_gradients(given, x, 3, Accumulator.parse("e4m3:saturate"))
    assert not bool(jax.jit(run)(rows)[2])
    assert bool(jax.jit(run)(single([[1.0], [5.0], [2.0]]))[2])


def test_one_compilation_of_a_microbatch() -> None:
    """XLA sees its product once, however many microbatches there are."""

    def run(part: Any, n: Any, passed_on: Any) -> Any:
        return Measured(()), jax.grad(lambda w: jnp.sum(jnp.tanh(part @ w)))(jnp.ones((2, 2)))

    text = str(jax.make_jaxpr(lambda x: accumulate_gradients(run, x, 5))(jnp.ones((20, 2))))
    assert text.count("tanh") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bf17", "unknown format 'bf17'"),
        ("bf16:sr:kahan", "accumulator is 'bf16:sr:kahan'; allowed is one of sr and kahan"),
        ("mxfp8_e4m3", "accumulator"),
    ],
)
def test_wrong_accumulators_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Accumulator.parse(text)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(TypeError, match="accumulator is 3; allowed are a string"):
        Accumulator.parse(3)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="accumulate is 4; allowed are divisors of the batch, 6 examples"
    ):
        accumulate_gradients(given, jnp.ones((6, 2)), 4)
