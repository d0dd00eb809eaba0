"""Matrix products and convolutions, by the policy's three specs."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim._loops import computed_once
from precsim.formats.registry import get_format
from precsim.formats.scaled import scaled_format
from precsim.products.conv_general_dilated import conv_general_dilated
from precsim.products.dot_general import arrange
from precsim.products.matmul import matmul
from precsim.products.operands import needs_float32
from precsim.products.scaled.differentiated import largest_magnitude, multiply_elements
from precsim.products.scaled.product import NO_SCALES, Scales
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.measures import count_operand
from precsim.rounding.spec import RoundingSpec
from precsim.transform.identity import leaves_products
from precsim.transform.noise import bits_at
from precsim.transform.operation import Operation, rule
from precsim.transform.policy import Policy
from precsim.transform.rules.own_scales import (
    closed,
    own_scale,
    scaled_cotangent,
    unscaled_product,
)
from precsim.transform.tensor_scaling import delayed, of_cotangents, with_tensor_scale
from precsim.transform.treatment import How
from precsim.transform.values import (
    Format,
    Origin,
    Value,
    is_float,
    is_inexact,
    real_dtype,
    widened,
)

Noise: TypeAlias = dict[str, Array] | None
"""The random bits of a product and of its gradients."""

if TYPE_CHECKING:
    from precsim.rounding.scaled.scale import Scale

SIDES = ("lhs", "rhs")


def leaves(op: Operation) -> bool:
    """Return whether a product, and its gradients, are the program's own."""
    if op.context.backend == "emulated" or op.is_exact_everywhere:
        return False
    dtypes = {real_dtype(x.dtype) for x in op.arrays if is_inexact(x)}
    own, dgrad, wgrad, _ = roles(op)
    specs = (own,) if op.context.is_backward else (own, dgrad, wgrad)
    return all(leaves_products(spec, dtypes) for spec in specs)


def _left(op: Operation) -> list[Value] | None:
    """Return the results of a product of integers, or of one that rounds nothing; else None."""
    is_real = all(is_float(value.array) for value in op.operands[:2])
    if is_real and not leaves(op):
        return None
    op.record(How.AS_IS if is_real else How.EXEMPT)
    return op.as_it_is()


def roles(op: Operation) -> tuple[MatmulSpec, MatmulSpec, MatmulSpec, bool]:
    """Return the specs of the product and of its gradients, and whether the operands change places.

    A spec's left operand is the activation and its right one the weight; in `dgrad` they are the
    cotangent and the weight, in `wgrad` the activation and the cotangent.
    """
    policy = _with_tensor_scales(op.policy)
    role, swaps = _role(op)
    own: MatmulSpec = getattr(policy, role)
    return own, policy.dgrad, policy.wgrad, swaps


def _role(op: Operation) -> tuple[str, bool]:
    """Return which of the policy's specs is the product's, and whether operands change places."""
    origins = [value.origin for value in op.operands[:2]]
    has_weights = Origin.WEIGHTS in origins
    if op.context.is_backward and not has_weights:
        return "wgrad", origins == [Origin.COTANGENTS, Origin.ACTIVATIONS]
    swaps = has_weights and origins[1] is not Origin.WEIGHTS
    return "dgrad" if op.context.is_backward else "forward", swaps


@lru_cache(maxsize=64)
def _with_tensor_scales(policy: Policy) -> Policy:
    """Return a policy whose operands have the scales that its tensor scaling says."""
    if policy.tensor_scaling == "none":
        return policy
    specs = {}
    for role in ("forward", "dgrad", "wgrad"):
        spec = getattr(policy, role)
        sides = {
            side: with_tensor_scale(getattr(spec, side), policy.tensor_scaling) for side in SIDES
        }
        specs[role] = replace(spec, **sides)
    return replace(policy, name="", **specs)


