"""Products of operands in a narrow dtype, by the platform's own kernels."""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.products.dot_general import arrange
from precsim.products.native.hlo import read_kernels

FLOAT8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
BF16 = np.dtype(ml_dtypes.bfloat16)


def has_kernel(dtype: Any) -> bool:
    """Return whether the platform multiplies operands of a dtype: a small product is compiled.

    Of 8-bit operands it has to be a library's kernel or a generated one: XLA's own loop widens
    them first.
    """
    return _has_kernel(np.dtype(dtype), jax.default_backend())


@lru_cache(maxsize=32)
def _has_kernel(dtype: np.dtype[Any], platform: str) -> bool:
    operand = jax.ShapeDtypeStruct((256, 256), dtype)  # type: ignore[no-untyped-call]
    result = BF16 if dtype in FLOAT8 else dtype
    dot = partial(_dot, dtype=result)
    try:
        text = jax.jit(dot).lower(operand, operand).compile().as_text() or ""
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    found = {kernel.kind for kernel in read_kernels(text)}
    return dtype not in FLOAT8 or ("f8e" in text and bool(found & {"cuBLASLt", "cuDNN", "Triton"}))


def _dot(a: Array, b: Array, dtype: Any) -> Array:
    """Return a @ b, with batch dimensions in front, accumulated as the platform does."""
    batch = tuple(range(a.ndim - 2))
    numbers = (((a.ndim - 1,), (b.ndim - 2,)), (batch, batch))
    return lax.dot_general(a, b, numbers, preferred_element_type=dtype)


def float8_dot_general(a: Array, b: Array, numbers: Any, dtypes: tuple[Any, Any]) -> Array:
    """Return `lax.dot_general` of operands in 8 bits, as bfloat16; gradients in e5m2.

    Each operand is scaled by the power of two that brings its largest element just inside its
    dtype.
    """
    contracted, batch = numbers
    rows, rows_shape = arrange(a, batch[0], contracted[0], contract_last=True)
    columns, columns_shape = arrange(b, batch[1], contracted[1], contract_last=False)
    y = _float8_matmul(rows, columns, dtypes)
    shared = tuple(a.shape[d] for d in batch[0])
    found: Array = y.reshape(*shared, *rows_shape, *columns_shape)
    return found


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _float8_matmul(a: Array, b: Array, dtypes: tuple[Any, Any]) -> Array:
    y: Array = _forward(a, b, dtypes)[0]
    return y


def _forward(a: Array, b: Array, dtypes: tuple[Any, Any]) -> Any:
    left, right = (_scaled(x, dtype) for x, dtype in zip((a, b), dtypes, strict=True))
    # Arrays without elements carry the dtypes of the gradients.
    kinds = jnp.zeros(0, a.dtype), jnp.zeros(0, b.dtype)
    return _product(left, right), (left, right, kinds)


def _backward(dtypes: tuple[Any, Any], saved: Any, g: Array) -> Any:
    (left, right, kinds), gradient = saved, _scaled(g, FLOAT8[1])
    da = _product(gradient, (jnp.matrix_transpose(right[0]), right[1]))
    db = _product((jnp.matrix_transpose(left[0]), left[1]), gradient)
    return da.astype(kinds[0].dtype), db.astype(kinds[1].dtype)


_float8_matmul.defvjp(_forward, _backward)


def _product(left: tuple[Array, Array], right: tuple[Array, Array]) -> Array:
    """Return the product of scaled operands, each divided by its scale."""
    y = _dot(left[0], right[0], np.float32)
    return (y / (left[1] * right[1])).astype(BF16)


def _scaled(x: Array, dtype: Any) -> tuple[Array, Array]:
    """Return an array in 8 bits, and the power of two with which it was multiplied."""
    wide = x.astype(np.float32)
    most = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    largest = jnp.max(jnp.abs(wide), initial=0)
    exponent = jnp.floor(jnp.log2(most / largest))
    is_usual = (largest > 0) & jnp.isfinite(largest)
    scale = jnp.where(is_usual, jnp.exp2(jnp.clip(exponent, -60, 60)), 1.0)
    return (wide * scale).astype(dtype), scale
