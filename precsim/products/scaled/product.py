"""Products of operands with scales: one source for NumPy (the reference) and JAX."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from precsim._arrays import Array, bitcast, entry, namespace
from precsim._loops import computed_once, repeat, traced_once
from precsim.arithmetic.elementwise import add, fma
from precsim.formats.carrier import FLOAT32, is_zero, select
from precsim.formats.tile import TileFormat
from precsim.products.preparation import operand_bits
from precsim.products.scaled.integer import integer_matmul
from precsim.products.scaled.operand import scaled_operand
from precsim.products.shapes import result_shape
from precsim.products.specs.scaling import scaling_of
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.scaled import float_steps
from precsim.rounding.scaled.scale import Scale

Scales: TypeAlias = tuple[Scale | None, Scale | None]
"""Scales of the left and of the right operand that are given."""
NO_SCALES: Scales = (None, None)


def scaled_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    run: Callable[..., Array],
    given: Scales = NO_SCALES,
) -> Array:
    """Return c + a @ b of operands that are quantized here, before the output is rounded.

    ``run(a, b, c, spec, random_bits)`` multiplies elements, which are in their formats already.
    `given`: scales of whole operands, which are chosen from the operands otherwise. Shapes
    (..., M, K), (..., K, N) and (..., M, N).
    """
    xp = namespace(a, b)
    if b.ndim == 2 and a.ndim > 2 and spec.has_tensor_scale:
        return _as_rows(a, b, c, spec, random_bits, run, given)
    stretch, as_integers = spec.stretch, spec.has_register
    quantize = partial(scaled_operand, as_integers=as_integers, stretch=stretch)
    of_a, of_b = operand_bits(random_bits, a, b, spec)
    x = quantize(a, spec.lhs, given[0], random_bits=of_a)
    of_b = None if of_b is None else xp.swapaxes(of_b, -1, -2)
    y = quantize(xp.swapaxes(b, -1, -2), spec.rhs, given[1], random_bits=of_b)
    row_scales, column_scales = x.scales, y.scales
    if column_scales is not None:
        column_scales = xp.swapaxes(column_scales, -1, -2)
    right = xp.swapaxes(y.elements, -1, -2)
    if as_integers:
        run_elements: Callable[..., Array] = lambda a, b: integer_matmul(a, b, spec.accumulator)
    else:
        run_elements = lambda a, b: run(a, b, c, spec.elements, random_bits)
    if stretch is not None and a.shape[-1]:
        scales = row_scales, column_scales
        return add_stretches(x.elements, right, *scales, stretch=stretch, run=run_elements)
    total = run_elements(x.elements, right)
    if not (spec.scales_sums and a.shape[-1]):
        return total
    are_powers = given == NO_SCALES and _are_powers(spec)
    return scaled_sums(total, row_scales, column_scales, are_powers=are_powers)


@traced_once("are_powers")
def scaled_sums(
    total: Array, left: Array | None, right: Array | None, *, are_powers: bool = False
) -> Array:
    """Return ``fl32(total * fl32(left * right))``; `are_powers`: scales are powers of two, or NaN.

    Powers that are chosen from data are 2**-127 or above.
    """
    if not are_powers:
        return computed_once(_multiply(total, computed_once(_both_scales(left, right))))
    u = FLOAT32.uint
    bits = bitcast(total, FLOAT32.uint_dtype)
    magnitude, sign = bits & u(FLOAT32.sign_bit - 1), bits & u(FLOAT32.sign_bit)
    is_special, is_nan = magnitude >= u(FLOAT32.infinity), magnitude > u(FLOAT32.infinity)
    exponent: Any = np.int32(0)
    for scale in (left, right):
        if scale is not None:
            power = bitcast(scale, FLOAT32.uint_dtype)
            exponent = exponent + float_steps.exponent_of(power, FLOAT32)
            is_nan = is_nan | (power > u(FLOAT32.infinity))
    finite = select(is_special, u(0), bits)
    product = float_steps.times_power_of_two(finite, exponent, FLOAT32)
    # The product of two scales may be 0 or infinite.
    beyond, below = exponent > np.int32(FLOAT32.bias), exponent < np.int32(FLOAT32.lsb_min)
    product = select(is_special | beyond, sign | u(FLOAT32.infinity), select(below, sign, product))
    is_nan = is_nan | (below & is_special) | (beyond & (magnitude == u(0)))
    return computed_once(bitcast(select(is_nan, u(FLOAT32.quiet_nan), product), np.float32))


def _multiply(x: Array, y: Array) -> Array:
    """Return x * y rounded to nearest in float32, one quiet NaN."""
    u = FLOAT32.uint
    bits, others = bitcast(x, np.uint32), bitcast(y, np.uint32)
    sign = (bits ^ others) & u(FLOAT32.sign_bit)
    a, b = bits & u(FLOAT32.sign_bit - 1), others & u(FLOAT32.sign_bit - 1)
    largest, least = namespace(a, b).maximum(a, b), namespace(a, b).minimum(a, b)
    is_special = largest >= u(FLOAT32.infinity)
    is_nan = (largest > u(FLOAT32.infinity)) | (is_special & (least == u(0)))
    a, b = (select(each >= u(FLOAT32.infinity), u(0), each) for each in (a, b))
    product = float_steps.multiply(a, b, FLOAT32)
    product = select(is_special, u(FLOAT32.infinity), product) | sign
    return bitcast(select(is_nan, u(FLOAT32.quiet_nan), product), np.float32)


def _are_powers(spec: MatmulSpec) -> bool:
    """Return whether all scales that multiply sums are powers of two."""
    parts = [part for part in (spec.lhs, spec.rhs) if scaling_of(part) is not None]
    return all(isinstance(x.format, TileFormat) and x.format.is_power_of_two for x in parts if x)


def add_stretches(
    a: Array,
    b: Array,
    row_scales: Array | None,
    column_scales: Array | None,
    *,
    stretch: int,
    run: Callable[[Array, Array], Array],
    contracts: bool = True,
) -> Array:
    """Return the sum of products of `stretch` along K, each times its scales, ascending from +0.

    Shapes (..., M, K), (..., K, N), (..., M or 1, stretches or 1), (..., stretches or 1, N or 1).
    ``run(a, b)`` multiplies a stretch. `contracts`: a stretch times its scale is added by one fused
    multiply-add, else it is rounded before it is added.
    """
    xp = namespace(a, b)
    k, n = a.shape[-1], stretch
    count = -(-k // n)
    fill = (0, -k % n)
    left = xp.pad(a, [(0, 0)] * (a.ndim - 1) + [fill])
    left = xp.moveaxis(left.reshape(*a.shape[:-1], count, n), -2, 0)
    right = xp.pad(b, [(0, 0)] * (b.ndim - 2) + [fill, (0, 0)])
    right = xp.moveaxis(right.reshape(*b.shape[:-2], count, n, b.shape[-1]), -3, 0)
    rows = None if row_scales is None else xp.moveaxis(row_scales, -1, 0)[..., None]
    columns = None if column_scales is None else xp.moveaxis(column_scales, -2, 0)[..., None, :]

    def scale_of(scales: Array | None, j: Any) -> Array | None:
        if scales is None:
            return None
        return entry(scales, j) if scales.shape[0] > 1 else scales[0]

    def part_of(j: Any) -> tuple[Array, Array]:
        part = computed_once(run(entry(left, j), entry(right, j)))
        return part, computed_once(_both_scales(scale_of(rows, j), scale_of(columns, j)))

    def add_stretch(j: Any, total: Array) -> Array:
        part, scale = part_of(j)
        if contracts:
            return fma(scale, part, total, "fp32")
        return add(total, _multiply(scale, part), "fp32")

    if count == 1:
        part, scale = part_of(0)
        return computed_once(_added_to_zero(_multiply(scale, part), scale, part, contracts))
    return repeat(count, add_stretch, xp.zeros(result_shape(a, b), np.float32))


def _added_to_zero(product: Array, scale: Array, part: Array, is_exact: bool) -> Array:
    """Return +0 and a product, which was rounded before it was added unless `is_exact`.

    What is -0 becomes +0; what is rounded to -0 only in the sum does not.
    """
    product, scale, part = (bitcast(x, np.uint32) for x in (product, scale, part))
    becomes_zero = product == FLOAT32.uint(FLOAT32.sign_bit)
    if is_exact:
        becomes_zero = becomes_zero & (is_zero(scale, FLOAT32) | is_zero(part, FLOAT32))
    return bitcast(select(becomes_zero, FLOAT32.uint(0), product), np.float32)


def _both_scales(left: Array | None, right: Array | None) -> Array:
    """Return the product of the scales of both operands, or those of the one that has them."""
    if left is None or right is None:
        one = right if left is None else left
        assert one is not None
        return one
    return _multiply(left, right)


def _as_rows(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    run: Callable[..., Array],
    given: Scales,
) -> Array:
    """Return a batch of rows times one matrix: one product also where rows share scales."""

    def rows(x: Array | None) -> Array | None:
        return None if x is None else x.reshape(-1, x.shape[-1])

    flat = a.reshape(-1, a.shape[-1])
    total = scaled_product(flat, b, rows(c), spec, rows(random_bits), run, given)
    return total.reshape(*a.shape[:-1], b.shape[-1])
