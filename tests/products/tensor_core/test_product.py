"""Tensor cores: recorded silicon, oracle, vectorised kernel, NumPy and JAX have the same bits."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products.specs.machines import MACHINES

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def bits(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32).view(np.uint32)


def random_values(
    rng: np.random.Generator, spec: ps.RoundingSpec, shape: tuple[int, ...]
) -> np.ndarray:
    """Values of random codes, so NaN, infinities, subnormals and -0 occur."""
    width = spec.format.width
    assert width is not None
    codes = rng.integers(0, 1 << width, shape, dtype=np.uint32)
    return np.asarray(ps.decode(codes, spec.format)).astype(np.float32)


def operands(name: str, shape: tuple[int, int, int], kind: str, seed: int = 0) -> tuple[Any, ...]:
    """Random bit patterns.

    "finite": without NaN and infinity. "tiny": near the bottom of the range. "near": around 1.
    """
    spec = ps.MatmulSpec.parse(name)
    assert spec.lhs is not None
    assert spec.rhs is not None
    m, n, k = shape
    rng = np.random.default_rng([seed, m, n, k])
    made = []
    for part, size in ((spec.lhs, (m, k)), (spec.rhs, (k, n)), (spec.accumulator, (m, n))):
        x = random_values(rng, part, size)
        if kind != "bits":
            x = np.where(np.isfinite(x), x, np.float32(1))
        if kind == "tiny":
            assert isinstance(part.format, ps.FloatFormat)
            exponents = rng.integers(0, 8, size) + (
                part.format.emin if part.format.emin > -100 else -70
            )
            x = np.asarray(
                ps.round_to(np.ldexp(np.sign(x), exponents).astype(np.float32), part.format)
            )
        if kind == "near":
            values = np.ldexp(rng.uniform(-2, 2, size), rng.integers(-3, 4, size))
            x = np.asarray(ps.round_to(values.astype(np.float32), part, overflow="saturate"))
        made.append(x)
    return tuple(made)


def with_one_nan(x: np.ndarray) -> np.ndarray:
    return bits(np.where(np.isnan(x), np.float32(np.nan), x))


def test_every_recorded_silicon_row(data_dir: Path) -> None:
    """250 rows of V100, A100, Ada, H100, B200 each (Khattak and Mikaitis, doi 10.1145/3830409)."""
    rows = np.load(data_dir / "silicon_vectors.npz")
    compared = 0
    for key in (k for k in rows.files if "_d_" in k):
        gpu, kind, _, output = key.split("_")
        a, b, c, d = (
            rows[f"{gpu}_{kind}_{x}"].view(np.float32) for x in ("a", "b", "c", f"d_{output}")
        )
        # The FP8 rows of B200 were recorded through mma.sync.
        options = ":acc=fp16" * (output == "fp16") + ":mma" * (gpu == "B200" and kind[0] == "E")
        c = c.astype(np.float16).astype(np.float32) if output == "fp16" else c
        got = ps.matmul(
            a[:, None, :],
            b[:, :, None],
            f"{gpu}:{kind}{options}".lower(),
            c=c[:, None, None],
            backend="reference",
        )
        assert (bits(got)[:, 0, 0] == bits(d)).all(), key
        compared += len(d)
    assert compared == 250 * 26


def _specs() -> list[str]:
    """Every machine, operand and accumulator."""
    made = []
    for machine, cores in MACHINES.items():
        for kind, core in cores.items():
            for operand in ("e4m3", "e5m2_e4m3") if kind == "fp8" else (kind,):
                made += [f"{machine}:{operand}"]
                made += [f"{machine}:{operand}:acc=fp16"] * ("fp16" in core.accumulators)
    return made


SCHEDULED = [
    "h100:e4m3:promote128", "h100:e5m2_e4m3:mma", "b200:e4m3:acc=fp16:mma", "h100:bf16:splitk3",
    "h100:fp16:splitk2x32", "a100:fp16:residue32", "h100:tf32:splitk3x4+residue16", "h100:tf32[rna]", "bf16_bf16_fp32:fused8x20",
    "fp16_fp16_fp16:fused4x12", "e4m3_e4m3_bf16:fused32x10@-130:promote64", "e3m2_e2m1_fp32[rtp]:fused5x7",
]  # fmt: skip


@pytest.mark.parametrize("name", [*_specs(), *SCHEDULED])
def test_kernel_equals_oracle(name: str) -> None:
    """The NumPy kernel against exact rationals.

    K holds a partial step and, where scheduled, several parts.
    """
    kinds = [("bits", 1), ("tiny", 1), ("bits", 3), ("finite", 40), ("tiny", 21)]
    if name in SCHEDULED:  # among numbers alike, each order has its own bits
        kinds += [("finite", 150), ("near", 150)]
    for kind, k in kinds:
        a, b, c = operands(name, (2, 2, k), kind)
        for first in (c, np.zeros_like(c)):
            got = ps.matmul(a, b, name, c=first, backend="reference")
            exact = [
                [
                    ps.oracle.fused_dot_exact(
                        a[i].tolist(), b[:, j].tolist(), float(first[i, j]), name
                    )
                    for j in range(2)
                ]
                for i in range(2)
            ]
            assert (with_one_nan(got) == with_one_nan(np.array(exact, np.float32))).all(), (kind, k)


@pytest.mark.slow
@pytest.mark.parametrize("name", _specs())
def test_kernel_equals_oracle_on_many_patterns(name: str) -> None:
    for seed in range(20):
        for kind in ("bits", "finite", "tiny"):
            a, b, c = operands(name, (8, 8, 2 + seed), kind, seed)
            got = ps.matmul(a, b, name, c=c, backend="reference")
            exact = [
                [
                    ps.oracle.fused_dot_exact(a[i].tolist(), b[:, j].tolist(), float(c[i, j]), name)
                    for j in range(8)
                ]
                for i in range(8)
            ]
            assert (with_one_nan(got) == with_one_nan(np.array(exact, np.float32))).all(), (
                kind,
                seed,
            )


@pytest.mark.long
@pytest.mark.parametrize("name", ["h100:bf16", "a100:fp16:acc=fp16", "ada:e4m3:promote32"])
def test_jit_and_vmap_have_the_bits_of_numpy(name: str) -> None:
    product = jax.jit(jax.vmap(lambda a, b, c: ps.matmul(a, b, name, c=c), in_axes=(0, None, 0)))
    for kind in ("bits", "finite", "tiny"):
        made = [operands(name, (5, 6, 70), kind, seed) for seed in range(2)]
        a, c = (np.stack([x[i] for x in made]) for i in (0, 2))
        b = made[0][1]
        expected = ps.matmul(a, b, name, c=c, backend="reference")
        assert (bits(product(a, b, c)) == bits(expected)).all(), kind


@pytest.mark.long
@pytest.mark.parametrize("longest", [64, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_outputs_of_a_gpu_are_replayed(path: Path, longest: int) -> None:
    """Golden files of `python -m conformance.tensor_cores --golden`.

    They hold cuBLASLt's products on the named device.
    """
    from conformance.tensor_cores import CORNER, Case
    from conformance.tensor_cores import operands as recorded_operands

    golden = np.load(path)
    wrong = []
    for key in golden.files:
        if key == "origin":
            continue
        spec, m, n, k, kind, seed, schedule = key.split("|")
        is_uneven = "residue" in schedule
        if int(k) > longest and not (is_uneven or (spec == "h100:bf16" and kind == "normal")):
            continue
        a, b = recorded_operands(Case(spec, int(m), int(n), int(k), kind, int(seed)))
        got = bits(ps.matmul(a[:CORNER], b[:, :CORNER], spec + schedule, backend="reference"))
        wrong += [key] if (got != golden[key]).any() else []
    assert not wrong
    assert len(golden.files) > 100


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("v100:fp16", 0.0), ("t4:fp16", -0.5), ("a100:fp16", -0.5), ("ada:fp16", -0.5), ("h100:fp16", -0.75),
        ("b200:fp16", -0.75), ("ada:e5m2", 0.0), ("h100:e5m2", 0.0), ("b200:e5m2", -0.75),
    ],
)  # fmt: skip
def test_table_8_of_mma_sim(machine: str, expected: float) -> None:
    """2**23 - 2**13 * 2**10 - 0.5 - 0.25 - 0.125 is -0.875 exactly.

    Source: arXiv 2511.10909 v2, table 8.
    """
    a = np.array([[-(2.0**13), -0.5, -0.25, -0.125]], np.float32)
    b = np.array([[2.0**10], [1], [1], [1]], np.float32)
    got = ps.matmul(a, b, machine, c=np.float32(2.0**23), backend="reference")
    assert got.item() == expected
    assert ps.oracle.fused_dot_exact(a[0].tolist(), b[:, 0].tolist(), 2.0**23, machine) == expected


def test_nan_has_one_pattern_and_zero_one_sign() -> None:
    a = np.array([[np.nan], [-np.inf], [-0.0], [2.0**-126]], np.float32)
    b = np.array([[1.0, 0.0, -(2.0**-126)]], np.float32)
    got = bits(ps.matmul(a, b, "h100:bf16", c=np.float32(0), backend="reference"))
    assert got.tolist() == [
        [0x7FFFFFFF] * 3,
        [0xFF800000, 0x7FFFFFFF, 0x7F800000],
        [0, 0, 0],
        [0x00800000, 0, 0],
    ]


def test_products_beyond_float32_cancel() -> None:
    """Products are integers with any exponent: 2**127 * 2**127 - 2**127 * 2**127 is 0, not NaN."""
    a = np.array([[2.0**127, -(2.0**127)]], np.float32)
    assert ps.matmul(a, a.T.copy(), "h100:bf16", backend="reference").item() == np.inf
    b = np.array([[2.0**127], [2.0**127]], np.float32)
    assert ps.matmul(a, b, "h100:bf16", backend="reference").item() == 0.0


@pytest.mark.parametrize(("order", "units"), [("@-133", 15), ("@-126", 12), ("", 15)])
def test_exponent_of_a_zero_accumulator(order: str, units: int) -> None:
    """16 products 1.875 * 2**-150 beside a zero.

    The exponent of the zero decides whether 2**-151 is the last place.
    """
    a = np.full((1, 16), 1.5 * 2.0**-75, np.float32)
    b = np.full((16, 1), 1.25 * 2.0**-75, np.float32)
    name = f"bf16_bf16_fp32[rtz]:fused16x25{order}"
    expected = units * 2.0**-149
    assert float(ps.matmul(a, b, name, backend="reference").item()) == expected
    assert ps.oracle.fused_dot_exact(a[0].tolist(), b[:, 0].tolist(), 0.0, name) == expected


@pytest.mark.long
def test_a_short_product_adds_no_zeros_that_fill_its_step() -> None:
    """An outer product, the weight gradient of one example, took 16 products per element."""

    def lines(k: int) -> int:
        a, b = jnp.zeros((4, k)), jnp.zeros((k, 8))
        run = jax.jit(lambda a, b: ps.matmul(a, b, "h100:bf16"))
        return len(run.lower(a, b).as_text().splitlines())

    assert lines(1) < lines(4) < lines(16) == lines(32)


def test_gradients_are_tensor_core_products() -> None:
    a, b, g = operands("h100:bf16", (6, 6, 6), "near")  # one shape, one compilation
    spec = "bf16_bf16_fp32[rtz]:fused4x25"  # short steps compile fast
    _, pull = jax.vjp(lambda a, b: ps.matmul(a, b, spec), jnp.asarray(a), jnp.asarray(b))
    da, db = pull(jnp.asarray(g))
    assert (bits(da) == bits(ps.matmul(g, b.T.copy(), spec, backend="reference"))).all()
    assert (bits(db) == bits(ps.matmul(a.T.copy(), g, spec, backend="reference"))).all()


@pytest.mark.parametrize("name", [*_specs(), *SCHEDULED])
def test_strings_and_specs_are_the_same_thing(name: str) -> None:
    spec = ps.MatmulSpec.parse(name)
    assert ps.MatmulSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100:bf17", "its operands are fp16, bf16, tf32, e4m3, e5m2; did you mean 'bf16'"),
        ("a100:e4m3", "a100 has no product 'a100:e4m3'; its operands are fp16, bf16, tf32"),
        ("h100:bf16_fp16", "h100 has no product"),
        ("h100:bf16:acc=fp16", "h100 has no accumulator 'fp16' for 'bf16'; allowed are fp32"),
        ("h100:e4m3:promote100", "multiples of the 32 products of a step"),
        ("h100:tf32:splitk3x4", "granule of schedule 'splitk3x4' is 4; allowed are multiples"),
        ("h100:tf32:splitk3x4+residue12", "residue of schedule .* is 12; allowed are multiples"),
        (
            "h100:tf32:splitk0x4+residue8",
            "splits of SplitK is 0; allowed are integers from 1 on",
        ),
        ("b200:nvfp4:splitk2x64+residue64", "allowed for block formats are flat, promoteN, splitk"),
        ("h100:bf16:mma", "schedule 'mma' is for fp8 operands of h100, b200"),
        ("h100:bf16:forward", "schedule is 'forward'; allowed are flat, promoteN"),
        ("h100", "names no operand; those of h100 are fp16, bf16, tf32, e4m3, e5m2"),
        ("fp32_fp32_fp32:fused8x24", "significand of up to 281474943156225; allowed are 30 bits"),
        ("nvfp4_nvfp4_fp32:fused64x50g16", "beyond the 62 bits of the sum"),
        (
            "bf16_e8m0_fp32:fused8x24",
            "rhs is 'e8m0'; a fused block takes floats that float32 holds, whose",
        ),
        (
            "bf16_bf16_bf16:fused8x20@-100",
            "zero_exponent is -100; allowed for 'bf16' is up to -126",
        ),
        ("bf16_bf16_fp32:fused8x20g4", "group is 4; allowed for 'bf16' is 1"),
        ("bf16_bf16_fp32:fused8x20g3", "group is 3; allowed are divisors of the 8 products"),
        ("bf16_bf16_q3.4:fused8x20", "accumulator is 'q3.4'; a fused block takes floats"),
        ("bf16_bf16_fp32:fused99x20", "length is 99; allowed are integers from 1 to 64"),
        ("bf16_bf16_fp32:fused8x60", "fraction_bits is 60; allowed are integers from 1 to 50"),
    ],
)
def test_refusals_name_what_exists(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        ps.MatmulSpec.parse(name)


def test_float64_operands_are_refused() -> None:
    with pytest.raises(TypeError, match="a has dtype float64; allowed for 'h100:bf16' is float32"):
        ps.matmul(np.ones((2, 2)), np.ones((2, 2)), "h100:bf16")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "h100:fp16", "h100:fp16:acc=fp16", "h100:bf16", "h100:tf32", "h100:e4m3", "h100:e5m2", "h100:e5m2_e4m3:mma",
        "a100:bf16", "v100:fp16", "ada:e4m3", "b200:e3m2", "b200:e2m3", "b200:e2m1", "bf16_bf16_fp32[rtn]:fused16x30+sticky",
    ],
)  # fmt: skip
def test_kernel_equals_oracle_on_a_million_patterns(name: str) -> None:
    """Compiled products against exact rationals.

    10^6 random bit patterns per format, as 25,000 dot products of 20.
    """
    count, k = 25_000, 20
    spec = ps.MatmulSpec.parse(name)
    rng = np.random.default_rng(10)
    made = []
    for part, shape in (
        (spec.lhs, (count, 1, k)),
        (spec.rhs, (count, k, 1)),
        (spec.accumulator, (count, 1, 1)),
    ):
        assert part is not None
        x = random_values(rng, part, shape)
        # NaN and infinities in a quarter of the products, else few results would be numbers.
        x[count // 4 :] = np.where(np.isfinite(x[count // 4 :]), x[count // 4 :], np.float32(0.5))
        made.append(x)
    a, b, c = made
    c[::3] = 0
    got = bits(jax.jit(lambda a, b, c: ps.matmul(a, b, name, c=c))(a, b, c)).reshape(-1)
    rows, columns, firsts = a[:, 0].tolist(), b[:, :, 0].tolist(), c[:, 0, 0].tolist()
    exact = [
        ps.oracle.fused_dot_exact(x, y, z, spec)
        for x, y, z in zip(rows, columns, firsts, strict=True)
    ]
    want = with_one_nan(np.array(exact, np.float32))
    differ = np.flatnonzero(with_one_nan(got.view(np.float32)) != want)
    assert not len(differ), (len(differ), differ[:3])
