"""Operations that JAX cannot differentiate: the report names them, and has all but their shares."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

lax: Any = jax.lax
X = jnp.asarray([0.3, 0.7, 1.9], jnp.float32)


def _matrix(x: Any) -> Any:
    return jnp.outer(x, x) + jnp.diag(x)


def _called(x: Any) -> Any:
    return jax.pure_callback(np.sin, jax.eval_shape(jnp.sin, x), x)


FUNCTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "nextafter": ("nextafter", lambda x: jnp.nextafter(x * 1.1, x) * 2),
    "order": ("polygamma", lambda x: lax.polygamma(x * 0 + 2, x * 1.1) * 2),
    "zeta": ("zeta", lambda x: lax.zeta(x * 1.1 + 2, x) * 2),
    "beta": ("regularized_incomplete_beta", lambda x: lax.betainc(x * 1.1, x * 2, x / 3)),
    "product in windows": (
        "reduce_window",
        lambda x: lax.reduce_window(x * 1.1, np.float32(1), lax.mul, (2,), (1,), "VALID"),
    ),
    "eigenvectors": ("eig", lambda x: jnp.abs(jnp.linalg.eig(_matrix(x * 1.1))[1])),
    "schur": ("schur", lambda x: jax.scipy.linalg.schur(_matrix(x * 1.1))[0]),
    "full svd": ("svd", lambda x: jnp.linalg.svd(_matrix(x * 1.1)[:2])[2] * 2),
    "scatter": (
        "scatter-mul",
        lambda x: jnp.ones(4).at[jnp.array([0, 0, 1])].mul(x * 1.1) * 2,
    ),
    "callback": ("pure_callback", lambda x: _called(x * 1.1) * 2),
    "scan": ("zeta", lambda x: lax.scan(lambda c, _: (lax.zeta(c + 2, x), None), x, length=3)[0]),
    "cond": ("zeta", lambda x: lax.cond(x[0] > 0, lambda y: lax.zeta(y + 2, x), jnp.sin, x * 1.1)),
    "checkpoint": ("zeta", jax.checkpoint(lambda x: lax.zeta(x * 1.1 + 2, x))),
}


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_report_names_the_operation_and_has_the_rest(name: str) -> None:
    primitive, fun = FUNCTIONS[name]
    report = ps.analyze(fun, X, policy="bf16", strict=False)
    np.testing.assert_array_equal(report.result, ps.emulate(fun, "bf16", strict=False)(X))
    (obstacle,) = report.obstacles
    assert obstacle.startswith("JAX has no derivative of `")
    assert f" ({primitive}): errors of its operands have no share, only its own" in obstacle
    assert "test_no_derivative.py:" in obstacle
    assert "\n" not in obstacle
    assert not report.closes
    assert all(np.isfinite(row.share) for row in report.rows)
    assert any(row.local_error > 0 for row in report.rows)
    assert type(report).from_json(report.to_json()).to_json() == report.to_json()


@pytest.mark.long
def test_what_has_no_derivative_has_a_share_of_its_own_rounding_only() -> None:
    x = np.asarray([0.25, 0.75, 2], np.float32)
    report = ps.analyze(lambda x: _called(x * 1.1).sum(), x, policy="bf16", strict=False)
    first, called, _ = report.rows
    assert first.share == 0 < first.local_error
    assert (called.primitive, called.format) == ("pure_callback", "bf16")
    assert 0 < called.max_ulps <= 0.5
    factor = ps.round_to(np.float32(1.1), "bf16")
    local = np.sin(np.asarray(ps.round_to(x * factor, "bf16"), np.float64))
    rounded = np.asarray(ps.round_to(local.astype(np.float32), "bf16"), np.float64)
    np.testing.assert_allclose(called.share, np.sum(rounded - local), rtol=1e-3)


@pytest.mark.long
def test_what_the_scalar_does_not_depend_on_leaves_the_account_closed() -> None:
    fun = lambda x: (jnp.sin(x * 1.1).sum(), lax.zeta(x * 1.1 + 2, x))
    assert ps.analyze(fun, X, policy="bf16", of=lambda result: result[0]).closes


@pytest.mark.long
def test_a_scalar_without_a_derivative_is_refused() -> None:
    of = lambda y: jnp.sum(lax.zeta(y + 2, y))
    with pytest.raises(NotImplementedError, match="of has no derivative in JAX; allowed are"):
        ps.analyze(lambda x: x * 1.1, X, policy="bf16", of=of)


@pytest.mark.long
def test_complex_products_are_exact_in_the_reference() -> None:
    """A product that names its dtype stopped in an error of JAX: only real ones were widened."""
    fun = lambda x: jnp.abs(lax.dot(x + 1j * x, x * 1j + 1, preferred_element_type=jnp.complex64))
    report = ps.analyze(fun, X, policy="bf16")
    x = np.asarray(X, np.float64)
    np.testing.assert_allclose(report.reference_value, abs((x + 1j * x) @ (x * 1j + 1)), rtol=1e-12)
    assert report.closes
