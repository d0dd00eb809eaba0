"""Fixed point in two words, and polynomials in it: what elementary functions are computed from."""

from typing import NamedTuple

from precsim._arrays import Array, namespace
from precsim.arithmetic.elementary.taylor import Table
from precsim.formats.carrier import Carrier, select, shift_left
from precsim.rounding.kernel.wide import Wide, multiply_words, shift_right_jam


class Words(NamedTuple):
    """A fraction in [0, 1), or modulo 1, of two words."""

    hi: Array
    lo: Array


def constant(value: int, carrier: Carrier) -> Words:
    """Return an integer as two words."""
    low = (1 << carrier.width) - 1
    return Words(carrier.uint(value >> carrier.width), carrier.uint(value & low))


def choose(condition: Array, yes: Words, no: Words) -> Words:
    """Select both words."""
    return Words(select(condition, yes.hi, no.hi), select(condition, yes.lo, no.lo))


def add(x: Words, y: Words, carrier: Carrier) -> Words:
    """Sum modulo 1."""
    lo = x.lo + y.lo
    return Words(x.hi + y.hi + (lo < y.lo).astype(carrier.uint_dtype), lo)


def subtract(x: Words, y: Words, carrier: Carrier) -> Words:
    """Difference modulo 1."""
    return Words(x.hi - y.hi - (x.lo < y.lo).astype(carrier.uint_dtype), x.lo - y.lo)


def multiply(x: Words, y: Words, carrier: Carrier) -> Words:
    """Product of fractions, too small by less than three units of the last place."""
    hi, lo = multiply_words(x.hi, y.hi, carrier)
    first = multiply_words(x.hi, y.lo, carrier)[0]
    second = multiply_words(x.lo, y.hi, carrier)[0]
    partial = lo + first
    hi = hi + (partial < first).astype(carrier.uint_dtype)
    lo = partial + second
    return Words(hi + (lo < second).astype(carrier.uint_dtype), lo)


def multiply_signed(x: Words, y: Words, carrier: Carrier) -> Words:
    """Product of a signed fraction (two's complement) and an unsigned one, as `multiply`."""
    zero = carrier.uint(0)
    negative = x.hi >= carrier.uint(carrier.sign_bit)
    excess = Words(select(negative, y.hi, zero), select(negative, y.lo, zero))
    return subtract(multiply(x, y, carrier), excess, carrier)


def reciprocal(x: Words, carrier: Carrier) -> Words:
    """Return 1 / (2 * x) for fractions from 1/2 on; relative error: 6 units of the last place.

    Newton's iteration, from the quotient of half words: each step doubles the number of good bits.
    """
    u, half = carrier.uint, carrier.width // 2
    y = Words((~u(0) // (x.hi >> u(half))) << u(half - 1), x.hi & u(0))
    for _ in range(3):
        product = multiply(x, y, carrier)
        missing = subtract(constant(0, carrier), add(product, product, carrier), carrier)
        y = add(y, multiply_signed(missing, y, carrier), carrier)
    # Next to x = 1/2 the result may have reached 1, which is 0 here.
    ones = Words(~u(0), ~u(0))
    return choose(y.hi < u(carrier.sign_bit), ones, y)


def scaled_fraction(x: Wide, integer_bits: int, carrier: Carrier) -> Words:
    """Return ``abs(x) / 2**integer_bits`` modulo 1; bits below the last are lost."""
    xp = namespace(x.hi)
    i = carrier.signed
    right = i(integer_bits - 1) - x.exponent
    hi = shift_left(x.hi, -right, carrier)
    return Words(*shift_right_jam(hi, hi & carrier.uint(0), xp.maximum(right, i(0)), carrier))


def evaluate(table: Table, u: Words, carrier: Carrier) -> Words:
    """Evaluate a table's function at a fraction; beyond the table, its last polynomial."""
    xp = namespace(u.hi)
    c = carrier.uint
    rest = carrier.width - table.index_bits
    cell = (u.hi >> c(rest)).astype(carrier.int_dtype)
    v = Words(
        (u.hi << c(table.index_bits)) | (u.lo >> c(rest)),
        u.lo << c(table.index_bits),
    )

    def coefficient(n: int) -> Words:
        return Words(*(xp.take(xp.asarray(part[n]), cell, mode="clip") for part in table[:2]))

    degree = len(table.hi) - 1
    total = coefficient(degree)
    for n in range(degree - 1, 0, -1):
        total = add(multiply_signed(total, v, carrier), coefficient(n), carrier)
    total = multiply_signed(total, v, carrier)
    return add(coefficient(0), _shift_signed(total, table.shift, carrier), carrier)


def _shift_signed(x: Words, count: int, carrier: Carrier) -> Words:
    """Shift two's complement right by a constant."""
    u = carrier.uint
    lo = (x.lo >> u(count)) | (x.hi << u(carrier.width - count))
    shifted = (x.hi ^ u(carrier.sign_bit)) >> u(count)
    return Words(shifted - u(carrier.sign_bit >> count), lo)
