"""Other ways to the same matrix product: loops in C and numba, MMA-Sim, plain float32."""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import limits
from benchmarks.case import SkipError

Product = Callable[[], np.ndarray]
"""A complete call that returns float32 values."""


def c_accumulator(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec) -> Product:
    """Return the loop in C that adds in float32 and rounds to the accumulator."""
    fmt = spec.accumulator.format
    assert isinstance(fmt, ps.FloatFormat)
    _check_tiles(a, b)
    name = {"fp16": "product_fp16", "bf16": "product_bf16"}.get(fmt.name, "product_any")
    if not fmt.has_subnormals or not fmt.has_negative_zero or fmt.emin < -126 or fmt.precision > 22:
        raise SkipError(f"the C loop does not cover {fmt}")
    beyond = np.inf if fmt.has_infinity else np.nan if fmt.has_nan else fmt.max_finite
    normal, largest, further = np.array([fmt.min_normal, fmt.max_finite, beyond], np.float32).view(
        np.uint32
    )
    return _c_call(name, a, b, _Format(normal, (24 - fmt.precision) << 23, largest, further))


class _Format(ctypes.Structure):
    """`struct format` of products.c."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("normal", "shift", "largest", "beyond")]


def c_tensor_core(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec) -> Product:
    """Return the loop in C of a tensor core that truncates its sums of 16 or 32 products."""
    order, lhs, out = spec.order, spec.lhs, spec.accumulator
    assert isinstance(order, ps.FusedBlock)
    assert lhs is not None
    assert isinstance(lhs.format, ps.FloatFormat)
    assert isinstance(out.format, ps.FloatFormat)
    _check_tiles(a, b)
    is_covered = order.length in (16, 32) and lhs == spec.rhs and out.mode == "rtz"
    lift = order.fraction_bits - 2 * (lhs.format.precision - 1)
    if not is_covered or lift < 0 or str(order.schedule) != "flat" or a.shape[1] % order.length:
        raise SkipError(f"the C loop does not cover {spec}")
    trailing, emin = lhs.format.precision - 1, lhs.format.emin
    numbers = (order.length, order.fraction_bits, out.format.precision, trailing, emin)
    return _c_call("fused", a, b, *map(ctypes.c_int, numbers))


def _check_tiles(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[0] % 4 or b.shape[1] % 32:
        raise SkipError(
            f"the C loop takes multiples of 4 rows and 32 columns, not {a.shape[0]} and {b.shape[1]}"
        )


def _c_call(name: str, a: np.ndarray, b: np.ndarray, *more: Any) -> Product:
    function = getattr(limits.library("products.c"), name)
    result = np.zeros((a.shape[0], b.shape[1]), np.float32)
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (result, a, b)]
    sizes = [ctypes.c_size_t(size) for size in (a.shape[0], b.shape[1], a.shape[1])]

    def run() -> np.ndarray:
        function(*pointers, *sizes, *more)
        return result

    return run


def numba_accumulator(a: np.ndarray, b: np.ndarray, spec: ps.MatmulSpec) -> Product:
    """Return a loop over all rows in parallel, compiled by numba; fp16 and bf16, finite numbers."""
    numba = importlib.import_module("numba")
    u, f = np.uint32, np.float32
    largest = f(65504).view(u)

    def nearest_bf16(x: Any) -> Any:
        bits = f(x).view(np.uint32)
        return u((bits + u(0x7FFF) + ((bits >> u(16)) & u(1))) & u(0xFFFF0000)).view(np.float32)

    def nearest_fp16(x: Any) -> Any:
        bits = f(x).view(np.uint32)
        sign = bits & u(0x80000000)
        lead = max(bits & u(0x7F800000), u(113 << 23))
        power = u(lead + u(13 << 23)).view(np.float32)
        size = f((u(bits ^ sign).view(np.float32) + power) - power).view(np.uint32)
        infinity = u(0x7F800000)
        # A choice between patterns: numba 0.68 has no view of a choice between floats.
        return u(sign | (infinity if size > largest else size)).view(np.float32)

    name = spec.accumulator.format.name
    roundings = {"bf16": nearest_bf16, "fp16": nearest_fp16}
    if name not in roundings:
        raise SkipError(f"the numba loop does not cover {spec.accumulator}")
    nearest = numba.njit(roundings[name])

    def product(a: Any, b: Any) -> Any:
        rows, count = a.shape
        columns = b.shape[1]
        result = np.zeros((rows, columns), np.float32)
        for i in numba.prange(rows):
            total = np.zeros(columns, np.float32)
            for k in range(count):
                x = a[i, k]
                for j in range(columns):
                    total[j] = nearest(total[j] + x * b[k, j])
            result[i] = total
        return result

    call = numba.njit(parallel=True)(product)
    return lambda: np.asarray(call(a, b))


def mma_sim(a: np.ndarray, b: np.ndarray, kind: str) -> Product:
    """Return MMA-Sim's Hopper instruction for whole matrices, on one thread."""
    simulator, torch = (importlib.import_module(name) for name in ("mmasim.nv_ptx", "torch"))
    theirs = {
        "bf16": ("bf16", 16, "bfloat16"),
        "fp16": ("f16", 16, "float16"),
        "e4m3": ("e4m3", 32, "float8_e4m3fn"),
    }
    if kind not in theirs:
        raise SkipError(f"no instruction for {kind} operands is set up")
    name, length, dtype = theirs[kind]
    torch.set_num_threads(1)
    instruction = simulator.WGMMA("Hopper", f"m64n256k{length}.f32.{name}.{name}")
    x, y = (torch.from_numpy(v).to(getattr(torch, dtype)) for v in (a, b))
    zero = torch.zeros(a.shape[0], b.shape[1])
    return lambda: np.asarray(instruction(x, y, zero).numpy())