def _delayed_scales(op: Operation, arrays: tuple[Array, Array], spec: MatmulSpec) -> Scales:
    """Tell of the operands under delayed scaling; return their scales, None without a history."""
    context, given = op.context, op.context.scales or {}
    if delayed(op.policy.tensor_scaling) is None:
        return NO_SCALES
    own = getattr(op.policy, _role(op)[0])
    found: list[Scale | None] = []
    for x, side in zip(arrays, SIDES, strict=True):
        part, name = getattr(spec, side), f"{context.path}/{side}"
        is_delayed = part is not None and part != getattr(own, side)
        if is_delayed and context.watch is not None:
            context.watch.operand(name, part.format, largest_magnitude(x))
        found.append(given.get(name) if is_delayed else None)
    left, right = found
    return left, right


def _format(spec: MatmulSpec) -> Format | None:
    """Return the format of the results of a product."""
    last = spec.output or spec.accumulator
    fmt: Format = last.format
    return fmt


def _finish(op: Operation, y: Array, spec: MatmulSpec) -> Value:
    return op.result(y, _format(spec), cotangent=None)


@rule("dot_general")
def product(op: Operation) -> list[Value]:
    """Multiply; the gradients of the operands are products by `dgrad` and `wgrad`."""
    if (left_as_it_is := _left(op)) is not None:
        return left_as_it_is
    spec, dgrad, wgrad, swaps = roles(op)
    op.record(How.PRODUCT, spec)
    (contracted, batch) = op.params["dimension_numbers"]
    a, b = _operands(op, spec, swaps=swaps)
    if swaps:
        a, b, contracted, batch = b, a, contracted[::-1], batch[::-1]
    rows, rows_shape = arrange(a, batch[0], contracted[0], contract_last=True)
    columns, columns_shape = arrange(b, batch[1], contracted[1], contract_last=False)
    shapes = ((*rows.shape[:-1], columns.shape[-1]), rows.shape, columns.shape)
    noise = _noise(op, (spec, dgrad, wgrad), shapes)
    backend = op.context.backend
    given = _delayed_scales(op, (rows, columns), spec)
    _count_scaled(op, (rows, columns.mT), spec, given)

    def run(a: Any, b: Any, spec: MatmulSpec, bits: Any) -> Any:
        return matmul(a, b, spec, backend=backend, random_bits=bits)

    def multiply(spec: MatmulSpec, noise: Noise) -> Array:
        if given != NO_SCALES:
            own = (noise or {}).get("forward")
            return jnp.asarray(multiply_elements(run, rows, columns, spec, given, own))
        return matmul(
            rows, columns, spec, dgrad=dgrad, wgrad=wgrad, backend=backend, random_bits=noise
        )

    y = closed(op, _rounded(op, multiply, spec, noise))
    shared = tuple(a.shape[d] for d in batch[0])
    y = y.reshape(*shared, *rows_shape, *columns_shape)
    if swaps:
        first = range(len(shared), len(shared) + len(rows_shape))
        y = jnp.moveaxis(y, first, range(y.ndim - len(rows_shape), y.ndim))
    return [_finish(op, y, spec)]


def _operands(op: Operation, spec: MatmulSpec, *, swaps: bool = False) -> list[Array]:
    """Return both operands in the carrier; where roundings are counted, rounded already."""
    sides = (spec.rhs, spec.lhs) if swaps else (spec.lhs, spec.rhs)
    arrays = _carried(op, sides)
    is_direct = op.is_watched and spec.rotation is None and not spec.has_random_operands
    has_own_scale = own_scale(op) is not None
    # A cotangent is the left operand of a spec for dgrad, the right one of a spec for wgrad.
    cotangent = (_role(op)[0] == "wgrad") != swaps
    for n, side in enumerate(sides):
        is_scaled = has_own_scale and n == cotangent
        if is_scaled:
            arrays[n] = scaled_cotangent(op, arrays[n], side)
        if not is_direct or side is None or scaled_format(side.format) is not None:
            continue
        if is_scaled:
            rounded = round_array(arrays[n], None, side)
            op.note(arrays[n], rounded, side)
            arrays[n] = rounded
        else:
            arrays[n] = op.brought(n, side).astype(arrays[n].dtype)
    return arrays


