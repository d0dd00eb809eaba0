"""Twelve kinds of plain functions, each with a place where digits get lost, and their inputs.

Nothing in them names a dtype: `exactly` computes the same programs in float64. Constants that a
format may lack are arguments, so that both have the same ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Plain(NamedTuple):
    """A function, with arguments for it."""

    fun: Callable[..., Any]
    args: tuple[Any, ...]


def dot(x: Any, y: Any) -> Any:
    """Return an inner product whose terms cancel."""
    return x @ y


def horner(x: Any) -> Any:
    """Return ``(x - 2)**5``, multiplied out."""
    y = jnp.ones_like(x)
    for coefficient in (-10, 40, -80, 80, -32):
        y = y * x + coefficient
    return y


def quadratic(a: Any, b: Any, c: Any) -> Any:
    """Return the root that the textbook's formula loses where ``b * b`` is far above ``a * c``."""
    return (-b + jnp.sqrt(b * b - 4 * a * c)) / (2 * a)


def one_pass_variance(x: Any) -> Any:
    """Return the mean square without the squared mean, two numbers that are nearly equal."""
    return jnp.mean(x * x) - jnp.mean(x) ** 2


def two_pass_variance(x: Any) -> Any:
    """Return the mean square of what is left without the mean."""
    return jnp.mean((x - jnp.mean(x)) ** 2)


def _growth(y: Any) -> Any:
    return y * (1 - y)


def euler(y: Any, h: Any) -> Any:
    """Return logistic growth after 24 steps of Euler's method."""
    return lax.scan(lambda y, _: (y + h * _growth(y), None), y, None, length=24)[0]


def runge_kutta(y: Any, h: Any) -> Any:
    """Return logistic growth after 6 classical Runge-Kutta steps."""

    def step(y: Any, _: Any) -> tuple[Any, None]:
        first = _growth(y)
        second = _growth(y + h / 2 * first)
        third = _growth(y + h / 2 * second)
        last = _growth(y + h * third)
        return y + h / 6 * (first + 2 * (second + third) + last), None

    return lax.scan(step, y, None, length=6)[0]


def lu(a: Any) -> dict[str, Any]:
    """Return the factors of Gaussian elimination without a choice of pivots."""
    rows = jnp.arange(len(a))

    def step(k: Any, factors: Any) -> Any:
        lower, upper = factors
        row = lax.dynamic_index_in_dim(upper, k, 0)
        column = lax.dynamic_index_in_dim(upper, k, 1)
        pivot = lax.dynamic_index_in_dim(row, k, 1)
        multiples = jnp.where(rows[:, None] > k, column / pivot, 0)
        return jnp.where(rows == k, multiples, lower), upper - multiples * row

    lower, upper = lax.fori_loop(0, len(a), step, (jnp.zeros_like(a), a))
    return {"lower": lower, "upper": jnp.triu(upper)}


def power_iteration(a: Any, x: Any) -> Any:
    """Return the largest eigenvalue of a matrix, as a Rayleigh quotient."""

    def step(x: Any, _: Any) -> tuple[Any, None]:
        y = a @ x
        return y / jnp.sqrt(jnp.sum(y * y)), None

    x = lax.scan(step, x, None, length=8)[0]
    return x @ (a @ x)


def softmax(x: Any) -> Any:
    """Return JAX's softmax."""
    return jax.nn.softmax(x)


def logsumexp(x: Any) -> Any:
    """Return a logarithm near 0."""
    largest = jnp.max(x)
    return largest + jnp.log(jnp.sum(jnp.exp(x - largest)))


