"""Arithmetics are found from results alone: the kernels here are the model itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import precsim as ps
from conformance.identify import draw
from tests.products.conftest import assert_same_bits


def by(spec: str) -> Callable[[Any, Any], np.ndarray]:
    """Return a product with the bits of a spec."""
    return lambda a, b: ps.matmul(a, b, spec, backend="reference")


def assert_found(spec: str, formats: str | tuple[str, str], shape: tuple[int, int, int]) -> None:
    """Assert that the spec, or one with equal bits on fresh operands, is found."""
    product = by(spec)
    found = ps.kernels.identify(product, formats=formats, shape=shape)
    assert found.spec is not None, str(found)
    assert found.contradiction is None
    names = (formats, formats) if isinstance(formats, str) else formats
    rng = np.random.default_rng(99)
    for spread in (0, 3, 6):
        a, b = (
            ps.round_to(
                rng.standard_normal((8, shape[2]), np.float32)
                * np.exp2(rng.integers(-spread, spread + 1, (8, shape[2])).astype(np.float32)),
                name,
                overflow="saturate",
            )
            for name in names
        )
        assert_same_bits(by(str(found.spec))(a, b.T), product(a, b.T))


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "formats"),
    [
        ("bf16_bf16_fp32", "bf16"),
        ("fp16_fp16_fp16[rtp]", "fp16"),
        ("bf16_bf16_bf16:pairwise", "bf16"),
        ("bf16_bf16_fp32[rtz]:exact", "bf16"),
        ("e5m2_e5m2_fp16[rna]:exact", "e5m2"),
        ("fp16_fp16_fp16:blocked8", "fp16"),
        ("fp16_fp16_fp16:product=fp16", "fp16"),
        ("h100:bf16", "bf16"),
        ("h100:bf16->bf16", "bf16"),
        ("h100:fp16:acc=fp16", "fp16"),
        ("h100:tf32", "fp32"),
        ("h100:e4m3", "e4m3"),
        ("h100:e4m3_e5m2", ("e4m3", "e5m2")),
        ("h100:e4m3:promote32", "e4m3"),
        ("h100:e4m3:mma", "e4m3"),
        ("h100:bf16:splitk2x32", "bf16"),
        ("mi300x:fp16", "fp16"),
        ("mi250:fp16", "fp16"),
        ("avx512:bf16", "bf16"),
        ("amx:bf16", "bf16"),
        ("arm:bf16", "bf16"),
        ("fp16_fp16_fp16[rtz]:evenodd8", "fp16"),
        ("fp16_fp16_fp32[rnp]->bf16:descending16", "fp16"),
        # Products that are rounded less than sums are.
        pytest.param("bf16_bf16_bf16[rtn]:pairs32:product=fp32", "bf16", marks=pytest.mark.slow),
        # Sums of more bits than a step keeps; short steps in chains; behind few bits.
        ("e5m2_e5m2_tf32[rtz]:fused16x8", "e5m2"),
        ("bf16_bf16_fp32:exact4:promote16", "bf16"),
        ("e5m2_e5m2_fp32->e5m2[rtz]:pairs4", "e5m2"),
        ("fp16_fp16_float(e=8,p=14)[rtz]:blocked18", "fp16"),
        ("bf16_bf16_bf16:blocked26", "bf16"),
        # What is cut off sets the last place; chains of short steps.
        ("bf16_bf16_tf32[rnz]:fused32x11+sticky", "bf16"),
        ("bf16_bf16_fp32[rnp]:dot2:promote6", "bf16"),
        # Chains of two steps, which look like steps of two halves.
        ("bf16_bf16_fp32:fused2x23:promote4", "bf16"),
        ("e4m3_e4m3_fp32:exact4:promote8", "e4m3"),
        ("bf16_bf16_float(e=8,p=14)[rtp]->fp16[rtz]", "bf16"),
        # Operands whose products are rounded again, and products of another range.
        ("tf32[rna]_tf32_bf16:two_sum", "fp32"),
        ("e5m2_e5m2_fp32:product=fp16", "e5m2"),
        pytest.param("mi100:fp16", "fp16", marks=pytest.mark.slow),
        pytest.param("fp16_fp16_fp16:kahan", "fp16", marks=pytest.mark.slow),
        pytest.param("fp16_fp16_fp16:two_sum", "fp16", marks=pytest.mark.slow),
    ],
)
def test_the_arithmetic_is_found(spec: str, formats: str | tuple[str, str]) -> None:
    assert_found(spec, formats, (16, 16, 96))


@pytest.mark.slow
def test_a_step_is_found_behind_results_of_few_bits() -> None:
    assert_found("bf16_bf16_fp32[rtz]->e4m3[rtz]:pairs2", "bf16", (16, 16, 160))


FLUSHED = "flush_after_rounding"


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "formats"),
    [
        ("fp16_fp16_fp32[rno]:fused64x22:promote128", "fp16"),
        (f"e4m3[{FLUSHED}]_e4m3[{FLUSHED}]_fp32[rtn:{FLUSHED}]:exact", "e4m3"),
        pytest.param("bf16_bf16_fp16[flush_after_rounding]:kahan", "bf16", marks=pytest.mark.slow),
        pytest.param(
            "bf16_bf16_float(e=8,p=14)[raz]->e4m3[rna]:exact2:promote6",
            "bf16",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_probes_once_hid_is_found(spec: str, formats: str) -> None:
    """A short last chain; subnormals that are flushed; steps behind few bits in modes away."""
    assert_found(spec, formats, (16, 16, 160))


@pytest.mark.long
def test_known_machines_have_their_names() -> None:
    for machine in ("v100:fp16", "h100:fp16", "mi300x:bf16"):
        operand = machine.partition(":")[2]
        found = ps.kernels.identify(by(machine), formats=operand, shape=(16, 16, 64))
        assert str(found.spec) == machine
        assert found.share == 1


@pytest.mark.long
@pytest.mark.parametrize("shape", [(16, 8, 16), (8, 4, 32), (2, 3, 40), (1, 1, 20)])
def test_a_tile_of_any_shape(shape: tuple[int, int, int]) -> None:
    """Queries are counted, and each has the shape that was said."""
    calls = []

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append((a.shape[0], b.shape[1], a.shape[1]))
        return by("h100:fp16")(a, b)

    found = ps.kernels.identify(product, formats="fp16", shape=shape)
    assert set(calls) == {shape}
    assert found.queries == len(calls)
    assert found.spec is not None


@pytest.mark.long
def test_a_contradiction_contradicts() -> None:
    """Products that no spec has: the sums of two orders, one after the other."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        half = a.shape[1] // 2
        first = by("bf16_bf16_fp32")(a[:, half:], b[half:])
        second = by("bf16_bf16_fp32:pairwise")(a[:, :half], b[:half])
        return np.asarray(first + second * np.float32(3))

    found = ps.kernels.identify(product, formats="bf16", shape=(4, 4, 16))
    assert found.spec is None
    wrong = found.contradiction
    assert wrong is not None
    a, b = np.zeros((4, 16), np.float32), np.zeros((16, 4), np.float32)
    a[0], b[:, 0] = wrong.a, wrong.b
    assert product(a, b)[0, 0].item() == wrong.result
    assert by(str(found.nearest))(a, b)[0, 0].item() == wrong.expected
    assert wrong.result != wrong.expected
    assert "no spec; nearest" in str(found)


