"""Public functions on shapes with zeros, without axes, of one element: right, or refused."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from tests.surface.public_calls import CALLS

Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((0,), (0, 3), (3, 0), (), (1,), (1, 1))
F32: Any = np.float32
I32: Any = np.int32
U8: Any = np.uint8
REFUSED = "refused"
"""The call is refused, in one line that names an argument."""
SLOW = " [slow]"
"""Ends the label of a case that is traced by JAX in slow tests only; NumPy's take no time."""


def zeros(*shapes: Shape, dtype: Any = F32) -> list[np.ndarray]:
    return [np.ones(shape, dtype) for shape in shapes]


Case = tuple[Callable[..., Any], list[np.ndarray], Any, Any]
"""Function, arguments, shape or shapes of the results (or REFUSED), dtype or dtypes."""


def _rounded(name: str, *operands: Any) -> Any:
    return getattr(ps, name)(*operands, "bf16")


def elementwise() -> Iterator[tuple[str, Case]]:
    unary: dict[str, tuple[Callable[..., Any], Any, Any]] = {
        name: (partial(_rounded, name), F32, F32)
        for name in ("round_to", "reciprocal", "sqrt", "exp", "log", "tanh", "erf", "sigmoid")
    }
    unary["rsqrt"] = (lambda x: ps.rsqrt(x, "bf16"), F32, F32)
    unary["ulp"] = (lambda x: ps.ulp(x, "bf16"), F32, F32)
    unary["encode"] = (lambda x: ps.encode(x, "e4m3"), F32, U8)
    unary["decode"] = (lambda x: ps.decode(x, "e4m3"), U8, F32)
    unary["convert"] = (lambda x: ps.convert(x, "e4m3", "fp16"), U8, np.uint16)
    unary["from_integer"] = (lambda x: ps.ieee.from_integer(x, "bf16"), I32, F32)
    unary["to_integer"] = (lambda x: ps.ieee.to_integer(x, "int8"), F32, np.int8)
    for name, (function, given, got) in unary.items():
        for shape in SHAPES:
            yield f"{name} {shape}", (function, zeros(shape, dtype=given), shape, got)
    pairs: dict[str, tuple[Callable[..., Any], Any]] = {
        name: (partial(_rounded, name), F32) for name in ("add", "subtract", "multiply", "divide")
    }
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        pairs[name] = (getattr(ps.ieee, name), np.bool_)
    pairs["total_order"] = (ps.ieee.total_order, np.bool_)
    for name in ("minimum", "maximum", "minimum_number", "maximum_number"):
        pairs[name] = (getattr(ps.ieee, name), F32)
    pairs["fma"] = (lambda x, y: ps.fma(x, y, x, "bf16"), F32)
    for name, (function, got) in pairs.items():
        for shape in SHAPES:
            yield f"{name} {shape}", (function, zeros(shape, (1,)), shape or (1,), got)
        yield f"{name} (0,) and (3,)", (function, zeros((0,), (3,)), REFUSED, None)


def scaled() -> Iterator[tuple[str, Case]]:
    for fmt in ("nvfp4", "int8", "int8_channel", "int4_symmetric_block2"):
        for shape in SHAPES:
            expected = shape if shape else REFUSED
            both: dict[str, Callable[..., Any]] = {
                "quantize": lambda x, fmt=fmt: ps.quantize(x, fmt).codes,
                "dequantize": lambda x, fmt=fmt: ps.dequantize(ps.quantize(x, fmt)),
                "round_to": lambda x, fmt=fmt: ps.round_to(x, fmt),
            }
            is_slow = fmt != "nvfp4" or len(shape) == 1
            for name, function in both.items():
                label = f"{name} {fmt} {shape}{SLOW * is_slow}"
                yield label, (function, zeros(shape), expected, None)


