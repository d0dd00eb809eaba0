"""Programs for GPU tiles have the bits of the reference.

They are interpreted here, and compiled where there is a GPU.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products import pallas_gpu
from precsim.products.emulated import round_operands, unguarded_matmul
from precsim.products.pallas_gpu import Tile
from precsim.products.tensor_core import float32_step
from tests.products.tensor_core.test_product import bits, operands

Product = Callable[..., Any]


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Product]:
    """Return a maker of jitted products that take the way of a GPU, whatever there is."""
    monkeypatch.setattr(pallas_gpu, "by_platform", lambda tiled, plain, *x: tiled(*x))

    def make(spec: str) -> Product:
        parsed = ps.MatmulSpec.parse(spec)
        # Not through the cache of compiled products, which other tests fill.
        product = inspect.unwrap(unguarded_matmul)
        rounded = partial(round_operands, spec=parsed)
        return jax.jit(lambda a, b, c=None: product(*rounded(a, b), c, parsed)[0])

    return make


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect which way each call of `float32_step.chain_on_gpu` was compiled for or took."""
    taken: list[str] = []
    original = float32_step.add_in_float32

    def counted(*args: Any) -> Any:
        taken.append("traced")
        return original(*args)

    monkeypatch.setattr(float32_step, "add_in_float32", counted)
    return taken


def slow(*specs: str) -> list[Any]:
    return [pytest.param(spec, marks=pytest.mark.slow) for spec in specs]


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        "bf16_bf16_float(e=8,p=14)[rtz]:fused7x19",
        *slow(
            "h100:e4m3:splitk2x32",
            "h100:bf16",
            "h100:fp16:promote32",
            "h100:e5m2_e4m3:residue32",
            "h100:e4m3:mma",
            "a100:tf32",
            "h100:fp16:acc=fp16",
            "ada:e4m3:acc=fp16",
            "fp16_fp16_bf16:fused8x24",
        ),
    ],
)
def test_tensor_cores(tiled: Callable[[str], Product], ways: list[str], spec: str) -> None:
    """Two tiles and a rest, two batches, first values.

    There are zeros among the operands; exponents are moderate or any.
    """
    product = tiled(spec)
    parsed = ps.MatmulSpec.parse(spec)
    assert parsed.lhs is not None
    assert parsed.rhs is not None
    rng = np.random.default_rng(5)
    for kind in ("any", "moderate"):
        a, b, c = operands(spec, (35, 19, 70), "finite")
        if kind == "moderate":
            a, b, c = (
                np.ldexp(rng.uniform(-2, 2, x.shape), rng.integers(-9, 9, x.shape))
                for x in (a, b, c)
            )
            a, b, c = (
                np.asarray(ps.round_to(x.astype(np.float32), part, overflow="saturate"))
                for x, part in ((a, parsed.lhs), (b, parsed.rhs), (c, parsed.accumulator))
            )
        a = np.stack([a, np.where(a > 0, a, 0)])
        got = product(a, np.stack([b, b]), np.stack([c, c]))
        expected = ps.matmul(a, b, spec, c=c, backend="reference")
        assert (bits(got) == bits(expected)).all(), kind
    assert ways


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "takes_tiles"),
    [
        ("v100:fp16", True),
        ("h100:fp16:acc=fp16", True),
        ("bf16_bf16_fp32[rtp]:fused16x25", False),
        ("fp16_fp16_e4m3:fused4x20", False),  # a sum beyond its range becomes infinite, not NaN
    ],
)
def test_the_way_that_accumulators_take(
    tiled: Callable[[str], Product], ways: list[str], spec: str, takes_tiles: bool
) -> None:
    """Those that cut off or round to nearest even, tile by tile; others not."""
    a, b, c = operands(spec, (5, 3, 32), "finite")
    got = tiled(spec)(a, b, c)
    assert (bits(got) == bits(ps.matmul(a, b, spec, c=c, backend="reference"))).all()
    assert bool(ways) == takes_tiles


@pytest.mark.long
@pytest.mark.parametrize(
    "spec", ["h100:fp16:acc=fp16", *slow("v100:fp16:acc=fp16", "a100:fp16:acc=fp16")]
)
@pytest.mark.parametrize("scale", [1, 2.0**-8, 2.0**-16, 2.0**7])
def test_accumulators_to_nearest(tiled: Callable[[str], Product], spec: str, scale: float) -> None:
    """Subnormal sums, ties, overflow that stays, and sums that round to a zero without sign."""
    parsed = ps.MatmulSpec.parse(spec)
    assert parsed.lhs is not None
    rng = np.random.default_rng(7)
    made = []
    for shape in ((12, 96), (96, 10)):
        values = rng.integers(-9, 10, shape) * np.exp2(rng.integers(-3, 3, shape)) * scale
        made.append(
            np.asarray(ps.round_to(values.astype(np.float32), parsed.lhs, overflow="saturate"))
        )
    a, b = made
    got = tiled(spec)(a, b)
    expected = ps.matmul(a, b, spec, backend="reference")
    assert (bits(got) == bits(expected)).all()
    assert np.isinf(expected).any() == (scale > 1)
    if scale < 2.0**-8:
        assert (abs(expected) < 2.0**-14).any()
        assert ((bits(expected) == 0) & (abs(a) @ abs(b) > 0)).any()


