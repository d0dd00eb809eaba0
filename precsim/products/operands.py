"""Operands and random bits of a product: checked, and brought to two dimensions or more."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from precsim._arrays import Array, ArrayLike, as_integers, is_array, namespace
from precsim.formats.carrier import FLOAT32, Carrier, as_carrier, exactly
from precsim.formats.scaled import scaled_format
from precsim.products.backends import Specs
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.random_bits import beside

RandomBits: TypeAlias = ArrayLike | Mapping[str, ArrayLike] | None
"""Of one result, or of a result and its gradients by name."""

Shape: TypeAlias = tuple[int, ...]


class Noise(NamedTuple):
    """Random bits for the stochastically rounded outputs: of a @ b, of a's gradient, of b's."""

    forward: Array | None = None
    dgrad: Array | None = None
    wgrad: Array | None = None


NO_NOISE = Noise()


class Operands(NamedTuple):
    """What a product is of: ``c + a @ b``, and its random bits."""

    a: Array
    b: Array
    c: Array | None
    noise: Noise


def as_operands(
    a: ArrayLike, b: ArrayLike, c: ArrayLike | None, random_bits: RandomBits, specs: Specs
) -> Operands:
    """Return operands as arrays of one carrier, after all that can be refused has been.

    Shapes stay as they are; `expanded` changes them.
    """
    a, carrier = as_carrier(a, "a")
    b, carrier_b = as_carrier(b, "b")
    if carrier is not carrier_b:
        raise TypeError(
            f"a has dtype {carrier.name}, b {carrier_b.name}; allowed is one dtype for both"
        )
    left, right = _matrix_shapes(a.shape, b.shape)
    shape = *_batch(left, right), left[-2], right[-1]
    if c is not None:
        c = c if is_array(c) else exactly(c, carrier.float_dtype, "c")
        c, carrier_c = as_carrier(c, "c")
        if carrier_c is not carrier:
            raise TypeError(
                f"c has dtype {carrier_c.name}; allowed is that of a and b, {carrier.name}"
            )
        given = _with_axes(c.shape, _missing(a, b))
        if not _broadcasts(given, shape):
            raise ValueError(f"c has shape {given}; allowed is what broadcasts to {shape}")
    noise = NO_NOISE if random_bits is None else _as_noise(random_bits, specs, a, b)
    check_formats(specs, carrier, "a", noise)
    if c is not None:
        specs.forward.check_first_value()
    return Operands(a, b, c, noise)


def expanded(operands: Operands) -> Operands:
    """Return operands of two dimensions at least; c and random bits have the results' shapes."""
    a, b, c, noise = operands
    shapes = _result_shapes(a, b)
    given = (c, *noise)
    c, *bits = (
        None
        if x is None
        else namespace(x).broadcast_to(x.reshape(_with_axes(x.shape, axes)), shape)
        for x, axes, shape in zip(
            given,
            (_missing(a, b), *_missing_of_bits(a, b)),
            (shapes[0], *shapes),
            strict=True,
        )
    )
    left, right = _matrix_shapes(a.shape, b.shape)
    return Operands(a.reshape(left), b.reshape(right), c, Noise(*bits))


def squeezed(result: Array, a: Array, b: Array) -> Array:
    """Return the result of `expanded` operands as that of the operands as they were."""
    rows = result.shape[-2:-1] if a.ndim > 1 else ()
    columns = result.shape[-1:] if b.ndim > 1 else ()
    return result.reshape((*result.shape[:-2], *rows, *columns))


def checked_bits(
    random_bits: RandomBits,
    specs: tuple[MatmulSpec, ...],
    shapes: tuple[Shape, ...],
    operands: tuple[Array, ...],
) -> dict[str, tuple[Array, Shape]]:
    """Return the random bits of the product and of both gradients, each with its result's shape."""
    noise = random_bits if isinstance(random_bits, Mapping) else {"forward": random_bits}
    results = dict(zip(Noise._fields, zip(specs, shapes, strict=True), strict=True))
    if unknown := set(noise) - set(results):
        raise ValueError(
            f"random_bits has keys {sorted(unknown)}; allowed are {', '.join(results)}"
        )
    checked = {}
    for key, (spec, shape) in results.items():
        given = noise.get(key)
        if given is None:
            continue
        bits = as_integers(given, f"random_bits ({key})")
        needed = 0 if spec.output is None else spec.output.num_random_bits
        needed = 32 if spec.has_random_operands else needed
        if 8 * bits.dtype.itemsize < needed:
            raise ValueError(
                f"random_bits ({key}) has dtype {bits.dtype}; allowed are integers of at least the "
                f"{needed} bits that '{spec}' uses"
            )
        checked[key] = beside(bits, operands, as_carrier(operands[0])[1]), shape
    return checked