def sums() -> Iterator[tuple[str, Case]]:
    for order in ("sequential", "pairwise", "blocked2", "kahan", "two_sum", "exact"):
        for shape in SHAPES:
            every = lambda x, order=order: ps.accumulate(x, "bf16", order=order)
            last = lambda x, order=order: ps.accumulate(x, "bf16", order=order, axis=-1)
            yield f"accumulate {order} {shape}", (every, zeros(shape), (), F32)
            of_last = shape[:-1] if shape else REFUSED
            yield f"accumulate {order} {shape} axis=-1", (last, zeros(shape), of_last, F32)
    for shape in SHAPES:
        total = lambda x: ps.all_reduce(x, "ring:bf16")
        again = lambda x: ps.feedback_all_reduce(x, x, "tree:bf16")[0]
        result = shape[1:] if shape and shape[0] else REFUSED
        yield f"all_reduce {shape}", (total, zeros(shape), result, F32)
        yield f"feedback_all_reduce {shape}", (again, zeros(shape), result, F32)
    for rows, features, count in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 1, 1)):
        data, (ids,) = zeros((rows, features)), zeros((rows,), dtype=I32)
        run = lambda x, ids, n=count: ps.segment_sum(x, ids, "bf16", num_segments=n)
        label = f"segment_sum ({rows}, {features}) to {count}"
        yield label, (run, [*data, ids], (count, features), F32)
        look_up = lambda table, ids: ps.embedding(table, ids, "bf16")
        for shape in SHAPES:
            (ids,) = zeros(shape, dtype=I32)
            result = (*shape, features)
            yield f"embedding ({rows}, {features}) {shape}", (look_up, [*data, ids], result, F32)
            grad = lambda t, ids: jax.grad(lambda t: ps.embedding(t, ids, "bf16").sum())(t)
            is_slow = shape not in ((0, 3), ())
            label = f"embedding gradient ({rows}, {features}) {shape}{SLOW * is_slow}"
            yield label, (grad, [*data, ids], (rows, features), F32)
    one = lambda x, ids: ps.segment_sum(x, ids, "bf16", num_segments=1)
    yield "segment_sum ()", (one, [*zeros(()), *zeros((), dtype=I32)], REFUSED, None)
    table = lambda x, ids: ps.embedding(x, ids, "bf16")
    yield "embedding ()", (table, [*zeros(()), *zeros((), dtype=I32)], REFUSED, None)


