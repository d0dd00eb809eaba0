"""Portable float32 operations: rounded to nearest, flushed below 2**-125, also under jit."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic import portable as p
from tests.arithmetic.conftest import EXACT, Floats, assert_same_bits, bits_of, patterns, rounded

SIZE = 3000
FP32 = ps.RoundingSpec.parse("fp32")
UNLIMITED = ps.RoundingSpec.parse("float(e=inf,p=24)")
BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (p.add, ps.add),
    "subtract": (p.subtract, ps.subtract),
    "multiply": (p.multiply, ps.multiply),
    "divide": (p.divide, ps.divide),
}
UNARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sqrt": (p.sqrt, ps.sqrt),
    "exp": (p.exp, ps.exp),
    "log": (p.log, ps.log),
    "tanh": (p.tanh, ps.tanh),
    "reciprocal_sqrt": (p.reciprocal_sqrt, ps.rsqrt),
}


def single(values: Any) -> Floats:
    """Return a float32 array."""
    return np.asarray(values, np.float32)


def flushed(x: Any) -> Floats:
    """Return float32 numbers, those below 2**-125 as +0; by float64 comparisons."""
    x = np.asarray(x, np.float32)
    with np.errstate(invalid="ignore"):  # signalling NaN
        is_tiny = np.abs(x.astype(np.float64)) < 2.0**-125
    return np.where(is_tiny, np.float32(0), x)


def operands(seed: int) -> tuple[Floats, Floats]:
    """Return pairs: random ones, products and sums near 2**-125 and 2**-126, all special values."""
    rng = np.random.default_rng(seed)
    special = single([0, 1, 2, -1, 2.0**-125, -(2.0**-125), 2.0**127, np.inf, -np.inf, np.nan])
    pairs = np.stack(np.meshgrid(special, special), -1).reshape(-1, 2)
    exponent = rng.integers(-60, 60, SIZE).astype(np.float32)
    x = rng.uniform(1, 2, SIZE).astype(np.float32)
    y = (rng.choice([1, 2, 3.999], SIZE) / x.astype(np.float64)).astype(np.float32)
    left, right = np.ldexp(x, exponent.astype(int)), np.ldexp(y, -127 - exponent.astype(int))
    large = np.ldexp(x, rng.integers(-125, -100, SIZE))
    near = (-large * (1 + rng.integers(-9, 9, SIZE) * 2.0**-23)).astype(np.float32)
    any_bits = patterns(rng, SIZE, np.float32), patterns(rng, SIZE, np.float32)
    first = np.concatenate([any_bits[0], left, large, pairs[:, 0]])
    second = np.concatenate([any_bits[1], right, near, pairs[:, 1]])
    assert ((np.abs(left.astype(float) * right) < 2.0**-125).sum()) > SIZE // 4
    return flushed(first), flushed(second)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Operands, and each operation of them in NumPy and compiled, all in one program."""
    x, y = operands(0)

    def run(x: Any, y: Any) -> dict[str, Any]:
        results = {name: function(x, y) for name, (function, _) in BINARY.items()}
        return results | {name: function(x) for name, (function, _) in UNARY.items()}

    with np.errstate(all="ignore"):
        numpy = run(x, y)
    compiled = jax.jit(run)(jnp.asarray(x), jnp.asarray(y))
    return {"x": x, "y": y, "numpy": numpy, "jit": jax.device_get(compiled)}


@pytest.mark.long
@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_bits_are_the_rounded_exact_result_flushed(found: dict[str, Any], name: str) -> None:
    x, y = found["x"], found["y"]
    if name in BINARY:
        expected = flushed(BINARY[name][1](x, y, "fp32"))
    else:
        expected = flushed(UNARY[name][1](x, "fp32"))
    for way in ("numpy", "jit"):
        assert_same_bits(found[way][name], expected, x, y, note=f"{way} {name}")


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt"])
def test_bits_are_those_of_exact_rationals(found: dict[str, Any], name: str) -> None:
    """By `Fraction` and the scalar oracle alone, on a part of the operands."""
    take = np.arange(0, len(found["x"]), 23)
    x, y = found["x"][take].tolist(), found["y"][take].tolist()
    arguments = zip(x, strict=True) if name == "sqrt" else zip(x, y, strict=True)
    with np.errstate(all="ignore"):
        expected = flushed([rounded(EXACT[name](*values), FP32) for values in arguments])
    assert_same_bits(found["jit"][name][take], expected, take, note=name)