_FLOAT32 = RoundingSpec(format=get_format("fp32"))


def _carried(op: Operation, sides: tuple[RoundingSpec | None, ...]) -> list[Array]:
    """Return both operands in the carrier, which is the wider one of two dtypes.

    Where a product takes float32 alone, float64 numbers are rounded once: to the side's format,
    where they have no scale, or to float32.
    """
    arrays = [widened(value.array) for value in op.operands[:2]]
    is_narrow = own_scale(op) is not None or any(map(needs_float32, roles(op)[:3]))
    if not is_narrow or all(x.dtype == np.float32 for x in arrays):
        wider = jnp.promote_types(*(x.dtype for x in arrays))
        return [x.astype(wider) for x in arrays]
    for n, side in enumerate(sides):
        own = _FLOAT32
        if side is not None and scaled_format(side.format) is None:
            own = own if side.mode is RoundingMode.STOCHASTIC else side
        arrays[n] = op.brought(n, own).astype(np.float32)
    return arrays


def _count_scaled(
    op: Operation, vectors: tuple[Array, Array], spec: MatmulSpec, given: Scales
) -> None:
    """Let the events of operands with scales be counted, (..., vectors, K) each."""
    if op.context.watch is None or spec.rotation is not None or spec.has_random_operands:
        return
    for x, side, scale in zip(vectors, (spec.lhs, spec.rhs), given, strict=True):
        if side is not None and scaled_format(side.format) is not None:
            op.count(count_operand(x, scale, side))


def _rounded(
    op: Operation, multiply: Callable[[MatmulSpec, Noise], Array], spec: MatmulSpec, noise: Noise
) -> Array:
    """Return a product; where roundings are counted, the last one is made apart."""
    output = spec.output
    if own_scale(op) is not None:
        y = multiply(replace(spec, output=None), noise if spec.needs_seeds else None)
        return unscaled_product(op, y, spec)
    is_apart = op.is_watched and output is not None and not spec.has_random_operands
    if not is_apart or spec.accumulator.mode is RoundingMode.STOCHASTIC:
        return multiply(spec, noise)
    assert output is not None
    y = multiply(replace(spec, output=None), None)
    own = (noise or {}).get("forward")
    result = computed_once(round_array(y, own, output))
    op.note(y, result, output)
    return result


def _noise(
    op: Operation, specs: tuple[MatmulSpec, ...], shapes: tuple[tuple[int, ...], ...]
) -> Noise:
    """Return the random bits of a product and of its gradients, of those that need some."""
    noise = {}
    for role, spec, shape in zip(("forward", "dgrad", "wgrad"), specs, shapes, strict=True):
        output = spec.output or spec.accumulator
        if spec.needs_seeds or output.mode is RoundingMode.STOCHASTIC:
            drawn = bits_at(op.context.key, f"{op.context.path}/{role}", shape)
            noise[role] = computed_once(drawn)
    return noise or None


@rule("conv_general_dilated")
def convolution(op: Operation) -> list[Value]:
    """Convolve; the gradients of image and kernel are convolutions by `dgrad` and `wgrad`."""
    if (left_as_it_is := _left(op)) is not None:
        return left_as_it_is
    spec, dgrad, wgrad, _ = roles(op)
    op.record(How.PRODUCT, spec)
    options = {name: op.params[name] for name in _OPTIONS}
    x, w = _operands(op, spec)
    shapes = op.eqn.outvars[0].aval.shape, x.shape, w.shape
    noise = _noise(op, (spec, dgrad, wgrad), shapes)
    backend = op.context.backend
    given = _delayed_scales(op, (x, w), spec)

    def run(x: Any, w: Any, spec: MatmulSpec, bits: Any) -> Any:
        own = None if bits is None else {"forward": bits}
        return conv_general_dilated(spec, backend=backend)(x, w, **options, random_bits=own)

    def convolve(spec: MatmulSpec, noise: Noise) -> Array:
        if given != NO_SCALES:
            own = (noise or {}).get("forward")
            return jnp.asarray(multiply_elements(run, x, w, spec, given, own))
        whole = conv_general_dilated(spec, dgrad=dgrad, wgrad=wgrad, backend=backend)
        return whole(x, w, **options, random_bits=noise)

    return [_finish(op, closed(op, _rounded(op, convolve, spec, noise)), spec)]


