"""Both modules of functions are alike; values and gradients near float64, bits as stated."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic import portable as p
from precsim.training.functions import platform, portable
from tests.training.conftest import assert_same_bits, single

U = 2.0**-24
ROWS, WIDTH = 6, 10
RNG = np.random.default_rng(0)
X, G = (single(2 * RNG.standard_normal((ROWS, WIDTH))) for _ in range(2))
GAIN, BIAS = (single(RNG.uniform(0.5, 2, WIDTH)) for _ in range(2))
MASKED = np.where(np.eye(ROWS, WIDTH, 2, dtype=bool), np.float32(-np.inf), X)
LABELS = np.array([0, 3, 9, 3, 7, 1], np.int32)
TOKENS = np.array([[2, 0, 2], [2, 1, 4]], np.int32)
BITS = RNG.integers(0, 2**32, (ROWS, WIDTH), dtype=np.uint32)
RATE = 0.25
CUBIC, INNER = 0.044715, math.sqrt(2 / math.pi)


class Bounded(NamedTuple):
    """A value in float64, and the sum of its terms' magnitudes.

    Its rounding errors are proportional to that sum. Each term is counted with what it passes on of
    the errors of its own operands.
    """

    value: Any
    magnitude: Any


class Case(NamedTuple):
    """A function, its operands, the cotangent of its result, and value and gradients by hand."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    cotangent: Any
    operations: int
    """Roundings on the longest path, with sums log2 of their length deep."""
    expected: Callable[..., list[Bounded]]
    """Operands and cotangent in float64 -> the result, then the gradients of the float operands."""


def add(x: Any, y: Any, g: Any) -> list[Bounded]:
    return [Bounded(x + y, abs(x + y)), Bounded(g, 0 * g), Bounded(g.sum(0), abs(g).sum(0))]


def scale(x: Any, g: Any) -> list[Bounded]:
    return [Bounded(x * 0.3, abs(x * 0.3)), Bounded(g * 0.3, abs(g * 0.3))]


def relu(x: Any, g: Any) -> list[Bounded]:
    return [Bounded(np.maximum(x, 0), 0 * x), Bounded(g * (x > 0), 0 * x)]


def gelu(x: Any, g: Any) -> list[Bounded]:
    inner, slope = INNER * (x + CUBIC * x**3), INNER * (1 + 3 * CUBIC * x**2)
    t, flat = np.tanh(inner), 1 / np.cosh(inner) ** 2
    dt = abs(t) + abs(inner) * flat  # of the tangent itself, and of its argument
    forward = Bounded(x / 2 * (1 + t), abs(x) / 2 * (1 + dt))
    dx = g * ((1 + t) + x * slope * flat) / 2
    size = (1 + dt) + abs(x) * slope * (1 + t**2 + 2 * abs(t) * dt)
    return [forward, Bounded(dx, abs(g) * size / 2)]


def powers(x: Any) -> tuple[Any, Any]:
    """Return the softmax, and what its relative error is proportional to."""
    d = x - x.max(-1, keepdims=True)
    y = np.exp(d) / np.exp(d).sum(-1, keepdims=True)
    d = np.where(np.isfinite(d), abs(d), 0)  # minus infinity is no error
    return y, 2 + d + d.max(-1, keepdims=True)


def softmax(x: Any, g: Any) -> list[Bounded]:
    y, share = powers(x)
    inner = (g * y).sum(-1, keepdims=True)
    size = abs(g) + (abs(g) * y * share).sum(-1, keepdims=True)
    return [Bounded(y, y * share), Bounded(y * (g - inner), y * share * (1 + size))]


def cross_entropy(x: Any, g: Any) -> list[Bounded]:
    y, share = powers(x)
    d = x - x.max(-1, keepdims=True)
    own = d[np.arange(len(x)), LABELS]
    total = np.log(np.exp(d).sum(-1))
    is_label = LABELS[:, None] == np.arange(x.shape[1])
    loss = Bounded((total - own).mean(), (abs(total) + abs(own) + share.max(-1)).mean())
    return [loss, Bounded(g * (y - is_label) / len(x), abs(g) * (y * share + is_label) / len(x))]