def test_flush_takes_every_number_below_the_smallest_and_no_other() -> None:
    edge = int(np.float32(2.0**-125).view(np.uint32))
    bits = np.arange(edge - 4, edge + 4, dtype=np.uint32)
    others = np.array([0, 1, 0x007FFFFF, 0x00800000, 0x7F800000, 0x3F800000], np.uint32)
    bits = np.concatenate([bits, others, bits | np.uint32(1 << 31), others | np.uint32(1 << 31)])
    expected = np.where((bits & np.uint32(0x7FFFFFFF)) < edge, 0, bits)
    assert np.array_equal(p.flush(bits.view(np.float32)).view(np.uint32), expected)
    compiled = jax.jit(p.flush)(jnp.asarray(bits.view(np.float32)))
    assert np.array_equal(np.asarray(compiled).view(np.uint32), expected)
    nan = np.array([0x7FC00000, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(p.flush(nan)).all()


def test_why_the_smallest_number_is_twice_the_smallest_normal_one() -> None:
    """Just below 2**-126 processors that flush differ from others, portable results do not.

    (1 + 2**-12) * (1 - 2**-12) * 2**-126 lies between the largest subnormal and 2**-126, at the
    tie: kept, it becomes 2**-126, a normal number. With unlimited exponents it is a number of 24
    bits below 2**-126, and flushed. A threshold of 2**-126 would let the one pass and not the
    other.
    """
    x, y = (1 + 2.0**-12) * 2.0**-63, (1 - 2.0**-12) * 2.0**-63
    exact = Fraction(x) * Fraction(y)
    normal = Fraction(2) ** -126
    assert normal - Fraction(2) ** -149 < exact < normal
    assert Fraction(rounded(exact, FP32)) == normal
    assert Fraction(rounded(exact, UNLIMITED)) < normal
    for way in (p.multiply, jax.jit(p.multiply)):
        product = way(jnp.float32(x), jnp.float32(y))
        assert np.asarray(product).view(np.uint32) == 0


def test_above_the_smallest_number_both_kinds_of_processors_agree() -> None:
    for k in range(-40, 40):
        exact = Fraction(2) ** -125 + k * Fraction(2) ** -152
        kept, unlimited = (Fraction(rounded(exact, spec)) for spec in (FP32, UNLIMITED))
        assert (kept >= 2 * Fraction(2) ** -126) == (unlimited >= 2 * Fraction(2) ** -126)
        if kept >= 2 * Fraction(2) ** -126:
            assert kept == unlimited


def test_product_and_sum_are_not_contracted_under_jit() -> None:
    """XLA on CPUs makes one fused operation of x * y + z; here are two roundings."""
    rng = np.random.default_rng(1)
    x, y, z = (rng.uniform(1, 2, 4096).astype(np.float32) for _ in range(3))
    z = -np.float32(x * y) * (1 + z * np.float32(2.0**-20))
    two = ps.add(ps.multiply(x, y, "fp32"), z, "fp32")
    one = ps.fma(x, y, z, "fp32")
    assert (bits_of(one) != bits_of(two)).mean() > 0.5  # the inputs can tell
    compiled = jax.jit(lambda x, y, z: p.add(p.multiply(x, y), z))(*map(jnp.asarray, (x, y, z)))
    assert_same_bits(compiled, flushed(two), x, y, z)
    assert_same_bits(p.add(p.multiply(x, y), z), flushed(two), x, y, z)


def assert_roots(radicands: Floats, roots: Any) -> None:
    """Compare roots of numbers in [1, 4) with exact integers: each is within half a unit."""
    bits = radicands.view(np.uint32).astype(np.int64)
    exponent, fraction = bits >> 23, bits & 0x7FFFFF
    wanted = (fraction | 0x800000) << (23 + exponent - 127)  # x * 2**46
    scaled = np.asarray(roots).astype(np.float64) * 2.0**23
    root = scaled.astype(np.int64)
    assert (root == scaled).all()
    assert ((root >= 1 << 23) & (root < 1 << 24)).all()
    # No tie occurs: a square of an odd number of halves has an odd last bit beyond `wanted`.
    assert ((2 * root - 1) ** 2 < 4 * wanted).all()
    assert (4 * wanted < (2 * root + 1) ** 2).all()


def significands(step: int) -> Floats:
    """Return the float32 numbers of [1, 4), every one of `step`."""
    return np.arange(0x3F800000, 0x40800000, step, dtype=np.uint32).view(np.float32)


@pytest.mark.long
def test_square_roots_are_rounded_to_nearest() -> None:
    """Some significands of [1, 4); the perfect squares there and their neighbours; both ways."""
    squares = (np.arange(1 << 11, 1 << 12, dtype=np.int64) ** 2 / 2.0**22).astype(np.float32)
    around = squares.view(np.uint32)[:, None] + np.arange(-1, 2)
    around = around.reshape(-1)[1:].astype(np.uint32).view(np.float32)
    x = np.concatenate([significands(97), squares, around])
    x = x[(x >= 1) & (x < 4)]
    assert_roots(x, p.sqrt(x))
    assert (p.sqrt(squares) ** 2 == squares).all()
    assert_roots(x, jax.jit(p.sqrt)(jnp.asarray(x)))


@pytest.mark.long
def test_square_roots_whose_first_estimate_is_special() -> None:
    """Only the estimate of 4 - 2**-21 is 2; at 1 + 2**-23 the remainder is where the rules part."""
    x = np.array([0x407FFFFE, 0x3F800001], np.uint32).view(np.float32)
    for roots in (p.sqrt(x), jax.jit(p.sqrt)(jnp.asarray(x))):
        assert_roots(x, roots)
        assert np.asarray(roots).view(np.uint32).tolist() == [0x3FFFFFFF, 0x3F800000]


@pytest.mark.slow
def test_every_square_root_is_rounded_to_nearest() -> None:
    x = significands(1)
    assert len(x) == 1 << 24
    assert_roots(x, jax.jit(p.sqrt)(jnp.asarray(x)))


@pytest.mark.parametrize("scale", [-125, -124, -1, 60, 125, 126])
def test_square_roots_of_all_exponents(scale: int) -> None:
    x = np.ldexp(significands(1 << 18), scale)
    x = x[np.isfinite(x)]
    assert_same_bits(p.sqrt(x), np.sqrt(x.astype(np.float64)).astype(np.float32), x)


def summed(values: list[np.float32]) -> np.float32:
    """Add the second half to the first until one number is left; zeros make a power of two."""
    if not values:
        return np.float32(0)
    size = 1
    while size < len(values):
        size *= 2
    values = values + [np.float32(0)] * (size - len(values))
    while len(values) > 1:
        half = len(values) // 2
        values = [np.float32(values[k] + values[half + k]) for k in range(half)]
        values = [np.float32(0) if abs(float(v)) < 2.0**-125 else v for v in values]
    return values[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 13])
def test_sum_adds_the_second_half_to_the_first(count: int) -> None:
    rng = np.random.default_rng(count)
    x = (rng.standard_normal((count, 3)) * 10.0 ** rng.integers(-3, 4, (count, 3))).astype("f4")
    expected = np.array([summed(list(column)) for column in x.T], np.float32)
    assert_same_bits(p.sum(x, 0), expected)
    assert_same_bits(p.sum(x.T, 1), expected)
    assert_same_bits(p.sum(x.T, -1), expected)
    assert_same_bits(p.sum(jnp.asarray(x), 0), expected)
    if count in (5, 13):
        assert_same_bits(jax.jit(lambda x: p.sum(x, 0))(x), expected)


def test_sum_along_each_axis() -> None:
    x = np.random.default_rng(3).standard_normal((3, 5, 6)).astype(np.float32)
    compiled = jax.jit(lambda x: [p.sum(x, axis) for axis in (0, 1, 2)])(x)
    for axis in (0, 1, 2):
        rows = np.moveaxis(x, axis, -1)
        expected = np.array([summed(list(r)) for r in rows.reshape(-1, rows.shape[-1])], np.float32)
        expected = expected.reshape(rows.shape[:-1])
        assert_same_bits(compiled[axis], expected)
        assert_same_bits(p.sum(x, axis - 3), expected)


def test_order_of_the_sum_matters_and_is_pairwise() -> None:
    """Left to right the small numbers would be lost one by one, as a platform may do."""
    x = single([1, 2.0**-24, 2.0**-24, 2.0**-24])
    assert p.sum(x, 0) == np.float32(1 + 2.0**-23)
    assert ps.accumulate(x, "fp32", axis=0) == 1


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 3, 8, 10])
def test_mean_multiplies_by_the_rounded_reciprocal(count: int) -> None:
    x = np.random.default_rng(count).standard_normal((2, count)).astype(np.float32)
    sums = [summed(list(row)) for row in x]
    expected = single([s * np.float32(1 / count) for s in sums])
    assert_same_bits(p.mean(x, 1), expected)
    assert_same_bits(p.mean(jnp.asarray(x), -1), expected)


