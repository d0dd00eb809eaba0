"""Other libraries that round, called as their documentation shows, and JAX's own conversions."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import precsim as ps
from benchmarks.case import SkipError

Call = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]
"""A complete call, and what turns its result into a NumPy array (not timed)."""

ML_DTYPES = {
    "bf16": "bfloat16",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "ieee_e4m3": "float8_e4m3",
    "ieee_e3m4": "float8_e3m4",
}


def nearest(x: np.ndarray, fmt: ps.FloatFormat) -> Iterator[tuple[str, Call | str]]:
    """Yield every peer's rounding of float32 to nearest, or why there is none."""
    for name, make in PEERS.items():
        try:
            yield name, make(x, fmt)
        except ImportError as problem:
            yield name, f"not installed ({problem.name})"
        except SkipError as problem:
            yield name, str(problem)


def _small_dtype(fmt: ps.FloatFormat) -> Any:
    if fmt.name == "fp16":
        return np.float16
    if fmt.name not in ML_DTYPES:
        raise SkipError(f"has no dtype for {fmt}")
    return getattr(importlib.import_module("ml_dtypes"), ML_DTYPES[fmt.name])


def _ml_dtypes(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    dtype = _small_dtype(fmt)

    def run() -> np.ndarray:
        with np.errstate(all="ignore"):
            return x.astype(dtype).astype(np.float32)

    return run, np.asarray


def _jax_astype(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    import jax
    import jax.numpy as jnp

    dtype = _small_dtype(fmt)
    call, there = jax.jit(lambda v: v.astype(dtype).astype(jnp.float32)), jnp.asarray(x)
    return lambda: call(there).block_until_ready(), np.asarray


def _jax_reduce_precision(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    import jax
    import jax.numpy as jnp

    exponent_bits = _exponent_bits(fmt)
    call = jax.jit(lambda v: jax.lax.reduce_precision(v, exponent_bits, fmt.precision - 1))
    there = jnp.asarray(x)
    return lambda: call(there).block_until_ready(), np.asarray


def _gfloat(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    gfloat, formats = (importlib.import_module(name) for name in ("gfloat", "gfloat.formats"))
    theirs = {"fp16": "binary16", "bf16": "bfloat16", "e4m3": "ocp_e4m3", "e5m2": "ocp_e5m2"}
    theirs |= {name: f"ocp_{name}" for name in ("e3m2", "e2m3", "e2m1")}
    if fmt.name not in theirs:
        raise SkipError(f"has no {fmt}")
    info = getattr(formats, f"format_info_{theirs[fmt.name]}")

    def run() -> Any:
        with np.errstate(all="ignore"):
            return gfloat.round_ndarray(info, x)

    return run, lambda y: np.asarray(y, np.float32)


def _pychop(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    pychop = importlib.import_module("pychop")
    pychop.backend("numpy")
    rounding = pychop.Chop(exp_bits=_exponent_bits(fmt), sig_bits=fmt.precision - 1, rmode=1)
    return lambda: rounding(x), lambda y: np.asarray(y, np.float32)


def _apytypes(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    arrays = importlib.import_module("apytypes").APyFloatArray
    exponent_bits, stored = _exponent_bits(fmt), fmt.precision - 1
    return (
        lambda: arrays.from_array(x, exponent_bits, stored).to_numpy(),
        lambda y: np.asarray(y, np.float32),
    )


def _torch(x: np.ndarray, fmt: ps.FloatFormat) -> Call:
    torch = importlib.import_module("torch")
    theirs = {"fp16": "float16"} | ML_DTYPES
    dtype = getattr(torch, theirs.get(fmt.name, ""), None)
    if dtype is None:
        raise SkipError(f"has no dtype for {fmt}")
    there = torch.from_numpy(x)
    return lambda: there.to(dtype).to(torch.float32), lambda y: np.asarray(y.numpy())


def _exponent_bits(fmt: ps.FloatFormat) -> int:
    if fmt.exponent_bits is None or not fmt.is_signed:
        raise SkipError(f"has no {fmt}")
    return fmt.exponent_bits


PEERS: dict[str, Callable[[np.ndarray, ps.FloatFormat], Call]] = {
    "ml_dtypes": _ml_dtypes,
    "jax astype": _jax_astype,
    "jax reduce_precision": _jax_reduce_precision,
    "gfloat": _gfloat,
    "pychop": _pychop,
    "apytypes": _apytypes,
    "torch": _torch,
}