def sequential(dtype: Any) -> Callable[[Any, Any], np.ndarray]:
    """Return a product by NumPy's own operations, each rounded to a dtype."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]), dtype)
        for k in range(a.shape[1]):
            total = total + a[:, k, None].astype(dtype) * b[k].astype(dtype)
        return total

    return product


def compensated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Kahan's sums by NumPy's own operations."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    error = total.copy()
    for k in range(a.shape[1]):
        term = a[:, k, None] * b[k] - error
        longer = total + term
        error, total = (longer - total) - term, longer
    return total


@pytest.mark.long
@pytest.mark.parametrize(
    ("product", "formats", "spec"),
    [
        (sequential(np.float16), "fp16", "fp16_fp16_fp16:product=fp16"),
        (sequential(np.float32), "fp32", "fp32_fp32_fp32:product=fp32"),
        (compensated, "bf16", "bf16_bf16_fp32:kahan"),
    ],
)
def test_numpys_operations_are_found(product: Any, formats: str, spec: str) -> None:
    """These have their bits from the machine, not from the model."""
    found = ps.kernels.identify(product, formats=formats, shape=(8, 8, 64))
    assert str(found.spec) == spec


@pytest.mark.long
def test_a_double_sum_is_not_taken_for_an_exact_one() -> None:
    """Float64 keeps 53 bits: a small product beside large ones shows it."""
    product = lambda a, b: (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    found = ps.kernels.identify(product, formats="bf16", shape=(8, 8, 64))
    assert found.spec is None
    assert found.contradiction is not None


@pytest.mark.long
def test_numpys_own_product_is_explained_or_contradicted() -> None:
    """Which order a BLAS has differs between machines."""
    found = ps.kernels.identify(np.matmul, formats="fp32", shape=(4, 4, 16))
    assert (found.spec is None) == (found.contradiction is not None)
    if found.contradiction is not None:
        assert found.contradiction.result != found.contradiction.expected


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_random_specs_are_recovered(number: int) -> None:
    drawn = draw(1, number)
    assert_found(str(drawn.spec), drawn.formats, (16, 16, 96))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": "mxfp8"}, "formats has 'mxfp8'; allowed are floating-point formats"),
        ({"formats": "int8_channel"}, "formats has 'int8_channel'; allowed are .* such as int8"),
        ({"formats": ("int8", "bf16")}, "two floating-point formats or two of integers"),
        ({"formats": ("bf16",)}, "allowed are one name or two"),
        ({"formats": ("int8",) * 3}, "formats is .*; allowed are one name or two"),
        ({"formats": "int8,int8"}, "formats has 'int8,int8', two names are a pair: unknown format"),
        ({"formats": "bf16", "shape": (8, 8, 0)}, "k is 0; allowed are integers from 1 on"),
        ({"formats": "bf16", "shape": (8, 8)}, "shape is .*; allowed are three sizes"),
        ({"formats": "bf16", "shape": (8, 4, 16)}, r"returned shape \(4, 8\); allowed is \(8, 4\)"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.kernels.identify(lambda a, b: (a @ b).T, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": None}, "formats is None; allowed are one name or two"),
        ({"formats": 8}, "formats is 8; allowed are one name or two"),
        ({"formats": ("int8", 8)}, "formats has 8"),
        ({"formats": "bf16", "shape": None}, "shape is None; allowed are three sizes"),
    ],
)
def test_bad_types_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ps.kernels.identify(np.matmul, **options)


@pytest.mark.parametrize(
    ("returned", "what"),
    [(None, "None"), ("1.5", "'1.5'"), (1j, "1j"), ([[object()]], "object object")],
)
def test_what_is_no_number_is_named_in_one_line(returned: Any, what: str) -> None:
    with pytest.raises(TypeError, match=what) as caught:
        ps.kernels.identify(lambda a, b: returned, formats="bf16", shape=(1, 1, 4))
    assert "allowed are arrays of real numbers of shape (1, 1)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "expected", "text"),
    [
        (1.5, 0.5, "0x1.8000000000000p+0 instead of 0x1.0000000000000p-1 in row 2, column 7"),
        (np.nan, np.inf, "infinity in row 2, column 7: both overflow, and it treats infinity"),
        (-np.inf, -1.0, "-0x1.0000000000000p+0 in row 2, column 7: it overflows there"),
        (448.0, np.inf, "instead of infinity in row 2, column 7: it does not overflow there"),
    ],
)
def test_a_contradiction_says_what_overflows(result: float, expected: float, text: str) -> None:
    x = np.full(1, 0.5, np.float32)
    wrong = ps.kernels.Contradiction(a=x, b=x, row=2, column=7, result=result, expected=expected)
    assert text in str(wrong)


@pytest.mark.parametrize(
    ("result", "expected", "text"),
    [
        (-7.0, 2.0**31, "-7 instead of 2147483648"),
        (-0.0, 0.25, "-0 instead of 0.25"),
        (np.nan, 3.0, "NaN instead of 3"),
    ],
)
def test_contradictions_of_integers_are_decimal(result: float, expected: float, text: str) -> None:
    x = np.full(1, 3, np.float32)
    wrong = ps.kernels.Contradiction(a=x, b=x, row=2, column=7, result=result, expected=expected)
    assert str(wrong) == f"{text} in row 2, column 7"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_results_of_one_value_are_contradicted(value: float) -> None:
    found = ps.kernels.identify(
        lambda a, b: np.full((2, 2), value, np.float32), formats="e5m2", shape=(2, 2, 2)
    )
    assert found.spec is None
    assert found.contradiction is not None
    np.testing.assert_equal(found.contradiction.result, value)


@pytest.mark.parametrize("k", [1, 2])
def test_a_short_k_is_answered(k: int) -> None:
    def product(a: np.ndarray, b: np.ndarray) -> Any:
        return ps.matmul(a, b, "fp32_fp32_fp32", backend="reference")

    found = ps.kernels.identify(product, formats="fp32", shape=(4, 4, k))
    assert found.contradiction is None


def test_results_beyond_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed are values that float32 holds"):
        ps.kernels.identify(
            lambda a, b: a.astype(float) @ b.astype(float) / 3, formats="bf16", shape=(4, 4, 8)
        )
