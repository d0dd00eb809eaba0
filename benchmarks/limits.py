"""What the machine can do: copies, the cheapest compiled operation, a loop in C."""

import ctypes
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import precsim as ps
from benchmarks.case import Contender, SkipError

COPY, NEGATE, NEGATE_DONATED, C_LOOP = "np.copyto", "negate", "negate donated", "C loop"


def copy(x: np.ndarray) -> Contender:
    """Return NumPy's copy into an array that is there already."""
    target = np.ones_like(x)
    return Contender(run=lambda: np.copyto(target, x))


def negations(x: Any) -> dict[str, Contender]:
    """Return jitted negations of a JAX array: into fresh memory, and in place."""
    import jax

    negate = jax.jit(lambda v: -v)
    return {
        NEGATE: Contender(run=lambda: negate(x).block_until_ready()),
        NEGATE_DONATED: in_place(lambda v: -v, x),
    }


def in_place(function: Any, x: Any, **options: Any) -> Contender:
    """Return a contender that repeats a function on memory that the function may overwrite."""
    import jax
    import jax.numpy as jnp

    call = jax.jit(function, donate_argnums=0, **options)
    held = [jnp.array(x, copy=True)]

    def run() -> None:
        held[0] = call(held[0]).block_until_ready()

    return Contender(run=run)


def c_loop(x: np.ndarray, fmt: ps.FloatFormat) -> tuple[Contender, np.ndarray]:
    """Return the loop in C for float32 to a format, and the array that it writes."""
    is_plain = fmt.exponent_bits is not None and fmt.has_subnormals and fmt.has_negative_zero
    if not is_plain or fmt.emin - fmt.precision + 1 < -125:
        raise SkipError(f"the C loop does not cover {fmt}")
    result = np.ones_like(x)
    smallest = _pattern(fmt.min_subnormal)
    beyond = np.inf if fmt.has_infinity else np.nan if fmt.has_nan else fmt.max_finite
    constants = (
        smallest >> 23,
        fmt.precision - 1,
        smallest - (1 << 23),
        smallest,
        _pattern(fmt.max_finite),
        _pattern(beyond),
    )
    pointers = (result.ctypes.data_as(ctypes.c_void_p), x.ctypes.data_as(ctypes.c_void_p))
    arguments = (*pointers, ctypes.c_size_t(x.size), *map(ctypes.c_uint32, constants))
    function = library("limits.c").round_nearest
    return Contender(run=lambda: function(*arguments)), result


def _pattern(value: Any) -> int:
    return int(np.float32(value).view(np.uint32))


@lru_cache
def library(name: str) -> ctypes.CDLL:
    """Compile a source beside this module for this processor and load it."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SkipError("no C compiler (cc, gcc, clang)")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "limits.so"
        source = Path(__file__).with_name(name)
        options = ["-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(target)]
        done = subprocess.run([compiler, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SkipError(f"{compiler} failed: {done.stderr.strip()[:200]}")
        return ctypes.CDLL(str(target))