def fft(real: Any, imaginary: Any, cosines: Any, sines: Any) -> tuple[Any, Any]:
    """Return a Fourier transform in real arithmetic; the tables are of the first half circle."""
    size = len(real)
    re, im = real.reshape(size, 1), imaginary.reshape(size, 1)
    while (half := len(re) // 2) > 0:
        stride = len(cosines) // re.shape[1]
        c, s = cosines[::stride], sines[::stride]
        odd_re, odd_im = re[half:], im[half:]
        turned_re, turned_im = c * odd_re - s * odd_im, c * odd_im + s * odd_re
        re, im = (
            jnp.concatenate([even + turned, even - turned], axis=1)
            for even, turned in ((re[:half], turned_re), (im[:half], turned_im))
        )
    return re[0], im[0]


def kahan_sum(x: Any) -> Any:
    """Return a sum with compensation."""

    def step(carried: Any, term: Any) -> tuple[Any, None]:
        total, lost = carried
        term = term - lost
        new = total + term
        return (new, (new - total) - term), None

    return lax.scan(step, (jnp.zeros_like(x[0]), jnp.zeros_like(x[0])), x)[0][0]


def matrix_exponential(a: Any) -> Any:
    """Return the series of a fourth of a matrix, squared twice."""
    quarter, one = a / 4, jnp.eye(len(a), dtype=a.dtype)

    def step(carried: Any, k: Any) -> tuple[Any, None]:
        total, term = carried
        term = term @ quarter / k
        return (total + term, term), None

    y = lax.scan(step, (one, one), jnp.arange(1, 10, dtype=a.dtype))[0][0]
    y = y @ y
    return y @ y


def _sevenths(count: int, *, factor: int = 37, modulus: int = 101, offset: int = 0) -> np.ndarray:
    """Return multiples of 1/7, the same everywhere."""
    return ((np.arange(count) * factor % modulus + offset) / 7).astype(np.float32)


def _inverses(size: int) -> np.ndarray:
    """Return Hilbert's matrix."""
    return (1 / (np.arange(size)[:, None] + np.arange(size) + 1)).astype(np.float32)


_CIRCLE = np.arange(4) / 4 * np.pi
_SYMMETRIC = np.array([[7, 2, 1], [2, 5, 3], [1, 3, 4]], np.float32) / np.float32(3)
_FALLING = np.array([[-5, 2, 1], [3, -4, 1], [1, 2, -6]], np.float32) / np.float32(3)

FUNCTIONS: dict[str, Plain] = {
    "dot": Plain(dot, (_sevenths(32, offset=-50), _sevenths(32, factor=11, modulus=17))),
    "horner": Plain(horner, (np.array([2.4, 1.7], np.float32),)),
    "quadratic": Plain(quadratic, (np.float32(1.1), np.float32(60.3), np.float32(0.7))),
    "one_pass_variance": Plain(one_pass_variance, (_sevenths(16, modulus=13, offset=70),)),
    "two_pass_variance": Plain(two_pass_variance, (_sevenths(16, modulus=13, offset=70),)),
    "euler": Plain(euler, (np.float32(0.1), np.float32(0.07))),
    "runge_kutta": Plain(runge_kutta, (np.float32(0.1), np.float32(0.3))),
    "lu": Plain(lu, (_inverses(4),)),
    "power_iteration": Plain(power_iteration, (_SYMMETRIC, np.array([1, 0.3, 0.2], np.float32))),
    "softmax": Plain(softmax, (_sevenths(8, offset=-50),)),
    "logsumexp": Plain(logsumexp, (_sevenths(8, modulus=5, offset=-17),)),
    "fft": Plain(
        fft,
        (
            _sevenths(8, offset=-50),
            _sevenths(8, factor=11, modulus=17),
            np.cos(_CIRCLE).astype(np.float32),
            (-np.sin(_CIRCLE)).astype(np.float32),
        ),
    ),
    "kahan_sum": Plain(kahan_sum, (_sevenths(32, offset=-30),)),
    "matrix_exponential": Plain(matrix_exponential, (_FALLING,)),
}
"""By name; the variance and the steps have two functions each."""


def exactly(fun: Callable[..., Any], *args: Any) -> Any:
    """Return what a function gives in float64, as NumPy arrays."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in args]
        return jax.tree.map(np.asarray, jax.jit(fun)(*wide))
