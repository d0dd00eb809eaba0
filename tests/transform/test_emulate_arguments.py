"""What `emulate` takes and what it refuses, in one line each."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform import operation

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = np.random.default_rng(61)
X = RANDOM.integers(-200, 200, (4, 6)).astype(np.float32) / 64


@pytest.mark.long
def test_what_has_no_rule_is_refused_with_its_line() -> None:
    f: Callable[[Any], Any] = lambda x: jax.lax.linalg.cholesky_update(x, x[0]) * 3
    matrix = np.array([[4, 1.1], [1.1, 3]], np.float32)
    with pytest.raises(
        NotImplementedError,
        match=r"'cholesky_update' of float32 at .*test_emulate_arguments.py:\d+",
    ):
        ps.emulate(f, "fp16")(matrix)
    assert np.all(np.isfinite(ps.emulate(f, "fp16", strict=False)(matrix)))
    np.testing.assert_array_equal(ps.emulate(f, "fp32")(matrix), f(matrix))


def test_results_in_a_narrow_dtype_are_rounded_where_there_is_no_rule() -> None:
    """They were once taken for numbers of the carrier."""
    ones = jnp.ones(3, jnp.bfloat16)
    enlarged: Callable[[Any], Any] = lambda x: np.asarray(np.float32(x) * 1.1).astype(x.dtype)
    call = lambda x: jax.pure_callback(enlarged, ones, x, vmap_method="sequential")
    found = ps.emulate(call, "e4m3:saturate", strict=False)(ones)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(found), ps.round_to(enlarged(ones), "e4m3:saturate"))
    assert [row.primitive for row in ps.coverage(call, "fp16", ones).unknown] == ["pure_callback"]


def test_integers_and_sampling_are_left() -> None:
    def f(key: Any, x: Any) -> Any:
        return jnp.sum(jnp.arange(5) * 1000), jax.random.normal(key, (7,)), x

    key = jax.random.key(0)
    total, noise, _ = ps.emulate(f, "e4m3")(key, X)
    assert int(total) == 10000
    np.testing.assert_array_equal(noise, jax.random.normal(key, (7,)))


def test_arguments_that_are_no_arrays_stay_as_they_are() -> None:
    def f(x: Any, *, name: str, times: int, is_on: bool = True) -> Any:
        return [x] * times if name == "many" and is_on else x

    assert len(ps.emulate(f, "bf16")(X, name="many", times=3)) == 3
    assert ps.emulate(f, "bf16")(X, name="one", times=3).shape == X.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, "bf16"), "fun is 3; allowed is a function of arrays"),
        ((jnp.sin, "bf61"), "unknown policy 'bf61'"),
        ((jnp.sin, ["bf16"]), "policy is"),
    ],
)
def test_bad_arguments_have_one_line(arguments: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ps.emulate(*arguments)


@pytest.mark.long
def test_seeds_and_keys() -> None:
    f: Callable[[Any], Any] = lambda x: x * 1.7
    expected = ps.emulate(f, "q3.8:sr", seed=3)(X)
    for seed in (np.int64(3), jnp.int32(3), jax.random.key(3), jax.random.PRNGKey(3)):
        np.testing.assert_array_equal(ps.emulate(f, "q3.8:sr", seed=seed)(X), expected)
    for seed in ("a", 1.5, None, True):
        with pytest.raises(TypeError, match=r"seed is .*; allowed are an integer and a key"):
            ps.emulate(f, "bf16", seed=seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="params is 3; allowed are positions of the 1 arguments"):
        ps.emulate(f, "bf16", params=3)(X)
    with pytest.raises(TypeError, match="strict is 'no'; allowed are True, False"):
        ps.emulate(f, "bf16", strict="no")  # type: ignore[arg-type]


def test_formats_are_policies() -> None:
    parse = ps.Policy.parse
    assert parse("float(e=6,p=10)") == parse(
        "c=float(e=6,p=10),p=float(e=6,p=10),o=float(e=6,p=10)"
    )
    assert parse("q3.8:sr") == parse("q3.8_sr")
    with pytest.raises(ValueError, match="policy is 'uint8', a format with scales; allowed are"):
        parse("uint8")


def test_results_of_a_rule_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(operation.RULES, "digamma", operation.RULES["digamma"])  # is put back
    wrong: list[Any] = [lambda _, x: x[:1], lambda _, x: None, lambda _, x: x > 0]
    for function in wrong:
        ps.register_rule("digamma", function)
        with pytest.raises(TypeError, match=r"the rule for 'digamma' returns .*; allowed are"):
            ps.emulate(jax.lax.digamma, "bf16")(X)
    with pytest.raises(TypeError, match="primitive is 3; allowed are"):
        ps.register_rule(3)


def _dot(x: Any) -> Any:
    return (x @ x.T)[0, 1]


def _conv(x: Any) -> Any:
    return jax.lax.conv(x[None, None], x[None, None, :2, :3], (1, 1), "SAME")[0, 0, 1, 2]


@pytest.mark.parametrize(
    ("policy", "fun"),
    [
        ("fp8_current", _dot),
        pytest.param("fp8_current", _conv, marks=pytest.mark.long),
        pytest.param("h100_bf16", jax.grad(_conv), marks=pytest.mark.long),
    ],
)
def test_float64_operands_are_rounded_for_products_of_float32(policy: str, fun: Any) -> None:
    """Such products were refused, or failed in the middle of a convolution."""
    narrow = jax.jit(ps.emulate(fun, policy))(X)
    with jax.enable_x64(True):
        wide = jax.jit(ps.emulate(fun, policy))(jnp.asarray(X, np.float64))
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(np.float32(wide), narrow)


@pytest.mark.long
def test_gradients_of_float64_products_of_float32() -> None:
    """A spec of a gradient alone was not checked."""
    fun = ps.emulate(_dot, "fwd=bf16_bf16_fp32,dgrad=h100:bf16")
    narrow = jax.grad(fun)(X)
    with jax.enable_x64(True):
        wide = jax.grad(fun)(jnp.asarray(X, np.float64))
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(np.float32(wide), narrow)


@pytest.mark.parametrize("is_second", [False, True])
def test_products_of_two_dtypes(is_second: bool) -> None:
    """`lax.dot_general` takes float64 beside float32, as netket does; that was refused."""
    multiply = jax.jit(lambda x, w: jax.lax.dot_general(x, w, (((1,), (1,)), ((), ()))))
    of_both = lambda x, w: jnp.sum(ps.emulate(multiply, "bf16", params=None)(x, w) ** 2)
    narrow = jax.grad(of_both, argnums=(0, 1))(X, X[:3])
    with jax.enable_x64(True):
        arrays: list[Any] = [X, X[:3]]
        arrays[is_second] = jnp.asarray(arrays[is_second], np.float64)
        assert ps.emulate(multiply, "bf16")(*arrays).dtype == multiply(*arrays).dtype
        wide = jax.grad(of_both, argnums=(0, 1))(*arrays)
    for x, found, expected in zip(arrays, wide, narrow, strict=True):
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(np.float32(found), expected)


def test_coverage_says_where_a_dtype_lacks_the_format() -> None:
    x = jnp.asarray(X, jnp.bfloat16)
    fun = lambda x: (x * x).astype(jnp.float32) + jnp.sum(x, dtype=jnp.bfloat16)
    formats = {row.primitive: row.format for row in ps.coverage(fun, "fp16", x).rows}
    assert formats["mul"] == "fp16, then bf16"
    assert formats["add"] == "fp16"
    for same in (ps.coverage(fun, "e4m3", x), ps.coverage(jnp.sin, "fp16", X)):
        assert not any("then" in row.format for row in same.rows)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: ps.emulate(f, "bf16")(x),
        lambda f, x: ps.autocast(f, "bf16")(x),
        lambda f, x: ps.strict(f)(x),
        lambda f, x: ps.coverage(f, "bf16", x),
        lambda f, x: ps.analyze(f, x, policy="bf16"),
    ],
    ids=["emulate", "autocast", "strict", "coverage", "analyze"],
)
def test_a_result_that_is_no_array_is_named(call: Any) -> None:
    def lossy(x: Any) -> Any:
        return {"y": x, "note": ["done"]}

    message = r"fun, lossy, returns 'done' as result\['note'\]\[0\]; allowed are arrays, numbers"
    with pytest.raises(TypeError, match=message):
        call(lossy, jnp.ones(3))
