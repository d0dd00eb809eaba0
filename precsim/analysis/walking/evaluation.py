"""Evaluates an expression in a format, and writes down every rounding."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

from precsim.analysis.walking.grammar import Dot, Negation, Node, Number, Operation, Sum
from precsim.analysis.walking.orders import Additions, ordered
from precsim.analysis.walking.reasons import explain_rounding
from precsim.analysis.walking.steps import Alignment, Rounding, Step
from precsim.arithmetic.oracle import Exact, unrounded
from precsim.arithmetic.sums.order import Exact as ExactOrder
from precsim.formats.reals import Real, is_infinite, is_nan
from precsim.formats.written import exact_text
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import Flags
from precsim.rounding.spec import RoundingSpec
from precsim.rounding.threefry import Word, bits_at

QUANTIZE = "quantize"
"""The operation of a step that shows how a number becomes an element of a block."""
_MAX_BITS = 200_000
"""Of an exact value; a larger one is refused."""
_FORMULAS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "sqrt": "sqrt({})",
    "fma": "{} * {} + {}",
}


@dataclass(frozen=True, slots=True)
class Walked:
    """A number on the way: what steps call it, its value, and what it is without any rounding."""

    name: str
    value: float
    exact: Real


ZERO = Walked("0", 0.0, 0.0)
DotWalk = Callable[["Evaluation", Dot], Walked]


@dataclass(slots=True)
class Evaluation:
    """The state of a walk: what is written down so far, and the names that are taken.

    Parameters
    ----------
    spec : RoundingSpec
        Format and rule of every operation outside `dot`.
    dot : callable
        What walks through a `Dot`.
    seed : int
        Of the random bits of mode sr.
    """

    spec: RoundingSpec
    dot: DotWalk
    seed: int = 0
    steps: list[Step] = field(default_factory=list)
    has_roots: bool = False
    """Whether an exact value is an irrational root."""
    last: RoundingSpec = field(init=False)
    """Format and rule of the last step."""
    _inputs: dict[tuple[str, RoundingSpec], Walked] = field(default_factory=dict)
    _names: Counter[str] = field(default_factory=Counter)

    def node(self, node: Node) -> Walked:
        """Evaluate a part of the expression."""
        match node:
            case Number():
                return self.input(node, self.spec)
            case Negation(operand):
                return self.negated(self.node(operand))
            case Operation(name, operands):
                return self.apply(name, *map(self.node, operands))
            case Sum(order, terms):
                walked = [self.node(term) for term in terms]
                if isinstance(order, ExactOrder):
                    return self.exact_sum(walked)
                use = Additions(ZERO, partial(self._fold, "add"), partial(self._fold, "subtract"))
                return ordered(walked, order, use)
            case Dot():
                return self.dot(self, node)

    def input(self, number: Number, spec: RoundingSpec) -> Walked:
        """Round a number of the expression, the first time that it is met."""
        key = number.text, spec
        if key not in self._inputs:
            rounding = self.round(Exact(number.value), spec)
            self.write("input", number.text, number.text, exact_text(number.value), rounding, spec)
            self._inputs[key] = Walked(number.text, rounding.value, number.value)
        return self._inputs[key]

    def apply(
        self, operation: str, *operands: Walked, letter: str = "r", spec: RoundingSpec | None = None
    ) -> Walked:
        """Compute one operation with one rounding."""
        spec = spec or self.spec
        found = unrounded(operation, *(x.value for x in operands), spec=spec)
        rounding = self.round(found, spec)
        formula = _FORMULAS[operation]
        name = self.name(letter)
        self.write(
            operation,
            name,
            formula.format(*_grouped([x.name for x in operands])),
            formula.format(*_grouped([exact_text(x.value) for x in operands])),
            rounding,
            spec,
        )
        ideal = unrounded(operation, *(x.exact for x in operands), spec=spec).value
        if operation == "sqrt" and isinstance(ideal, Fraction):
            self.has_roots |= ideal * ideal != operands[0].exact
        return Walked(name, rounding.value, bounded(ideal))

    def exact_sum(self, terms: list[Walked]) -> Walked:
        """Add without rounding, then round once."""
        zero = -0.0 if self.spec.mode is RoundingMode.TOWARD_NEGATIVE else 0.0  # as `accumulate`
        total = exact_total([x.value for x in terms]) or zero
        rounding = self.round(Exact(total), self.spec)
        name = self.name("s")
        formula = " + ".join(_grouped([x.name for x in terms]))
        numbers = " + ".join(_grouped([exact_text(x.value) for x in terms]))
        self.write("exact sum", name, formula, numbers, rounding, self.spec)
        return Walked(name, rounding.value, bounded(exact_total([x.exact for x in terms]) or zero))

    def _fold(self, operation: str, x: Walked, y: Walked, letter: str) -> Walked:
        """Add or subtract; the zero that a sum begins with is left out where it changes nothing."""
        if x is ZERO or y is ZERO:
            other = x if y is ZERO else y
            value = float(unrounded(operation, x.value, y.value, spec=self.spec).value)
            if _is_same(value, other.value):
                ideal = unrounded(operation, x.exact, y.exact, spec=self.spec).value
                return Walked(other.name, value, ideal)
            if _is_same(value, -other.value) and other.value:
                return self.negated(other)
        return self.apply(operation, x, y, letter=letter)  # also 0 + -0, which is 0

    def negated(self, x: Walked) -> Walked:
        """Change the sign; that needs a rounding only where the format has no such value."""
        value = Fraction(-x.value) if math.isfinite(x.value) and x.value else -x.value
        rounding = self.round(Exact(value), self.spec)
        if rounding.is_exact:
            return Walked(f"-{x.name}", rounding.value, -x.exact)
        name = self.name("r")
        numbers = f"-({exact_text(x.value)})"
        self.write("negate", name, f"-({x.name})", numbers, rounding, self.spec)
        return Walked(name, rounding.value, -x.exact)

    def name(self, letter: str) -> str:
        """Return a name that no step has."""
        self._names[letter] += 1
        return f"{letter}{self._names[letter]}"

    def round(self, exact: Exact, spec: RoundingSpec, flags: Flags = Flags.NONE) -> Rounding:
        """Round, with random bits of the place in the walk."""
        return explain_rounding(exact.value, spec, self.draw(spec), exact.flags | flags)

    def draw(self, spec: RoundingSpec) -> int:
        """Return the random bits of the next step."""
        if spec.mode is not RoundingMode.STOCHASTIC:
            return 0
        place = sum(step.operation != QUANTIZE for step in self.steps)  # those are not random
        return int(bits_at(Word(self.seed), place))

    def write(
        self,
        operation: str,
        name: str,
        formula: str,
        numbers: str,
        rounding: Rounding,
        spec: RoundingSpec,
        alignment: Alignment | None = None,
    ) -> None:
        """Write a step down."""
        self.last = spec
        self.steps.append(
            Step(
                name=name,
                operation=operation,
                formula=formula,
                numbers=numbers,
                rounding=rounding,
                alignment=alignment,
            )
        )


def exact_total(terms: Sequence[Real]) -> Real:
    """Return the exact sum: NaN for NaN and for infinities of both signs; a sum of zero is +0."""
    special = [float(x) for x in terms if is_nan(x) or is_infinite(x)]
    if special:
        return sum(special)
    return sum((Fraction(x) for x in terms), Fraction(0)) or 0.0


def bounded(exact: Real) -> Real:
    """Return an exact value; refuse one whose digits would fill the memory."""
    if isinstance(exact, Fraction):
        bits = exact.numerator.bit_length() + exact.denominator.bit_length()
        if bits > _MAX_BITS:
            raise ValueError(
                f"expression has an exact value of {bits} bits; allowed are {_MAX_BITS}"
            )
    return exact


def _is_same(x: float, y: float) -> bool:
    """Return whether two numbers are one: NaN is, zeros of two signs are not."""
    return repr(x) == repr(y)


def _grouped(texts: list[str]) -> list[str]:
    """Put negative numbers behind an operator into parentheses."""
    first, *others = texts
    return [first, *(f"({text})" if text.startswith("-") else text for text in others)]
