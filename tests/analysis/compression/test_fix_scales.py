"""`fix_scales`: the scales are those of `calibrate`, and products take rounded activations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

F32: Any = np.float32
any_fix: Any = ps.fix_scales
RNG = np.random.default_rng(9)
PARAMS = [RNG.normal(size=shape).astype(np.float32) for shape in ((8, 16), (16, 4))]
BATCHES = [(RNG.normal(size=(32, 8)).astype(np.float32),) for _ in range(3)]


def apply(params: Any, x: Any) -> Any:
    with jax.named_scope("hidden"):
        x = jax.nn.relu(x @ params[0])
    return x @ params[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "method"), [("int8", "minmax"), ("int4", "mse"), ("e4m3:scale=tensor", "percentile")]
)
def test_scales_and_results_by_hand(spec: str, method: str) -> None:
    fixed = ps.fix_scales(apply, spec, PARAMS, BATCHES, method=method, percentile=99.0)
    every = np.concatenate([x for (x,) in BATCHES])
    hidden = np.maximum(np.asarray(jnp.asarray(every) @ PARAMS[0]), 0)
    scales = [ps.calibrate(a, spec, method=method, percentile=99.0) for a in (every, hidden)]
    assert list(fixed.scales) == ["hidden/dot_general/0:0", "dot_general/2:0"]
    for found, wanted in zip(fixed.scales.values(), scales, strict=True):
        np.testing.assert_allclose(np.asarray(found.scale), np.asarray(wanted.scale), rtol=1e-5)
        assert found.zero_point == wanted.zero_point


@pytest.mark.long
def test_values_are_those_of_the_format_with_the_scale_of_its_own() -> None:
    x, w = BATCHES[0][0], np.eye(8, dtype=np.float32)
    fixed = ps.fix_scales(lambda w, x: x @ w, "int8", w, [(x,)])
    np.testing.assert_allclose(fixed(w, x), ps.round_to(x, "int8"), rtol=1e-6)


@pytest.mark.long
def test_under_a_policy_and_with_compressed_weights() -> None:
    fixed = ps.fix_scales(apply, "int8", PARAMS, BATCHES)
    (x,) = BATCHES[0]
    exact, plain = apply(PARAMS, x), fixed(PARAMS, x)
    assert ps.sqnr(plain, exact) > 35
    rows = ps.coverage(fixed, "bf16", PARAMS, x).rows
    assert [
        (row.primitive, row.how) for row in rows if row.primitive in ("jit", "dot_general")
    ] == 2 * [("jit", "exempt"), ("dot_general", "product")]
    weights = ps.compress(PARAMS, "int8_symmetric_channel").params
    assert 30 < ps.sqnr(fixed(weights, x), exact) < ps.sqnr(plain, exact)


@pytest.mark.long
def test_numbers_beyond_the_batches_become_their_end() -> None:
    w = np.eye(1, dtype=np.float32)
    fixed = ps.fix_scales(lambda w, x: x @ w, "int8", w, [(F32([[0.0], [1.0]]),)])
    assert fixed(w, F32([[5.0], [-5.0]])).tolist() == [[1.0], [0.0]]


def test_both_operands_of_attention_have_scales_and_weights_have_none() -> None:
    def scores(w: Any, x: Any) -> Any:
        return jax.checkpoint(lambda q: q @ q.T)(x @ w)

    fixed = ps.fix_scales(scores, "int8", PARAMS[0], BATCHES)
    assert [name.rpartition(":")[2] for name in fixed.scales] == ["0", "0", "1"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: any_fix(apply, "int8", PARAMS, []), "batches have no activations"),
        (lambda: any_fix(apply, "int8", PARAMS, [BATCHES[0][0]]), "a batch is .*allowed are tuples"),
        (lambda: any_fix(apply, "mxfp4", PARAMS, BATCHES), "fmt is mxfp4; allowed are formats with"),
        (lambda: any_fix(3, "int8", PARAMS, BATCHES), "fun is 3"),
        (
            lambda: any_fix(
                lambda w, x: jax.lax.scan(lambda h, _: (h @ w, None), x, length=2),
                "int8", np.eye(8, dtype=np.float32), BATCHES,
            ),
            "scan at .* has products in it",
        ),
    ],
)  # fmt: skip
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()


def test_another_way_through_the_function_is_refused() -> None:
    def fun(w: Any, x: Any) -> Any:
        return x @ w if x.shape[0] > 1 else jnp.sin(x) @ w

    fixed = any_fix(fun, "int8", PARAMS[0], BATCHES)
    with pytest.raises(ValueError, match=r"product .* has no scale"):
        fixed(PARAMS[0], BATCHES[0][0][:1])