def layer_norm(x: Any, gain: Any, bias: Any, g: Any) -> list[Bounded]:

    def mean(v: Any) -> Any:
        return v.mean(-1, keepdims=True)

    centred, noise = x - mean(x), abs(x) + mean(abs(x))
    variance = mean(centred**2) + 1e-5
    root = variance**-0.5
    normal = centred * root
    shared = 1 + mean(abs(centred) * noise) / variance  # relative, of the root
    size = root * noise + abs(normal) * shared
    forward = Bounded(normal * gain + bias, size * abs(gain) + abs(bias))
    h = g * gain
    dx = root * (h - mean(h) - normal * mean(h * normal))
    grown = abs(h) + mean(abs(h)) + size * mean(abs(h * normal)) + abs(normal) * mean(abs(h) * size)
    return [
        forward,
        Bounded(dx, root * grown * (1 + shared)),
        Bounded((g * normal).sum(0), (abs(g) * size).sum(0)),
        Bounded(g.sum(0), abs(g).sum(0)),
    ]


def batch_norm(x: Any, gain: Any, bias: Any, g: Any) -> list[Bounded]:
    """By the layer norm of the transposed rows, whose gains are columns."""
    forward, dx, *_ = layer_norm(x.T, gain[:, None], bias[:, None], g.T)
    normal = (x - x.mean(0)) / (x.var(0) + 1e-5) ** 0.5
    size = (forward.magnitude.T - abs(bias)) / abs(gain)
    transposed = [Bounded(*(part.T for part in bounded)) for bounded in (forward, dx)]
    gains = Bounded((g * normal).sum(0), (abs(g) * size).sum(0))
    return [*transposed, gains, Bounded(g.sum(0), abs(g).sum(0))]


_DEPTH = 2 * math.ceil(math.log2(WIDTH))
CASES = {
    "add": Case(lambda f, x, y: f.add(x, y), (X, BIAS), G, 1 + _DEPTH, add),
    "scale": Case(lambda f, x: f.scale(x, 0.3), (X,), G, 2, scale),
    "relu": Case(lambda f, x: f.relu(x), (X,), G, 0, relu),
    "gelu": Case(lambda f, x: f.gelu(x), (X,), G, 20, gelu),
    "softmax": Case(lambda f, x: f.softmax(x), (MASKED,), G, 8 + _DEPTH, softmax),
    "cross_entropy": Case(
        lambda f, x: f.cross_entropy(x, jnp.asarray(LABELS)),
        (X,),
        np.float32(0.7),
        8 + _DEPTH,
        cross_entropy,
    ),
    "layer_norm": Case(
        lambda f, x, a, b: f.layer_norm(x, a, b), (X, GAIN, BIAS), G, 12 + 2 * _DEPTH, layer_norm
    ),
    "batch_norm": Case(
        lambda f, x, a, b: f.batch_norm(x, a, b), (X, GAIN, BIAS), G, 12 + 2 * _DEPTH, batch_norm
    ),
}


def results(functions: Any) -> dict[str, list[Any]]:
    """Return each case's value and gradients, all in one compiled program."""

    def run(operands: dict[str, Any]) -> dict[str, list[Any]]:
        found = {}
        for name, (arguments, g) in operands.items():
            y, back = jax.vjp(lambda *a, name=name: CASES[name].run(functions, *a), *arguments)
            found[name] = [y, *back(g)]
        return found

    operands = {name: (case.arguments, case.cotangent) for name, case in CASES.items()}
    return jax.device_get(jax.jit(run)(jax.tree.map(jnp.asarray, operands)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, list[Any]]]:
    return {"portable": results(portable), "platform": results(platform)}


