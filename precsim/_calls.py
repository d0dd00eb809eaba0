"""How a function of arrays is run: compiled, on the CPU for NumPy, sharded, differentiated."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.core import eval_context  # no public way out of a trace
from numpy.typing import DTypeLike

from precsim._arrays import Array, ArrayLike, JaxArray, as_array, devices_of, is_jax
from precsim._lax_arrays import plain, with_lax

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def compiled(
    *, static_argnums: int | tuple[int, ...] | None = None
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate with `jax.jit`; a type checker keeps the function's types."""
    return partial(jax.jit, static_argnums=static_argnums)


@contextmanager
def on_cpu(dtype: DTypeLike) -> Iterator[None]:
    """Let JAX compute with NumPy arrays of a carrier's dtype on the CPU.

    The default device does not matter. The computation runs at once, also where a function is being
    traced: NumPy arrays in, NumPy arrays out.
    (`jax.ensure_compile_time_eval` would also fold constants inside the functions compiled here,
    and with them the order of 0 + -0.)
    """
    with (
        eval_context(),
        jax.enable_x64(np.dtype(dtype) == np.float64),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
    ):
        yield


def call(function: Callable[..., Result], dtype: DTypeLike, *arrays: Any) -> Result:
    """Call a function of JAX arrays; NumPy arrays in, NumPy arrays out, if none is JAX's.

    `arrays` are pytrees; `dtype` is that of the carrier.
    """
    if any(map(is_jax, jax.tree.leaves(arrays))):
        return function(*jax.tree.map(as_jax, arrays))
    return in_numpy(function, dtype, *arrays)


def in_numpy(function: Callable[..., Result], dtype: DTypeLike, *arrays: Any) -> Result:
    """Call a function of JAX arrays with NumPy arrays on the CPU; the results are NumPy arrays."""
    with on_cpu(dtype):
        # Copies, since what JAX hands out is read-only.
        result: Result = jax.tree.map(np.array, function(*jax.tree.map(jnp.asarray, arrays)))
        return result


PIECE = 1 << 17
"""Elements of a NumPy array that run at a time: large beside a call's cost, small for a cache."""


def in_pieces(function: Callable[..., Array], dtype: DTypeLike, *arrays: Any) -> np.ndarray:
    """Call an elementwise function of JAX arrays with NumPy arrays of one shape, on the CPU.

    It runs in pieces of one size, which stay in the cache and share one compilation, whatever the
    size of the arrays. An array may be None.
    """
    shape = next(x.shape for x in arrays if x is not None)
    count = math.prod(shape)
    size = min(PIECE, 1 << (count - 1).bit_length())
    flat = [None if x is None else x.reshape(-1) for x in arrays]
    result = np.empty(0)
    with on_cpu(dtype):
        for start in range(0, count, size):
            here = slice(start, start + size)
            pieces = (None if x is None else _padded(x[here], size) for x in flat)
            values = np.asarray(function(*pieces))[: count - start]
            if start == 0:
                result = np.empty(count, values.dtype)
            result[here] = values
    return result.reshape(shape)


def _padded(piece: np.ndarray, size: int) -> np.ndarray:
    return piece if piece.size == size else np.pad(piece, (0, size - piece.size))


def as_jax(x: ArrayLike, argument: str = "an array") -> JaxArray:
    """Return an array as JAX's; refuse a float64 array that would become float32."""
    if not is_jax(x):
        x = as_array(x, argument)
        if x.dtype == np.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            raise ValueError(
                f"{argument} has dtype float64, which JAX has with jax_enable_x64 only; allowed is float32"
            )
    return jnp.asarray(x)


@compiled(static_argnums=(0, 1))
def call_compiled(function: Callable[..., Array], option: Any, *arrays: Any) -> Array:
    """Call a function of one option, fixed in the compilation, and of arrays."""
    return with_automatic_axes(with_lax(partial(function, option)), *map(jnp.asarray, plain(arrays)))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def straight_through(function: Callable[..., Array], x: Array, *others: Any) -> Array:
    """Return ``function(x, *others)``; under differentiation the tangent of `x` passes unchanged.

    Source: Bengio et al., arXiv 1308.3432.
    """
    return function(x, *others)


