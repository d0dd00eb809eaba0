"""The same bits on a GPU as from NumPy: run with ``-m gpu`` on a machine that has one."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic import portable
from precsim.products.native.refusal import RECOMMENDED_FLAGS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() != "gpu", reason="no GPU"),
]


def patterns(seed: int, *shape: int) -> np.ndarray:
    """Random bit patterns: every exponent, subnormals, infinities and NaN."""
    bits = np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32)
    return bits.view(np.float32)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same_bits(gpu: Any, expected: Any) -> bool:
    assert next(iter(gpu.devices())).platform == "gpu"
    return np.array_equal(np.asarray(gpu).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("fmt", ["fp16", "bf16", "e4m3", "e5m2", "e2m1", "e8m0", "tf32", "q3.12"])
@pytest.mark.parametrize("mode", ["rne", "rna", "rtz", "rtp", "rtn", "rto", "sr"])
def test_rounding(fmt: str, mode: str) -> None:
    x = patterns(0, 100_000)
    noise = np.random.default_rng(1).integers(0, 2**32, x.shape, dtype=np.uint32)
    bits = noise if mode == "sr" else None
    expected = np.concatenate(
        [
            ps.round_to(part, fmt, mode=mode, random_bits=None if bits is None else b)
            for part, b in zip(np.split(x, 10), np.split(noise, 10), strict=True)
        ]
    )
    run = jax.jit(lambda x, r: ps.round_to(x, fmt, mode=mode, random_bits=r))
    gpu = run(jnp.asarray(x), None if bits is None else jnp.asarray(bits))
    assert same_bits(gpu, expected)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt", "fma"])
@pytest.mark.parametrize("fmt", ["fp32", "fp16", "bf16", "e4m3"])
def test_operations(name: str, fmt: str) -> None:
    operation = getattr(ps, name)
    count = {"sqrt": 1, "fma": 3}.get(name, 2)
    for make in (patterns, normal):
        operands = [make(seed, 20_000) for seed in range(count)]
        gpu = jax.jit(lambda *xs: operation(*xs, fmt))(*map(jnp.asarray, operands))
        assert same_bits(gpu, operation(*operands, fmt))


@pytest.mark.parametrize(
    "spec",
    [
        "bf16_bf16_fp32->bf16",
        "fp16_fp16_fp16",
        "bf16_bf16_bf16",
        "e4m3_e4m3_fp16",
        "fp32_fp32_fp32",
        "q3.12_q3.12_q3.12",
        "q3.12_q3.12_fp32->q3.12",
        "bf16_bf16_fp32:exact",
        "bf16_bf16_fp32[rtz]:fused16x25+sticky",
        "b200:mxfp8",
        "b200:nvfp4",
    ],
)
def test_emulated_products(spec: str) -> None:
    for make in (patterns, normal):
        a, b = make(0, 17, 65), make(1, 65, 33)
        expected = ps.matmul(a, b, spec, backend="reference")
        gpu = ps.matmul(jnp.asarray(a), jnp.asarray(b), spec, backend="emulated")
        assert same_bits(gpu, expected)


@pytest.mark.parametrize(
    "spec",
    [
        "h100:bf16",
        "h100:fp16:promote64",
        "h100:fp16:acc=fp16",
        "v100:fp16:acc=fp16",
        "h100:e4m3",
        "h100:e5m2_e4m3:splitk2x64",
        "a100:tf32",
        "fp16_fp16_fp16:adder=fp32",
        "bf16_bf16_bf16",
        "bf16_bf16_fp32",
        "fp32_fp32_fp32",
        "q3.4_q3.4_q7.8",
    ],
)
@pytest.mark.parametrize("shape", [(200, 330, 150), (1024, 520, 64), (3, 5, 700)])
def test_products_tile_by_tile(spec: str, shape: tuple[int, int, int]) -> None:
    """Every tile that `pallas_gpu` chooses from; moderate values with zeros, and all exponents."""
    m, n, k = shape
    for exponents in (8, 60):
        rng = np.random.default_rng(exponents)
        a, b = (
            np.ldexp(normal(seed, *size), rng.integers(-exponents, exponents, size))
            for seed, size in enumerate([(m, k), (k, n)])
        )
        a[rng.random(a.shape) < 0.2] = 0
        expected = ps.matmul(a, b, spec, backend="reference")
        gpu = jax.jit(lambda a, b: ps.matmul(a, b, spec, backend="emulated"))(
            *map(jnp.asarray, (a, b))
        )
        assert same_bits(gpu, expected)
    text = str(jax.make_jaxpr(lambda a, b: ps.matmul(a, b, spec, backend="emulated"))(gpu, gpu.T))
    assert "pallas_call" in text


@pytest.mark.parametrize("spec", ["bf16_bf16_fp32", "fp16_fp16_fp32"])
def test_native_products_within_their_bound(spec: str) -> None:
    a, b = normal(0, 64, 256), normal(1, 256, 64)
    gpu = ps.matmul(jnp.asarray(a), jnp.asarray(b), spec, backend="native")
    narrow = spec.split("_", maxsplit=1)[0]
    exact_a = ps.round_to(a, narrow).astype(np.float64)
    exact_b = ps.round_to(b, narrow).astype(np.float64)
    # Tensor cores truncate: u is that of a directed rounding, 2**-23.
    bound = ps.gamma(256, 2.0**-23) * (np.abs(exact_a) @ np.abs(exact_b))
    assert np.all(np.abs(np.asarray(gpu) - exact_a @ exact_b) <= bound)


def test_sums_by_segment() -> None:
    """In ascending order of position, where XLA's own scatter-add has none."""
    rows, ids = normal(0, 400, 8), np.random.default_rng(1).integers(0, 7, 400)
    run = jax.jit(lambda x, ids: ps.segment_sum(x, ids, "bf16", num_segments=7))
    expected = ps.segment_sum(rows, ids, "bf16", num_segments=7)
    assert same_bits(run(jnp.asarray(rows), jnp.asarray(ids)), expected)


