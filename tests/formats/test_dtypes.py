"""Dtypes of NumPy, ml_dtypes, JAX and torch name formats."""

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps


class TorchDtype:
    """What a dtype of torch shows: its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


CASES: list[tuple[Any, str]] = [
    (np.float16, "fp16"),
    (np.dtype("float32"), "fp32"),
    (np.float64, "fp64"),
    (float, "fp64"),
    (jnp.bfloat16, "bf16"),
    (jnp.float32, "fp32"),
    (jnp.dtype(jnp.float8_e4m3fn), "e4m3"),
    (ml_dtypes.bfloat16, "bf16"),
    (ml_dtypes.float8_e5m2, "e5m2"),
    (ml_dtypes.float8_e4m3, "ieee_e4m3"),
    (ml_dtypes.float8_e8m0fnu, "e8m0"),
    (ml_dtypes.float6_e2m3fn, "e2m3"),
    (ml_dtypes.float4_e2m1fn, "e2m1"),
    (TorchDtype("bfloat16"), "bf16"),
    (TorchDtype("float8_e4m3fn"), "e4m3"),
    (TorchDtype("float8_e5m2fnuz"), "e5m2fnuz"),
]


def test_a_dtype_names_its_format() -> None:
    for dtype, name in CASES:
        assert ps.get_format(dtype) == ps.get_format(name)
        assert ps.round_to(1.1, dtype) == ps.round_to(1.1, name)


@pytest.mark.parametrize(
    "wrong",
    [
        np.int8,
        np.dtype("uint8"),
        bool,
        complex,
        ml_dtypes.int4,
        str,
        TorchDtype("int8"),
        np.ones(2),
    ],
)
def test_other_dtypes_are_no_formats(wrong: Any) -> None:
    with pytest.raises(TypeError, match="allowed are a name or a format, or a dtype of floats"):
        ps.get_format(wrong)


def test_a_longer_dtype_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"unknown format .(float|longdouble)"):
        ps.get_format(np.dtype(np.longdouble))
