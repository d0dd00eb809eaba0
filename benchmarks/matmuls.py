"""Cases of `ps.matmul`: accumulators and tensor cores against C, numba, MMA-Sim, plain products."""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any
from unittest import mock

import numpy as np

import precsim as ps
from benchmarks import inputs, product_limits, report
from benchmarks.case import Case, Contender, Goal, Setting, SkipError, Wrong, against_exact

JIT, WIDE, PLAIN, NATIVE, ADDER = "jit", "jit, 512 bits", "float32 dot", "native", "float32 adder"
TENSOR_CORE = "tensor core"
LOOP = "XLA loop"
BY_ROW, WHOLE = "row by row", "whole"
C_LOOP, NUMBA, MMA_SIM = "C loop", "numba", "MMA-Sim"
ACCUMULATORS = {
    "fp16_fp16_fp16:adder=fp32": (Goal(measured=JIT, against=C_LOOP, at_most=1.0),),
    "bf16_bf16_bf16:adder=fp32": (
        Goal(measured=JIT, against=NUMBA, at_most=1.25),
        Goal(measured=JIT, against=C_LOOP, at_most=1.25),
    ),
    "e4m3_e4m3_e5m2:adder=fp32": (Goal(measured=JIT, against=C_LOOP, at_most=1.25),),
    "fp16_fp16_float(e=6,p=10):adder=fp32": (Goal(measured=JIT, against=C_LOOP, at_most=1.25),),
}
SINGLE_ROUNDING = ("fp16_fp16_fp16", "bf16_bf16_bf16", "e4m3_e4m3_fp16")
EXACT_PRODUCTS = "bf16_bf16_fp32"
TENSOR_CORES = ("bf16", "fp16", "e4m3")
MATRIX_UNITS = {
    "mi100:fp16": "h100:fp16",
    "mi100:bf16": "h100:bf16",
    "mi250:fp16": "h100:fp16",
    "mi250:bf16": "h100:bf16",
    "mi300x:fp16": "h100:fp16",
    "mi300x:bf16": "h100:bf16",
    "mi300x:xf32": "h100:tf32",
    "mi300x:e4m3fnuz": "h100:e4m3",
    "avx512:bf16": "h100:bf16",
    "amx:bf16": "h100:bf16",
    "amx:fp16": "h100:fp16",
    "arm:bf16": "h100:bf16",
    "arm_ebf16:bf16": "h100:bf16",
}
"""AMD's, Intel's and Arm's, and the tensor core that each is measured against."""
Check = Callable[[Callable[[], Any]], Callable[[], Wrong]]
COMPARED = 64
"""Elements of a product that are compared with the definition."""


def cases() -> Iterator[Case]:
    """Yield them in the order of the table; sizes are numbers of scalar products, M N K."""
    for spec, goals in ACCUMULATORS.items():
        yield Case(
            name=f"matmul/{spec}",
            build=partial(product, spec),
            goals=(*goals, Goal(measured=JIT, against=PLAIN)),
            size=512**3,
            quick_size=256**3 if spec.startswith("fp16_fp16_fp16") else None,
        )
    for spec in SINGLE_ROUNDING:
        yield Case(
            name=f"matmul/{spec}",
            build=partial(product, spec),
            goals=(
                Goal(measured=JIT, against=ADDER, at_most=3.3),
                Goal(measured=JIT, against=PLAIN),
            ),
            size=512**3,
        )
    yield Case(
        name=f"matmul/{EXACT_PRODUCTS}",
        build=partial(product, EXACT_PRODUCTS),
        goals=(Goal(measured=JIT, against=PLAIN),),
        size=512**3,
    )
    for kind in TENSOR_CORES:
        for size in (256**3, 512**3):
            yield Case(
                name=f"matmul/h100:{kind}/{round(size ** (1 / 3))}",
                build=partial(product, f"h100:{kind}"),
                goals=tuple(
                    Goal(measured=way, against=other, at_most=at_most)
                    for way in (JIT, WIDE)
                    for other, at_most in ((C_LOOP, 1.67), (PLAIN, 8.0))
                ),
                size=size,
                quick_size=size if (kind, size) == ("bf16", 256**3) else None,
            )
    for spec, tensor_core in MATRIX_UNITS.items():
        for size in (256**3, 512**3):
            yield Case(
                name=f"matmul/{spec}/{round(size ** (1 / 3))}",
                build=partial(matrix_unit, spec, tensor_core),
                goals=(
                    Goal(measured=JIT, against=TENSOR_CORE, at_most=2.0),
                    Goal(measured=JIT, against=PLAIN),
                ),
                size=size,
            )
    for spec in ("h100:bf16", "h100:e4m3", "fp16_fp16_fp16:adder=fp32"):
        yield Case(
            name=f"matmul/one layer/{spec}",
            build=partial(layer, spec),
            goals=(Goal(measured=JIT, against=PLAIN),),
            size=1,
        )
        yield Case(
            name=f"matmul/first call/{spec}",
            build=partial(first_call, spec),
            goals=(Goal(measured=JIT, against=PLAIN),),
            size=1,
        )
        yield Case(
            name=f"matmul/gradient by vmap/{spec}",
            build=partial(gradient_by_vmap, spec),
            goals=(Goal(measured=BY_ROW, against=WHOLE, at_most=2.0),),
            size=1,
        )
    tensor_cores = (*TENSOR_CORES, "fp16:acc=fp16")
    for spec in (*(f"h100:{kind}" for kind in tensor_cores), *ACCUMULATORS):
        yield Case(
            name=f"gpu/matmul/{spec}",
            build=partial(on_gpu, spec),
            goals=(
                Goal(measured=LOOP, against=JIT),
                Goal(measured=JIT, against=NATIVE),
                Goal(measured=JIT, against=PLAIN),
            ),
            size=4096**3,
            platform="",
        )