@pytest.mark.long
def test_single_sums_to_nearest(tiled: Callable[[str], Product]) -> None:
    """First value, factors, and the fp16 sum that they have."""
    cases = [
        # Two, half of fp16's last place there, and a bit that 24 do not reach: no tie, so up.
        (0, [(1, 1), (1, 1), (2.0**-10, 1), (2.0**-12, 2.0**-13)], 2 + 2.0**-9),
        (0, [(-1, 1), (1, -1), (2.0**-10, -1), (2.0**-12, -(2.0**-13))], -2 - 2.0**-9),
        # Half of the smallest number and more; the subnormal total's exponent is -14, and 25 bits
        # below it the rest is cut off.
        (2.0**-23, [(2.0**-12, 2.0**-13), (2.0**-24, 2.0**-18), (0, 0), (0, 0)], 2.0**-23),
        (2.0**-23, [(2.0**-12, 2.0**-13), (2.0**-24, 2.0**-14), (0, 0), (0, 0)], 3 * 2.0**-24),
    ]
    c = np.array([first for first, _, _ in cases], np.float32)[:, None, None]
    factors = np.array([pairs for _, pairs, _ in cases], np.float32)
    a, b = factors[:, None, :, 0], factors[:, :, None, 1]
    expected = [exact for _, _, exact in cases]
    spec = "h100:fp16:acc=fp16"
    assert np.asarray(tiled(spec)(a, b, c)).reshape(-1).tolist() == expected
    assert ps.matmul(a, b, spec, c=c, backend="reference").reshape(-1).tolist() == expected


def fits(x: float, y: float, total: float) -> bool:
    """Ask for 16 products of two values."""
    arrays = [jnp.full(shape, v, jnp.float32) for shape, v in (((16, 1, 1), x), ((16, 1), y))]
    left, right = (
        float32_step.Float32Factor(
            v, jnp.full(v.shape, max(np.frexp(given)[1] - 1, -126), np.int32)
        )
        for v, given in zip(arrays, (x, y), strict=True)
    )
    first = jnp.asarray(bits([[total]]))
    return bool(float32_step.fits(left, right, first, ps.MatmulSpec.parse("h100:bf16").core))


@pytest.mark.long
def test_what_fits() -> None:
    """The smallest and largest exponents of products and of first totals that are exact.

    Zeros always are.
    """
    assert fits(2.0**-50, 2.0**-51, 0)
    assert not fits(2.0**-51, 2.0**-51, 0)
    assert fits(2.0**60, 2.0**60, 0)
    assert not fits(2.0**60, 2.0**61, 0)
    assert fits(0, 2.0**127, 0)
    assert fits(1, 1, 2.0**-103)
    assert not fits(1, 1, 2.0**-104)
    assert fits(1, 1, -(2.0**120))
    assert not fits(1, 1, 2.0**121)
    assert not fits(1, 1, float("inf"))
    assert not fits(1, 1, float("nan"))


@pytest.mark.long
@pytest.mark.parametrize("scale", [2.0**-50, 2.0**60])
def test_exponents_on_both_sides_of_what_fits(
    tiled: Callable[[str], Product], scale: float
) -> None:
    """Sums cancel down to the last place, in steps with other zeros."""
    rng = np.random.default_rng(3)
    signs = rng.choice([-1, 1, 0], (4, 64))
    a = np.asarray(ps.round_to(signs * rng.uniform(1, 2, (4, 64)) * scale, "bf16"), np.float32)
    a[:, 16:32] = -a[:, :16] * np.float32(1 - 2.0**-7)
    a[:, 48:] = 0
    b = np.asarray(ps.round_to(rng.uniform(1, 2, (64, 8)) * scale, "bf16"), np.float32)
    got = tiled("h100:bf16")(a, b)
    assert (bits(got) == bits(ps.matmul(a, b, "h100:bf16", backend="reference"))).all()


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        "fp16_fp16_fp16:adder=fp32",
        "bf16_bf16_bf16",
        "q3.4_q3.4_q7.8",
        *slow(
            "fp16_fp16_fp32", "fp32_fp32_fp32", "e4m3_e4m3_e5m2:adder=fp32", "fp16_fp16_fp16[rtz]"
        ),
    ],
)
def test_rounded_accumulators(tiled: Callable[[str], Product], spec: str) -> None:
    product = tiled(spec)
    lhs, rhs = ps.MatmulSpec.parse(spec).lhs, ps.MatmulSpec.parse(spec).rhs
    assert lhs is not None
    assert rhs is not None
    rng = np.random.default_rng(0)
    a = np.asarray(ps.round_to(rng.standard_normal((2, 35, 21), np.float32), lhs))
    b = np.asarray(ps.round_to(rng.standard_normal((2, 21, 19), np.float32), rhs))
    c = np.asarray(ps.round_to(rng.standard_normal((2, 35, 19), np.float32), lhs))
    got, expected = product(a, b, c), ps.matmul(a, b, spec, c=c, backend="reference")
    assert (bits(got) == bits(expected)).all()