def test_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"axis 1 of shape \(3, 0\) has no elements"):
        p.mean(np.zeros((3, 0), np.float32), 1)


@pytest.mark.parametrize(
    ("left", "right"), [((), ()), ((1,), ()), ((5,), (5,)), ((3, 1), (1, 5)), ((7, 1), ())]
)
def test_functions_of_many_operations_take_any_shapes(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    """They run by halves of flattened operands: scalars, odd sizes, broadcasting are special."""
    rng = np.random.default_rng(4)
    x, y = (rng.uniform(1, 9, s).astype(np.float32) for s in (left, right))
    got = p.divide(jnp.asarray(x), jnp.asarray(y))
    assert isinstance(got, jax.Array)
    assert_same_bits(got, np.asarray(x / y))
    if (left, right) == ((), ()):
        assert_same_bits(p.sqrt(jnp.float32(2)), np.float32(math.sqrt(2)))


@pytest.mark.parametrize("name", ["divide", *UNARY, "settle"])
def test_results_are_made_apart_whatever_uses_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA would repeat the hundreds of operations of an exponential in the loop of every use.

    A condition prevents that on a CPU, a loop over halves on a GPU.
    """
    arguments = (jnp.ones(7),) * (2 if name == "divide" else 1)
    uncached = partial(getattr(p, name))
    assert " cond[" in str(jax.make_jaxpr(uncached)(*arguments))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()  # type: ignore[no-untyped-call]
    text = str(jax.make_jaxpr(uncached)(*arguments))
    jax.clear_caches()  # type: ignore[no-untyped-call]
    assert " length=2" in text  # division has loops of its own too


def test_a_result_has_one_kernel_however_many_use_it() -> None:
    """Counted in the program that XLA's CPU compiler made."""

    def uses(y: Any) -> tuple[Any, ...]:
        return y.T + 1, y[:, :3] * 2, y.sum()

    def size(fun: Any) -> int:
        text = jax.jit(fun).lower(jnp.ones((8, 8))).compile().as_text()
        assert text is not None
        return int(text.count(" = "))

    assert size(lambda x: uses(p.exp(x))) - size(uses) < 1.2 * size(partial(p.exp))


@pytest.mark.long
@pytest.mark.parametrize("name", ["divide", *UNARY, "settle"])
def test_outside_of_jit_nothing_is_compiled_twice(name: str, compilations: Any) -> None:
    """Defect: every call made a new loop, which XLA compiled anew."""
    x = jnp.linspace(1, 2, 3)
    arguments = (x, x) if name == "divide" else (x,)
    operation = getattr(p, name)
    compilations(lambda: operation(*arguments))
    assert compilations(lambda: operation(*arguments)) == 0


@pytest.mark.long
def test_gradients_are_not_silently_zero() -> None:
    """They go through the flushing, which has bits as arguments, as through an identity."""
    x, y = jnp.float32(3), jnp.float32(5)
    for operation, expected in (
        (p.multiply, (5, 3)),
        (p.add, (1, 1)),
        (p.subtract, (1, -1)),
    ):
        gradient = jax.grad(operation, argnums=(0, 1))(x, y)
        assert tuple(map(float, gradient)) == expected
    assert float(jax.grad(lambda v: p.sum(v, 0))(jnp.ones(3))[2]) == 1