@straight_through.defjvp
def _straight_through_jvp(
    function: Callable[..., Array], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    return straight_through(function, *primals), tangents[0]


def kept_apart(x: Result) -> Result:
    """Return arrays as they are; XLA computes them apart from what uses them."""
    same: Result = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return same


def vary_alike(*arrays: Any) -> tuple[Any, ...]:
    """Inside `jax.shard_map`, let arrays vary over the devices that any of them varies over."""
    every = frozenset().union(*map(devices_of, arrays))
    axes = [tuple(sorted(every - devices_of(x))) for x in arrays]
    return tuple(
        jax.lax.pcast(x, a, to="varying") if a else x for x, a in zip(arrays, axes, strict=True)
    )


def choose(
    condition: Array | bool,
    yes: Callable[..., Result],
    no: Callable[..., Result],
    *operands: Any,
) -> Result:
    """Return ``yes(*operands)`` or ``no(*operands)`` as `lax.cond` does.

    Also where vmap maps the condition: JAX selects the operands by the condition then, and inside
    `jax.shard_map` they vary with it. The functions are traced before that and must know. Arrays
    that they close over are such operands too.
    """
    structure: Any
    leaves, structure = jax.tree.flatten(operands)
    condition, *leaves = vary_alike(condition, *leaves)
    result: Result = jax.lax.cond(condition, yes, no, *structure.unflatten(leaves))
    return result


def with_automatic_axes(
    run: Callable[..., Result], *arrays: Array | None, contracted: tuple[int, ...] = ()
) -> Result:
    """Return ``run(*arrays)``, with the axes of an explicit mesh taken as automatic.

    Meshes of `jax.make_mesh` have explicit axes by default. They ask for shardings, which loops
    and reshapes do not name; automatic axes leave them to XLA. Results are sharded as the arrays
    are: each dimension, counted from the last, as that of the first array that is as long.
    `contracted` names one dimension of each array that does not count.
    """
    if not any(map(is_jax, arrays)):
        return run(*arrays)
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    shardings = {n: jax.typeof(x).sharding for n, x in enumerate(arrays) if is_jax(x)}
    explicit = {n: s for n, s in shardings.items() if s.mesh.explicit_axes}
    if not explicit:
        return run(*arrays)
    mesh = next(iter(explicit.values())).mesh
    dimensions: dict[tuple[int, int], Any] = {}
    for n, sharding in explicit.items():
        shape = arrays[n].shape  # type: ignore[union-attr]
        for i in range(-len(shape), 0):
            if contracted[n : n + 1] != (i,) and sharding.spec[i] is not None:
                dimensions.setdefault((i, shape[i]), sharding.spec[i])

    def sharded(x: Array) -> Array:
        spec: list[Any] = []
        for i in range(-x.ndim, 0):
            axes = dimensions.get((i, x.shape[i]))
            spec.append(None if axes in spec else axes)
        placed: Array = reshard(x, NamedSharding(mesh, partition(*spec)))
        return placed

    reshard, partition = cast("Any", jax.sharding.reshard), cast("Any", PartitionSpec)
    automatic = mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))
    with jax.sharding.use_abstract_mesh(automatic):
        unnamed = (reshard(x, partition()) if n in explicit else x for n, x in enumerate(arrays))
        results = run(*unnamed)
    named: Result = jax.tree.map(sharded, results)
    return named


@cache
def refuse_fast_math() -> None:
    """Refuse to compute where XLA's CPU compiler may reorder sums.

    A sum tells whether it does, since XLA_FLAGS may also name a file of flags: fast math makes
    ``(x + y) - x`` into ``y``. Compiled functions call this once for each compilation.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags or (flags.startswith("--") and "fast_math" not in flags):
        return
    large, small = np.full(1, 2.0**30, np.float32), np.ones(1, np.float32)
    with on_cpu(np.float32):
        if jax.jit(lambda x, y: (x + y) - x)(large, small)[0] != 0:
            raise RuntimeError(
                "XLA_FLAGS has --xla_cpu_enable_fast_math=true, which changes the bits of sums; "
                "allowed is false, XLA's default"
            )
