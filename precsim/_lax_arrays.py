"""Arrays whose operators go to `jax.lax` at once: the same program, traced in less time.

An operator of `jax.numpy` promotes, broadcasts and calls a jitted function of its own; precsim's
kernels are thousands of such calls on operands of one dtype and one shape. `with_lax` hands a
function its JAX arrays as `LaxArray`s. Where dtypes or shapes differ, or lax has no such function,
`jax.numpy` does it as ever: no result depends on the class.
"""

import operator
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@jax.tree_util.register_pytree_node_class
class LaxArray:
    """A JAX array under other operators; a pytree with one leaf, so loops and `jit` take it.

    Parameters
    ----------
    x : jax.Array
        The array.
    """

    __slots__ = ("x",)
    __array_ufunc__ = None  # NumPy leaves operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, x: Any) -> None:
        self.x = x

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Return the array and nothing else."""
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: tuple[Any]) -> "LaxArray":
        """Undo `tree_flatten`."""
        return cls(leaves[0])

    @property
    def aval(self) -> Any:
        """Shape and dtype."""
        return self.x.aval

    @property
    def dtype(self) -> Any:
        """As of a JAX array."""
        return self.x.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a JAX array."""
        shape: tuple[int, ...] = self.x.shape
        return shape

    @property
    def ndim(self) -> int:
        """As of a JAX array."""
        return len(self.x.shape)

    @property
    def size(self) -> int:
        """As of a JAX array."""
        size: int = self.x.size
        return size

    def astype(self, dtype: Any) -> "LaxArray":
        """Convert as `jax.numpy` does."""
        dtype = np.dtype(dtype)
        if dtype == self.x.dtype:
            return self
        of_integers = dtype.kind in "iu" and self.x.dtype.kind in "biu"
        return LaxArray((lax.convert_element_type if of_integers else jnp.astype)(self.x, dtype))

    def reshape(self, *shape: Any) -> "LaxArray":
        """As of a JAX array."""
        return LaxArray(self.x.reshape(*shape))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the array; its methods return a `LaxArray`."""
        found = getattr(self.x, name)
        return lifted(found) if callable(found) else found

    def __getitem__(self, index: Any) -> "LaxArray":
        return LaxArray(self.x[plain(index)])

    def __neg__(self) -> "LaxArray":
        return LaxArray(lax.neg(self.x))

    def __invert__(self) -> "LaxArray":
        return LaxArray(lax.bitwise_not(self.x))

    def __abs__(self) -> "LaxArray":
        return LaxArray(abs(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def __jax_array__(self) -> Any:
        return self.x


def plain(x: Any) -> Any:
    """Return the JAX array that a `LaxArray` stands for, in tuples and lists too; others as is."""
    if type(x) is LaxArray:
        return x.x
    if type(x) in (tuple, list):
        return type(x)(map(plain, x))
    return x


def _lax_array(x: Any) -> Any:
    return LaxArray(x) if isinstance(x, jax.Array) else x


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of JAX arrays as one of `LaxArray`s."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        args, options = plain(args), {name: plain(value) for name, value in options.items()}
        return jax.tree.map(_lax_array, function(*args, **options))

    return call


def with_lax(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a function see its JAX arrays, at any depth of its arguments, as `LaxArray`s.

    Its results are plain JAX arrays.
    """

    @wraps(function)
    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        args, options = jax.tree.map(_lax_array, (args, options), is_leaf=_is_leaf)
        return jax.tree.map(plain, function(*args, **options), is_leaf=_is_leaf)  # type: ignore[no-any-return]

    return call


def loop_of(body: Callable[..., Any], state: Any) -> tuple[Callable[..., Any], Any]:
    """Return the body of a loop and its first state, with every array as a `LaxArray`."""

    def lax_body(*args: Any) -> Any:
        return _all_lax(body(*args))

    return lax_body, _all_lax(state)


def _all_lax(tree: Any) -> Any:
    return jax.tree.map(lambda x: LaxArray(jnp.asarray(plain(x))), tree, is_leaf=_is_leaf)


def _is_leaf(x: Any) -> bool:
    return type(x) is LaxArray or x is None


