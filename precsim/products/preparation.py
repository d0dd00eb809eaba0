"""What happens to the operands of a product before they are rounded: rotation, and random bits."""

from dataclasses import replace

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim.arithmetic.portable import add, flush, multiply, subtract
from precsim.formats.carrier import FLOAT32
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.threefry import threefry2x32

_SIGNS = 0b1101011111101000
"""Bit n is set where element n of each 16 changes its sign: the signs of TransformerEngine."""


def rotated_operands(a: Array, b: Array, spec: MatmulSpec) -> tuple[Array, Array, MatmulSpec]:
    """Return operands in another orthogonal basis along K, if the spec says so; and the spec left.

    Shapes (..., M, K) and (..., K, N). K is filled up with zeros to a multiple of 16.
    """
    if spec.rotation is None:
        return a, b, spec
    xp = namespace(a, b)
    left, right = rotated(a), xp.swapaxes(rotated(xp.swapaxes(b, -1, -2)), -1, -2)
    return left, right, replace(spec, rotation=None)


def rotated(x: Array) -> Array:
    """Return each 16 elements in a row times a diagonal of signs and a Hadamard matrix, over 4.

    The matrix is applied in four stages of float32 additions, each result rounded to nearest, and 0
    below 2**-125: elements 1 apart, then 2, 4 and 8 apart.
    """
    xp = namespace(x)
    size = 16
    x = xp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % size)])
    groups = bitcast(flush(x.reshape(*x.shape[:-1], x.shape[-1] // size, size)), np.uint32)
    changes = [FLOAT32.sign_bit * (_SIGNS >> n & 1) for n in range(size)]
    groups = groups ^ np.asarray(changes, np.uint32)
    y = bitcast(groups, np.float32)
    distance = 1
    while distance < size:
        pairs = y.reshape(*y.shape[:-1], size // (2 * distance), 2, distance)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        y = xp.stack([add(low, high), subtract(low, high)], axis=-2).reshape(y.shape)
        distance *= 2
    return multiply(y, np.float32(0.25)).reshape(x.shape)


def operand_bits(
    random_bits: Array | None, a: Array, b: Array, spec: MatmulSpec
) -> tuple[Array | None, Array | None]:
    """Return the random bits of operands that are rounded stochastically, None for the others.

    They are the first words of Threefry-2x32: key, the first and the last of the product's random
    bits; counter, the index of the element in the operand, and 0 for the left one, 1 for the right.
    """
    left, right = (
        _words(random_bits, x, side)
        if part is not None and part.mode is RoundingMode.STOCHASTIC
        else None
        for side, (x, part) in enumerate(((a, spec.lhs), (b, spec.rhs)))
    )
    return left, right


def _words(random_bits: Array | None, x: Array, side: int) -> Array:
    if random_bits is None:
        raise ValueError(
            "random_bits is missing: an operand is rounded stochastically; allowed are integers of "
            "the shape of the product"
        )
    xp = namespace(x, random_bits)
    seeds = random_bits.reshape(-1).astype(np.uint32)
    if not seeds.size:
        return xp.zeros(x.shape, np.uint32)
    index = xp.arange(x.size, dtype=np.uint32)
    words: Array = threefry2x32((seeds[0], seeds[-1]), (index, np.uint32(side)))[0]
    return words.reshape(x.shape)
