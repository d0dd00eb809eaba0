"""Cases of calls: every public function of arrays, eager, beside JAX's and NumPy's own."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import inputs
from benchmarks.case import Case, Contender, Goal, Setting, Wrong

JNP, NUMPY = "jnp", "np"
ON_JAX, ON_NUMPY = "precsim, JAX arrays", "precsim, NumPy arrays"
SMALL, LARGE = 100, 1_000_000
QUICK = ("round_to", "add", "accumulate", "matmul")
WARM_CALLS, WARM_SECONDS = 1_000, 5.0
"""Small NumPy arrays run compiled after some hundred calls: then timing starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A public function, what it is compared with, and the arrays that it takes."""

    run: Callable[..., Any]
    plain: str
    """Name of the comparable function in jax.numpy (and numpy)."""
    arrays: Callable[[int], tuple[Any, ...]]
    """From a number of elements."""
    plain_arrays: Callable[[int], tuple[Any, ...]] | None = None
    large: int = LARGE


def _numbers(count: int) -> Callable[[int], tuple[Any, ...]]:
    return lambda size: tuple(inputs.make_input(size, seed=inputs.SEED + k) for k in range(count))


def _positive(size: int) -> tuple[Any, ...]:
    return (np.linspace(0.5, 4, size, dtype=np.float32),)


def _ranks(size: int) -> tuple[Any, ...]:
    return (_positive(size)[0][: size // 4 * 4].reshape(4, -1),)


def _in_format(size: int) -> tuple[Any, ...]:
    return (np.asarray(ps.round_to(inputs.make_input(size), "bf16")),)


def _codes(size: int) -> tuple[Any, ...]:
    return (np.arange(size, dtype=np.uint32).astype(np.uint8),)


def _integers(size: int) -> tuple[Any, ...]:
    return (np.arange(size, dtype=np.int32) * 40503,)


def _rows(size: int) -> tuple[Any, ...]:
    ids = np.arange(size // 4, dtype=np.int32) % 7
    return np.ones((size // 4, 4), np.float32), ids


def _matrices(size: int) -> tuple[Any, ...]:
    """Return operands of 4 x 32 by 32 x 4 numbers, or square ones."""
    rows, inner = (4, 32) if size == SMALL else (256, 256)
    x = np.resize(np.asarray(ps.round_to(inputs.make_input(777)[200:], "e4m3")), (rows, inner))
    x = np.nan_to_num(x, posinf=1.0, neginf=1.0)
    return x, np.ascontiguousarray(x.T)


def _scales(size: int) -> tuple[Any, ...]:
    """Return the scales of both operands, one for each 32 products."""
    blocks = _matrices(size)[0].shape[1] // 32
    return np.full((1, blocks), 0.5, np.float32), np.full((blocks, 1), 2, np.float32)


def _images(size: int) -> tuple[Any, ...]:
    edge = 4 if size == SMALL else 32
    return np.ones((1, edge, edge, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)


def _quantized(size: int) -> tuple[Any, ...]:
    return (ps.quantize(inputs.make_input(size), "mxfp4"),)


def _convolved(jax: Any) -> Callable[..., Any]:
    return lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=NUMBERS
    )


CONTRACT = (((1,), (0,)), ((), ()))
NUMBERS = ("NHWC", "HWIO", "NHWC")

PLAIN: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "conv": _convolved,
    "dot_general": lambda jax: lambda a, b: jax.lax.dot_general(a, b, CONTRACT),
    "erf": lambda jax: jax.scipy.special.erf,
    "rsqrt": lambda jax: jax.lax.rsqrt,
    "segment_sum": lambda jax: lambda x, ids: jax.ops.segment_sum(x, ids, num_segments=7),
    "sigmoid": lambda jax: jax.nn.sigmoid,
    "take": lambda jax: lambda table, ids: jax.numpy.take(table, ids, axis=0),
    "fma": lambda jax: lambda x, y, z: x * y + z,
}
"""Functions that are not in jax.numpy under that name."""


def _rounded(name: str, operands: int, plain: str = "") -> Function:
    arrays = _numbers(operands) if name not in ("log", "sqrt", "rsqrt") else _positive
    return Function(
        run=lambda *xs: getattr(ps, name)(*xs, "bf16"), plain=plain or name, arrays=arrays
    )


FUNCTIONS: dict[str, Function] = {
    "round_to": _rounded("round_to", 1, "negative"),
    "round_to_steps": Function(
        run=lambda x: ps.round_to_steps(x, 0.25, "int8"), plain="negative", arrays=_numbers(1)
    ),
    "ulp": _rounded("ulp", 1, "negative"),
    **{name: _rounded(name, 2) for name in ("add", "subtract", "multiply", "divide")},
    "fma": _rounded("fma", 3),
    **{name: _rounded(name, 1) for name in ("sqrt", "reciprocal", "exp", "log", "tanh")},
    **{name: _rounded(name, 1) for name in ("erf", "sigmoid", "rsqrt")},
    **{
        name: Function(run=getattr(ps.ieee, name), plain=name, arrays=_numbers(2))
        for name in ("less", "equal", "maximum")
    },
    "to_integer": Function(
        run=lambda x: ps.ieee.to_integer(x, "int32"), plain="negative", arrays=_numbers(1)
    ),
    "from_integer": Function(
        run=lambda n: ps.ieee.from_integer(n, "bf16"), plain="negative", arrays=_integers
    ),
    "decode": Function(run=lambda c: ps.decode(c, "e5m2"), plain="negative", arrays=_codes),
    "encode": Function(run=lambda x: ps.encode(x, "bf16"), plain="negative", arrays=_in_format),
    "convert": Function(
        run=lambda c: ps.convert(c, "e5m2", "e4m3"), plain="negative", arrays=_codes
    ),
    "pack_codes": Function(run=lambda c: ps.pack_codes(c, 4), plain="negative", arrays=_codes),
    "unpack_codes": Function(
        run=lambda c: ps.unpack_codes(c, 4, c.size), plain="negative", arrays=_codes
    ),
    "accumulate": Function(
        run=lambda x: ps.accumulate(x, "bf16"), plain="sum", arrays=_positive, large=5_000
    ),
    "all_reduce": Function(
        run=lambda x: ps.all_reduce(x, "ring:bf16"), plain="sum", arrays=_ranks, large=5_000
    ),
    "feedback_all_reduce": Function(
        run=lambda x: ps.feedback_all_reduce(x, x, "ring:bf16")[0], plain="sum", arrays=_ranks
    ),
    "segment_sum": Function(
        run=lambda x, ids: ps.segment_sum(x, ids, "bf16", num_segments=7),
        plain="segment_sum",
        arrays=_rows,
        large=4_000,
    ),
    "embedding": Function(
        run=lambda table, ids: ps.embedding(table, ids, "bf16"), plain="take", arrays=_rows
    ),
    "quantize": Function(
        run=lambda x: ps.quantize(x, "mxfp4"), plain="negative", arrays=_numbers(1)
    ),
    "dequantize": Function(
        run=ps.dequantize, plain="negative", arrays=_quantized, plain_arrays=_numbers(1)
    ),
    "matmul": Function(
        run=lambda a, b: ps.matmul(a, b, "bf16_bf16_fp32"), plain="matmul", arrays=_matrices
    ),
    "dot_general": Function(
        run=ps.dot_general("bf16_bf16_fp32"), plain="dot_general", arrays=_matrices
    ),
    "scaled_matmul": Function(
        run=lambda a, b, s, t: ps.scaled_matmul(
            a, b, "h100:e4m3:promote32", a_scales=s, b_scales=t
        ),
        plain="matmul",
        arrays=lambda size: (*_matrices(size), *_scales(size)),
        plain_arrays=_matrices,
    ),
    "einsum": Function(
        run=partial(ps.einsum("bf16_bf16_fp32"), "ij,jk"), plain="matmul", arrays=_matrices
    ),
    "conv": Function(
        run=lambda x, w: ps.conv(x, w, "bf16_bf16_fp32"), plain="conv", arrays=_images
    ),
    "conv_general_dilated": Function(
        run=lambda x, w: ps.conv_general_dilated("bf16_bf16_fp32")(
            x, w, (1, 1), "SAME", dimension_numbers=NUMBERS
        ),
        plain="conv",
        arrays=_images,
    ),
}
"""Every public function of arrays; of the comparisons two, of minimum and maximum one."""


def cases() -> Iterator[Case]:
    """Yield them in the order of the table: one small call of each, then large arrays."""
    for kind in ("small", "large"):
        for name, function in FUNCTIONS.items():
            is_small = kind == "small"
            size = SMALL if is_small else function.large
            yield Case(
                name=f"calls/{kind}/{name}",
                build=partial(build, name),
                goals=(
                    Goal(measured=ON_JAX, against=JNP, at_most=6.0 if is_small else None),
                    Goal(measured=ON_NUMPY, against=ON_JAX, at_most=2.0),
                    Goal(measured=ON_NUMPY, against=NUMPY),
                ),
                size=size,
                quick_size=size if is_small and name in QUICK else None,
            )


def build(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Call a function with JAX and with NumPy arrays, and what it is compared with."""
    import jax
    import jax.numpy as jnp

    function = FUNCTIONS[name]
    here = function.arrays(setting.size)
    there = jax.tree.map(jnp.asarray, here)
    plain_here = (function.plain_arrays or function.arrays)(setting.size)
    plain_there = jax.tree.map(jnp.asarray, plain_here)
    own = PLAIN.get(function.plain)
    plain: Any = getattr(jnp, function.plain) if own is None else own(jax)
    run: Any = function.run if name != "dot_general" else lambda a, b: function.run(a, b, CONTRACT)
    ready: Any = jax.block_until_ready
    on_numpy: Callable[[], Any] = lambda: run(*here)
    on_jax: Callable[[], Any] = lambda: ready(run(*there))
    found: dict[str, Contender | str] = {
        JNP: Contender(run=lambda: ready(plain(*plain_there))),
        ON_JAX: Contender(run=on_jax),
        ON_NUMPY: Contender(run=on_numpy, check=_equal_bits(on_numpy, on_jax)),
    }
    if hasattr(np, function.plain):
        found[NUMPY] = Contender(run=lambda: getattr(np, function.plain)(*plain_here))
    start = time.perf_counter()
    for _ in range(WARM_CALLS):
        on_numpy()
        if time.perf_counter() - start > WARM_SECONDS:
            break
    return found


def _equal_bits(got: Callable[[], Any], expected: Callable[[], Any]) -> Callable[[], Wrong]:
    def check() -> Wrong:
        import jax

        pairs = zip(jax.tree.leaves(got()), jax.tree.leaves(expected()), strict=True)
        bits = [[np.ascontiguousarray(x).view(np.uint8) for x in pair] for pair in pairs]
        return Wrong(sum(int((x != y).sum()) for x, y in bits), sum(x.size for x, _ in bits))

    return check