_OPTIONS = (
    "window_strides",
    "padding",
    "lhs_dilation",
    "rhs_dilation",
    "dimension_numbers",
    "feature_group_count",
    "batch_group_count",
)


@rule("ragged_dot_general")
def ragged(op: Operation) -> list[Value]:
    """Multiply groups of rows each by a matrix of its own, as one product a group, masked.

    In the gradient of the matrices the groups are summed over: a product for each of them.
    """
    if (left_as_it_is := _left(op)) is not None:
        return left_as_it_is
    if of_cotangents(op.policy.tensor_scaling) is not None:
        raise NotImplementedError(
            "ragged_dot has tensor=cotangents@S; allowed are dot_general and convolutions"
        )
    summed, grouped = _ragged_axes(op.params["ragged_dot_dimension_numbers"])
    spec, dgrad, wgrad, _ = roles(op)
    op.record(How.PRODUCT, spec)
    a, b = _carried(op, (spec.lhs, spec.rhs))
    sizes = op.operands[2].array
    ends, row = jnp.cumsum(sizes), jnp.arange(a.shape[0])
    a = jnp.moveaxis(a, summed[0], -1)
    b = jnp.moveaxis(b, grouped or [], range(len(grouped)))
    b = jnp.moveaxis(b, summed[1] if not grouped else _behind(summed[1], grouped), -2)

    def multiply(n: int, a: Array, b: Array) -> Array:
        path = f"{op.context.path}/group {n}"
        here = replace(op, context=replace(op.context, path=path))
        shapes = (a.shape[0], b.shape[1]), a.shape, b.shape
        noise = _noise(here, (spec, dgrad, wgrad), shapes)
        backend = op.context.backend
        y: Array = matmul(a, b, spec, dgrad=dgrad, wgrad=wgrad, backend=backend, random_bits=noise)
        return y

    y, parts = jnp.zeros((a.shape[0], b.shape[-1]), a.dtype), []
    for n in range(sizes.shape[0]):
        is_here = ((row >= ends[n] - sizes[n]) & (row < ends[n]))[:, None]
        if grouped:
            y = jnp.where(is_here, multiply(n, a, b[n]), y)
        else:
            parts.append(multiply(n, jnp.where(is_here.T, a, 0), jnp.where(is_here, b, 0)))
    return [_finish(op, y if grouped else jnp.stack(parts), spec)]


def _behind(axis: int, grouped: list[int]) -> int:
    """Return where an axis stands once those of the groups are in front."""
    return axis + sum(g > axis for g in grouped)


def _ragged_axes(numbers: Any) -> tuple[tuple[int, int], list[int]]:
    """Return the axes summed over, and the axis of the groups, if the right operand has one."""
    contracted, batch = numbers.dot_dimension_numbers
    ragged, grouped = list(numbers.lhs_ragged_dimensions), list(numbers.rhs_group_dimensions)
    is_plain = not any(batch) and [len(axes) for axes in contracted] == [1, 1]
    if is_plain and ragged == [0] and (len(grouped) == 1) != (contracted[0][0] == 0):
        return (contracted[0][0], contracted[1][0]), grouped
    raise NotImplementedError(
        f"ragged_dot_general has dimension numbers {numbers}; allowed are those of "
        "jax.lax.ragged_dot and of its gradients"
    )
