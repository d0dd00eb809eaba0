"""All that precsim knows about the difference between NumPy and JAX arrays."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

    import jax

    JaxArray: TypeAlias = jax.Array
    Array: TypeAlias = np.ndarray | jax.Array
    ArrayLike: TypeAlias = npt.ArrayLike | jax.Array | Fraction | Decimal
    NumPyLike: TypeAlias = np.ndarray | np.generic | float | Fraction | Decimal | Sequence[Any]
else:
    JaxArray = Array = ArrayLike = NumPyLike = Any  # NumPy's part does without jax
"""`Array`: a `numpy.ndarray` or a `jax.Array` (also a tracer). `ArrayLike`: what public functions
take, which is arrays of any library, Python numbers and lists of them. `NumPyLike`: those of them
whose results are NumPy arrays."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


_CONCRETE: set[type] = set()
"""The types of JAX arrays that have been seen, without those of tracers."""


def is_jax(x: object) -> TypeGuard[JaxArray]:
    """Return whether `x` is a JAX array or tracer, without importing jax."""
    # The common cases, much faster than the test below.
    if x is None or isinstance(x, (np.ndarray, np.generic)):
        return False
    if type(x) in _CONCRETE:
        return True
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(x, jax.Array):
        return is_lax(x)
    if not isinstance(x, jax.core.Tracer):
        _CONCRETE.add(type(x))
    return True


def is_lax(x: object) -> bool:
    """Return whether `x` is a `LaxArray`, without importing jax."""
    # Another thread may be importing the module: then no such array exists yet.
    lax_array = getattr(sys.modules.get("precsim._lax_arrays"), "LaxArray", None)
    return lax_array is not None and type(x) is lax_array


def is_traced(x: object) -> bool:
    """Return whether `x` is a JAX tracer, whose values cannot be looked at."""
    return is_jax(x) and (is_lax(x) or isinstance(x, sys.modules["jax"].core.Tracer))


def is_array(x: object) -> bool:
    """Return whether `x` is an array of any library, as opposed to Python numbers and lists."""
    if isinstance(x, (np.ndarray, np.generic)) or is_jax(x):
        return True
    return hasattr(x, "__dlpack__") or hasattr(x, "__array__")


def as_array(x: ArrayLike, argument: str = "x") -> Array:
    """Return `x` as a JAX array if it is one, else as a NumPy array.

    Arrays of other libraries on the CPU are taken by DLPack or by ``__array__``. Masked arrays are
    refused, since nothing here knows of masks; so are ragged lists and lists of tracers. The bytes
    of a number come in the machine's order, whatever order an array (of a file) has.
    """
    if type(x) is np.ndarray:
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    if is_jax(x):
        return x
    if isinstance(x, (list, tuple)):
        _refuse_entries(x, argument)
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{argument} is a masked array; allowed are arrays without mask (for example x.filled(0))"
        )
    elif hasattr(x, "__dlpack__") and not isinstance(x, (np.ndarray, np.generic)):
        return _from_dlpack(x, argument)
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{argument} is a list of rows of different shapes; allowed are rows of one shape"
        ) from None


_INTEGERS = frozenset(map(np.dtype, "bBhHiIlLqQ"))


def as_integers(x: ArrayLike, argument: str) -> Array:
    """Return `x` as a JAX or NumPy array of integers of 8 to 64 bits; refuse any other dtype.

    Integers of fewer bits are widened, and an empty list counts as integers. Booleans are refused.
    """
    array = as_array(x, argument)
    if array.dtype in _INTEGERS:
        return array
    if not array.size and not is_array(x):
        return array.astype(np.int64)
    name = str(array.dtype)
    if name in ("int1", "int2", "int4", "uint1", "uint2", "uint4"):
        return array.astype(np.uint8 if name[0] == "u" else np.int8)
    if name.startswith("key<"):
        raise TypeError(
            f"{argument} is a PRNG key; allowed are integers, for example jax.random.bits(key, shape)"
        )
    if array.dtype.kind == "O" and all(isinstance(v, int) for v in np.asarray(array).flat):
        raise TypeError(f"{argument} has integers of more than 64 bits; allowed are 8 to 64 bits")
    raise TypeError(f"{argument} has dtype {name}; allowed are integers")


