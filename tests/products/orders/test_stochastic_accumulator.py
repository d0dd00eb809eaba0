"""Stochastic accumulators: Threefry's bits at (seed, k), as scalar definitions in rationals."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.threefry import bits_at
from tests.products.conftest import assert_same_bits

ORDERS = ("sequential", "pairwise", "blocked4", "kahan", "two_sum", "exact")
Round = Callable[[Fraction, int, int], Fraction]


def definition(products: list[Fraction], total: Fraction, order: str, fl: Round) -> Fraction:
    """One element from the definition; ``fl(x, k, i)`` is the i-th rounding of step k."""
    n = len(products)
    if order == "exact":
        return fl(sum(products, total), n, 0)
    if order == "pairwise":
        level = [(k, fl(p, k, 0)) for k, p in enumerate(products)]
        depth = 0
        while len(level) > 1:
            depth += 1
            pairs = [
                # A complete subtree is merged with its last product, the others at the end.
                (j, fl(x + y, j if (j + 1) % 2**depth == 0 else n, depth))
                for (_, x), (j, y) in zip(level[::2], level[1::2], strict=False)
            ]
            level = pairs + level[2 * len(pairs) :]
        return fl(total + level[0][1], n, 0)
    if order.startswith("blocked"):
        size = int(order[7:])
        for first in range(0, n, size):
            part = Fraction(0)
            for k in range(first, min(first + size, n)):
                part = fl(part + products[k], k, 0)
            total = fl(total + part, first, 1)
        return total
    error = Fraction(0)
    for k, p in enumerate(products):
        if order == "sequential":
            total = fl(total + p, k, 0)
            continue
        x = fl(p, k, 0)
        if order == "kahan":
            y = fl(x - error, k, 1)
            new = fl(total + y, k, 2)
            error = fl(fl(new - total, k, 3) - y, k, 4)
        else:
            new = fl(total + x, k, 1)
            virtual = fl(new - total, k, 2)
            before = fl(total - fl(new - virtual, k, 3), k, 4)
            error = fl(error + fl(before + fl(x - virtual, k, 5), k, 6), k, 7)
        total = new
    return fl(total + error, n, 0) if order == "two_sum" else total


def data(fmt: str, seed: int, k: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    a, b, c = (
        np.asarray(ps.round_to(rng.standard_normal(s).astype(np.float32), fmt))
        for s in ((3, k), (k, 2), (3, 2))
    )
    return a, b, c, rng.integers(0, 2**32, (3, 2), dtype=np.uint32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["bf16[sr]", "float(e=8,p=5)[sr4]"])
def test_definition(text: str, order: str) -> None:
    rounding = ps.RoundingSpec.parse(text.replace("[", ":").rstrip("]"))
    fmt = rounding.format.name
    spec = ps.MatmulSpec.parse(f"{fmt}_{fmt}_{text}:{order}")
    assert ps.MatmulSpec.parse(str(spec)) == spec
    for k in (1, 2, 7, 21):
        a, b, c, seeds = data(fmt, k, k)
        got = ps.matmul(a, b, spec, c=c, random_bits=seeds, backend="reference")
        for i, j in np.ndindex(3, 2):

            def fl(x: Fraction, k: int, stream: int, seed: Any = seeds[i, j]) -> Fraction:
                draw = int(bits_at(seed, k, stream))
                return Fraction(ps.oracle.round_exact(x, rounding, random_bits=draw).value)

            products = [
                Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[i], b[:, j], strict=True)
            ]
            want = definition(products, Fraction(float(c[i, j])), order, fl)
            assert got[i, j] == float(want), (k, i, j)


@pytest.mark.long
@pytest.mark.parametrize("options", ["", ":adder=fp32", ":product=bf16", ":pairwise", ":exact"])
def test_jit_vmap_and_batches_have_the_bits_of_numpy(options: str) -> None:
    spec = f"fp16_fp16_fp16[sr]->bf16[sr8]{options}"
    a, b, c, seeds = (np.stack(x) for x in zip(*(data("fp16", s, 13) for s in (1, 2)), strict=True))
    expected = ps.matmul(a, b, spec, c=c, random_bits=seeds, backend="reference")

    def run(a: Any, b: Any, c: Any, bits: Any) -> Any:
        return ps.matmul(a, b, spec, c=c, random_bits=bits)

    compiled: Any = jax.jit(jax.vmap(run))
    assert_same_bits(compiled(a, b, c, seeds), expected)
    assert (np.asarray(compiled(a, b, c, ~seeds)) != expected).any()
    # An element's bits depend on its own seed only.
    part = ps.matmul(
        a[0, :2], b[0], spec, c=c[0, :2], random_bits=seeds[0, :2], backend="reference"
    )
    assert_same_bits(part, expected[0, :2])


@pytest.mark.long
def test_the_mean_is_the_exact_sum() -> None:
    """Where rounding to nearest loses every term, stochastic rounding keeps them on average."""
    a = np.full((1, 256), 2.0**-7, np.float32)
    b = np.full((256, 2000), 2.0**-6, np.float32)
    c = np.float32(8.0)
    assert ps.matmul(a, b[:, :1], "bf16_bf16_bf16", c=c, backend="reference").item() == 8.0
    seeds = np.arange(2000, dtype=np.uint32)[None, :]
    spec = "bf16_bf16_bf16[sr]"
    got = np.asarray(ps.matmul(a, b, spec, c=c, random_bits=seeds, backend="reference"))[0]
    exact = 8 + 256 * 2.0**-13
    # 256 roundings up by 2**-4 with probability 2**-9 each.
    deviation = 2.0**-4 * np.sqrt(256 * 2.0**-9)
    assert abs(got.mean() - exact) < 5 * deviation / np.sqrt(2000)
    assert len(set(got.tolist())) > 2


@pytest.mark.long
def test_gradients_have_bits_of_their_own() -> None:
    # Square matrices: one shape, one compilation.
    a, b, g = (np.ascontiguousarray(data("bf16", seed, 3)[0]) for seed in (3, 4, 5))
    spec = "bf16_bf16_bf16[sr]"
    rng = np.random.default_rng(4)
    bits = {
        name: rng.integers(0, 2**32, shape, dtype=np.uint32)
        for name, shape in (("forward", (3, 3)), ("dgrad", (3, 3)), ("wgrad", (3, 3)))
    }
    run = partial(ps.matmul, spec=spec, random_bits=bits)
    da, db = jax.vjp(run, a, b)[1](g)
    assert_same_bits(
        da, ps.matmul(g, b.T.copy(), spec, random_bits=bits["dgrad"], backend="reference")
    )
    assert_same_bits(
        db, ps.matmul(a.T.copy(), g, spec, random_bits=bits["wgrad"], backend="reference")
    )
    only = partial(ps.matmul, spec=spec, dgrad="bf16_bf16_fp32", random_bits=bits["forward"])
    with pytest.raises(
        ValueError, match="random_bits is missing: the accumulator of 'bf16_bf16_bf16"
    ):
        jax.vjp(only, a, b)[1](g)


def test_missing_seeds_are_refused() -> None:
    ones = np.ones((2, 2), np.float32)
    for backend in ("reference", "emulated"):
        with pytest.raises(ValueError, match="random_bits is missing: the accumulator of"):
            ps.matmul(ones, ones, "bf16_bf16_bf16[sr]", backend=backend)