@pytest.mark.long
@pytest.mark.parametrize("module", ["portable", "platform"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_near_those_in_float64(
    found: dict[str, dict[str, list[Any]]], name: str, module: str
) -> None:
    case = CASES[name]
    double = [np.asarray(x, np.float64) for x in (*case.arguments, case.cotangent)]
    expected = case.expected(*double)
    # XLA's exp, tanh and rsqrt are a few units off; portable ones are correctly rounded.
    allowed = case.operations * U * (1 if module == "portable" else 8)
    got = found[module][name]
    assert len(got) == len(expected)
    for result, (value, magnitude) in zip(got, expected, strict=True):
        assert result.dtype == np.float32
        assert np.shape(result) == np.shape(value)
        error = np.abs(result - value)
        assert (error <= allowed * magnitude).all(), float(np.max(error / (U * magnitude + 1e-300)))


def test_both_modules_have_the_same_functions_and_parameters() -> None:
    """A model runs under either. A module's names can be compared, its gradients cannot."""

    def public(module: Any) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and not inspect.isclass(value)
            if inspect.unwrap(value).__module__ in (module.__name__, p.__name__)
        }

    assert public(portable) == public(platform)
    assert set(public(platform)) == {*CASES, "flush", "fork", "embed", "dropout"}


def gradient_of(run: Callable[..., Any], x: Any, g: Any) -> Any:
    """Return a function's value and the gradient of its first operand."""

    def both(x: Any, g: Any) -> Any:
        y, back = jax.vjp(run, x)
        return y, back(g)[0]

    return jax.jit(both)(jnp.asarray(x), jax.tree.map(jnp.asarray, g))


def test_fork_adds_the_gradients_in_the_order_of_the_uses() -> None:
    gs = tuple(single([v]) for v in (1.0, 2.0**-24, 2.0**-24))
    y, dx = gradient_of(lambda x: portable.fork(x, 3), single([5.0]), gs)
    assert [float(v[0]) for v in y] == [5.0] * 3
    assert float(dx[0]) == 1.0  # from the other end it would be 1 + 2**-23
    assert float(gradient_of(lambda x: portable.fork(x, 3), single([5]), gs[::-1])[1][0]) > 1


@pytest.mark.long
def test_gradient_of_added_vector_is_summed_first_axis_first() -> None:
    g = single(RNG.standard_normal((3, 5, 2)) * 10.0 ** RNG.integers(-3, 4, (3, 5, 2)))
    x = np.zeros((3, 5, 2), np.float32)
    dx, dy = jax.jit(jax.vjp(portable.add, jnp.asarray(x), jnp.zeros(2))[1])(g)
    assert_same_bits(dx, g)
    assert_same_bits(dy, p.sum(p.sum(g, 0), 0))


@pytest.mark.parametrize("count", [5, 50])  # rows: fewer than tokens, and more
def test_gradient_of_embedding_is_an_ordered_sum(count: int) -> None:
    table = single(RNG.standard_normal((count, 4)))
    g = single(RNG.standard_normal((2, 3, 4)) * 10.0 ** RNG.integers(-3, 4, (2, 3, 4)))
    y, dx = gradient_of(lambda t: portable.embed(t, jnp.asarray(TOKENS)), table, g)
    assert_same_bits(y, table[TOKENS])
    expected = np.zeros((count, 4), np.float32)
    for row in range(count):
        kept = np.where((TOKENS.reshape(-1) == row)[:, None], g.reshape(-1, 4), np.float32(0))
        padded = np.concatenate([kept, np.zeros((2, 4), np.float32)])  # six tokens fill up to eight
        while len(padded) > 1:
            padded = padded[: len(padded) // 2] + padded[len(padded) // 2 :]
        expected[row] = padded[0]
    assert_same_bits(dx, expected)
    assert not dx[3].any()


@pytest.mark.parametrize("functions", [portable, platform])
def test_dropout_keeps_the_elements_whose_bits_are_not_below_the_rate(functions: Any) -> None:
    edge = 1 << 30
    bits = BITS.copy()
    bits.flat[:2] = edge - 1, edge
    y, dx = gradient_of(lambda x: functions.dropout(x, jnp.asarray(bits), RATE), X, G)
    keep = bits >= edge
    assert keep.flat[0] != keep.flat[1]
    for got, values in ((y, X), (dx, G)):
        assert np.array_equal(np.asarray(got) != 0, keep)
        if functions is portable:
            factor = np.float32(1 / (1 - RATE))
            assert_same_bits(got, np.where(keep, values * factor, np.float32(0)))


def test_softmax_counts_minus_infinity_as_nothing_forward_and_backward(
    found: dict[str, dict[str, list[Any]]],
) -> None:
    for result in found["portable"]["softmax"]:
        is_masked = np.isinf(MASKED)
        assert (result[is_masked] == 0).all()
        assert (result[~is_masked] != 0).all()


def total(x: Any, axis: int = -1) -> Any:
    """Add the second half (zeros fill it up to a power of two) to the first until one is left."""
    x = np.moveaxis(x, axis, 0)
    fill = (1 << (len(x) - 1).bit_length()) - len(x)
    x = np.concatenate([x, np.zeros((fill, *x.shape[1:]), np.float32)])
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def mean(x: Any) -> Any:
    return (total(x) * np.float32(1 / x.shape[-1]))[..., None]


def by_double(function: Callable[..., Any], x: Any) -> Any:
    """Round float64's result, whose own error decides no tie here."""
    return single(function(x.astype(np.float64)))


def gelu_bits(x: Any, g: Any) -> list[Any]:
    half, one = single(0.5), single(1)
    cubic, inner = single(CUBIC), single(INNER)
    t = by_double(np.tanh, inner * (x + cubic * (x * (x * x))))
    grown = (inner * (one + (single(3) * cubic) * (x * x))) * (one - t * t)
    return [(half * x) * (one + t), g * (half * ((one + t) + x * grown))]


def softmax_bits(x: Any, g: Any) -> list[Any]:
    powers = by_double(np.exp, x - x.max(-1, keepdims=True))
    y = powers * (single(1) / total(powers)[:, None])
    return [y, y * (g - total(g * y)[:, None])]


def cross_entropy_bits(x: Any, g: Any) -> list[Any]:
    top = x.max(-1, keepdims=True)
    powers = by_double(np.exp, x - top)
    own = x[np.arange(len(x)), LABELS] - top[:, 0]
    loss = mean(by_double(np.log, total(powers)) - own)[0]
    y = powers * (single(1) / total(powers)[:, None])
    is_label = single(LABELS[:, None] == np.arange(x.shape[1]))
    return [loss, (y - is_label) * (g * single(1 / len(x)))]


def layer_norm_bits(x: Any, gain: Any, bias: Any, g: Any) -> list[Any]:
    axis = 0 if gain.ndim == 1 else -1  # the gains' other one
    centred = x - mean(x)
    root = by_double(lambda v: v**-0.5, mean(centred * centred) + single(1e-5))
    normal = centred * root
    inner = g * gain
    dx = root * ((inner - mean(inner)) - normal * mean(inner * normal))
    return [normal * gain + bias, dx, total(g * normal, axis), total(g, axis)]


def batch_norm_bits(x: Any, gain: Any, bias: Any, g: Any) -> list[Any]:
    y, dx, *sums = layer_norm_bits(x.T, gain[:, None], bias[:, None], g.T)
    return [y.T, dx.T, *sums]


WRITTEN: dict[str, Callable[..., list[Any]]] = {
    "gelu": gelu_bits,
    "softmax": softmax_bits,
    "cross_entropy": cross_entropy_bits,
    "layer_norm": layer_norm_bits,
    "batch_norm": batch_norm_bits,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_bits_are_those_of_the_operations_in_the_order_written(
    found: dict[str, dict[str, list[Any]]], name: str
) -> None:
    """In NumPy, one float32 operation after the other; another order has other bits in places."""
    case = CASES[name]
    expected = WRITTEN[name](*case.arguments, case.cotangent)
    for got, values in zip(found["portable"][name], expected, strict=True):
        assert_same_bits(got, values + single(0), name)  # -0 is flushed


_SLOW = ("softmax", "cross_entropy", "layer_norm", "batch_norm")


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in _SLOW)) for n in CASES]
)
def test_operation_by_operation_the_bits_are_those_of_the_compiled_program(
    found: dict[str, dict[str, list[Any]]], name: str
) -> None:
    """XLA joins loops and moves operations; the bits stay."""
    case = CASES[name]
    arguments = tuple(map(jnp.asarray, case.arguments))
    with jax.disable_jit():
        y, back = jax.vjp(lambda *a: case.run(portable, *a), *arguments)
        for got, expected in zip(
            [y, *back(jnp.asarray(case.cotangent))], found["portable"][name], strict=True
        ):
            assert_same_bits(got, expected, name)


MORE = {
    "fork": Case(lambda f, x: f.add(*f.fork(x)), (X,), G, 0, relu),
    "embed": Case(
        lambda f, t: f.embed(t, jnp.asarray(TOKENS)), (X,), np.ones((2, 3, WIDTH)), 0, relu
    ),
    "dropout": Case(lambda f, x: f.dropout(x, jnp.asarray(BITS), RATE), (X,), G, 0, relu),
}


@pytest.mark.parametrize("name", [*CASES, *MORE])
def test_portable_functions_are_found_portable_and_those_of_the_platform_not(name: str) -> None:
    case = (CASES | MORE)[name]

    def run(functions: Any) -> tuple[str, ...]:
        def both(arguments: Any, g: Any) -> Any:
            y, back = jax.vjp(lambda *a: case.run(functions, *a), *arguments)
            return y, back(g)

        return ps.replay.find_unportable(both, case.arguments, single(case.cotangent))

    assert run(portable) == ()
    if name != "relu":
        assert run(platform) != ()
