"""Elementary functions against MPFR: every input of fp16 and bf16, every mode, NumPy and JAX alike.

Twice by other people's code: MPFR rounds to fp16 and bf16 itself (five modes); for the other
formats and modes it gives float64 rounded to odd, which keeps all that a rounding to 24 bits and
fewer can ask for.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import gmpy2  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.kernel.kernel import round_array
from tests.arithmetic.conftest import DETERMINISTIC, Floats, assert_same_bits, patterns
from tests.arithmetic.test_mpfr import ROUNDINGS

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": ps.exp,
    "log": ps.log,
    "tanh": ps.tanh,
    "erf": ps.erf,
    "sigmoid": ps.sigmoid,
    "rsqrt": ps.rsqrt,
}
CONTEXTS = {
    "fp16": gmpy2.ieee(16),
    "bf16": gmpy2.context(precision=8, emax=128, emin=-132, subnormalize=True),
    "fp32": gmpy2.ieee(32),
}


def sigmoid(x: Any) -> Any:
    """Round 1 / (1 + exp(-x)) in the current context; the steps before have bits enough."""
    if x < -200:
        return gmpy2.exp(x)
    with gmpy2.context(precision=400):
        total = 1 + gmpy2.exp(-x)
        if gmpy2.is_finite(x) and x > 200:
            total = 1 + gmpy2.mpfr(2.0**-280)
        if x and abs(x) < 2.0**-200:
            total = 2 - gmpy2.copy_sign(gmpy2.mpfr(2.0**-280), x)
    return 1 / total


def rsqrt(x: Any) -> Any:
    """MPFR has +infinity for -0, against IEEE 754-2019, 9.2.1, and says so."""
    return 1 / x if x == 0 else gmpy2.rec_sqrt(x)


MPFR: dict[str, Callable[[Any], Any]] = {
    "exp": gmpy2.exp,
    "log": gmpy2.log,
    "tanh": gmpy2.tanh,
    "erf": gmpy2.erf,
    "sigmoid": sigmoid,
    "rsqrt": rsqrt,
}


def every_input(fmt: str) -> Floats:
    """Return all 2**16 values of fp16 or bf16, infinities and NaN included, as float32."""
    codes = np.arange(1 << 16, dtype=np.uint16)
    if fmt == "fp16":
        return codes.view(np.float16).astype(np.float32)
    return (codes.astype(np.uint32) << 16).view(np.float32)


def by_mpfr(name: str, x: Floats, fmt: str, mode: str) -> Floats:
    """Let MPFR compute and round."""
    context = CONTEXTS[fmt].copy()
    context.round = ROUNDINGS[mode]
    function = MPFR[name]
    with gmpy2.context(context):
        values = [float(function(gmpy2.mpfr(v))) for v in x.tolist()]
    return np.array(values, x.dtype)


def to_odd(name: str, x: Floats) -> Floats:
    """Let MPFR compute float64 results rounded to odd: truncated, last bit set if inexact.

    Finite results of extreme size become 2**1000 or 2**-1000, beyond all that float32 formats tell
    apart.
    """
    function = MPFR[name]
    with gmpy2.context(precision=53, round=gmpy2.RoundToZero):
        results = [function(gmpy2.mpfr(v)) for v in x.tolist()]
        inexact = np.array([v.rc != 0 for v in results])
        clamped = [v if v.rc == 0 else clamp(v) for v in results]
    values = np.array([float(v) for v in clamped])
    odd: Floats = (values.view(np.uint64) | inexact).view(np.float64)
    return odd


def clamp(v: Any) -> Any:
    size = min(max(abs(v), gmpy2.mpfr(2.0**-1000)), gmpy2.mpfr(2.0**1000))
    return gmpy2.copy_sign(size, v)


@lru_cache(maxsize=16)
def every_result(name: str, fmt: str) -> Floats:
    return to_odd(name, every_input(fmt))


def expected_from(exact: Floats, spec: str, dtype: Any = np.float32, **options: Any) -> Floats:
    """Round results that are rounded to odd."""
    rounded = round_array(exact, options.get("random_bits"), ps.RoundingSpec.parse(spec))
    return np.asarray(rounded, dtype)


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_fp16_equals_mpfr(name: str) -> None:
    x = every_input("fp16")
    assert_same_bits(FUNCTIONS[name](x, "fp16"), by_mpfr(name, x, "fp16", "rne"), x)


SLOW_BELOW = {"erf", "tanh", "log"}  # of which every fp16 input is tried by default


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW_BELOW else n for n in FUNCTIONS]
)
def test_every_bf16_in_every_mode(name: str) -> None:
    """All inputs in modes that tell all neighbours apart, else every fifth; subnormals too."""
    x, exact = every_input("bf16"), every_result(name, "bf16")
    for mode in DETERMINISTIC:
        part = slice(None, None, 1 if mode in ("rne", "rtz", "rtp", "rtn", "rto") else 5)
        spec = f"bf16:{mode}"
        assert_same_bits(FUNCTIONS[name](x[part], spec), expected_from(exact[part], spec), x[part])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ROUNDINGS)
@pytest.mark.parametrize("fmt", ["fp16", "bf16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_input_equals_mpfr_in_directed_modes(name: str, fmt: str, mode: str) -> None:
    x = every_input(fmt)
    got = FUNCTIONS[name](x, f"{fmt}:{mode}")
    assert_same_bits(got, by_mpfr(name, x, fmt, mode), x)
    got = jax.jit(partial(FUNCTIONS[name], spec=f"{fmt}:{mode}"))(x)
    assert_same_bits(got, by_mpfr(name, x, fmt, mode), x)


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("e4m3", marks=pytest.mark.slow),
        "e4m3:rtp:saturate",
        pytest.param("e5m2", marks=pytest.mark.slow),
        "e5m2:rtn:flush_after_rounding",
        "e2m1:rto",
        "e8m0",
        "fp16:raz",
        "tf32:rtz",
        "fp32",
        "fp32:rtn",
        "float(e=8,p=17):rna",
        "q3.12",
        "q-2.8:rtp",
        "uq0.8:rtz",
    ],
)
def test_other_formats(spec: str) -> None:
    """Small formats, subnormals, 24 bits, fixed point; OFP8: all bf16 inputs, else every 64th."""
    part = slice(None, None, 1 if spec in ("e4m3", "e5m2") else 64)
    for name, function in FUNCTIONS.items():
        x = every_input("bf16")[part]
        want = expected_from(every_result(name, "bf16")[part], spec)
        assert_same_bits(function(x, spec), want, x, note=name)


@pytest.mark.parametrize("mode", ["rne", "rtp"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_fp32_equals_mpfr(name: str, mode: str) -> None:
    """Arguments of any size, and of a size that leaves no result trivial."""
    rng = np.random.default_rng(11)
    moderate = rng.uniform(-1, 1, 1500) * rng.choice([0.01, 1, 10, 100], 1500)
    x = np.concatenate([patterns(rng, 1500, np.float32), moderate.astype(np.float32)])
    x = np.concatenate([x, -np.abs(x[:20])]) if name in ("log", "rsqrt") else x
    got = FUNCTIONS[name](x, f"fp32:{mode}")
    assert_same_bits(got, by_mpfr(name, x, "fp32", mode), x)


CLOSEST = {
    "exp": [0x369FFFE7, 0xB6800010],
    "log": [0x65D890D3],
    "tanh": [0x33000001],
    "erf": [0x40C1FFFF],
    "sigmoid": [0x34000000, 0xB6800000],
    "rsqrt": [0x4055B7BD],
}
"""Inputs whose results are closest to a boundary, as test_elementary_hard_cases found them."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hard_cases(name: str) -> None:
    """Those above; and x with 1 + g, near exp(x), or 1/2 + x / 4, near sigmoid(x), a boundary."""
    g = np.arange(-128, 129) * 2.0**-24
    x = np.array(CLOSEST[name], np.uint32).view(np.float32)
    x = np.concatenate([x, g - g * g / 2, g, np.ldexp(g, 2), np.ldexp(g, -5)]).astype(np.float32)
    for mode in ("rne", "rtp", "rtn"):
        got = FUNCTIONS[name](x, f"fp32:{mode}")
        assert_same_bits(got, by_mpfr(name, x, "fp32", mode), x, note=mode)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_carrier(name: str) -> None:
    """The same results for float32 numbers, and those of MPFR for others."""
    rng = np.random.default_rng(12)
    x = patterns(rng, 1000, np.float32)
    for spec in ("bf16", "e5m2:rtn"):
        with np.errstate(invalid="ignore"):  # signalling NaN
            wide = FUNCTIONS[name](x.astype(np.float64), spec)
        assert_same_bits(wide.astype(np.float32), FUNCTIONS[name](x, spec), x)
    y = np.ldexp(rng.uniform(-1, 1, 1000), rng.integers(-70, 11, 1000))
    y = np.concatenate([y, np.abs(patterns(rng, 500, np.float64)), 1 + np.ldexp(y, -3)])
    exact = to_odd(name, y)
    for spec in ("fp32:rtz", "tf32", "float(e=10,p=24):rtp"):
        want = expected_from(exact, spec, np.float64)
        assert_same_bits(FUNCTIONS[name](y, spec), want, y, note=spec)