def _as_noise(random_bits: RandomBits, specs: Specs, a: Array, b: Array) -> Noise:
    found: dict[str, Array] = {}
    axes = dict(zip(Noise._fields, _missing_of_bits(a, b), strict=True))
    given = checked_bits(random_bits, specs.products, _result_shapes(a, b), (a, b))
    for key, (bits, shape) in given.items():
        if not _broadcasts(_with_axes(bits.shape, axes[key]), shape):
            raise ValueError(
                f"random_bits ({key}) has shape {bits.shape}; allowed is what broadcasts to {shape}"
            )
        found[key] = bits
    return Noise(**found)


def _matrix_shapes(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    """Return the shapes of both operands as matrices, or batches of them, that match."""
    if not (a and b):
        raise ValueError(f"shapes are {a} and {b}; allowed are operands of 1 dimension or more")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        raise ValueError(f"shapes {a} and {b} do not match: K is {left[-1]} in a, {right[-2]} in b")
    if left[:-2] and right[:-2]:
        try:
            _batch(left, right)
        except ValueError:
            raise ValueError(f"batch dimensions of {a} and {b} do not broadcast") from None
    return left, right


def _batch(left: Shape, right: Shape) -> Shape:
    if not (left[:-2] and right[:-2]):
        return left[:-2] or right[:-2]
    return np.broadcast_shapes(left[:-2], right[:-2])


def _result_shapes(a: Array, b: Array) -> tuple[Shape, Shape, Shape]:
    """Return the shapes of the product and of both gradients."""
    left, right = _matrix_shapes(a.shape, b.shape)
    batch = _batch(left, right)
    return (
        (*batch, left[-2], right[-1]),
        (*batch, *left[-2:]),
        right if len(right) == 2 else (*batch, *right[-2:]),
    )


def _missing(a: Array, b: Array) -> Shape:
    """Return the axes of the product that vectors lack, in the order in which they are put in."""
    return (-1,) * (b.ndim == 1) + (-2,) * (a.ndim == 1)


def _missing_of_bits(a: Array, b: Array) -> tuple[Shape, Shape, Shape]:
    """Return the same for the product and both gradients."""
    return _missing(a, b), (-2,) * (a.ndim == 1), (-1,) * (b.ndim == 1)


def _with_axes(shape: Shape, axes: Shape) -> Shape:
    """Return a shape with axes of length 1 put in; a single number needs none."""
    for axis in axes if shape else ():
        at = len(shape) + 1 + axis
        shape = (*shape[:at], 1, *shape[at:])
    return shape


def _broadcasts(shape: Shape, to: Shape) -> bool:
    if shape == to:
        return True
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def check_formats(specs: Specs, carrier: Carrier, argument: str, noise: Noise) -> None:
    """Refuse a carrier that lacks numbers of a product or of a gradient, and bits that are missing.

    `argument` is the operand that an error names.
    """
    stochastic = _checked_formats(specs, carrier, argument)
    if stochastic is not None and noise.forward is None:
        raise ValueError(
            f"random_bits is missing: the {stochastic} of '{specs.forward}' is rounded stochastically"
        )


def needs_float32(spec: MatmulSpec) -> bool:
    """Return whether a product is defined for float32 operands alone."""
    is_unit = isinstance(spec.order, FusedBlock | StepBlock)
    return is_unit or spec.scales_sums or spec.rotation is not None


@lru_cache(maxsize=1024)
def _checked_formats(specs: Specs, carrier: Carrier, argument: str) -> str | None:
    """Check that the carrier holds all formats; return which part of the product is stochastic."""
    for spec in dict.fromkeys(specs.products):
        if needs_float32(spec) and carrier is not FLOAT32:
            raise TypeError(f"{argument} has dtype {carrier.name}; allowed for '{spec}' is float32")
        accumulator = None if spec.has_register else spec.accumulator
        for part in (spec.lhs, spec.rhs, spec.product, spec.adder, accumulator, spec.output):
            if part is not None and scaled_format(part.format) is None:
                limits(part, carrier)
    for name in ("output", "accumulator", "lhs", "rhs"):
        part = getattr(specs.forward, name)
        if part is not None and part.mode is RoundingMode.STOCHASTIC:
            return name
    return None
