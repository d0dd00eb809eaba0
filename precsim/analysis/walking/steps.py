"""What a walk consists of: roundings with their reasons, the terms of a tensor core, steps."""

import json
import math
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from precsim.formats import notebook
from precsim.formats.written import approximate, exact_decimal, exact_text

_MAX_BITS = 4_000
"""Of a quotient that JSON has in full; of a larger one it has the first digits."""


class _Written:
    """Written as a dataclass is, but of a long quotient the first digits."""

    __slots__ = ()

    def __repr__(self) -> str:
        given = [(x.name, getattr(self, x.name)) for x in fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{k}={_brief(v)}' for k, v in given)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rounding(_Written):
    """One rounding, with its reason.

    Parameters
    ----------
    spec : str
        Format and rule.
    exact : Fraction or float
        What was rounded; a float only for -0, infinity and NaN.
    value : float
        What it became.
    bits : str
        The fields of its code; empty where the format has no code for it.
    below, above : float, optional
        The values of the format on both sides, where the exact number is none itself.
    below_bits, above_bits : str
        The fields of their codes.
    position : Fraction, optional
        Where the exact number is between both, from 0 to 1.
    is_tie : bool
        Whether it is half way.
    reason : str
        Why it became this value, in words.
    flags : tuple of str
        The exceptions of IEEE 754 that it signals.

    Examples
    --------
    >>> import precsim as ps
    >>> rounding = ps.walk("1 + 2**-11", "fp16").steps[-1].rounding
    >>> rounding.is_tie, rounding.value, rounding.below, rounding.above
    (True, 1.0, 1.0, 1.0009765625)
    """

    spec: str
    exact: Fraction | float
    value: float
    bits: str
    below: float | None
    above: float | None
    below_bits: str
    above_bits: str
    position: Fraction | None
    is_tie: bool
    reason: str
    flags: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether nothing was lost: the value is the exact one, and the format has it."""
        if "inexact" in self.flags or "invalid" in self.flags:
            return False
        if math.isnan(self.value):
            return bool(self.bits)
        return self.value == self.exact

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it; exact numbers are strings."""
        return {
            "spec": self.spec,
            "exact": _said(self.exact),
            "value": _said(self.value),
            "bits": self.bits or None,
            "below": None if self.below is None else _said(self.below),
            "above": None if self.above is None else _said(self.above),
            "below_bits": self.below_bits or None,
            "above_bits": self.above_bits or None,
            "position": None if self.position is None else approximate(self.position),
            "is_tie": self.is_tie,
            "is_exact": self.is_exact,
            "reason": self.reason,
            "flags": list(self.flags),
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AlignedTerm(_Written):
    """A term of a tensor core's step: what it was, what is kept of it, what is cut off.

    Parameters
    ----------
    text : str
        The product, or "accumulator", with its numbers.
    value : Fraction
        The exact term.
    exponent : int
        By which it is aligned.
    kept : int
        What is left, as a multiple of the unit of its `Alignment`.
    lost : Fraction
        ``value - kept * 2**unit``.

    Examples
    --------
    >>> import precsim as ps
    >>> walk = ps.walk("dot([2**12, 1], [2**12, 0.75], h100:fp16)", "fp32")
    >>> [(term.text, str(term.lost)) for term in walk.steps[-1].alignment.terms]
    [('4096 * 4096', '0'), ('1 * 0.75', '1/4'), ('accumulator 0', '0')]
    """

    text: str
    value: Fraction
    exponent: int
    kept: int
    lost: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How a step of a tensor core adds: terms aligned to the largest exponent, cut off, added.

    Parameters
    ----------
    terms : tuple of AlignedTerm
        Products, or groups of them, and the accumulator.
    largest : int
        The largest exponent among the terms.
    unit : int
        Exponent of the last place that is kept: `largest` less the fraction bits of the machine.
    rounds_down : bool
        Whether terms are rounded down to the last place, not cut off toward zero.

    Examples
    --------
    >>> import precsim as ps
    >>> alignment = ps.walk("dot([2**12, 1], [2**12, 0.75], h100:fp16)", "fp32").steps[-1].alignment
    >>> alignment.largest, alignment.unit
    (24, -1)
    """

    terms: tuple[AlignedTerm, ...]
    largest: int
    unit: int
    rounds_down: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it; exact numbers are strings."""
        terms = [
            {
                "text": term.text,
                "value": _said(term.value),
                "exponent": term.exponent,
                "kept": term.kept,
                "lost": _said(term.lost),
            }
            for term in self.terms
        ]
        found = {"terms": terms, "largest": self.largest, "unit": self.unit}
        return found | {"rounds_down": self.rounds_down}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A number of the input, or one operation, and its rounding.

    Parameters
    ----------
    name : str
        How later steps call the result, for example "r1"; of an input the number as it is written.
    operation : str
        "input", "add", "subtract", "multiply", "divide", "sqrt", "fma", "negate", "exact sum",
        "quantize", "tensor core", "matrix unit", "output" or "scale".
    formula : str
        The operation with the names of its operands.
    numbers : str
        The same with their values.
    rounding : Rounding
        How the exact result became a value of the format.
    alignment : Alignment, optional
        Of a step of a tensor core, or a part of one of a matrix unit.

    Examples
    --------
    >>> import precsim as ps
    >>> step = ps.walk("0.1 + 0.2", "e4m3").steps[-1]
    >>> step.name, step.formula, step.numbers
    ('r1', '0.1 + 0.2', '0.1015625 + 0.203125')
    """

    name: str
    operation: str
    formula: str
    numbers: str
    rounding: Rounding
    alignment: Alignment | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it; exact numbers are strings."""
        return {
            "name": self.name,
            "operation": self.operation,
            "formula": self.formula,
            "numbers": self.numbers,
            "rounding": self.rounding.as_dict(),
            "alignment": None if self.alignment is None else self.alignment.as_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Walk(_Written):
    """An expression, step by step.

    Parameters
    ----------
    expression : str
        As it was given.
    spec : str
        The format, or the product.
    steps : tuple of Step
        Inputs and operations, in the order in which they are computed.
    value : float
        The result.
    exact : Fraction or float
        What the expression is without any rounding, inputs as they are written.
    has_roots : bool
        Whether a root is irrational, so that only the first 128 bits or so of `exact` are right.
    ulps : Fraction, optional
        ``value - exact`` in ulps, at the exact value, of the format of the last step; None where
        one of both is not finite.

    Examples
    --------
    >>> import precsim as ps
    >>> walk = ps.walk("0.1 + 0.2", "fp64")
    >>> walk.value, str(walk.exact), len(walk.steps)
    (0.30000000000000004, '3/10', 3)
    """

    expression: str
    spec: str
    steps: tuple[Step, ...]
    value: float
    exact: Fraction | float
    has_roots: bool
    ulps: Fraction | None

    @property
    def exact_text(self) -> str:
        """The exact value as text; the first digits where it has roots."""
        if self.has_roots and isinstance(self.exact, Fraction):
            return f"about {approximate(self.exact, digits=20)}"
        return exact_text(self.exact)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it; exact numbers are strings."""
        return {
            "expression": self.expression,
            "spec": self.spec,
            "steps": [step.as_dict() for step in self.steps],
            "value": _said(self.value),
            "exact": self.exact_text if self.has_roots else _said(self.exact),
            "ulps": None if self.ulps is None else approximate(self.ulps),
        }

    def to_json(self) -> str:
        """Return all of it as JSON; exact numbers are strings."""
        return json.dumps(self.as_dict(), indent=1)

    def _repr_html_(self) -> str:
        """Return the steps as a table for a notebook."""
        header = ("step", "numbers", "exact", "rounded", "bits", "why")
        rows = [
            (
                step.name if step.name == step.formula else f"{step.name} = {step.formula}",
                step.numbers,
                exact_text(step.rounding.exact),
                exact_text(step.rounding.value),
                step.rounding.bits,
                step.rounding.reason,
            )
            for step in self.steps
        ]
        title = notebook.paragraph(f"{self.expression} in {self.spec}", "title")
        cores = [notebook.table(*_terms(step)) for step in self.steps if step.alignment]
        end = notebook.paragraph(str(self).rpartition("\n")[2])
        return notebook.fragment(title, notebook.table(header, rows), *cores, end)

    def __str__(self) -> str:
        """Return a line for each step, and one for the result."""
        lines = [f"{self.expression} in {self.spec}"]
        for step in self.steps:
            is_input = step.operation == "input"
            given = step.name if is_input else f"{step.name} = {step.formula} = {step.numbers}"
            lines.append(f"{given} -> {exact_text(step.rounding.value)}: {step.rounding.reason}")
        error = "" if self.ulps is None else f"; error {approximate(self.ulps)} ulp"
        without = f"without rounding {self.exact_text}{error}"
        return "\n".join([*lines, f"result {exact_text(self.value)}; {without}"])


def _terms(step: Step) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of the terms of a tensor core's step."""
    assert step.alignment is not None
    unit = f"2**{step.alignment.unit}"
    header = (f"term of {step.name}", "value", "exponent", f"kept, in {unit}", "lost")
    return header, [
        (
            term.text,
            exact_text(term.value),
            str(term.exponent),
            str(term.kept),
            exact_text(term.lost),
        )
        for term in step.alignment.terms
    ]


def _brief(value: object) -> str:
    is_long = isinstance(value, Fraction) and _size(value) > _MAX_BITS
    return exact_text(value) if is_long else repr(value)  # type: ignore[arg-type]


def _size(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _said(value: Fraction | float) -> str:
    """Write a number for JSON: a float in decimal, a fraction as a quotient, with all digits."""
    if isinstance(value, float):
        return exact_decimal(value)
    return str(value) if _size(value) <= _MAX_BITS else exact_text(value)