SPECIAL: dict[str, tuple[list[float], list[float]]] = {
    "exp": ([0.0, -0.0, np.inf, -np.inf, np.nan], [1.0, 1.0, np.inf, 0.0, np.nan]),
    "log": (
        [0.0, -0.0, 1.0, np.inf, -np.inf, -1.0],
        [-np.inf, -np.inf, 0.0, np.inf, np.nan, np.nan],
    ),
    "tanh": ([0.0, -0.0, np.inf, -np.inf, np.nan], [0.0, -0.0, 1.0, -1.0, np.nan]),
    "erf": ([0.0, -0.0, np.inf, -np.inf, np.nan], [0.0, -0.0, 1.0, -1.0, np.nan]),
    "sigmoid": ([0.0, -0.0, np.inf, -np.inf, np.nan], [0.5, 0.5, 1.0, 0.0, np.nan]),
    "rsqrt": (
        [0.0, -0.0, np.inf, -1.0, 2.0**-148, 2.0**126],
        [np.inf, -np.inf, 0.0, np.nan, 2.0**74, 2.0**-63],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_and_exact_results(name: str) -> None:
    """IEEE 754-2019, 9.2.1; the same in every mode, as nothing is rounded."""
    given, want = SPECIAL[name]
    for dtype in (np.float32, np.float64):
        x = np.array(given, dtype)
        for mode in DETERMINISTIC:
            got = FUNCTIONS[name](x, f"float(e=8,p=9):{mode}")
            assert_same_bits(got, np.array(want, dtype), x, note=mode)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_next_to_a_boundary(dtype: Any) -> None:
    """For tiny and large arguments the result is next to a value: each mode sees the side."""
    tiny, x = dtype(2.0**-100), np.array([2.0**-100, -(2.0**-100)], dtype)
    ulp = 2.0**-7
    assert ps.exp(x, "bf16:rtp").tolist() == [1 + ulp, 1.0]
    assert ps.exp(x, "bf16:rtz").tolist() == [1.0, 1 - ulp / 2]
    assert ps.sigmoid(x, "bf16:rtp").tolist() == [0.5 + ulp / 2, 0.5]
    assert ps.sigmoid(x, "bf16:rtz").tolist() == [0.5, 0.5 - ulp / 4]
    assert ps.tanh(x, "bf16:rtz").tolist() == [tiny * (1 - ulp / 2), -tiny * (1 - ulp / 2)]
    assert ps.tanh(x, "bf16:raz").tolist() == x.tolist()
    large = np.array([50.0, 1e38, np.finfo(dtype).max], dtype)
    for function in (ps.tanh, ps.erf, ps.sigmoid):
        assert function(large, "bf16").tolist() == [1.0] * 3
        assert function(large, "bf16:rtz").tolist() == [1 - ulp / 2] * 3
    for function in (ps.exp, ps.sigmoid):  # below every value but 0
        assert function(-large, "bf16:rtp")[1:].tolist() == [2.0**-133] * 2
        assert function(-large, "bf16")[1:].tolist() == [0.0] * 2
    assert ps.exp(large, "bf16:rtz")[1:].tolist() == [2.0**128 - 2.0**120] * 2


SIZE = 2048


def sample(dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(3)
    small = rng.uniform(-8, 8, SIZE // 2)
    return np.concatenate([patterns(rng, SIZE // 2, np.float32), small]).astype(dtype)


@pytest.mark.long
@pytest.mark.parametrize("name", ["exp"])
def test_eager_jax_equals_numpy(name: str) -> None:
    check_eager(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log", "tanh", "erf", "sigmoid", "rsqrt"])
def test_eager_jax_equals_numpy_for_the_others(name: str) -> None:
    check_eager(name)


def check_eager(name: str) -> None:
    """Compare the values; and the gradient with that of JAX's own function."""
    x, function = sample(), FUNCTIONS[name]
    got = function(jnp.asarray(x), "bf16")
    assert isinstance(got, jax.Array)
    assert_same_bits(got, function(x, "bf16"), x)
    _, pull_back = jax.vjp(lambda x: function(x, "bf16"), jnp.asarray(x))
    special = {"erf": jax.scipy.special.erf, "sigmoid": jax.nn.sigmoid}
    _, own_pull_back = jax.vjp(special.get(name) or getattr(jax.lax, name), jnp.asarray(x))
    ones = jnp.ones(SIZE, jnp.float32)
    np.testing.assert_allclose(pull_back(ones)[0], own_pull_back(ones)[0], rtol=1e-4, atol=1e-6)


def check_transforms(name: str) -> None:
    """Compare vmap under jit with NumPy."""
    x, function = sample(), partial(FUNCTIONS[name], spec="fp16:rtp")
    want = FUNCTIONS[name](x, "fp16:rtp")
    columns = jax.jit(jax.vmap(function))(jnp.asarray(x).reshape(2, -1))
    assert_same_bits(columns, want.reshape(2, -1), x)


@pytest.mark.long
def test_jit_and_vmap() -> None:
    check_transforms("log")


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_jit_and_vmap_of_each(name: str) -> None:
    check_transforms(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_under_jit(name: str) -> None:
    x = sample(np.float64)
    with jax.enable_x64(True):
        got = np.asarray(jax.jit(partial(FUNCTIONS[name], spec="tf32"))(jnp.asarray(x)))
    assert_same_bits(got, FUNCTIONS[name](x, "tf32"), x)


@pytest.mark.long
def test_float64_under_jit_of_one() -> None:
    x = sample(np.float64)
    with jax.enable_x64(True):
        got = np.asarray(ps.log(jnp.asarray(x), "tf32"))
    assert_same_bits(got, ps.log(x, "tf32"), x)


@pytest.mark.parametrize("spec", ["bf16:sr", "e4m3:sr8", "fp16:sr13:b", "e5m2:sr32:c", "q1.8:sr4"])
def test_stochastic_mode(spec: str) -> None:
    """From the odd float64 results: precision plus random bits plus one are at most 53."""
    rng = np.random.default_rng(5)
    draws = rng.integers(0, 1 << 32, 1 << 10, dtype=np.uint64)
    for name, function in FUNCTIONS.items():
        x = every_input("bf16")[::64]
        want = expected_from(every_result(name, "bf16")[::64], spec, random_bits=draws)
        got = function(x, spec, random_bits=draws)
        assert_same_bits(got, want, x, note=name)


def test_one_draw_in_four_rounds_up() -> None:
    """A mean over all draws: the probability is the discarded fraction."""
    draws = np.arange(256, dtype=np.uint32)
    mean = ps.exp(np.ones(256, np.float32), "e4m3:sr8", random_bits=draws).mean()
    assert abs(mean - np.e) < 0.25 / 256


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ps.exp(np.ones(2), "fp64"), ValueError, "up to 53 significant bits; allowed are 24"),
    (
        lambda: jax.jit(lambda x: ps.log(x, "q3.16:wrap"))(jnp.ones(2)),
        ValueError,
        "results of log have up to 26 significant",
    ),
    (lambda: ps.exp(1.0, "q3.12:wrap"), ValueError, "results of exp have up to 1036 sig"),
    (lambda: ps.log(1.0, "q5.20"), ValueError, "results of log have up to 25 significant"),
    (lambda: ps.tanh(1.0, "q3.25"), ValueError, "results of tanh have up to 25 significant"),
    (lambda: ps.tanh(1.0, "mxfp8"), ValueError, "spec is mxfp8.*a block format"),
    (lambda: ps.erf(np.ones(1, np.float32), "fp64"), ValueError, "results of erf have up to 53"),
    (lambda: ps.sigmoid(np.ones(2, np.int16), "bf16"), TypeError, "x has dtype int16; allowed"),
    (lambda: ps.rsqrt(np.ones(1, np.float32), "float(e=11,p=9)"), ValueError, "cannot hold"),
    (lambda: ps.exp(1.0, "bf16:sr"), ValueError, "random_bits is missing"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_fixed_point_within_24_bits_is_accepted() -> None:
    """Wide formats where the function's results are small; wrapping where they fit."""
    assert ps.tanh([-2.0, 0.0], "q9.14").tolist() == [-0.96405029296875, 0.0]
    assert ps.sigmoid(100.0, "uq0.8:wrap").item() == 0.0
    assert ps.log(1e6, "q3.12:wrap").item() == ps.log(1e6, "q4.12").item() - 16
