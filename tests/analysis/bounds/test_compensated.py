"""Kahan's summation in loops has the bound of a compensated sum, and only that has it."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.analysis.bounds.compensated import compensated
from precsim.analysis.bounds.running_bounds import bounded_run
from tests.analysis.twelve_functions import FUNCTIONS, exactly

F32: Any = np.float32
LAST: dict[str, Callable[[Any, Any], Any]] = {
    "d - y": lambda d, y: d - y,
    "y - d": lambda d, y: y - d,
    "d + y": lambda d, y: d + y,
}
FORMS = [
    (in_term, in_growth, last)
    for in_term, in_growth in itertools.product((1, -1), (1, -1))
    for last in LAST
]
"""Signs of the correction in the term and of ``t - s``, and the next correction."""
RIGHT = {(-1, 1, "d - y"), (1, 1, "y - d"), (1, -1, "d + y")}


def summation(form: tuple[int, int, str]) -> Callable[..., Any]:
    in_term, in_growth, last = form

    def step(state: Any, x: Any) -> Any:
        s, c = state
        y = x + c if in_term > 0 else x - c
        t = s + y
        d = t - s if in_growth > 0 else s - t
        return (t, LAST[last](d, y)), t

    return lambda x, start, c: lax.scan(step, (start, c), x)


def every_form(x: Any, start: Any, c: Any) -> Any:
    return [summation(form)(x, start, c) for form in FORMS]


def test_right_signs_alone_make_a_compensated_sum() -> None:
    x = jnp.ones(3)
    for form in FORMS:
        (eqn,) = jax.make_jaxpr(summation(form))(x, x[0], x[0]).eqns
        found = compensated(eqn.params["jaxpr"], 0, 2)
        assert bool(found) == (form in RIGHT), form
        assert all((each.total, each.correction) == (0, 1) for each in found)


def test_what_uses_the_correction_otherwise_is_none() -> None:
    def watched(state: Any, x: Any) -> Any:
        s, c = state
        y = x - c
        t = s + y
        return (t, (t - s) - y), c

    def skewed(state: Any, x: Any) -> Any:
        s, c = state
        y = x - c
        t = s + y
        return (t, (t - s) - 2 * y), None

    def doubled(state: Any, x: Any) -> Any:
        s, c = state
        y = x - c
        t = s + y
        return (t + y, (t - s) - y), None

    for step in (watched, skewed, doubled):
        (eqn,) = jax.make_jaxpr(lambda x, step=step: lax.scan(step, (x[0], x[0]), x))(
            jnp.ones(3)
        ).eqns[-1:]
        assert not compensated(eqn.params["jaxpr"], 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bf16", "fp16:rtz"])
def test_no_form_errs_by_more_than_its_bound(policy: str) -> None:
    random = np.random.default_rng(0)
    x = (random.normal(size=(24, 3)) * 2.0 ** random.integers(-4, 5, (24, 3))).astype(np.float32)
    args = x, F32([0.1, 30.3, 0]), F32([0.01, 0, -0.003])
    found = bounded_run(every_form, args, policy)
    exact = jax.tree.leaves(exactly(every_form, *args))
    for got, bound, want in zip(found.values, found.bounds, exact, strict=True):
        assert (np.abs(got.astype(float) - want) <= bound).all()
    for bound in bounded_run(every_form, (x[:0], *args[1:]), policy).bounds:
        assert not bound.any()


@pytest.mark.long
@pytest.mark.parametrize("policy", ["fp32", "bf16"])
def test_the_bound_is_that_of_a_compensated_sum(policy: str) -> None:
    """Higham, (4.8): the error is at most (2 u + O(n u**2)) times the sum of the magnitudes."""
    fun, (x,) = FUNCTIONS["kahan_sum"]
    u = 2.0**-24 if policy == "fp32" else 2.0**-8
    size, n = np.abs(x.astype(float)).sum(), len(x)
    brought = 0 if policy == "fp32" else u  # the terms, rounded to the format
    bound = ps.running_bound(fun, x, policy=policy)
    assert bound <= (2 * u + brought + u + 4 * n * u * u) * size