def _are_alike(x: Any, y: Any) -> bool:
    """Return whether lax takes two operands as they are, which `jax.numpy` would not change."""
    if isinstance(y, np.generic):
        return bool(y.dtype == x.dtype)
    return hasattr(y, "aval") and y.dtype == x.dtype and y.shape == x.shape


def _operator(name: str, of_lax: Callable[..., Any], kinds: str) -> None:
    """Give the class an operator and its reflection; `of_lax` does it for some kinds of dtype."""
    python = getattr(operator, f"__{name}__")

    def apply(x: Any, y: Any) -> LaxArray:
        array, other = (x, y) if hasattr(x, "aval") else (y, x)
        is_fast = array.dtype.kind in kinds and _are_alike(array, other)
        return LaxArray((of_lax if is_fast else python)(x, y))

    setattr(LaxArray, f"__{name}__", lambda self, other: apply(self.x, plain(other)))
    setattr(LaxArray, f"__r{name}__", lambda self, other: apply(plain(other), self.x))


def _shift_right(x: Any, y: Any) -> Any:
    return (lax.shift_right_logical if x.dtype.kind == "u" else lax.shift_right_arithmetic)(x, y)


for _name, _function, _kinds in (
    ("add", lax.add, "iuf"),
    ("sub", lax.sub, "iuf"),
    ("mul", lax.mul, "iuf"),
    ("truediv", lax.div, ""),
    ("floordiv", lax.div, ""),
    ("mod", lax.rem, ""),
    ("pow", lax.pow, ""),
    ("and", lax.bitwise_and, "biu"),
    ("or", lax.bitwise_or, "biu"),
    ("xor", lax.bitwise_xor, "biu"),
    ("lshift", lax.shift_left, "iu"),
    ("rshift", _shift_right, "iu"),
    ("eq", lax.eq, "biuf"),
    ("ne", lax.ne, "biuf"),
    ("lt", lax.lt, "biuf"),
    ("le", lax.le, "biuf"),
    ("gt", lax.gt, "biuf"),
    ("ge", lax.ge, "biuf"),
):
    _operator(_name, _function, _kinds)


class _Namespace:
    """`jax.numpy` for `LaxArray`s."""

    def __getattr__(self, name: str) -> Any:
        function = lifted(getattr(jnp, name))
        setattr(self, name, function)
        return function

    def where(self, condition: Any, yes: Any, no: Any) -> LaxArray:
        """Select, as `jax.numpy.where`."""
        condition, yes, no = plain(condition), plain(yes), plain(no)
        is_plain = hasattr(condition, "aval") and condition.dtype == bool
        for x in (yes, no):
            has_its_shape = hasattr(x, "aval") and x.shape == getattr(condition, "shape", None)
            is_plain = is_plain and (isinstance(x, np.generic) or has_its_shape)
        if not is_plain or yes.dtype != no.dtype:
            return LaxArray(jnp.where(condition, yes, no))
        yes, no = (
            lax.broadcast(cast("Any", x), condition.shape) if isinstance(x, np.generic) else x
            for x in (yes, no)
        )
        return LaxArray(lax.select(condition, yes, no))

    def maximum(self, x: Any, y: Any) -> LaxArray:
        """Return the larger one, as `jax.numpy.maximum`."""
        return self._extremum(lax.max, jnp.maximum, x, y)

    def minimum(self, x: Any, y: Any) -> LaxArray:
        """Return the smaller one, as `jax.numpy.minimum`."""
        return self._extremum(lax.min, jnp.minimum, x, y)

    def _extremum(self, of_lax: Any, slow: Any, x: Any, y: Any) -> LaxArray:
        x, y = plain(x), plain(y)
        is_plain = hasattr(x, "aval") and x.dtype.kind in "iu" and _are_alike(x, y)
        return LaxArray((of_lax if is_plain else slow)(x, y))

    def clip(self, x: Any, low: Any, high: Any) -> LaxArray:
        """Clip, as `jax.numpy.clip`."""
        return self.minimum(self.maximum(x, low), high)

    def zeros_like(self, x: Any) -> LaxArray:
        """Return zeros of the same shape and dtype."""
        return LaxArray(lax.full_like(plain(x), 0))


lax_numpy = _Namespace()
