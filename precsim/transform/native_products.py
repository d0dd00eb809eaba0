"""Products of operands in a narrow dtype, by the platform's own kernels."""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim._linear import linear_map, tangent_sum
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
    """Return `lax.dot_general` of operands in 8 bits, as bfloat16; tangents and cotangents in e5m2.

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


Dtypes = tuple[Any, Any]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _float8_matmul(a: Array, b: Array, dtypes: Dtypes) -> Array:
    return _product(_scaled(a, dtypes[0]), _scaled(b, dtypes[1]))


@partial(_float8_matmul.defjvp, symbolic_zeros=True)
def _tangent(dtypes: Dtypes, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Multiply tangents, and transposed cotangents, in 8 bits too: both are in e5m2."""
    (a, b), (da, db) = primals, tangents
    y = _float8_matmul(a, b, dtypes)
    of_a = partial(_of_left, dtypes[1]), partial(_gradient_of_left, dtypes[1], a.dtype), b
    of_b = partial(_of_right, dtypes[0]), partial(_gradient_of_right, dtypes[0], b.dtype), a
    return y, tangent_sum(
        y,
        [
            (da, lambda da: linear_map(*of_a, da, like=y)),
            (db, lambda db: linear_map(*of_b, db, like=y)),
        ],
    )


def _of_left(dtype: Any, b: Array, a: Array) -> Array:
    y: Array = _float8_matmul(a, b, (FLOAT8[1], dtype))
    return y


def _gradient_of_left(dtype: Any, result: Any, b: Array, g: Array) -> Array:
    return _of_left(dtype, jnp.matrix_transpose(b), g).astype(result)


def _of_right(dtype: Any, a: Array, b: Array) -> Array:
    y: Array = _float8_matmul(a, b, (dtype, FLOAT8[1]))
    return y


def _gradient_of_right(dtype: Any, result: Any, a: Array, g: Array) -> Array:
    return _of_right(dtype, jnp.matrix_transpose(a), g).astype(result)


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