def _refuse_entries(x: Any, argument: str) -> None:
    for entry in x:
        if isinstance(entry, (list, tuple)):
            _refuse_entries(entry, argument)
        elif isinstance(entry, np.ma.MaskedArray):
            as_array(entry, argument)
        elif is_traced(entry):
            raise TypeError(
                f"{argument} is a list of values that JAX traces; allowed is one array, for example "
                f"jnp.stack({argument})"
            )


_ON_CPU = (1, 3)
"""DLPack's numbers of the CPU and of memory of the CPU that is pinned for CUDA."""


def _from_dlpack(x: Any, argument: str) -> Array:
    kind = int(x.__dlpack_device__()[0])
    if kind not in _ON_CPU:
        raise TypeError(
            f"{argument} is on a device that is no CPU (DLPack kind {kind}); allowed are arrays on the "
            "CPU, and JAX arrays on any device"
        )
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError):
        pass  # NumPy has no bfloat16 and no 8-bit floats there
    import jax.dlpack

    try:
        return np.asarray(jax.dlpack.from_dlpack(x))
    except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(
            f"{argument} is a {type(x).__name__} that DLPack does not hand over: {reason}"
        ) from None


class Namespace(Protocol):
    """The functions that `numpy` and `jax.numpy` share."""

    def __getattr__(self, name: str) -> Callable[..., Array]:
        """Return a function of arrays."""


def namespace(*arrays: object) -> Namespace:
    """Return `jax.numpy` if any argument is a JAX array, else `numpy`."""
    if any(map(is_lax, arrays)):
        from precsim._lax_arrays import lax_numpy

        return cast("Namespace", lax_numpy)
    if any(map(is_jax, arrays)):
        import jax.numpy as jnp

        return cast("Namespace", jnp)
    return cast("Namespace", np)


