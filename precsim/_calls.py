"""How a function of arrays is run: by NumPy or compiled, on the CPU for NumPy, differentiated.

The functions load JAX when they need it; where it is missing, NumPy computes all NumPy arrays.
"""

import math
import os
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from precsim._arrays import Array, common_shape, is_jax
from precsim._loops import vary_alike

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

COMPILED_FROM = 1 << 14
"""The work from which a function of NumPy arrays runs compiled, that of earlier calls included.

Work is counted in elements, and a step of any size in NumPy costs `STEP` of them. So the first
compilation comes after NumPy has taken about as long as it takes."""

STEP = 1 << 6

PIECE = 1 << 17
"""Elements of a NumPy array that run at a time."""

LEAST = 1 << 6
"""Elements of the smallest piece."""

_WHOLE = 1 << 10
"""Large arrays of one size run whole, by a compilation of their own, after so much more work: then
the pieces have taken longer than that."""


def compiled(
    *, static_argnums: int | tuple[int, ...] | None = None
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate with `jax.jit`: types stay, and programs name the function after "precsim."."""
    import jax

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        function.__name__ = f"precsim.{function.__name__.strip('_')}"
        run: Any = jax.jit(function, static_argnums=static_argnums)
        return cast("Callable[Parameters, Result]", run)

    return decorate


def call(
    function: Callable[..., Result],
    option: Hashable,
    *arrays: Any,
    steps: int = 1,
    patience: int = 1,
    x64: bool = False,
) -> Result:
    """Return ``function(option, *arrays)``: compiled for JAX arrays, and where NumPy takes long.

    Beside arrays there may be None. The function is not made for the call. `steps` says how many
    operations on arrays follow each other in NumPy, in units of a rounded addition; `patience` how
    many times as long as usual a compilation takes; `x64` that 64-bit types take part though no
    array has one. Results of NumPy arrays are NumPy arrays.
    """
    if any(map(is_jax, arrays)):
        return cast("Result", _call_compiled()(function, option, *map(not_narrowed, arrays)))
    there = [x for x in arrays if x is not None]
    key = function, option, *[(x.shape, x.dtype) for x in there]
    if not _is_worth_compiling(key, there[0].size + STEP * steps, patience):
        return function(option, *arrays)
    return cast("Result", in_numpy(_call_compiled(), function, option, *arrays, x64=x64))


def call_elementwise(
    function: Callable[..., Result], option: Hashable, *arrays: Any, x64: bool = False
) -> Result:
    """Call an elementwise function as `call` does; NumPy arrays run in pieces at first.

    Pieces have few sizes, so that arrays of all sizes share compilations. The function returns a
    new array of the common shape, or a tuple of such.
    """
    if any(map(is_jax, arrays)):
        return cast("Result", _call_compiled()(function, option, *map(not_narrowed, arrays)))
    shape = common_shape(*[x for x in arrays if x is not None])
    count = math.prod(shape)
    size = min(PIECE, max(LEAST, 1 << (count - 1).bit_length()))
    dtypes = tuple([None if x is None else x.dtype for x in arrays])
    if not count or not _is_worth_compiling((function, option, size, dtypes), count + STEP):
        return function(option, *arrays)
    if count > PIECE and _is_worth_compiling((function, option, count, dtypes), count, _WHOLE):
        size = count
    run = partial(_call_compiled(), function, option)
    with on_cpu(x64 or _has_64_bits(arrays)):
        return cast("Result", _in_pieces(run, arrays, shape, size))


def _in_pieces(
    run: Callable[..., Any], arrays: tuple[Any, ...], shape: tuple[int, ...], size: int
) -> Any:
    flat = [
        None if x is None else (x if x.shape == shape else np.broadcast_to(x, shape)).reshape(-1)
        for x in arrays
    ]

    def start(first: int) -> Any:
        return run(*[None if x is None else _padded(x, first, size) for x in flat])

    values, count = start(0), math.prod(shape)
    is_tuple = isinstance(values, tuple)
    parts = values if is_tuple else (values,)
    if count <= size:
        results = [np.asarray(_Memory(part))[:count] for part in parts]
    else:
        results = [np.empty(count, part.dtype) for part in parts]
        for first in range(0, count, size):
            if first + size < count:  # runs while the results of this piece are copied
                values = start(first + size)
            for result, part in zip(results, parts, strict=True):
                result[first : first + size] = np.asarray(part)[: count - first]
            parts = values if is_tuple else (values,)
    shaped = tuple([result.reshape(shape) for result in results])
    return shaped if is_tuple else shaped[0]


class _Memory:
    """The memory of a JAX array on the CPU that nothing else refers to, for NumPy to write to."""

    def __init__(self, x: Any) -> None:
        self._owner = x.block_until_ready()
        self.__array_interface__ = {
            "data": (x.unsafe_buffer_pointer(), False),
            "shape": x.shape,
            "typestr": x.dtype.str,
            "version": 3,
        }


def _padded(x: np.ndarray, first: int, size: int) -> np.ndarray:
    """Return elements from the first on, with zeros beyond the end."""
    piece = x[first : first + size]
    if piece.size == size:
        return piece
    padded = np.zeros(size, piece.dtype)
    padded[: piece.size] = piece
    return padded


_done: dict[Hashable, int] = {}
"""The work of NumPy so far, by function, option and size."""


def _is_worth_compiling(key: Hashable, work: int, patience: int = 1) -> bool:
    """Count work; return whether the function has had so much that it is to be compiled."""
    enough = patience * COMPILED_FROM
    if work < enough:
        before = _done.get(key, 0)
        work += before
        if before < enough:
            if len(_done) > 1 << 14:
                _done.clear()
            _done[key] = work
    return work >= enough and _can_compile()


@cache
def has_jax() -> bool:
    """Return whether JAX is installed."""
    try:
        import jax  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def require_jax(what: str) -> None:
    """Refuse what runs under JAX alone, where that is not installed."""
    if not has_jax():
        raise ModuleNotFoundError(
            f"{what} needs jax, which is not installed: pip install jax", name="jax"
        )


@cache
def _can_compile() -> bool:
    """Return whether JAX is there, and compiles sums in the order in which they are written."""
    try:
        return has_jax() and refuse_fast_math() is None
    except RuntimeError:
        return False


@cache
def _call_compiled() -> Callable[..., Any]:
    @compiled(static_argnums=(0, 1))
    def call_compiled(function: Callable[..., Any], option: Hashable, *arrays: Any) -> Any:
        import jax.numpy as jnp

        from precsim._lax_arrays import plain, with_lax

        refuse_fast_math()
        there = (None if x is None else jnp.asarray(plain(x)) for x in arrays)
        return with_automatic_axes(with_lax(partial(function, option)), *there)

    return call_compiled


def not_narrowed(x: Any, argument: str = "an array") -> Any:
    """Return an array as it is; refuse one of float64 that JAX would turn into float32."""
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        import jax

        if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            raise ValueError(
                f"{argument} has dtype float64, which JAX has with jax_enable_x64 only; allowed is "
                "float32"
            )
    return x


def in_numpy(function: Callable[..., Result], *arrays: Any, x64: bool = False) -> Result:
    """Call a function of JAX arrays with NumPy arrays on the CPU; the results are NumPy arrays.

    Arguments that are no arrays are given to the function as they are.
    """
    with on_cpu(x64 or _has_64_bits(arrays)):
        result = function(*arrays)
        # Copies, since what JAX hands out is read-only.
        if is_jax(result):
            return cast("Result", np.array(result))
        import jax

        return cast("Result", jax.tree.map(np.array, result))


def _has_64_bits(arrays: tuple[Any, ...]) -> bool:
    return 8 in [x.dtype.itemsize for x in arrays if isinstance(x, np.ndarray)]


def on_cpu(x64: bool) -> AbstractContextManager[Any]:
    """Let JAX compute with NumPy arrays on the CPU, with 64-bit types or without them.

    The default device does not matter, nor what a program wants to know of NaN. The computation
    runs at once, also where a function is being traced: NumPy arrays in, NumPy arrays out.
    (`jax.ensure_compile_time_eval` would also fold constants inside the functions compiled here,
    and with them the order of 0 + -0.)
    """
    jax, is_outside, evaluate, cpu, is_default = _switches()
    switches = jax.config
    here: list[AbstractContextManager[Any]] = []
    if not is_outside():
        here.append(evaluate())
    if switches.jax_enable_x64 != x64:
        here.append(jax.enable_x64(x64))
    if not is_default or switches.jax_default_device is not None:
        here.append(jax.default_device(cpu))
    if switches.jax_debug_nans or switches.jax_debug_infs:
        here += [jax.debug_nans(False), jax.debug_infs(False)]
    if len(here) < 2:
        return here[0] if here else nullcontext()
    stack = ExitStack()
    for context in here:
        stack.enter_context(context)
    return stack


@cache
def _switches() -> tuple[Any, ...]:
    """Return jax, two functions about traces, the device for the CPU, whether it is the default."""
    import jax
    from jax._src.core import eval_context, trace_state_clean  # no public way out of a trace

    cpu = jax.local_devices(backend="cpu")[0]
    return jax, trace_state_clean, eval_context, cpu, jax.default_backend() == "cpu"


def straight_through(function: Callable[..., Array], x: Array, *others: Any) -> Array:
    """Return ``function(x, *others)``; under differentiation the tangent of `x` passes unchanged.

    Source: Bengio et al., arXiv 1308.3432.
    """
    if not is_jax(x):
        return function(x, *others)
    from precsim._lax_arrays import plain, with_lax

    return _straight_through()(with_lax(function), *plain((x, *others)))


@cache
def _straight_through() -> Callable[..., Array]:
    import jax

    @partial(jax.custom_jvp, nondiff_argnums=(0,))
    def straight_through(function: Callable[..., Array], x: Array, *others: Any) -> Array:
        return function(x, *others)

    @straight_through.defjvp
    def jvp(
        function: Callable[..., Array], primals: tuple[Any, ...], tangents: tuple[Any, ...]
    ) -> tuple[Array, Array]:
        return straight_through(function, *primals), tangents[0]

    return straight_through


def kept_apart(x: Result) -> Result:
    """Return arrays as they are; XLA computes them apart from what uses them."""
    import jax

    same: Result = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return same


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
    import jax

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
    import jax
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
    import jax

    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags or (flags.startswith("--") and "fast_math" not in flags):
        return
    large, small = np.full(1, 2.0**30, np.float32), np.ones(1, np.float32)
    with on_cpu(False):
        if jax.jit(lambda x, y: (x + y) - x)(large, small)[0] != 0:
            raise RuntimeError(
                "XLA_FLAGS has --xla_cpu_enable_fast_math=true, which changes the bits of sums; "
                "allowed is false, XLA's default"
            )