def codes() -> Iterator[tuple[str, Case]]:
    for shape in SHAPES:
        (x,) = zeros(shape, dtype=U8)
        packed = (*shape[:-1], -(-shape[-1] * 6 // 8)) if shape else REFUSED
        yield f"pack_codes {shape}", (lambda x: ps.pack_codes(x, 6), [x], packed, U8)
        count = shape[-1] if shape else 0
        unpacked = (*shape[:-1], count) if shape else REFUSED
        run = lambda x, count=count: ps.unpack_codes(x, 8, count)
        yield f"unpack_codes {shape}", (run, [x], unpacked, U8)


PRODUCTS: tuple[tuple[Shape, Shape, Any], ...] = (
    ((0, 3), (3, 2), (0, 2)),
    ((2, 3), (3, 0), (2, 0)),
    ((2, 0), (0, 2), (2, 2)),
    ((0, 0), (0, 0), (0, 0)),
    ((0, 2, 3), (3, 2), (0, 2, 2)),
    ((0, 2, 3), (0, 3, 2), (0, 2, 2)),
    ((1, 2, 3), (0, 3, 2), (0, 2, 2)),
    ((0,), (0,), ()),
    ((0,), (0, 2), (2,)),
    ((2, 0), (0,), (2,)),
    ((1,), (1,), ()),
    ((1, 1), (1, 1), (1, 1)),
    ((), (1,), REFUSED),
    ((1, 1), (), REFUSED),
    ((0, 3), (2, 3), REFUSED),
)
SPECS = ("bf16_bf16_fp32", "h100:bf16", "bf16_bf16_bf16:pairwise", "h100:e4m3:promote32")


def products() -> Iterator[tuple[str, Case]]:
    for spec in SPECS:
        for n, (left, right, expected) in enumerate(PRODUCTS):
            is_slow = spec not in SPECS[:2] or (spec == SPECS[1] and n >= 4)
            run = lambda a, b, spec=spec: ps.matmul(a, b, spec)
            yield (
                f"matmul {spec} {left} {right}{SLOW * is_slow}",
                (run, zeros(left, right), expected, F32),
            )
            if expected == REFUSED:
                continue
            pull = lambda a, b, spec=spec: jax.grad(
                lambda a, b: ps.matmul(a, b, spec).sum(), (0, 1)
            )(a, b)
            is_slow = is_slow or n not in (2, 4)
            label = f"matmul gradients {spec} {left} {right}{SLOW * is_slow}"
            yield label, (pull, zeros(left, right), [left, right], F32)
    for left, right, expected in PRODUCTS[:4]:
        dot = lambda a, b: ps.dot_general("bf16_bf16_fp32")(a, b, (((1,), (0,)), ((), ())))
        yield f"dot_general {left} {right}", (dot, zeros(left, right), expected, F32)
        yield (
            f"einsum {left} {right}",
            (partial(ps.einsum("bf16_bf16_fp32"), "ij,jk"), zeros(left, right), expected, F32),
        )
        (m, k), n, blocks = left, right[1], -(-left[1] // 32)
        block = lambda a, b, s, t: ps.scaled_matmul(
            a, b, "h100:e4m3:promote32", a_scales=s, b_scales=t
        )
        given = zeros((m, k), (k, n), (m, blocks), (blocks, n))
        yield f"scaled_matmul {left} {right}", (block, given, (m, n), F32)
    drop_in = ps.conv_general_dilated("bf16_bf16_fp32")
    same: Any = lambda x, w: drop_in(x, w, (1,) * (x.ndim - 2), "SAME")
    for size, filters, result in (
        ((0, 2, 3), (3, 2, 2), (0, 3, 3)),
        ((1, 0, 3), (3, 0, 2), (1, 3, 3)),
        ((1, 2, 3), (0, 2, 2), (1, 0, 3)),
        ((1, 2, 0), (3, 2, 2), (1, 3, 0)),
        ((1, 2), (3, 2), (1, 3)),
        ((), (3, 2), REFUSED),
    ):
        label = f"conv_general_dilated {size} {filters}"
        yield label, (same, zeros(size, filters), result, F32)
    for spec in ("bf16_bf16_fp32", "h100:bf16"):
        for image, window, expected in (
            ((0, 3, 3, 2), (2, 2, 2, 3), (0, 3, 3, 3)),
            ((1, 3, 3, 0), (2, 2, 0, 3), (1, 3, 3, 3)),
            ((1, 3, 3, 2), (2, 2, 2, 0), (1, 3, 3, 0)),
            ((1, 0, 3, 2), (2, 2, 2, 3), (1, 0, 3, 3)),
            ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
            ((), (1, 1, 1, 1), REFUSED),
        ):
            is_slow = spec == "h100:bf16" and image[:1] != (0,)
            convolve: Any = partial(ps.conv, spec=spec)
            yield (
                f"conv {spec} {image} {window}{SLOW * is_slow}",
                (convolve, zeros(image, window), expected, F32),
            )
            if expected != REFUSED:
                pull = lambda x, w, spec=spec: jax.grad(
                    lambda x, w: ps.conv(x, w, spec).sum(), (0, 1)
                )(x, w)
                label = f"conv gradients {spec} {image} {window}{SLOW * (image[:1] != (0,))}"
                yield label, (pull, zeros(image, window), [image, window], F32)


def training() -> Iterator[tuple[str, Case]]:
    for shape in SHAPES:
        run = lambda w: ps.apply_updates({"w": w}, {"w": w}, rounding="bf16")["w"]
        yield f"apply_updates {shape}", (run, zeros(shape), shape, F32)
        grad = lambda w: ps.value_and_grad(lambda w: (w * w).sum(), "fp16_mixed")(w)[1]
        yield f"value_and_grad {shape}", (grad, zeros(shape), shape, F32)
        steps = lambda x: ps.round_to_steps(x, 0.5, "int4")
        yield f"round_to_steps {shape}", (steps, zeros(shape), shape, F32)
        for scale in (ps.NoLossScale(), ps.StaticLossScale(), ps.DynamicLossScale()):
            name = type(scale).__name__
            yield f"{name} {shape}", (lambda x, s=scale: s.unscale(x), zeros(shape), shape, F32)


def measures() -> Iterator[tuple[str, Case]]:
    for shape in SHAPES:
        for name in ("absolute_error", "relative_error"):
            yield (
                f"{name} {shape}",
                (getattr(ps.errors, name), zeros(shape, shape), shape, np.float64),
            )
        ulps = lambda x, y: ps.ulp_error(x, y, "bf16")
        yield f"ulp_error {shape}", (ulps, zeros(shape, shape), shape, np.float64)
        yield f"sqnr {shape}", (ps.sqnr, zeros(shape, shape), (), np.float64)
        rates = lambda x: np.int64(ps.errors.range_rates(x, "bf16").elements)
        yield f"range_rates {shape}", (rates, zeros(shape), (), np.int64)
        bins = lambda x: np.int64(ps.errors.exponent_histogram(x).zeros)
        yield f"exponent_histogram {shape}", (bins, zeros(shape), (), np.int64)
        digest = lambda x: np.int64(len(ps.replay.hash_state({"x": x})[""]))
        yield f"hash_state {shape}", (digest, zeros(shape), (), np.int64)
    for left, right, expected in PRODUCTS:
        if expected != REFUSED:
            case = (ps.backward_error, zeros(expected, left, right), (), np.float64)
            yield f"backward_error {left} {right}", case


GROUPS = (elementwise, scaled, sums, codes, products, training, measures)
CASES: dict[str, Case] = {label: case for group in GROUPS for label, case in group()}

ON_THE_HOST = (
    *("absolute_error", "relative_error", "ulp_error", "sqnr", "backward_error"),
    *("range_rates", "exponent_histogram", "hash_state"),
)
COMPILED = (
    *("matmul", "conv", "dot_general", "scaled_matmul", "embedding", "apply_updates"),
    *("conv_general_dilated", "einsum"),
    *("value_and_grad", "NoLossScale", "StaticLossScale", "DynamicLossScale"),
)
"""Have no way through NumPy alone."""


def fault_of(run: Callable[..., Any], case: Case) -> str | None:
    """Return what is wrong with a call, if anything is."""
    _, arrays, shapes, dtype = case
    try:
        results = jax.tree.leaves(run(*arrays))
    except (TypeError, ValueError) as error:
        text = str(error)
        if shapes != REFUSED:
            return f"refused: {type(error).__name__}: {text[:200]}"
        is_clear = (
            "\n" not in text and len(text) < 200 and re.search("allowed|needs|do not match", text)
        )
        return None if is_clear else f"unclear: {text[:200]}"
    except (ArithmeticError, AttributeError, LookupError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if shapes == REFUSED:
        return "taken"
    expected = shapes if isinstance(shapes, list) else [shapes]
    if [np.shape(x) for x in results] != expected:
        return f"shapes {[np.shape(x) for x in results]}, expected {expected}"
    dtypes = {np.dtype(x.dtype if hasattr(x, "dtype") else type(x)) for x in results}
    return None if dtype is None or dtypes == {np.dtype(dtype)} else f"dtypes {dtypes}"


def faults(
    names: tuple[str, ...], wrap: Callable[..., Any], *, slow: tuple[bool, ...] = (False, True)
) -> dict[str, str]:
    found = {
        label: fault_of(wrap(case[0]), case)
        for label, case in CASES.items()
        if label.partition(" ")[0] in names and label.endswith(SLOW) in slow
    }
    return {label: fault for label, fault in found.items() if fault}


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that finds shapes as JAX does, without compiling."""
    return lambda *arrays: jax.eval_shape(function, *arrays)


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


NAMES = tuple(sorted({label.partition(" ")[0] for label in CASES}))
SLOW_TO_TRACE = (
    *("exp", "log", "tanh", "erf", "sigmoid", "divide", "fma", "sqrt", "subtract", "multiply"),
    *("quantize", "dequantize", "reciprocal", "round_to_steps"),
)
"""Share their way under JAX with others that are traced by default (`rsqrt`, `add`, `round_to`)."""


def test_every_public_function_of_arrays_has_cases() -> None:
    assert {name.partition(" ")[0] for name in CALLS} <= set(NAMES)


def test_numpy_arrays() -> None:
    assert faults(tuple(n for n in NAMES if n not in COMPILED), called) == {}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in SLOW_TO_TRACE else n
        for n in NAMES
        if n not in ON_THE_HOST
    ],
)
def test_jax_arrays(name: str) -> None:
    assert faults((name,), traced, slow=(False,)) == {}


@pytest.mark.slow
def test_more_shapes_of_jax_arrays() -> None:
    assert faults(NAMES, traced, slow=(True,)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_for_numpy_arrays(name: str) -> None:
    assert faults((name,), called) == {}
