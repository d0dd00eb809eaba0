"""Comparisons against exact numbers and the order of the standard; one answer everywhere."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.arithmetic.conftest import CARRIERS, SPECIAL_VALUES, Floats, everywhere, patterns

COMPARISONS: dict[str, tuple[Callable[..., Any], Callable[[Any, Any], Any]]] = {
    "equal": (ps.ieee.equal, operator.eq),
    "not_equal": (ps.ieee.not_equal, operator.ne),
    "less": (ps.ieee.less, operator.lt),
    "less_equal": (ps.ieee.less_equal, operator.le),
    "greater": (ps.ieee.greater, operator.gt),
    "greater_equal": (ps.ieee.greater_equal, operator.ge),
}
"""Each comparison, and Python's of float64 numbers, which has the same rules."""
# From the first to the last in the order of 5.10, as bits without the sign: payloads of float32.
POSITIVE = [
    0x00000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000,
    0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FC00001, 0x7FFFFFFF,
]  # fmt: skip


def in_total_order(dtype: Any) -> Floats:
    """-NaN, -infinity, ..., -0, +0, ..., +infinity, signalling NaN, quiet NaN."""
    if dtype is np.float32:
        positive = np.array(POSITIVE, np.uint32)
    else:
        positive = np.array([p << 29 | (0x7 << 60 if p >> 30 else 0) for p in POSITIVE], np.uint64)
    sign = positive.dtype.type(1 << (8 * positive.dtype.itemsize - 1))
    return np.concatenate([(positive | sign)[::-1], positive]).view(dtype)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_every_pair_of_special_values(name: str, carrier: str) -> None:
    function, python = COMPARISONS[name]
    values = SPECIAL_VALUES.astype(carrier)
    x, y = (v.reshape(-1) for v in np.meshgrid(values, values))
    expected = [python(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    for way, got in everywhere(function, x, y).items():
        assert got.dtype == bool
        assert got.tolist() == expected, way


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMPARISONS)
def test_random_patterns_and_neighbours(name: str, dtype: Any) -> None:
    """NumPy's comparisons do not flush subnormals; half of the pairs are neighbours or equal."""
    rng = np.random.default_rng(1)
    x, y = patterns(rng, 20_000, dtype), patterns(rng, 20_000, dtype)
    unsigned = np.dtype(f"u{x.itemsize}")
    near = x[:10_000].view(unsigned) + rng.integers(0, 2, 10_000).astype(unsigned)
    y[:10_000] = near.view(dtype)
    with np.errstate(invalid="ignore"):
        expected = getattr(np, name)(x, y)
    np.testing.assert_array_equal(COMPARISONS[name][0](x, y), expected)
    assert expected.any() != expected.all()


def test_xla_flushes_subnormals_in_its_own_comparisons() -> None:
    """A meta-test: why these functions exist (on a GPU, XLA may do better)."""
    tiny = jnp.asarray(np.array([2.0**-149], np.float32))
    assert ps.ieee.less(0.0, tiny).all()
    assert ps.ieee.not_equal(tiny, 2 * 2.0**-149).all()
    if jax.default_backend() == "cpu":
        assert not (tiny > 0).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_total_order_of_the_standard(dtype: Any) -> None:
    """Every pair of 24 patterns, written down in order; signalling NaN and payloads too."""
    ordered = in_total_order(dtype)
    ranks = np.arange(ordered.size)
    i, j = (v.reshape(-1) for v in np.meshgrid(ranks, ranks))
    assert np.count_nonzero(np.isnan(ordered)) == 10
    for way, got in everywhere(ps.ieee.total_order, ordered[i], ordered[j]).items():
        np.testing.assert_array_equal(got, i <= j, err_msg=way)


def test_operands_broadcast_and_numbers_take_the_dtype_beside_them() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    y = np.array([0.5, 2.0, 3.0, 7.0], np.float32)
    for result in (ps.ieee.less(x, y), ps.ieee.less(jnp.asarray(x), y)):
        assert result.shape == (2, 3, 4)
        np.testing.assert_array_equal(np.asarray(result), x < y)
    assert ps.ieee.greater(y, 2).tolist() == [False, False, True, True]
    assert ps.ieee.greater(1.0, 0.5).tolist() is True
    for shape in ((), (0,), (2, 0)):
        assert ps.ieee.equal(np.zeros(shape), 0.0).shape == shape


@pytest.mark.parametrize(
    "function", [ps.ieee.equal, ps.ieee.less, ps.ieee.total_order, ps.ieee.minimum]
)
def test_errors_name_the_argument(function: Callable[..., Any]) -> None:
    one = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="y has dtype int64; allowed are float32 and float64"):
        function(one, np.arange(3))
    with pytest.raises(TypeError, match="x float32, y float64; allowed is one carrier"):
        function(one, np.ones(3))
    with pytest.raises(TypeError, match=r"y has 0.1, which is not exact in float32"):
        function(one, 0.1)
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        function(one, one[:2])


def test_comparisons_are_constants_under_grad() -> None:
    def loss(x: Any) -> Any:
        return jnp.where(ps.ieee.greater(x, 0.0), 2 * x, -x).sum()

    x = jnp.array([1.0, -1.0, 0.0], jnp.float32)
    assert jax.jit(jax.grad(loss))(x).tolist() == [2.0, -1.0, -1.0]
