"""Blocks along K with float32 scales, applied at each promotion, against exact rationals."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits

SPEC = "h100:e4m3:promote32"
CHEAP = "e4m3_e4m3_float(e=8,p=14)[rtz]:fused4x13:promote8"  # short steps compile fast


def data(k: int, interval: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(k)
    blocks = -(-k // interval)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((3, k), (k, 4)))
    scales = (rng.lognormal(size=s).astype(np.float32) for s in ((3, blocks), (blocks, 4)))
    return (np.asarray(ps.round_to(a, "e4m3")), np.asarray(ps.round_to(b, "e4m3")), *scales)


def fl32(x: Fraction) -> Fraction:
    return Fraction(ps.oracle.round_exact(x, "fp32").value)


@pytest.mark.parametrize("contracts", [True, False])
def test_definition(contracts: bool) -> None:
    for k in (1, 70, 96):
        a, b, a_scales, b_scales = data(k, 32)
        got = ps.scaled_matmul(
            a,
            b,
            SPEC,
            a_scales=a_scales,
            b_scales=b_scales,
            contracts=contracts,
            backend="reference",
        )
        for i, j in np.ndindex(3, 4):
            total = Fraction(0)
            for block in range(a_scales.shape[1]):
                part = slice(32 * block, 32 * block + 32)
                chain = ps.oracle.fused_dot_exact(
                    a[i, part].tolist(), b[part, j].tolist(), 0.0, "h100:e4m3"
                )
                scale = fl32(
                    Fraction(float(a_scales[i, block])) * Fraction(float(b_scales[block, j]))
                )
                scaled = scale * Fraction(chain)
                total = fl32(total + (scaled if contracts else fl32(scaled)))
            assert got[i, j] == float(total), (k, i, j)


@pytest.mark.long
def test_jit_has_the_bits_of_numpy_and_scales_of_one_are_promotion() -> None:
    a, b, a_scales, b_scales = data(20, 8)

    def run(a: Any, b: Any, s: Any, t: Any) -> Any:
        return ps.scaled_matmul(a, b, CHEAP, a_scales=s, b_scales=t)

    expected = ps.scaled_matmul(
        a, b, CHEAP, a_scales=a_scales, b_scales=b_scales[:, :1], backend="reference"
    )
    assert_same_bits(jax.jit(run)(a, b, a_scales, b_scales[:, :1]), expected)
    ones = ps.scaled_matmul(
        a, b, CHEAP, a_scales=a_scales[:1] * 0 + 1, b_scales=b_scales * 0 + 1, backend="reference"
    )
    assert_same_bits(ones, ps.matmul(a, b, CHEAP, backend="reference"))
    with pytest.raises(TypeError, match="scaled_matmul has no gradient"):
        jax.grad(lambda a: run(a, b, a_scales, b_scales).sum())(jnp.asarray(a))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"spec": "h100:e4m3"}, ValueError, "allowed are tensor cores with promotion"),
        ({"backend": "native"}, ValueError, "backend is 'native'; allowed are 'emulated'"),
        ({"a_scales": np.ones((3, 2), np.float32)}, ValueError, r"a_scales has shape \(3, 2\); allowed is \(3, 3\)"),
        ({"b_scales": np.ones((3, 2), np.float32)}, ValueError, r"b_scales has shape \(3, 2\); allowed is \(3, 4\)"),
        ({"b_scales": np.ones((3, 4))}, TypeError, "b_scales has dtype float64; allowed is float32"),
        ({"b": np.ones((71, 4), np.float32)}, ValueError, "do not match: K differs"),
        ({"a": np.ones(70, np.float32)}, ValueError, "allowed are two dimensions"),
    ],
)  # fmt: skip
def test_refusals(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    a, b, a_scales, b_scales = data(70, 32)
    given: dict[str, Any] = {
        "a": a,
        "b": b,
        "spec": SPEC,
        "a_scales": a_scales,
        "b_scales": b_scales,
    }
    given |= change
    with pytest.raises(kind, match=message):
        ps.scaled_matmul(given.pop("a"), given.pop("b"), given.pop("spec"), **given)
