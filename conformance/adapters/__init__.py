"""The libraries that the runner scores, by the names that `--library` takes."""

from conformance.adapters import (
    apytypes_arrays,
    gfloat_arrays,
    jax_casts,
    ml_dtypes_casts,
    numpy_half,
    precsim_arrays,
    pychop_fixed,
    pychop_float,
    pychop_p3109,
    torch_casts,
)
from conformance.adapters.adapter import Adapter

ADAPTERS: dict[str, Adapter] = {
    "precsim_numpy": precsim_arrays.NUMPY,
    "precsim_eager": precsim_arrays.EAGER,
    "precsim_jit": precsim_arrays.JIT,
    "numpy_float16": numpy_half.NUMPY,
    "ml_dtypes": ml_dtypes_casts.ML_DTYPES,
    "jax_cast": jax_casts.CAST,
    "jax_cast_jit": jax_casts.CAST_JIT,
    "jax_arithmetic": jax_casts.ARITHMETIC,
    "jax_arithmetic_jit": jax_casts.ARITHMETIC_JIT,
    "jax_reduce_precision": jax_casts.REDUCE_PRECISION,
    "torch": torch_casts.TORCH,
    "gfloat_numpy": gfloat_arrays.NUMPY,
    "gfloat_jit": gfloat_arrays.JIT,
    "pychop_numpy": pychop_float.NUMPY,
    "pychop_jax": pychop_float.JAX,
    "pychop_faultchop": pychop_float.FAULT,
    "pychop_p3109_numpy": pychop_p3109.NUMPY,
    "pychop_p3109_jax": pychop_p3109.JAX,
    "pychop_fixed": pychop_fixed.NUMPY,
    "apytypes_float": apytypes_arrays.FLOAT,
    "apytypes_fixed": apytypes_arrays.FIXED,
}
