"""The steps of CPUs' dot-product units, for every rounding: integers, NumPy and JAX.

Operands have K first.

Sources: see `matrix_units`.
"""

from typing import Any

from precsim._arrays import Array, bitcast, common_shape, entry, namespace
from precsim._loops import repeat
from precsim.arithmetic.exact import BitsFunction, add_bits, dot_bits, multiply_bits
from precsim.formats.carrier import FLOAT32
from precsim.products.orders.multiply_add import operations
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import DescendingBlock, EvenOddBlock
from precsim.products.tensor_core.plan import Step
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.spec import RoundingSpec

_U = FLOAT32.uint_dtype
_FLOAT = FLOAT32.float_dtype


def descending_step(x: Array, y: Array, block: DescendingBlock, spec: MatmulSpec) -> Step:
    """Return the step of multiply-adds from the last product to the first."""
    multiply_add = operations(spec).multiply_add
    length = block.length

    def step(total: Array, n: Any) -> Array:
        def body(k: Any, value: Array) -> Array:
            at = n * length + (length - 1 - k)
            return multiply_add(value, entry(x, at), entry(y, at))

        return bitcast(repeat(length, body, bitcast(total, _FLOAT)), _U)

    return step


def even_odd_step(x: Array, y: Array, block: EvenOddBlock, spec: MatmulSpec) -> Step:
    """Return the step of two chains from +0, whose sum is added to the total."""
    multiply_add, _, plus, _ = operations(spec)

    def step(total: Array, n: Any) -> Array:
        def body(k: Any, chains: tuple[Array, Array]) -> tuple[Array, Array]:
            at = n * block.length + 2 * k
            even = multiply_add(chains[0], entry(x, at), entry(y, at))
            return even, multiply_add(chains[1], entry(x, at + 1), entry(y, at + 1))

        value = bitcast(total, _FLOAT)
        zero = namespace(value).zeros_like(value)
        even, odd = repeat(block.length // 2, body, (zero, zero))
        return bitcast(plus(value, plus(even, odd, (0, 0)), (0, 0)), _U)

    return step


def dot_step(x: Array, y: Array, spec: MatmulSpec) -> Step:
    """Return the step that adds two products, then their sum to the total."""
    x, y = (bitcast(part, _U) for part in (x, y))

    def step(total: Array, n: Any) -> Array:
        first, second = ((entry(x, at), entry(y, at)) for at in (2 * n, 2 * n + 1))
        if spec.product is None:
            both = _rounded(dot_bits, spec.accumulator, *first, *second)
        else:
            products = [_rounded(multiply_bits, spec.product, *pair) for pair in (first, second)]
            both = _rounded(add_bits, spec.accumulator, *products)
        return _rounded(add_bits, spec.accumulator, total, both)

    return step


def _rounded(function: BitsFunction, spec: RoundingSpec, *patterns: Array) -> Array:
    """Round the exact result of an operation; in mode rto overflow gives infinity."""
    xp = namespace(*patterns)
    shape = common_shape(*patterns)
    bits = [xp.broadcast_to(x, shape).reshape(-1) for x in patterns]
    exact = function(*bits, FLOAT32, spec.mode is RoundingMode.TOWARD_NEGATIVE)
    result = round_bits(exact.bits, spec, FLOAT32, tail=exact.tail, rest=exact.rest)
    if spec.mode is RoundingMode.TO_ODD and spec.overflow is OverflowMode.INFINITY:
        # Ones without end stand for what lies beyond the largest value. A sum of two numbers of the
        # format, or of two products, has no such string of ones itself.
        sign = exact.bits & _U(FLOAT32.sign_bit)
        is_largest = (exact.bits ^ sign) == _U(FLOAT32.infinity - 1)
        is_beyond = is_largest & ((exact.tail & exact.rest) == ~_U(0))
        result = xp.where(is_beyond, _U(FLOAT32.infinity) | sign, result)
    return result.reshape(shape)