def product(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Multiply square matrices in every way there is on a CPU."""
    import jax.numpy as jnp

    spec = ps.MatmulSpec.parse(name)
    a, b = operands(name, setting.size)
    check = against_definition(a, b, name)
    found: dict[str, Contender | str] = {
        JIT: compiled(partial(_product, spec=name), a, b, check),
        PLAIN: compiled(jnp.dot, a, b, None),
    }
    ways: dict[str, Callable[[], product_limits.Product]] = {}
    if isinstance(spec.order, ps.FusedBlock):
        kind = name.partition(":")[2]
        ways[C_LOOP] = partial(product_limits.c_tensor_core, a, b, spec)
        ways[MMA_SIM] = partial(product_limits.mma_sim, a, b, kind)
    elif spec.adder is not None:
        ways[C_LOOP] = partial(product_limits.c_accumulator, a, b, spec)
        ways[NUMBA] = partial(product_limits.numba_accumulator, a, b, spec)
    elif spec.order == ps.options.Sequential():
        adder = f"{name}:adder=fp32"
        with_adder = against_definition(a, b, adder)
        found[ADDER] = compiled(partial(_product, spec=adder), a, b, with_adder)
    if "AVX-512" in report.processor():
        options = {"compiler_options": {"xla_cpu_prefer_vector_width": "512"}}
        found[WIDE] = compiled(partial(_product, spec=name), a, b, check, **options)
    for way, make in ways.items():
        try:
            run = make()
            found[way] = Contender(run=run, check=check(run), is_peer=way == MMA_SIM)
        except ImportError as problem:
            found[way] = f"not installed ({problem.name})"
        except SkipError as reason:
            found[way] = str(reason)
    return found


def matrix_unit(name: str, tensor_core: str, setting: Setting) -> dict[str, Contender | str]:
    """Multiply square matrices as a matrix unit and as a tensor core does."""
    a, b = operands(tensor_core, setting.size)
    other = compiled(
        partial(_product, spec=tensor_core), a, b, against_definition(a, b, tensor_core)
    )
    return product(name, setting) | {TENSOR_CORE: other}


def layer(name: str, _setting: Setting) -> dict[str, Contender | str]:
    """Multiply (128, 80) by (80, 128), a layer of a small network: calls and loops cost most."""
    import jax.numpy as jnp

    a, b = (x[:128, :128] for x in operands(name, 128**3))
    a, b = np.ascontiguousarray(a[:, :80]), np.ascontiguousarray(b[:80])
    check = against_definition(a, b, name)
    return {
        JIT: compiled(partial(_product, spec=name), a, b, check),
        PLAIN: compiled(jnp.dot, a, b, None),
    }


def first_call(name: str, _setting: Setting) -> dict[str, Contender | str]:
    """Trace, compile and run a product, with nothing kept from an earlier call."""
    import jax
    import jax.numpy as jnp

    a, b = map(jnp.asarray, operands(name, 64**3))

    def anew(function: Callable[[Any, Any], Any]) -> None:
        jax.clear_caches()  # type: ignore[no-untyped-call]
        jax.jit(function)(a, b).block_until_ready()

    return {
        JIT: Contender(run=partial(anew, partial(_product, spec=name))),
        PLAIN: Contender(run=partial(anew, jnp.dot)),
    }


def gradient_by_vmap(name: str, _setting: Setting) -> dict[str, Contender | str]:
    """Differentiate (256, 128) times (128, 64): row by row under `jax.vmap`, and as one product."""
    import jax

    a, b = operands(name, 256**3)
    a, b = a[:, :128], b[:128, :64]

    def by_row(a: Any, b: Any) -> Any:
        return jax.vmap(lambda x: _product(x, b, spec=name))(a).sum()

    def whole(a: Any, b: Any) -> Any:
        return _product(a, b, spec=name).sum()

    return {
        way: compiled(jax.grad(function, argnums=(0, 1)), a, b, None)
        for way, function in ((BY_ROW, by_row), (WHOLE, whole))
    }


def on_gpu(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Multiply on an accelerator; the native product has the same operands where JAX has them."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() == "cpu":
        raise SkipError("JAX finds no accelerator")
    a, b = operands(name, setting.size)
    small = {"bf16": jnp.bfloat16, "fp16": jnp.float16, "e4m3": jnp.float8_e4m3fn}
    spec = ps.MatmulSpec.parse(name)
    assert spec.lhs is not None
    dtype = small[spec.lhs.format.name]
    x, y = jnp.asarray(a).astype(dtype), jnp.asarray(b).astype(dtype)
    native = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    check = against_definition(a, b, name)
    return {
        LOOP: _by_loops(name, a, b, check),
        JIT: compiled(partial(_product, spec=name), a, b, check),
        PLAIN: compiled(jnp.dot, a, b, None),
        NATIVE: Contender(run=lambda: native(x, y).block_until_ready()),
    }


def operands(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two square matrices in the operands' formats, M N K = size: normal, varied in size."""
    spec = ps.MatmulSpec.parse(name)
    n = round(size ** (1 / 3))
    draw = np.random.default_rng(inputs.SEED)
    made = []
    for part in (spec.lhs, spec.rhs):
        assert part is not None
        spread = np.exp2(draw.standard_normal((n, n), np.float32))
        x = np.clip(draw.standard_normal((n, n), np.float32) * spread, -100, 100)
        made.append(np.asarray(ps.round_to(x, part)))
    return made[0], made[1]


def against_definition(a: np.ndarray, b: np.ndarray, spec: str) -> Check:
    """Return what makes checks of some elements against the step-by-step definition."""
    columns = b.shape[1]
    draw = np.random.default_rng(inputs.SEED)
    chosen = draw.choice(a.shape[0] * columns, COMPARED, replace=False)
    x, y = a[chosen // columns], b[:, chosen % columns].T
    parsed = ps.MatmulSpec.parse(spec)

    @lru_cache
    def right() -> dict[int, float]:
        if isinstance(parsed.order, ps.FusedBlock):
            pairs = zip(x.tolist(), y.tolist(), strict=True)
            values = [ps.oracle.fused_dot_exact(*pair, 0.0, parsed) for pair in pairs]
        else:
            values = ps.matmul(x[:, None], y[..., None], parsed, backend="reference").tolist()
            values = [value[0][0] for value in values]
        return dict(zip(chosen.tolist(), values, strict=True))

    return lambda result: against_exact(result, chosen, lambda k: right()[k])


def compiled(
    function: Callable[[Any, Any], Any],
    a: np.ndarray,
    b: np.ndarray,
    check: Check | None,
    **options: Any,
) -> Contender:
    """Return a contender that calls a compiled function of two JAX arrays."""
    import jax
    import jax.numpy as jnp

    call, x, y = jax.jit(function, **options), jnp.asarray(a), jnp.asarray(b)
    run = lambda: jax.block_until_ready(call(x, y))  # type: ignore[no-untyped-call]
    return Contender(run=run, check=None if check is None else check(run))


def _product(a: Any, b: Any, *, spec: str) -> Any:
    return ps.matmul(a, b, spec, backend="emulated")


def _by_loops(name: str, a: np.ndarray, b: np.ndarray, check: Check) -> Contender:
    """Return a product that was compiled as though there were no programs for tiles."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(a), jnp.asarray(b)
    # None makes Python refuse to import it.
    with mock.patch.dict(sys.modules, {"jax.experimental.pallas.triton": None}):
        call = jax.jit(partial(_product, spec=name)).lower(x, y).compile()
    jax.clear_caches()  # type: ignore[no-untyped-call]
    run = lambda: jax.block_until_ready(call(x, y))  # type: ignore[no-untyped-call]
    return Contender(run=run, check=check(run))
