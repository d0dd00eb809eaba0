"""The leaves of a state as bytes and words: any dtype, random keys, numbers of Python.

A leaf is described by a small JSON object, which says what its bytes mean. The bytes of an array
stand in a file of tensors; a number of Python stands in its description.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.formats.arguments import shown

_IN_FILES = {
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64", "complex64", "bfloat16"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
}
"""Dtypes that a file of tensors has; others are written as bytes, along one more axis."""

_KINDS = {"bool": bool, "int": int, "float": float, "complex": complex}
"""Numbers of Python, by the name of their type."""

Description = dict[str, Any]


class Leaf(NamedTuple):
    """A leaf on its way to a file, or back."""

    about: Description
    array: np.ndarray | None
    """Its bytes; None where `about` has the value."""


def described(leaf: Any, name: str) -> Leaf:
    """Return what a file has of a leaf.

    Raises
    ------
    TypeError
        If it is neither an array of numbers, a random key, nor a number of Python.
    """
    if type(leaf) in _KINDS.values():
        return Leaf({"number": type(leaf).__name__, "value": _text(leaf)}, None)
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        kind = str(jax.random.key_impl(leaf))
        data = np.asarray(jax.random.key_data(leaf))
        return Leaf(_array_words(data.dtype, data.shape) | {"key": kind}, data)
    is_number = dtype is not None and (dtype == bool or jnp.issubdtype(dtype, np.number))
    if not is_number:
        kind = f"type {type(leaf).__name__}" if dtype is None else f"dtype {dtype}"
        raise TypeError(
            f"state has leaf {name} of {kind}; allowed are arrays of numbers, random keys and "
            "numbers of Python"
        )
    about = _array_words(dtype, leaf.shape)
    if getattr(leaf, "weak_type", False):
        about["weak"] = True
    array = np.asarray(leaf, order="C")
    return Leaf(about, array.astype(array.dtype.newbyteorder("="), copy=False))


def _array_words(dtype: Any, shape: Any) -> Description:
    return {"dtype": np.dtype(dtype).newbyteorder("=").name, "shape": list(shape)}


def _text(number: Any) -> str:
    """Return a number of Python as a text that gives each of its bits, but those of a NaN."""
    if isinstance(number, complex):
        return f"{number.real.hex()} {number.imag.hex()}"
    return number.hex() if isinstance(number, float) else hex(number)


def tensor_of(array: np.ndarray) -> np.ndarray:
    """Return an array as one of a dtype that files of tensors have."""
    if array.dtype.name in _IN_FILES:
        return array
    return np.frombuffer(array.tobytes(), np.uint8).reshape(*array.shape, array.dtype.itemsize)


def leaf_of(about: Any, data: bytearray | None) -> Any:
    """Return a leaf: a NumPy array, a random key, or a number of Python.

    Raises
    ------
    ValueError
        If the description or the bytes are no leaf's.
    """
    if not isinstance(about, dict):
        raise ValueError(f"it is described by {shown(about)}")  # noqa: TRY004 (a file)
    if data is None:
        return _number(about)
    dtype, shape = _dtype(about.get("dtype")), about.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its shape is {shown(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"it has {len(data)} bytes; {dtype}{shape} has others")
    array = np.frombuffer(data, dtype).reshape(shape)
    if "key" not in about:
        return array
    kind = about["key"]
    try:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=kind)
    except (TypeError, ValueError) as error:
        raise ValueError(f"it is no random key of kind {shown(kind)}: {error}") from None


def _dtype(name: Any) -> Any:
    found: Any = {**vars(np), **vars(ml_dtypes)}.get(name) if isinstance(name, str) else None
    is_number = isinstance(found, type) and jnp.issubdtype(found, np.generic)
    if found is not np.bool_ and not (is_number and jnp.issubdtype(found, np.number)):
        raise ValueError(f"its dtype is {shown(name)}")
    return np.dtype(found)


def _number(about: Description) -> Any:
    kind, value = about.get("number"), about.get("value")
    if kind not in _KINDS or not isinstance(value, str):
        raise ValueError("the file has no bytes of it")
    try:
        match kind:
            case "float":
                return float.fromhex(value)
            case "complex":
                return complex(*map(float.fromhex, value.split(" ")))
            case _:
                return _KINDS[kind](int(value, 16))
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"its value is {shown(value)}") from None


def kind_of(about: Description) -> str:
    """Return in words what a leaf is, besides its value."""
    if "number" in about:
        return f"a Python {about['number']}"
    words = f"{about.get('dtype')}{about.get('shape')}".replace(" ", "")
    return f"a random key {about['key']} of {words}" if "key" in about else words


def stands_for(about: Description, other: Description) -> bool:
    """Return whether a leaf of a state has the place for another one.

    A number of Python has it for any single number: the first step makes an array of it.
    """
    is_number = other.get("shape") == [] and "key" not in other
    return kind_of(about) == kind_of(other) or ("number" in about and is_number)


def placed(leaf: Any, about: Description, like: Any) -> Any:
    """Return a leaf of a file in the library and at the place of another one."""
    if isinstance(leaf, np.ndarray):
        if isinstance(like, np.ndarray):
            return leaf
        if isinstance(like, np.generic):
            return leaf[()]
        leaf = _as_jax(leaf, is_weak=bool(about.get("weak")))
    is_placed = isinstance(like, jax.Array) and like.committed
    return jax.device_put(leaf, like.sharding) if is_placed else leaf


def _as_jax(array: np.ndarray, *, is_weak: bool) -> Array:
    made = jnp.asarray(array)
    if made.dtype != array.dtype:
        raise ValueError(f"it is {array.dtype}, and JAX has 64-bit types switched off")
    if not is_weak:
        return made
    # No function of JAX makes a weak type of an array; the operation that they all use does.
    options = {"new_dtype": made.dtype, "weak_type": True, "sharding": None}
    weak: Array = lax.convert_element_type_p.bind(made, **options)
    return weak
