"""Running bounds are never exceeded, and tolerances are what a test may use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import precsim as ps
from precsim.analysis.bounds.error_propagation import elementwise
from precsim.analysis.bounds.running_bounds import bounded_run
from tests.analysis.twelve_functions import FUNCTIONS, exactly

FORMATS = ("fp32", "bf16", "fp16", "tf32", "e4m3:saturate", "q5.10", "bf16:sr", "fp16:rtz")


def check(name: str, policy: str, confidence: float | None = None) -> tuple[Any, Any]:
    """Compare errors with their bounds; return the largest ones."""
    fun, args = FUNCTIONS[name]
    found = bounded_run(fun, args, policy, confidence=confidence)
    exact = jax.tree.leaves(exactly(fun, *args))
    largest = (0.0, 0.0)
    for got, bound, want in zip(found.values, found.bounds, exact, strict=True):
        error = np.abs(got.astype(float) - want)
        assert (error <= bound).all()
        largest = max(largest[0], float(error.max())), max(largest[1], float(bound.max()))
    return largest


USEFUL = ("dot", "logsumexp", "softmax", "quadratic", "horner", "one_pass_variance", "lu")
"""Functions whose bounds are within 200 of the errors of one run, which may be lucky."""


@pytest.mark.long
@pytest.mark.parametrize("name", [*USEFUL, "euler", "kahan_sum"])
def test_float32_errors_stay_within_useful_bounds(name: str) -> None:
    error, bound = check(name, "fp32")
    assert error > 0
    if name in USEFUL:
        assert bound < 200 * error


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "policy"),
    [("dot", "bf16"), ("quadratic", "e=e4m3:saturate"), ("dot", "e=q9.4")],
)
def test_errors_of_formats_stay_within_their_bounds(name: str, policy: str) -> None:
    check(name, policy)


@pytest.mark.slow
@pytest.mark.parametrize("policy", FORMATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_of_all_functions_and_formats(name: str, policy: str) -> None:
    check(name, policy)


_OUTSIDE = scipy.special
_FUNCTIONS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "square": np.square,
    "sqrt": np.sqrt, "cbrt": np.cbrt, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log1p": np.log1p, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": _OUTSIDE.erf, "erfc": _OUTSIDE.erfc, "logistic": _OUTSIDE.expit,
    "pow": np.power,
}  # fmt: skip


@pytest.mark.long
def test_errors_of_operands_become_no_more_than_the_bound() -> None:
    random = np.random.default_rng(0)
    with np.errstate(all="ignore"), jax.enable_x64(True):
        for name, function in _FUNCTIONS.items():
            count = 2 if name in ("add", "sub", "mul", "div", "pow") else 1
            x = list(random.normal(size=(count, 2000)) * 2.0 ** random.integers(-8, 4, 2000))
            b = [np.abs(each) * 2.0 ** -random.integers(0, 20, 2000) for each in x]
            b[-1] = np.zeros(2000) if name == "pow" else b[-1]
            bound = np.asarray(elementwise(name, x, b, {}))
            for _ in range(30):
                at = [
                    each + random.uniform(-1, 1, 2000).round(1) * e
                    for each, e in zip(x, b, strict=True)
                ]
                error = np.abs(function(*at) - function(*x))
                known = np.isfinite(error)
                assert (error <= bound * (1 + 1e-9) + 1e-13 * np.abs(function(*x)))[known].all(), (
                    name
                )
            assert np.isfinite(bound).mean() > 0.05, name
        for exponent in (-3, -1, 2, 3, 5):
            y, e = random.normal(size=2000), np.abs(random.normal(size=2000))
            bound = np.asarray(elementwise("integer_pow", [y], [e], {"y": exponent}))
            for end in (y - e, y + e, y + e / 3):
                error = np.abs(end ** float(exponent) - y ** float(exponent))
                assert (error <= bound * (1 + 1e-9)).all()


def bound_of(fun: Any, *args: Any, policy: str = "bf16") -> Any:
    return ps.running_bound(fun, *args, policy=policy)


def test_choices_that_may_fall_the_other_way() -> None:
    def step(x: Any) -> Any:
        y = x * x
        return jnp.where(y > 2, y, 0.0)

    near, far = bound_of(step, np.array([2**0.5, 3.0], np.float32))
    assert near >= 2
    assert far < 0.1
    relu = bound_of(lambda x: jnp.maximum(x * x - 2, 0), np.float32(2**0.5))
    assert relu < 0.1
    best = bound_of(lambda x: jnp.argmax(x * x), np.array([1.4, 1.41], np.float32))
    assert best == np.inf
    assert bound_of(lambda x: jnp.argmax(x * x), np.array([1.4, 3.0], np.float32)) == 0


@pytest.mark.long
def test_loops_and_branches_that_may_go_either_way() -> None:
    def halves(x: Any) -> Any:
        return jax.lax.while_loop(lambda y: y > 1, lambda y: y * 0.7, x * 1.1)

    assert bound_of(halves, np.float32(2.3)) < 0.1
    edge = np.float32(1 / 1.1 / 0.7)
    assert bound_of(halves, edge) == np.inf

    def either(x: Any) -> Any:
        return jax.lax.cond(x * 1.1 > 1, lambda x: x * 3, lambda x: x / 3, x)

    assert bound_of(either, np.float32(2.3)) < 0.1
    assert bound_of(either, np.float32(1 / 1.1)) == np.inf


def test_overflow_has_no_bound_and_saturation_has() -> None:
    x = np.float32(300.0)
    assert bound_of(lambda x: x * x, x, policy="e=fp16") == np.inf
    saturated = bound_of(lambda x: x * x, x, policy="e=fp16:saturate")
    assert 90000 - 65504 <= saturated < 25000


@pytest.mark.long
def test_casts_and_outputs_of_the_policy() -> None:
    x = np.array([1.1, 2.7, -0.3], np.float32)
    cast = bound_of(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), x, policy="fp32")
    error = np.abs(np.float64(x) - np.float64(jnp.asarray(x).astype(jnp.bfloat16)))
    assert (error <= cast).all()
    assert (cast <= 2.0**-8 * np.abs(x) * 1.01).all()
    out = bound_of(lambda x: x + 0, x, policy="out=e4m3")
    got = np.asarray(ps.emulate(lambda x: x + 0, "out=e4m3")(x), float)
    assert (np.abs(got - x) <= out).all()


@pytest.mark.long
def test_a_gradient_has_bounds_too() -> None:
    w, x = np.array([[0.3, -0.7]], np.float32), np.array([[1.1], [0.9]], np.float32)
    loss = lambda w: jnp.sum(jnp.tanh(w @ x) ** 2)
    found = bounded_run(jax.grad(loss), (w,), "e=bf16")
    with jax.enable_x64(True):
        wide = jax.grad(lambda w: jnp.sum(jnp.tanh(w @ x.astype(float)) ** 2))
        exact = np.asarray(wide(w.astype(float)))
    assert (np.abs(found.values[0] - exact) <= found.bounds[0]).all()


@pytest.mark.slow
def test_products_of_tensor_cores_and_scaled_operands() -> None:
    a = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    for product in ("h100:bf16", "int8_int8_int32"):
        found = bounded_run(lambda a: a @ a.T, (a,), f"fwd={product}")
        error = np.abs(found.values[0] - a.astype(float) @ a.astype(float).T)
        assert (error <= found.bounds[0]).all()
        assert found.bounds[0].max() < 5


def test_probable_bounds_are_smaller_for_long_sums() -> None:
    x = np.ones(4096, np.float32) / 3
    always, likely = (
        ps.running_bound(jnp.sum, x, policy="fp32", confidence=c) for c in (None, 0.99)
    )
    assert likely < always / 4
    spins = lambda x: jax.lax.while_loop(lambda y: y > 1, lambda y: y / 2, x)
    with pytest.raises(
        ValueError, match=r"confidence is 0\.9; allowed for a function with a while"
    ):
        ps.running_bound(spins, np.float32(3), policy="fp32", confidence=0.9)


def test_operations_without_a_bound_are_refused() -> None:
    with pytest.raises(
        NotImplementedError, match=r"'cholesky' of float32 at .* has no running bou"
    ):
        bound_of(jnp.linalg.cholesky, np.eye(2, dtype=np.float32), policy="fp32")
    with pytest.raises(NotImplementedError, match="'scatter' of float32"):
        ps.running_bound(lambda x: x.at[0].apply(jnp.sin), jnp.ones(2), policy="bf16")
    with pytest.raises(NotImplementedError, match="'mul' of complex64"):
        bound_of(lambda x: x * x, np.ones(2, np.complex64))
    with pytest.raises(TypeError, match="fun is 3; allowed is a function"):
        bound_of(3, np.ones(2))