def on_plain_arrays(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Hand a function the plain arrays of `LaxArray`s; its results become such arrays again."""

    @wraps(function)
    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        if not any(map(is_lax, args)):
            return function(*args, **options)
        from precsim._lax_arrays import lifted

        result: Result = lifted(function)(*args, **options)
        return result

    return call


def common_shape(*arrays: Any) -> tuple[int, ...]:
    """Return the shape that arrays broadcast to, at once where all have it."""
    first: tuple[int, ...] = arrays[0].shape
    for x in arrays:
        if x.shape != first:
            return np.broadcast_shapes(*(x.shape for x in arrays))
    return first


def within(ids: Array, count: int) -> np.ndarray:
    """Return NumPy indices of any integer dtype as int32, -1 for those outside 0 .. count - 1."""
    is_inside = (ids >= 0) & (ids < count)
    return np.where(is_inside, np.where(is_inside, ids, 0).astype(np.int32), np.int32(-1))


@on_plain_arrays
def entry(x: Array, k: Any) -> Array:
    """Return ``x[k]`` for one index of the first axis; under JAX a slice, which loops vectorise."""
    if not is_jax(x):
        row: Array = x[k]
        return row
    from jax import lax

    return cast("Array", lax.dynamic_index_in_dim(x, k, 0, keepdims=False))


@on_plain_arrays
def with_entry(x: Array, k: Any, value: Array) -> Array:
    """Return `x` with ``x[k] = value``; NumPy arrays are changed in place."""
    if not is_jax(x):
        x[k] = value
        return x
    from jax import lax

    return cast("Array", lax.dynamic_update_index_in_dim(x, value, k, 0))


def absolute(x: Array) -> Array:
    """Return ``abs(x)``, whose type Python's own stub does not know for two libraries."""
    size: Array = abs(cast("Any", x))
    return size


@on_plain_arrays
def count_true(*masks: Array | bool) -> Array:
    """Count the true elements of boolean arrays of one size: int32, shape (len(masks),).

    The mask True stands for all elements. Under JAX this is one pass.
    """
    arrays = [mask for mask in masks if mask is not True]
    size = np.int32(cast("Array", arrays[0]).size)
    if not is_jax(arrays[0]):
        return np.array([size if m is True else np.count_nonzero(m) for m in masks], np.int32)
    import jax.numpy as jnp
    from jax import lax

    ones = tuple(mask.reshape(-1).astype(jnp.int32) for mask in cast("list[Array]", arrays))
    zeros = tuple(np.int32(0) for _ in arrays)
    add = lambda xs, ys: tuple(map(lax.add, xs, ys))
    counts = iter(lax.reduce(ones, zeros, add, (0,)))
    return jnp.stack([jnp.int32(size) if mask is True else next(counts) for mask in masks])


@on_plain_arrays
def total_of_each(*arrays: Array) -> tuple[Array, ...]:
    """Return the sum of each array of one shape and dtype over axis 1; under JAX in one pass."""
    if not is_jax(arrays[0]):
        return tuple(x.sum(axis=1, dtype=x.dtype) for x in arrays)
    from jax import lax

    add = lambda xs, ys: tuple(map(lax.add, xs, ys))
    zeros = tuple(x.dtype.type(0) for x in arrays)
    return tuple(lax.reduce(arrays, zeros, add, (1,)))


@on_plain_arrays
def leading_zeros(x: Array) -> Array:
    """Count the zero bits above the highest set bit of unsigned integers."""
    if is_jax(x):
        from jax import lax

        # Where XLA folds constants it counts -32 zeros in a negative int32 (jax 0.10.2, CPU).
        return _signed(lambda y: lax.max(lax.clz(y), y.dtype.type(0)), x)
    width = 8 * x.dtype.itemsize
    zeros = np.full(x.shape, width, x.dtype)
    step = width // 2
    while step:
        high = x >> x.dtype.type(step)
        found = high != 0
        zeros = np.where(found, zeros - x.dtype.type(step), zeros)
        x = np.where(found, high, x)
        step //= 2
    return zeros - x


@on_plain_arrays
def shift_left(x: Array, count: Array) -> Array:
    """Shift unsigned integers left by unsigned counts; 0 from their width on (as XLA has it)."""
    if is_jax(x) or is_jax(count):
        from jax import lax

        return lax.shift_left(*_same_shape(x, count))
    last = x.dtype.type(8 * x.dtype.itemsize - 1)
    shifted: np.ndarray = x << np.minimum(count, last)
    return np.where(count <= last, shifted, x.dtype.type(0))


@on_plain_arrays
def shift_right(x: Array, count: Array) -> Array:
    """Shift unsigned integers right by unsigned counts; 0 from their width on (as XLA has it)."""
    if is_jax(x) or is_jax(count):
        from jax import lax

        return lax.shift_right_logical(*_same_shape(x, count))
    last = x.dtype.type(8 * x.dtype.itemsize - 1)
    shifted: np.ndarray = x >> np.minimum(count, last)
    return np.where(count <= last, shifted, x.dtype.type(0))


@on_plain_arrays
def shift_right_signed(x: Array, count: Array) -> Array:
    """Shift signed integers right by unsigned counts, rounding down.

    From their width on, the sign is left.
    """
    xp = namespace(x, count)
    last = count.dtype.type(8 * x.dtype.itemsize - 1)
    count = xp.minimum(count, last).astype(x.dtype)
    if not is_jax(count):
        return x >> count
    from jax import lax

    return lax.shift_right_arithmetic(*_same_shape(x, count))


@on_plain_arrays
def count_bits(x: Array) -> Array:
    """Count the set bits of unsigned integers."""
    if not is_jax(x):
        return np.bitwise_count(x).astype(x.dtype)
    from jax import lax

    return _signed(lax.population_count, x)


def _signed(function: Callable[[Array], Array], x: Array) -> Array:
    """Call a function of bit patterns that Pallas has for signed integers only."""
    return bitcast(function(bitcast(x, f"int{8 * x.dtype.itemsize}")), x.dtype)


def _same_shape(x: Array, y: Array) -> tuple[Array, Array]:
    import jax.numpy as jnp

    return jnp.broadcast_arrays(x, y)  # type: ignore[return-value]


@on_plain_arrays
def bitcast(x: Array, dtype: DTypeLike) -> Array:
    """Read the bits of `x` as another dtype of the same width."""
    if not is_jax(x):
        return np.ascontiguousarray(x).view(dtype).reshape(np.shape(x))
    from jax import lax

    if x.ndim < 2:
        return lax.bitcast_convert_type(x, np.dtype(dtype))
    # In one dimension: XLA permutes the elements where it folds the bits of a transposed constant
    # inside a nested jit (jax 0.10.2, CPU).
    return lax.bitcast_convert_type(x.reshape(-1), np.dtype(dtype)).reshape(x.shape)
