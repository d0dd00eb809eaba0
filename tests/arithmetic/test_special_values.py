"""Infinities, NaN, division by zero, signs of zero, each with the clause that demands it."""

import math
from typing import Any

import numpy as np
import pytest

from tests.arithmetic.conftest import OPERATIONS, assert_same_bits

INF, NAN = math.inf, math.nan
BIG, TINY = 2.0**127, 2.0**-149

# The clauses are those of IEEE 754-2019.
TABLE = [
    # operation, operands, rounding, result, source
    ("add", (INF, 1.0), "fp32", INF, "6.1"),
    ("add", (-INF, -INF), "fp32", -INF, "6.1"),
    ("subtract", (1.0, INF), "fp32", -INF, "6.1"),
    ("multiply", (-INF, 2.0), "fp32", -INF, "6.1"),
    ("multiply", (-INF, -INF), "fp32", INF, "6.1"),
    ("divide", (INF, -3.0), "fp32", -INF, "6.1"),
    ("divide", (3.0, INF), "fp32", 0.0, "6.1"),
    ("divide", (3.0, -INF), "fp32", -0.0, "6.1, 6.3"),
    ("sqrt", (INF,), "fp32", INF, "6.1"),
    ("fma", (INF, 2.0, -BIG), "fp32", INF, "6.1"),
    ("fma", (2.0, 3.0, -INF), "fp32", -INF, "6.1"),
    ("fma", (BIG, BIG, -INF), "fp32", -INF, "6.1 (the product is finite)"),
    # NaN
    ("add", (NAN, INF), "fp32", NAN, "6.2.3"),
    ("multiply", (NAN, 0.0), "fp32", NAN, "6.2.3"),
    ("sqrt", (NAN,), "fp32", NAN, "6.2.3"),
    ("fma", (1.0, 1.0, NAN), "fp32", NAN, "6.2.3"),
    # Invalid operations
    ("add", (INF, -INF), "fp32", NAN, "7.2 d"),
    ("subtract", (INF, INF), "fp32", NAN, "7.2 d"),
    ("fma", (INF, 1.0, -INF), "fp32", NAN, "7.2 d"),
    ("fma", (-INF, -1.0, -INF), "fp32", NAN, "7.2 d"),
    ("multiply", (0.0, INF), "fp32", NAN, "7.2 b"),
    ("multiply", (-INF, -0.0), "fp32", NAN, "7.2 b"),
    ("fma", (0.0, INF, 1.0), "fp32", NAN, "7.2 c"),
    ("fma", (INF, -0.0, NAN), "fp32", NAN, "7.2 c"),
    ("divide", (0.0, 0.0), "fp32", NAN, "7.2 e"),
    ("divide", (-0.0, 0.0), "fp32", NAN, "7.2 e"),
    ("divide", (INF, -INF), "fp32", NAN, "7.2 e"),
    ("sqrt", (-1.0,), "fp32", NAN, "7.2 g"),
    ("sqrt", (-TINY,), "fp32", NAN, "7.2 g"),
    ("sqrt", (-INF,), "fp32", NAN, "7.2 g"),
    # Division by zero
    ("divide", (1.0, 0.0), "fp32", INF, "7.3"),
    ("divide", (1.0, -0.0), "fp32", -INF, "7.3"),
    ("divide", (-TINY, 0.0), "fp32", -INF, "7.3"),
    ("divide", (-1.0, -0.0), "fp32:rtz", INF, "7.3 (exact, in every mode)"),
    ("divide", (INF, 0.0), "fp32", INF, "6.1"),
    ("divide", (-INF, 0.0), "fp32", -INF, "6.1"),
    ("reciprocal", (0.0,), "fp32", INF, "7.3"),
    ("reciprocal", (-0.0,), "fp32", -INF, "7.3"),
    ("reciprocal", (-INF,), "fp32", -0.0, "6.1, 6.3"),
    # Signs of zero
    ("sqrt", (-0.0,), "fp32", -0.0, "6.3"),
    ("sqrt", (0.0,), "fp32", 0.0, "6.3"),
    ("multiply", (-0.0, 3.0), "fp32", -0.0, "6.3"),
    ("multiply", (-0.0, -3.0), "fp32", 0.0, "6.3"),
    ("divide", (0.0, -3.0), "fp32", -0.0, "6.3"),
    ("add", (0.0, 0.0), "fp32:rtn", 0.0, "6.3"),
    ("add", (-0.0, -0.0), "fp32", -0.0, "6.3"),
    ("add", (-0.0, -0.0), "fp32:rtp", -0.0, "6.3"),
    ("subtract", (-0.0, 0.0), "fp32", -0.0, "6.3"),
    ("subtract", (0.0, -0.0), "fp32:rtn", 0.0, "6.3"),
    ("fma", (-0.0, 1.0, -0.0), "fp32", -0.0, "6.3"),
    ("fma", (-0.0, -1.0, -0.0), "fp32", 0.0, "6.3"),
    *[
        (operation, operands, f"fp32:{mode}", zero, "6.3")
        for mode, zero in [
            ("rne", 0.0), ("rna", 0.0), ("rnz", 0.0), ("rtz", 0.0), ("raz", 0.0),
            ("rtp", 0.0), ("rto", 0.0), ("rtn", -0.0),
        ]
        for operation, operands in [
            ("add", (1.5, -1.5)),
            ("add", (0.0, -0.0)),
            ("subtract", (TINY, TINY)),
            ("subtract", (-0.0, -0.0)),
            ("fma", (3.0, 0.5, -1.5)),
            ("fma", (-1.0, 0.0, 0.0)),
        ]
    ],
    # An underflow keeps the sign of the exact result.
    ("multiply", (-TINY, TINY), "fp32", -0.0, "6.3, 7.5"),
    ("multiply", (-TINY, TINY), "fp32:rtn", -TINY, "7.5"),
    ("fma", (TINY, -TINY, 0.0), "fp32", -0.0, "6.3 (rounded from below zero)"),
    ("fma", (TINY, TINY, -0.0), "fp32:rtn", 0.0, "6.3 (rounded from above zero)"),
    ("divide", (-1.0, 2.0**30), "fp16", -0.0, "6.3, 7.5"),
    # Overflow
    ("multiply", (BIG, 2.0), "fp32", INF, "7.4 a"),
    ("multiply", (BIG, -BIG), "fp32:rna", -INF, "7.4 a"),
    ("multiply", (BIG, -BIG), "fp32:rtz", -(2.0**128 - 2.0**104), "7.4 b"),
    ("add", (60000.0, 60000.0), "fp16:rtn", 65504.0, "7.4 c"),
    ("add", (-60000.0, -60000.0), "fp16:rtn", -INF, "7.4 c"),
    ("add", (60000.0, 60000.0), "fp16:rtp", INF, "7.4 d"),
    ("add", (-60000.0, -60000.0), "fp16:rtp", -65504.0, "7.4 d"),
    ("fma", (256.0, 256.0, -16.0), "fp16", INF, "7.4 a (65520 is the first that overflows)"),
    ("fma", (256.0, 256.0, -16.0 - 2.0**-10), "fp16", 65504.0, "7.4 a"),
    ("divide", (1.0, TINY), "fp32", INF, "7.4 a"),
    # Formats without infinity, without NaN, without -0
    ("divide", (1.0, 0.0), "e4m3", NAN, "OCP OFP8 1.0"),
    ("divide", (1.0, 0.0), "e4m3:saturate_infinity", 448.0, "RoundingSpec.infinities"),
    ("add", (448.0, 16.0), "e4m3", 448.0, "OCP OFP8 1.0 (half way, to even)"),
    ("add", (448.0, 17.0), "e4m3", NAN, "OCP OFP8 1.0"),
    ("add", (448.0, 17.0), "e4m3:saturate", 448.0, "OCP OFP8 1.0"),
    ("divide", (-1.0, 0.0), "e2m1", -6.0, "OCP MX 1.0: no infinity, no NaN"),
    ("divide", (1.0, 0.0), "q3.4", 7.9375, "InfinityMode.PROPAGATE"),
    ("divide", (-1.0, 0.0), "q3.4", -8.0, "InfinityMode.PROPAGATE"),
    ("divide", (1.0, 0.0), "q3.4:wrap", NAN, "InfinityMode.PROPAGATE"),
    ("divide", (0.0, 0.0), "q3.4", NAN, "7.2 e; NaN is never lost"),
    ("sqrt", (-1.0,), "e2m1", NAN, "7.2 g; NaN is never lost"),
    ("add", (7.0, 1.0), "q3.4:wrap", -8.0, "two's complement"),
    ("multiply", (-0.0, 1.0), "e4m3fnuz", 0.0, "FNUZ: no -0"),
    ("multiply", (-(2.0**-20), 1.0), "e4m3fnuz", 0.0, "FNUZ: no -0"),
    ("sqrt", (-0.0,), "e5m2fnuz", 0.0, "FNUZ: no -0"),
    ("multiply", (-0.0, 1.0), "q3.4", 0.0, "two's complement: no -0"),
    ("subtract", (0.03, 0.04), "q3.4", 0.0, "two's complement: no -0"),
    ("subtract", (1.0, 1.0), "e4m3fnuz:rtn", 0.0, "FNUZ: no -0"),
    ("subtract", (1.0, 2.0), "uq0.8", 0.0, "unsigned: the nearest value"),
    ("multiply", (0.0, 1.0), "e8m0", NAN, "OCP MX 1.0: no zero"),
    ("multiply", (TINY, TINY), "e8m0", 2.0**-127, "no zero: the smallest value"),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_table(dtype: Any) -> None:
    for operation, operands, text, result, source in TABLE:
        arrays = [np.array([v], dtype) for v in operands]
        got = OPERATIONS[operation][0](*arrays, text)
        note = f"{operation} {text} ({source})"
        assert_same_bits(got, np.array([result], dtype), *arrays, note=note)


def test_invalid_operations_give_the_canonical_nan() -> None:
    """A quiet NaN with clear sign and no payload, whatever NaN came in."""
    signalling = np.array([0xFF800001], np.uint32).view(np.float32)
    for operation, operands in [
        ("add", (INF, -INF)), ("multiply", (-0.0, INF)), ("divide", (-0.0, 0.0)), ("sqrt", (-4.0,)),
    ]:  # fmt: skip
        got = OPERATIONS[operation][0](*(np.array([v], np.float32) for v in operands), "fp32")
        assert got.view(np.uint32).tolist() == [0x7FC00000]
    for function, arity in OPERATIONS.values():
        assert function(*[signalling] * arity, "fp32").view(np.uint32).tolist() == [0x7FC00000]


def test_every_pair_of_special_operands_agrees_with_the_processor() -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, TINY, -BIG], np.float32)
    x, y = (v.reshape(-1) for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        for operation in ("add", "subtract", "multiply", "divide"):
            expected = getattr(np, operation)(x, y)
            assert_same_bits(OPERATIONS[operation][0](x, y, "fp32"), expected, x, y, note=operation)
