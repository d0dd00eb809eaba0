"""The expressions that can be walked through: numbers, + - * /, and a few functions.

    sum     = product { (+ | -) product }
    product = signed { (* | /) signed }
    signed  = { + | - } value
    value   = number [ ** integer ] | ( sum ) | sqrt(sum) | fma(sum, sum, sum)
            | ORDER(list) | dot(list, list [, PRODUCT] [, c=sum])
    list    = [ sum { , sum } ]

Nothing is evaluated by Python itself; length, depth and the number of operations are limited.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn, TypeAlias

from precsim.arithmetic.sums.order import Order, parse_order
from precsim.formats.arguments import nearest, shown
from precsim.formats.written import NUMBER, parse_number

MAX_LENGTH = 2_000
MAX_DEPTH = 30
MAX_NODES = 400
"""Numbers and operations."""

_NUMBER = re.compile(
    rf"inf(?:inity)?|nan|(?:{NUMBER})(?:\s*(?:\*\*|\^)\s*[+-]?\d+)?", re.IGNORECASE | re.ASCII
)
_NAME = re.compile(r"[a-z_][a-z_0-9]*", re.IGNORECASE | re.ASCII)
_SPACE = re.compile(r"\s*")
_ORDERS = {"sum": "sequential", "exact": "exact"}
_FUNCTIONS = {"sqrt": 1, "fma": 3}
_NAMES = (*_FUNCTIONS, "dot", "sum", "pairwise", "kahan", "two_sum", "exact", "blockedN")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written; a float only for -0, infinity and NaN."""

    text: str
    value: Fraction | float


@dataclass(frozen=True, slots=True)
class Negation:
    """The other sign, which is exact."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one rounding; `name` is that of `compute_exact`."""

    name: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum in a stated order."""

    order: Order
    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """A sum of products; `product` is the text of a `MatmulSpec`, empty if there is none."""

    a: tuple["Node", ...]
    b: tuple["Node", ...]
    product: str
    c: "Node | None"


Node: TypeAlias = Number | Negation | Operation | Sum | Dot


def parse(text: str) -> Node:
    """Read an expression.

    Parameters
    ----------
    text : str
        For example ``0.1 + 0.2`` or ``kahan([1, 2**-11, 2**-11])``.

    Returns
    -------
    Node
        The expression as a tree.

    Raises
    ------
    ValueError
        If the text is not an expression, or too long, too deep, of too many operations.

    Examples
    --------
    >>> parse("1 - 2**-3")
    Operation(name='subtract', operands=(Number(text='1', value=Fraction(1, 1)), \
Number(text='2**-3', value=Fraction(1, 8))))
    """
    if not isinstance(text, str):
        raise TypeError(f"expression is {shown(text)}; allowed are texts, for example '0.1 + 0.2'")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expression has {len(text)} characters; allowed are {MAX_LENGTH}")
    reader = _Reader(text)
    node = reader.sum()
    if reader.next():
        reader.refuse("an operator + - * /, or the end")
    return node


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.nodes = 0

    def next(self) -> str:
        """Return the next character that is no space; empty at the end."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def take(self, *marks: str) -> str:
        """Go past the first of the marks that stands here, and return it; else empty."""
        self.next()
        found = next((mark for mark in marks if self.text.startswith(mark, self.at)), "")
        self.at += len(found)
        return found

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            self.refuse(repr(mark))

    def refuse(self, allowed: str) -> NoReturn:
        """Say where the text stops being an expression."""
        found = self.next()
        what = shown(self.text[self.at :]) if found else "the end"
        raise ValueError(
            f"expression has {what} at character {self.at + 1}; allowed there are {allowed}"
        )

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ValueError(
                f"expression has more than {MAX_NODES} numbers and operations; allowed are "
                f"{MAX_NODES}"
            )

    def nested(self, read: Callable[[], Node]) -> Node:
        """Read one level deeper."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(
                f"expression is nested deeper than {MAX_DEPTH} levels; allowed are that"
            )
        node = read()
        self.depth -= 1
        return node

    def sum(self) -> Node:
        node = self.product()
        while mark := self.take("+", "-"):
            self.count()
            name = "add" if mark == "+" else "subtract"
            node = Operation(name, (node, self.product()))
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            self.next()
            if self.text.startswith("**", self.at):
                self.refuse("+ - * /, as powers are for numbers with integer exponents (2**-24)")
            mark = self.take("*", "/")
            if not mark:
                return node
            self.count()
            node = Operation("multiply" if mark == "*" else "divide", (node, self.signed()))

    def signed(self) -> Node:
        is_negative = False
        while mark := self.take("+", "-"):
            self.count()
            is_negative ^= mark == "-"
        node = self.value()
        if not is_negative:
            return node
        if not isinstance(node, Number):
            return Negation(node)
        value = -node.value if node.value else -0.0
        return Number(f"-{node.text}", value)

    def value(self) -> Node:
        self.count()
        if self.take("("):
            node = self.nested(self.sum)
            self.expect(")")
            return node
        name = _NAME.match(self.text, self.at)
        if name is not None and self.text[name.end() :].lstrip().startswith("("):
            self.at = name.end()
            self.expect("(")
            node = self.nested(lambda: self.call(name[0].lower(), name.start()))
            self.expect(")")
            return node
        number = _NUMBER.match(self.text, self.at)
        if number is None or (name is not None and name.end() > number.end()):
            self.refuse(
                "a number (0.1, 0x1.8p-3, 2**-24, pi, inf), '(', or a function: "
                + ", ".join(_NAMES)
            )
        self.at = number.end()
        text = re.sub(r"\s", "", number[0])
        return Number(text, parse_number(text))

    def call(self, name: str, start: int) -> Node:
        if name in _FUNCTIONS:
            operands = [self.sum()]
            for _ in range(1, _FUNCTIONS[name]):
                self.expect(",")
                operands.append(self.sum())
            return Operation(name, tuple(operands))
        if name == "dot":
            return self.dot()
        if name in _NAMES or re.fullmatch(r"blocked\d{1,4}", name):
            return Sum(parse_order(_ORDERS.get(name, name)), self.list())
        near = nearest(name, _NAMES)
        raise ValueError(
            f"expression has the function {shown(name)} at character {start + 1}; allowed are "
            + ", ".join(_NAMES)
            + (f"; did you mean {near!r}?" if near else "")
        )

    def list(self) -> tuple[Node, ...]:
        self.expect("[")
        terms = [self.nested(self.sum)]
        while self.take(","):
            terms.append(self.nested(self.sum))
        self.expect("]")
        return tuple(terms)

    def dot(self) -> Node:
        a = self.list()
        self.expect(",")
        b = self.list()
        if len(a) != len(b):
            raise ValueError(
                f"dot has lists of {len(a)} and {len(b)} numbers; allowed is one length for both"
            )
        product, c = "", None
        while self.take(","):
            here = self.next() and self.at
            if c is None and re.compile(r"c\s*=").match(self.text, self.at):
                self.take("c")
                self.take("=")
                c = self.nested(self.sum)
            elif not product and c is None:
                product = self.spec()
            else:
                self.at = here or self.at
                self.refuse("')'")
        return Dot(a, b, product, c)

    def spec(self) -> str:
        """Read up to the comma or parenthesis that ends the text of a product."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            mark = self.text[self.at]
            if depth == 0 and mark in ",)":
                break
            depth += (mark in "([") - (mark in ")]")
            self.at += 1
        if not (text := self.text[start : self.at].strip()):
            self.refuse("a product such as h100:fp16, or c=NUMBER")
        return text
