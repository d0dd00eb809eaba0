"""How an answer is read: numbers, fractions, powers, bits with spaces, words; and compared."""

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

Answer: TypeAlias = Fraction | float | int | str
"""A right answer. Text of 0, 1 and spaces stands for bits, other text for a word."""

_SPECIAL = {"inf": math.inf, "infinity": math.inf, "∞": math.inf, "nan": math.nan}
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LARGEST_BASE, _LARGEST_POWER, _LONGEST = (
    1024,
    4096,
    200,
)  # what a learner may type; more would take long


def is_bits(answer: Answer) -> bool:
    """Return whether a right answer is a pattern of bits."""
    return isinstance(answer, str) and re.fullmatch(r"[01 ]*[01][01 ]*", answer) is not None


def read(text: object, right: Answer) -> Fraction | float | str:
    """Read what a learner wrote, as the kind of thing that the right answer is.

    A ValueError says what can be written.
    """
    if isinstance(right, str):
        word = str(text).strip().casefold().removeprefix("0b")
        word = re.sub(r"[\s_]+", "" if is_bits(right) else " ", word)
        if is_bits(right) and re.search("[^01]", word):
            raise ValueError(f"{text!r} has other signs than 0, 1 and spaces.")
        return word
    return number(text)


def number(text: object) -> Fraction | float:
    """Return the exact number; infinities and NaN are floats."""
    try:
        return _number(text)
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        examples = "0.625, 5/8, 2**-3, 1.5 * 2**4, 1e-3, inf"
        raise ValueError(f"{text!r} is no number. You can write {examples}.") from None


def _number(text: Any) -> Fraction | float:
    if not isinstance(text, str):
        value = getattr(text, "item", lambda: text)()  # scalars of NumPy and JAX
        return value if isinstance(value, float) and not math.isfinite(value) else Fraction(value)
    if len(text) > _LONGEST:
        raise ValueError(text)
    plain = text.strip().casefold().replace("−", "-").replace("^", "**").replace("·", "*")
    plain = plain.replace("×", "*").replace("_", "")
    sign = -1.0 if plain.startswith("-") else 1.0
    if (word := plain.lstrip("+-")) in _SPECIAL:
        return sign * _SPECIAL[word]
    return _value(ast.parse(plain, mode="eval").body, plain)


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant():
            digits = ast.get_source_segment(text, node) or ""
            if abs(int(digits.partition("e")[2] or 0)) > _LARGEST_POWER:
                raise ValueError(text)
            return Fraction(digits)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left, text), _value(right, text)
            size = max(abs(base.numerator), base.denominator)
            if power.denominator != 1 or abs(power) > _LARGEST_POWER or size > _LARGEST_BASE:
                raise ValueError(text)
            return Fraction(base ** int(power))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left, text), _value(right, text))
    raise ValueError(text)


def is_alike(given: Any, right: Answer, within: Fraction | float = 0) -> bool:
    """Return whether a read answer is the right one, up to a relative error of `within`."""
    target = read(right, right)
    if isinstance(target, str):
        return bool(given == target)
    if not math.isfinite(target):
        return given == target or (math.isnan(given) and math.isnan(target))
    if not math.isfinite(given):
        return False
    return bool(abs(given - Fraction(target)) <= Fraction(within) * abs(Fraction(target)))


def shown(answer: Answer) -> str:
    """Return the right answer as a learner may write it."""
    if isinstance(answer, str):
        return answer
    value = number(answer)
    if isinstance(value, float):
        return str(value)
    if value.denominator & (value.denominator - 1):
        return str(value)  # such as 1/3, which has no end in binary
    return f"{float(value):.17g}"
