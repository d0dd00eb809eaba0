"""Predicted overflow and underflow against really training with the scale."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.analysis.along_training.cotangents import widened

STEPS = 5
OPTIMIZER = optax.sgd(2.0**-10)
RNG = np.random.default_rng(5)
WEIGHTS = {"w": RNG.normal(size=(6, 4)).astype(np.float32), "b": np.zeros(4, np.float32)}
BATCHES = [
    (RNG.normal(size=(8, 6)).astype(np.float32) * np.float32(4.0**k), np.float32(0.01))
    for k in range(STEPS)
]
"""Inputs grow from step to step, and the gradients with them."""


def loss(params: dict[str, Any], x: Any, y: Any) -> Any:
    return jnp.sum(jnp.maximum(x @ params["w"] + params["b"], 0) * y)


@pytest.fixture(scope="module")
def audit() -> ps.LossScaleAudit:
    return ps.audit_loss_scale(
        loss, WEIGHTS, BATCHES, "fp16_mixed", optimizer=OPTIMIZER, loss_scale=1
    )


@pytest.fixture(scope="module")
def gradient() -> Any:
    """Return the gradient of a training with a static scale, compiled once for all scales."""
    emulated = ps.emulate(loss, "fp16_mixed")

    def scaled(factor: Any, params: Any, *batch: Any) -> Any:
        scale = ps.StaticLossScale(factor=factor)
        return ps.value_and_grad(emulated, "fp16_mixed", loss_scale=scale)(params, *batch)

    return jax.jit(scaled)


def first_skipped(gradient: Any, factor: float) -> int | None:
    """Train with a static loss scale and return the first step that overflows."""
    params: Any = WEIGHTS
    state = OPTIMIZER.init(params)
    for k, batch in enumerate(BATCHES):
        _, grads, _, is_finite = gradient(np.float32(factor), params, *batch)
        if not is_finite:
            return k + 1
        updates, state = OPTIMIZER.update(grads, state, params)
        params = ps.apply_updates(params, updates, rounding="fp32")
    return None


@pytest.mark.long
@pytest.mark.parametrize("exponent", [6, 12, 13, 14, 15, 16])
def test_first_overflow_is_that_of_a_training(
    audit: ps.LossScaleAudit, gradient: Any, exponent: int
) -> None:
    assert audit.first_overflow(2.0**exponent) == first_skipped(gradient, 2.0**exponent)


def test_scales_overflow_at_different_steps(audit: ps.LossScaleAudit) -> None:
    """So that the test above distinguishes something."""
    steps = {audit.first_overflow(2.0**exponent) for exponent in range(6, 17)}
    assert steps >= {None, 1, 4, 5}


@pytest.mark.parametrize("exponent", [-15, -17])
def test_underflow_of_a_too_small_scale(
    audit: ps.LossScaleAudit, gradient: Any, exponent: int
) -> None:
    exact = gradient(np.float32(1), WEIGHTS, *BATCHES[0])[1]["w"]
    found = gradient(np.float32(2.0**exponent), WEIGHTS, *BATCHES[0])[1]["w"]
    lost = np.count_nonzero(exact) - np.count_nonzero(found)
    predicted = audit.underflow(2.0**exponent)[0] * np.count_nonzero(exact)
    assert lost > 0
    assert abs(predicted - lost) <= 0.25 * exact.size


def test_window_is_where_both_are_kept(audit: ps.LossScaleAudit) -> None:
    for step, window in enumerate(audit.windows):
        assert not audit.overflows(window.largest)[step]
        assert audit.overflows(2 * window.largest)[step]
        assert audit.underflow(window.smallest)[step] < audit.threshold
        half = audit.underflow(window.smallest / 2)[step]
        assert half >= audit.threshold
    assert audit.window.largest == min(w.largest for w in audit.windows)


@pytest.mark.slow
def test_train_overflows_first_where_predicted() -> None:
    config = ps.TrainConfig(policy=ps.Policy.parse("fp16_mixed"), steps=22, seed=3)
    audit = ps.audit_loss_scale(config)
    assert [audit.first_overflow(2.0**k) for k in (17, 18)] == [None, 22]
    scaled = ps.TrainConfig(policy=ps.Policy.parse("fp16_mixed,scale=262144"), steps=22, seed=3)
    assert np.flatnonzero(~ps.train(scaled).taken).tolist() == [21]
    small = ps.train(
        ps.TrainConfig(policy=ps.Policy.parse(f"fp16_mixed,scale={2.0**-12}"), steps=4, seed=3)
    )
    events = [ps.errors.Events(*row.T) for row in small.backward_events.values()]
    lost = sum(e.underflowed for e in events) / sum(e.nonzero for e in events)
    predicted = audit.underflow(2.0**-12)[:4]
    np.testing.assert_allclose(predicted, lost, rtol=0.5)
    assert lost.min() > 0.01


def linear(w: Any, x: Any) -> Any:
    return jnp.sum(w * x)


ONES = np.ones(2, np.float32)


def test_dynamic_scale_is_followed() -> None:
    batches = [(np.array([4, 2], np.float32),)] * 5
    found = ps.audit_loss_scale(linear, ONES, batches, "e=fp16", loss_scale="dynamic@32768")
    assert found.used.tolist() == [32768, 16384, 8192, 8192, 8192]
    assert found.overflows().tolist() == [True, True, False, False, False]
    assert "2^15 overflows first at step 1" in found.sentence


@pytest.mark.long
def test_overflow_is_that_of_the_rounded_number() -> None:
    """65519 rounds to the largest number of fp16, 65520 beyond it."""
    batches = [(np.array([largest, 1], np.float32),) for largest in (65519, 65520)]
    found = ps.audit_loss_scale(linear, ONES, batches, "e=fp16", loss_scale=1)
    assert found.first_overflow() == 2
    gradient = jax.grad(ps.emulate(linear, "e=fp16"))
    assert [bool(np.isinf(gradient(ONES, x)).any()) for (x,) in batches] == [False, True]


def test_zeros_bear_every_scale_and_infinities_none() -> None:
    batches = [(np.full(2, x, np.float32),) for x in (0, np.inf, 1)]
    found = ps.audit_loss_scale(linear, ONES, batches, "e=fp16", loss_scale=1)
    assert found.windows[1].largest == 0
    assert found.nonfinite.tolist() == [0, 2, 0]
    assert found.window == found.windows[2]
    assert found.first_overflow() is None
    assert "step 2 is the first with infinities or NaN at every scale" in found.sentence
    assert "2 infinite or NaN" in str(found)
    assert found.largest["parameters"][0] < -1000


def test_report_and_traces(audit: ps.LossScaleAudit) -> None:
    text = str(audit)
    assert text.startswith(audit.sentence)
    assert len(text.splitlines()) == STEPS + 3
    content = json.loads(audit.to_json())
    assert len(content["smallest"]) == STEPS
    assert {"w", "b"} <= set(audit.largest)
    assert np.all(np.diff(audit.largest["w"]) >= 0)
    assert "<table>" in audit._repr_html_()


def test_widened_policies_keep_their_precisions() -> None:
    wide = widened(ps.Policy.parse("fp16_mixed;w:fwd=e5m2_e5m2_fp16"))
    assert str(wide.elementwise) == "float(e=8,p=11)"
    assert wide.loss_scale == "none"
    assert str(wide.rules[0].policy.forward) == "float(e=8,p=3)_float(e=8,p=3)_float(e=8,p=11)"
    assert widened(ps.Policy.parse("bf16_mixed")) == ps.Policy.parse("bf16_mixed")


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (lambda: ps.audit_loss_scale(3), "fun is 3; allowed is a function"),  # type: ignore[arg-type]
    "format": (lambda: ps.audit_loss_scale(loss, fmt="e4m3"), "fmt is .*e4m3; allowed are"),
    "fixed point": (lambda: ps.audit_loss_scale(loss, policy="q3.8"), "fmt is q3.8; allowed are"),
    "share": (lambda: ps.audit_loss_scale(loss, underflow=2), "underflow is 2; allowed is between"),
    "no steps": (lambda: ps.audit_loss_scale(loss, WEIGHTS, []), "batches has no steps"),
    "batch": (
        lambda: ps.audit_loss_scale(loss, WEIGHTS, list(ONES)),
        r"batches\[0\] is .*; allowed are",
    ),
    "scale": (
        lambda: ps.audit_loss_scale(loss, WEIGHTS, BATCHES, loss_scale=3),
        "loss_scale is 3.0; allowed are powers of two",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_one_line(case: str) -> None:
    run, message = BAD[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        run()
    assert len(str(caught.value).splitlines()) == 1


def test_scale_that_is_no_power_of_two(audit: ps.LossScaleAudit) -> None:
    with pytest.raises(ValueError, match="scale is 1000; allowed are powers of two"):
        audit.first_overflow(1000)


def test_an_audit_of_nothing_but_nan_has_no_scales() -> None:
    """Defect: its window was (0, inf), and "the one used never overflows" stood above NaN."""
    bad, good = np.array([np.nan, 1.0], np.float32), np.array([1.0, 1.0], np.float32)

    def found(*batches: np.ndarray) -> ps.LossScaleAudit:
        return ps.audit_loss_scale(
            lambda w, x: jnp.sum(w * x), jnp.ones(2), [(x,) for x in batches], "fp16_mixed"
        )

    every, some = found(bad, bad), found(good, bad)
    assert {every.window, *every.windows} == {(np.inf, 0.0)}
    assert every.sentence == "all 2 steps have infinities or NaN at every loss scale"
    assert some.window == some.windows[0]
    assert "; the one used overflows at no other step, where underflow is 0 %" in some.sentence
