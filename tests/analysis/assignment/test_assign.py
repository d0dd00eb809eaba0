"""The cheapest formats of a run: bits, predicted and measured gaps, and what is refused."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.assignment.assign import with_places
from precsim.analysis.assignment.places import work_by_place

RNG = np.random.default_rng(0)


def two_layers(weights: Any, x: Any) -> Any:
    with jax.named_scope("first"):
        x = jax.numpy.tanh(x @ weights["first"])
    with jax.named_scope("second"):
        return x @ weights["second"]


def weights(width: int = 8) -> dict[str, np.ndarray]:
    return {
        "first": RNG.normal(size=(4, width)).astype(np.float32) / 2,
        "second": RNG.normal(size=(width, 1)).astype(np.float32) / 2,
    }


@pytest.mark.parametrize(("policy", "bits"), [("bf16", 16), ("fp32", 32), ("e5m2", 8)])
def test_bits_of_places(policy: str, bits: int) -> None:
    """All operations of a format have its width; products count two for each multiply-add."""
    gradient = jax.value_and_grad(lambda w, x: (two_layers(w, x) ** 2).sum())
    found = work_by_place(
        gradient, (weights(), np.ones((3, 4), np.float32)), ps.Policy.parse(policy), 1
    )
    for work in found.values():
        assert work.bits == bits * work.operations
    # Forward and two gradients in the second layer; no gradient of the inputs in the first one.
    assert found["second"].operations >= 3 * 2 * (3 * 8 * 1)
    assert found["first"].operations >= 2 * 2 * (3 * 4 * 8)


def test_operands_of_two_widths_count_on_average() -> None:
    policy = ps.Policy.parse("fp32;second:fwd=e5m2_bf16_fp32")
    found = work_by_place(two_layers, (weights(), np.ones((3, 4), np.float32)), policy, 1)
    assert found["second"].bits == 12 * found["second"].operations


def test_rules_of_more_parts_come_first() -> None:
    places = {"a": ps.Policy.parse("bf16"), "b/a": ps.Policy.parse("fp16")}
    policy = with_places(ps.Policy.parse("fp32"), places)
    assert [rule.scope for rule in policy.rules] == ["b/a", "a"]
    assert str(policy.at("b/a").elementwise) == "fp16"
    assert ps.Policy.parse(str(policy)) == policy


CONFIG = ps.TrainConfig(policy=ps.Policy.parse("fp32"), steps=4, batch_size=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "gap and bits are None; allowed is a bound"),
        ({"gap": 0.1, "candidates": ("bf16",)}, "candidates are"),
        ({"gap": 0.1, "probes": 0}, "probes is 0"),
        ({"bits": "many"}, "bits"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], said: str) -> None:
    candidates = options.pop("candidates", ("e5m2", "bf16"))
    with pytest.raises((ValueError, TypeError), match=r"\A[^\n]+\Z") as raised:
        ps.assign_formats(CONFIG, candidates, **options)
    assert said in str(raised.value)


@pytest.mark.slow
def test_the_choice_is_trained_and_keeps_its_bound() -> None:
    """Predicted gaps grow with fewer bits, and the run stays near its bound."""
    x = RNG.normal(size=(64, 4)).astype(np.float32)
    y = np.tanh(x @ np.ones((4, 1), np.float32))
    config = ps.TrainConfig(
        policy=ps.Policy.parse("fp32"), steps=200, batch_size=16, learning_rate=0.05
    )
    start = weights()
    own: Any = {"model": ((lambda key: start), two_layers), "data": (x, y)}
    candidates = ("e5m2", "bf16", "fp32")
    found = [ps.assign_formats(config, candidates, gap=gap, **own) for gap in (1e-6, 1e-3, 1.0)]
    bits = [each.bits for each in found]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] == 8
    for each, gap in zip(found, (1e-6, 1e-3, 1.0), strict=True):
        assert each.predicted_gap <= gap
        assert abs(each.measured_gap) < 10 * gap + 1e-3
        assert {row.place for row in each.places} == {"first", "second"}
        assert str(each).count("\n") == 4
    cheap = ps.assign_formats(config, candidates, bits=16, **own)
    assert cheap.bits <= 16
    with pytest.raises(ValueError, match="no assignment has a gap of at most"):
        ps.assign_formats(config, candidates, bits=4, **own)