def test_stochastic_accumulators() -> None:
    a, b = normal(0, 17, 65), normal(1, 65, 33)
    seeds = np.random.default_rng(2).integers(0, 2**32, (17, 33), dtype=np.uint32)
    for spec in ("bf16_bf16_bf16[sr]", "bf16_bf16_bf16[sr]:fused16x25"):
        expected = ps.matmul(a, b, spec, random_bits=seeds, backend="reference")
        gpu = ps.matmul(jnp.asarray(a), jnp.asarray(b), spec, random_bits=jnp.asarray(seeds))
        assert same_bits(gpu, expected)


@pytest.mark.parametrize("spec", ["h100:bf16", "h100:fp16", "h100:e4m3", "h100:bf16:promote64"])
def test_native_tensor_cores_have_the_bits_of_their_spec(spec: str) -> None:
    """Under the flags of `RECOMMENDED_FLAGS`; odd shapes are filled up."""
    if RECOMMENDED_FLAGS not in os.environ.get("XLA_FLAGS", ""):
        pytest.skip(f"XLA_FLAGS lacks {RECOMMENDED_FLAGS}")
    for m, k, n in ((64, 64, 64), (5, 150, 3), (128, 1024, 80)):
        a, b = normal(0, m, k), normal(1, k, n)
        there = jnp.asarray(a), jnp.asarray(b)
        gpu = jax.jit(lambda a, b: ps.matmul(a, b, spec, backend="native"))(*there)
        assert same_bits(gpu, ps.matmul(a, b, spec, backend="reference"))
        assert ps.kernels.resolve_backend(spec, shapes=((m, k), (k, n))) == "native"


def same_numbers(gpu: Any, expected: Any) -> bool:
    """The same bits, but for the payload of NaN."""
    assert next(iter(gpu.devices())).platform == "gpu"
    ours, theirs = (np.where(np.isnan(x), np.float32(np.nan), x) for x in (gpu, expected))
    return np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_portable_operations() -> None:
    """Products are not joined with sums, and tiny results vanish, as on a CPU."""
    x, y, z = (portable.flush(patterns(seed, 20_000)) for seed in range(3))
    with np.errstate(all="ignore"):
        for operation in (portable.add, portable.subtract, portable.multiply, portable.divide):
            gpu = jax.jit(operation)(jnp.asarray(x), jnp.asarray(y))
            assert same_numbers(gpu, operation(x, y))
        for function in (portable.sqrt, portable.exp, portable.log, portable.tanh):
            assert same_numbers(jax.jit(function)(jnp.asarray(x)), function(x))

        def joined(x: Any, y: Any, z: Any) -> Any:
            return portable.add(portable.multiply(x, y), z)

        assert same_numbers(jax.jit(joined)(*map(jnp.asarray, (x, y, z))), joined(x, y, z))
    rows = normal(0, 1000, 37)
    assert same_numbers(
        jax.jit(lambda x: portable.sum(x, 0))(jnp.asarray(rows)), portable.sum(rows, 0)
    )


@pytest.mark.parametrize("policy", ["h100_bf16", "h100_fp16", "h100_fp8"])
def test_training_native_emulated_and_on_the_cpu(policy: str) -> None:
    """One step, three ways, the same state."""
    if RECOMMENDED_FLAGS not in os.environ.get("XLA_FLAGS", ""):
        pytest.skip(f"XLA_FLAGS lacks {RECOMMENDED_FLAGS}")
    hashes = set()
    for device, backend in (("gpu", "native"), ("gpu", "emulated"), ("cpu", "emulated")):
        with jax.default_device(jax.devices(device)[0]):
            config = ps.TrainConfig(
                policy=ps.Policy.parse(policy), backend=backend, optimizer="adamw"
            )
            run = ps.replay.prepare_run(config)
            state, _ = jax.jit(run.step)(run.state, *run.batch(0))
            hashes.add(ps.replay.hash_state(state)[""])
    assert len(hashes) == 1
