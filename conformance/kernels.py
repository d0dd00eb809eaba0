"""The matrix products of this machine, each as a function of two arrays, and their arithmetics."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import precsim as ps

SHAPE = (16, 16, 160)


class Kernel(NamedTuple):
    """A product of this machine."""

    name: str
    formats: str | tuple[str, str]
    product: Callable[[np.ndarray, np.ndarray], Any]
    shape: tuple[int, int, int] = SHAPE


XLA: dict[str, tuple[str, str, str | None]] = {
    "fp32": ("fp32", "fp32", "highest"),
    "tf32": ("fp32", "fp32", None),
    "bf16": ("bf16", "bf16", None),
    "fp16": ("fp16", "fp16", None),
    "e4m3": ("e4m3", "e4m3", None),
    "e5m2": ("e5m2", "e5m2", None),
    "e4m3 x e5m2": ("e4m3", "e5m2", None),
    "int8": ("int8", "int8", None),
}
"""Formats of both operands, and XLA's precision; "tf32" is float32 as XLA multiplies it unasked."""
DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "int8": "int8",
}
OVERFLOWING = (4, 4, (1 << 17) + 160)
"""A shape whose sums of int8 products are beyond 32 bits, so that they wrap or saturate."""


def numpy_kernels() -> Iterator[Kernel]:
    """Yield the products of NumPy."""
    yield Kernel("NumPy fp32", "fp32", np.matmul)
    integers = lambda a, b: a.astype(np.int32) @ b.astype(np.int32)
    yield Kernel("NumPy int32 of int8", "int8", integers, OVERFLOWING)


def xla_kernels(platform: str) -> Iterator[Kernel]:
    """Yield the products of XLA on the first device of a platform, which is looked up when used."""
    for name, (lhs, rhs, precision) in XLA.items():
        if name == "tf32" and platform == "cpu":
            continue  # which multiplies float32 as it is
        dot = partial(_dot, platform, (DTYPES[lhs], DTYPES[rhs]), precision)
        shape = OVERFLOWING if name == "int8" else SHAPE
        yield Kernel(f"XLA {platform} {name}", (lhs, rhs), dot, shape)


def _dot(
    platform: str, dtypes: tuple[str, str], precision: Any, a: np.ndarray, b: np.ndarray
) -> Any:
    import jax
    import jax.numpy as jnp

    device = jax.devices(platform)[0]
    x, y = (
        jax.device_put(x.astype(jnp.dtype(dtype)), device)
        for x, dtype in zip((a, b), dtypes, strict=True)
    )
    result = jnp.int32 if "int8" in dtypes else jnp.float32
    return jax.jit(jnp.matmul, static_argnames=("precision", "preferred_element_type"))(
        x, y, precision=precision, preferred_element_type=result
    )


def kernels() -> Iterator[Kernel]:
    """Yield the products of this machine."""
    import jax

    yield from numpy_kernels()
    for platform in dict.fromkeys(device.platform for device in jax.devices()):
        yield from xla_kernels(platform)


def report(kernel: Kernel) -> str:
    """Return what a kernel's arithmetic is, or why the kernel is not there."""
    m, n, k = kernel.shape
    try:
        np.asarray(kernel.product(np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)))
    except Exception as problem:  # noqa: BLE001 (a library may raise anything for what it lacks)
        return f"not there: {type(problem).__name__}: {(str(problem).splitlines() or [''])[0]}"
    found = ps.kernels.identify(kernel.product, formats=kernel.formats, shape=kernel.shape)
    return f"{found}"
