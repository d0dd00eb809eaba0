"""Classes with numbers, made by users: a field refuses what is none, in one line that names it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import precsim as ps

NOT_NUMBERS: tuple[Any, ...] = ("x", None, [], {}, [1.5, 2.5], "x\ny" * 99, object())
NOT_POSITIVE = (-1, 0, math.nan, math.inf, -math.inf)
FACTORS = ("factor", "growth_factor", "backoff_factor", "min_factor", "max_factor")
COUNTS = ("growth_interval", "finite_steps", "skipped")


def _scaled(**field: Any) -> Any:
    return ps.DynamicLossScale(**field).scale(1.0)


def _adjusted(**field: Any) -> Any:
    return ps.DynamicLossScale(**field).adjust(jnp.asarray(True))


def _static(**field: Any) -> Any:
    return ps.StaticLossScale(**field).unscale(1.0)


def _gradient(**field: Any) -> Any:
    return ps.value_and_grad(lambda w: w, "fp32", loss_scale=ps.DynamicLossScale(**field))(1.0)


def _feedback(**field: Any) -> Any:
    return ps.Feedback(**{"levels": ("bf16", "fp32"), **field})


def _schedule(**field: Any) -> Any:
    return ps.Schedule(**{"starts": (0,), "policies": ("fp32",), **field})


def _check(**field: Any) -> Any:
    return ps.figures.Check(**{"name": "sum", "published": 1.0, "computed": 1.0, **field})


def _cases() -> Iterator[tuple[Callable[..., Any], str, Any]]:
    for call in (_scaled, _adjusted, _gradient):
        for name in FACTORS:
            yield from ((call, name, bad) for bad in (*NOT_NUMBERS, *NOT_POSITIVE))
        for name in COUNTS:
            yield from ((call, name, bad) for bad in (*NOT_NUMBERS, -1, 1.5, math.nan))
        yield from ((call, "redo", bad) for bad in (*NOT_NUMBERS, 1))
    yield from ((_static, "factor", bad) for bad in (*NOT_NUMBERS, *NOT_POSITIVE))
    for name in ("lost", "swallowed", "release", "every", "patience"):
        yield from ((_feedback, name, bad) for bad in (*NOT_NUMBERS, -1, math.nan))
    for name in ("levels", "reference"):
        yield from ((_feedback, name, bad) for bad in ("x", None, 1, math.nan, object()))
    for name in ("starts", "policies"):
        yield from ((_schedule, name, bad) for bad in ("x", None, 1, math.nan, object()))
    for name in ("published", "computed", "tolerance"):
        yield from ((_check, name, bad) for bad in NOT_NUMBERS)


@pytest.mark.parametrize("call", dict.fromkeys(call for call, _, _ in _cases()))
def test_fields_that_are_no_numbers_get_one_line(call: Callable[..., Any]) -> None:
    for each, name, bad in _cases():
        if each is call:
            with pytest.raises((TypeError, ValueError)) as caught:
                call(**{name: bad})
            text = str(caught.value)
            assert name in text, (name, bad, text)
            assert "allowed" in text, (name, bad, text)
            assert "\n" not in text, (name, bad, text)
            assert len(text) < 200, (name, bad, text)


def test_leaves_of_a_loss_scale_can_be_anything() -> None:
    state = ps.DynamicLossScale()
    assert jax.tree.map(str, state).factor == "32768.0"
    shapes = jax.eval_shape(lambda s: s.adjust(True), state)
    assert shapes.factor.shape == ()
    assert float(jax.jit(lambda s: s.scale(jnp.float32(1)))(state)) == 2.0**15