@pytest.mark.long
@pytest.mark.parametrize("spec", ["h100:bf16", "bf16_bf16_bf16"])
def test_under_vmap(tiled: Callable[[str], Product], spec: str) -> None:
    """A batch more, of one operand only."""
    rng = np.random.default_rng(2)
    a = np.asarray(ps.round_to(rng.standard_normal((2, 5, 32), np.float32), "bf16"))
    b = np.asarray(ps.round_to(rng.standard_normal((32, 7), np.float32), "bf16"))
    got = jax.vmap(tiled(spec), in_axes=(0, None))(a, b)
    assert (bits(got) == bits(ps.matmul(a, b, spec, backend="reference"))).all()


def test_tiles_of_tensor_cores_are_portable(
    tiled: Callable[[str], Product], ways: list[str]
) -> None:
    """Their multiplications stand side by side, but each is exact: joining two changes nothing."""
    x = jnp.ones((16, 16))
    assert ps.replay.find_unportable(tiled("h100:bf16:promote16"), x, x) == ()
    assert ways


@pytest.mark.parametrize("spec", ["h100:bf16", "fp16_fp16_fp16"])
def test_no_products(tiled: Callable[[str], Product], spec: str) -> None:
    got = tiled(spec)(np.zeros((3, 0), np.float32), np.zeros((0, 2), np.float32))
    assert (bits(got) == 0).all()


@pytest.mark.long
def test_the_tile_that_makes_programs_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def program(columns: Any, rows: Any, total: Any, read: Any) -> Any:
        seen.append(total.shape)
        return total + read.column(columns[0], 1) * read.row(rows[0], 0)

    tiles = (Tile(8, 8, 1), Tile(4, 8, 1), Tile(4, 4, 1))
    monkeypatch.setattr(pallas_gpu, "_ENOUGH", 8)
    for m, n, expected in ((17, 20, (8, 8)), (16, 16, (4, 8)), (3, 5, (4, 4)), (3, 99, (4, 8))):
        x, y = np.arange(2.0 * m).reshape(2, m, 1), np.arange(1.0 * n).reshape(1, n)
        got = pallas_gpu.over_tiles(program, jnp.ones((m, n)), [x], [y], tiles=tiles)
        np.testing.assert_array_equal(got, 1 + x[1] * y)
        assert set(seen) == {expected}
        seen.clear()


def test_chunks_repeat_every_index_once() -> None:
    for count in (1, 7, 8, 24, 36):
        seen = jax.jit(
            lambda s, n=count: pallas_gpu.in_chunks(n, lambda k, s: s.at[k].add(k + 1), s)
        )
        np.testing.assert_array_equal(seen(jnp.zeros(count, int)), np.arange(count) + 1)


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        "h100:bf16",
        "h100:e4m3",
        "h100:fp16:acc=fp16",
        "fp16_fp16_fp16",
        "bf16_bf16_bf16",
        "fp32_fp32_fp32",
    ],
)
def test_programs_can_be_written_for_a_gpu(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    """All their operations exist there; no GPU is needed to find out."""
    pytest.importorskip("jax.experimental.pallas.triton")
    monkeypatch.setattr(pallas_gpu, "is_usable", lambda: True)
    parsed = ps.MatmulSpec.parse(spec)
    product = jax.jit(lambda a, b: inspect.unwrap(unguarded_matmul)(a, b, None, parsed))
    zeros = jnp.zeros((64, 64))
    try:
        text = product.trace(zeros, zeros).lower(lowering_platforms=("cuda",)).as_text()
    except RuntimeError as problem:
        pytest.skip(f"this JAX wants a GPU for that: {problem}")
    assert "triton" in text


def test_without_triton_other_loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a JAX that has no more of it; so benchmarks compare the two ways."""
    pytest.importorskip(pallas_gpu.TRITON)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    assert pallas_gpu.is_usable()
    monkeypatch.setitem(sys.modules, pallas_gpu.TRITON, None)
    assert not pallas_gpu.is_usable()


def test_without_a_gpu_nothing_is_compiled_for_one() -> None:
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU")
    assert not pallas_gpu.is_usable()
    zeros = jnp.zeros((64, 64))
    product = lambda a, b: ps.matmul(a, b, "h100:bf16", backend="emulated")
    jaxpr = jax.make_jaxpr(product)(zeros, zeros)
    assert "pallas_call" not in str(jaxpr)
