"""What `identify` returns: a spec with its evidence, or the nearest one and a contradiction."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from precsim.products.identify.black_box import Answer, BlackBox, differ, modelled, share
from precsim.products.identify.facts import Finding
from precsim.products.specs.spec import MatmulSpec

_DECIMAL = 2.0**53
"""Results from here on are hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contradiction:
    """One result that a spec does not have.

    Parameters
    ----------
    a, b : ndarray of float32, shape (K,)
        The operands: a row of the left one and a column of the right one.
    row, column : int
        The place of the result, from 0 on.
    result : float
        What the product returned.
    expected : float
        What the nearest spec returns.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> one = np.ones(1, np.float32)
    >>> print(ps.kernels.Contradiction(a=one, b=one, row=0, column=3, result=2.0, expected=1.0))
    2 instead of 1 in row 0, column 3
    """

    a: np.ndarray
    b: np.ndarray
    row: int
    column: int
    result: float
    expected: float

    def __str__(self) -> str:
        """Return both results, exactly, their place, and what follows if one is infinite.

        Of operands that are integers the results are decimal, or else hexadecimal.
        """
        operands = np.concatenate([self.a, self.b])
        decimal = bool((operands == np.rint(operands)).all())
        result, expected = (_exactly(x, decimal) for x in (self.result, self.expected))
        both = f"{result} instead of {expected} in row {self.row}, column {self.column}"
        match math.isfinite(self.result), math.isfinite(self.expected):
            case True, True:
                return both
            case False, True if math.isnan(self.result):
                return both
            case True, False:
                return f"{both}: it does not overflow there"
            case False, True:
                return f"{both}: it overflows there"
            case _:
                return f"{both}: both overflow, and it treats infinity otherwise"


def _exactly(x: float, decimal: bool) -> str:
    if math.isnan(x):
        return "NaN"
    if decimal and abs(x) < _DECIMAL:
        return f"{x:.0f}" if x.is_integer() else repr(x)
    return x.hex() if math.isfinite(x) else f"{'-' if x < 0 else ''}infinity"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identified:
    """The arithmetic of an unknown product.

    Parameters
    ----------
    spec : MatmulSpec or None
        A spec that has all bits of all answers; None if none was found.
    equals : tuple of MatmulSpec
        Further specs that have all these bits: no answer told them apart.
    nearest : MatmulSpec
        `spec`, or else the one with the largest share of equal results.
    share : float
        Share of the results whose bits `nearest` has, 0 to 1.
    contradiction : Contradiction or None
        The first result that `nearest` does not have.
    queries : int
        How often the product was run.
    compared : int
        Results of fresh products that were compared with `spec` after it was found.
    findings : tuple of Finding
        The probes, in the order in which they were asked.

    Examples
    --------
    >>> import precsim as ps
    >>> def product(a, b):
    ...     return ps.matmul(a, b, "h100:fp16", backend="reference")
    >>> found = ps.kernels.identify(product, formats="fp16", shape=(16, 16, 64))
    >>> str(found.spec), found.contradiction
    ('h100:fp16', None)
    """

    spec: MatmulSpec | None
    equals: tuple[MatmulSpec, ...]
    nearest: MatmulSpec
    share: float
    contradiction: Contradiction | None
    queries: int
    compared: int
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Return a report of some lines."""
        lines = [
            f"{x.probe}: {x.answer}" + ("" if x.decided == x.answer else f" -> {x.decided}")
            for x in self.findings
        ]
        if self.spec is not None:
            lines.append(f"spec: {self.spec}")
            lines += [f"not told apart: {spec}" for spec in self.equals]
            lines.append(f"{self.compared} fresh results have its bits; {self.queries} queries")
        else:
            lines.append(f"no spec; nearest: {self.nearest}, share {self.share:.4f}")
            lines.append(f"contradicted by {self.contradiction}; {self.queries} queries")
        return "\n".join(lines)


def recovered(
    box: BlackBox, specs: list[MatmulSpec], fresh: list[Answer], findings: list[Finding]
) -> Identified:
    """Return specs that have all bits of all answers, the one to be returned first."""
    return Identified(
        spec=specs[0],
        equals=tuple(specs[1:]),
        nearest=specs[0],
        share=1.0,
        contradiction=None,
        queries=len(box.answers),
        compared=sum(x.results.size for x in fresh),
        findings=(*findings, Finding("fresh products", "equal", str(specs[0]))),
    )


def contradicted(box: BlackBox, tried: list[MatmulSpec], findings: list[Finding]) -> Identified:
    """Return the nearest spec, and the first result that it does not have, a finite one if any."""
    best, spec = max(((share(spec, box.answers), spec) for spec in tried), key=lambda pair: pair[0])
    found = [*_contradictions(spec, box.answers)]
    finite = (x for x in found if np.isfinite([x.result, x.expected]).all())
    return Identified(
        spec=None,
        equals=(),
        nearest=spec,
        share=best,
        contradiction=next(finite, found[0] if found else None),
        queries=len(box.answers),
        compared=0,
        findings=tuple(findings),
    )


def _contradictions(spec: MatmulSpec, answers: list[Answer]) -> Iterator[Contradiction]:
    for a, b, results in answers:
        model = modelled(spec, a, b)
        for row, column in np.argwhere(differ(model, results)):
            yield Contradiction(
                a=a[row],
                b=b[:, column],
                row=int(row),
                column=int(column),
                result=float(results[row, column]),
                expected=float(model[row, column]),
            )
