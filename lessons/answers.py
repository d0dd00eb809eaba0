"""How an answer is read: numbers, fractions, powers, bits with spaces, words; and compared."""

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal
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
_LARGEST_BASE, _LARGEST_POWER, _LONGEST = 1024, 4096, 200
"""What a learner may type; more would take long."""
_HEX = re.compile(r"(?<![\w.])0x([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?[0-9]+))?")
_EXAMPLES = "`0.625`, `5/8`, `2**-3`, `1.5 * 2**4`, `1e-3`, `0x1.4p-1`, `inf`"


def is_bits(answer: Answer) -> bool:
    """Return whether a right answer is a pattern of bits."""
    return isinstance(answer, str) and re.fullmatch(r"[01 ]*[01][01 ]*", answer) is not None


def text_of(given: object) -> str:
    """Return what a learner gave as text, whatever it is."""
    try:
        return str(given)
    except Exception:  # noqa: BLE001 such as an integer of 5000 digits, or lists too deep to print
        return type(given).__name__


def read(given: object, right: Answer) -> Fraction | float | str:
    """Read what a learner gave, as the kind of thing that the right answer is.

    A ValueError says in Markdown what can be written. It never repeats what was given: that text
    could hold marks or tags, which a page would obey.
    """
    if isinstance(right, str):
        word = text_of(given).strip().casefold().removeprefix("0b")
        word = re.sub(r"[\s_]+", "" if is_bits(right) else " ", word)
        if is_bits(right) and re.search("[^01]", word):
            raise ValueError("Your answer has other signs than 0, 1 and spaces.")
        return word
    return number(given)


def number(given: object) -> Fraction | float:
    """Return the exact number; infinities and NaN are floats."""
    try:
        return _number(given)
    except Exception:  # noqa: BLE001 a learner may give anything, which may raise anything
        raise ValueError(f"Your answer is no number. You can write {_EXAMPLES}.") from None


def _number(given: Any) -> Fraction | float:
    if not isinstance(given, str):
        value = getattr(given, "item", lambda: given)()  # scalars of NumPy and JAX
        if isinstance(value, str | Decimal):
            return _number(str(value))
        return value if isinstance(value, float) and not math.isfinite(value) else Fraction(value)
    if len(given) > _LONGEST:
        raise ValueError
    plain = given.strip().casefold().replace("−", "-").replace("^", "**").replace("·", "*")
    plain = plain.replace("×", "*").replace("_", "")
    sign = -1.0 if plain.startswith("-") else 1.0
    if (word := plain.lstrip("+-")) in _SPECIAL:
        return sign * _SPECIAL[word]
    plain = _HEX.sub(_without_hex, plain)
    if re.search(r"[^0-9e.()*/+\s-]", plain):  # Python would warn of some, such as 1if
        raise ValueError
    return _value(ast.parse(plain, mode="eval").body, plain)


def _without_hex(digits: re.Match[str]) -> str:
    """Return a hexadecimal number as an integer times a power of two, in decimal."""
    whole, part, power = digits.groups()
    return f"({int(whole + part, 16)} * 2**{int(power or 0) - 4 * len(part)})"


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant():
            digits = ast.get_source_segment(text, node) or ""
            if abs(int(digits.partition("e")[2] or 0)) > _LARGEST_POWER:
                raise ValueError
            return Fraction(digits)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left, text), _value(right, text)
            size = max(abs(base.numerator), base.denominator)
            if power.denominator != 1 or abs(power) > _LARGEST_POWER or size > _LARGEST_BASE:
                raise ValueError
            return Fraction(base ** int(power))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left, text), _value(right, text))
    raise ValueError


def is_alike(given: Any, right: Answer, within: Fraction | float = 0) -> bool:
    """Return whether a read answer is the right one, up to a relative error of `within`.

    Digits that stand for the same float as the right answer, such as those that Python prints,
    are right too.
    """
    target = read(right, right)
    if isinstance(target, str):
        return bool(given == target)
    if isinstance(target, float):  # infinity or NaN
        return isinstance(given, float) and str(given) == str(target)
    if isinstance(given, float):
        return False
    if abs(given - target) <= Fraction(within) * abs(target):
        return True
    return _nearest(given) == _nearest(target) != 0


def _nearest(value: Fraction) -> float:
    """Return the nearest float; NaN beyond the largest one."""
    try:
        return float(value)
    except OverflowError:
        return math.nan


def shown(answer: Answer) -> str:
    """Return the right answer as a learner may write it."""
    if isinstance(answer, str):
        return answer
    value = number(answer)
    if isinstance(value, float):
        return str(value)
    if _nearest(value) != value:
        return str(value)  # such as 1/3, which has no end in binary
    return str(_nearest(value)).removesuffix(".0")
