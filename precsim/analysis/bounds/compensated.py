"""Kahan's summation in the body of a loop: a correction that takes back the error of a sum.

The correction is 0 in exact arithmetic, and here the error of the last sum. Bounds of both, taken
apart, would grow with each turn, as if the two errors did not cancel.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from precsim.transform import jaxprs

_SIGNS = {"add": (1, 1), "sub": (1, -1)}


class Compensated(NamedTuple):
    """A sum with its correction: ``y = x - c; t = s + y; c = (t - s) - y``, in any signs.

    With the bound of ``s - c`` for that of c, rules for single operations hold, if the errors of
    some operands do not count: that of s in ``s + y``, and those of both in ``t - s``. For then
    bounds of y and t are those of s + x, which is ``s - c + y``.
    """

    total: int
    """Number of the sum among what the loop carries."""
    correction: int
    """Number of the correction."""
    cancelled: dict[int, tuple[int, ...]]
    """Operands whose errors do not count, by the identity of the equation."""


def compensated(program: Any, constants: int, carried: int) -> list[Compensated]:
    """Return the compensated sums in the body of a `scan`."""
    jaxpr = jaxprs.opened(program)
    makers = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}
    uses = Counter(
        atom
        for eqn in [*jaxpr.eqns, jaxpr.outvars]
        for atom in getattr(eqn, "invars", eqn)
        if jaxprs.is_variable(atom)
    )
    before = list(jaxpr.invars[constants : constants + carried])
    after = list(jaxpr.outvars[:carried])
    found = []
    for n, total in enumerate(after):
        for m, last in enumerate(after):
            terms = _signed(makers.get(last)) if n != m else None
            each = terms and _matched(makers, uses, terms, before[n], before[m], total)
            if each and uses[last] == 1:
                found.append(Compensated(n, m, each))
    return found


def _signed(eqn: Any) -> dict[Any, int] | None:
    """Return the operands of a sum or difference with their signs."""
    if eqn is None or eqn.primitive.name not in _SIGNS:
        return None
    shapes = {atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)}
    if not all(map(jaxprs.is_variable, eqn.invars)) or len(shapes) > 1:
        return None
    terms = dict(zip(eqn.invars, _SIGNS[eqn.primitive.name], strict=True))
    return terms if len(terms) == 2 else None


def _matched(
    makers: dict[Any, Any],
    uses: Counter[Any],
    terms: dict[Any, int],
    old: Any,
    lost: Any,
    total: Any,
) -> dict[int, tuple[int, ...]] | None:
    """Return the operands that do not count, if a correction is that of a sum."""
    sums = _signed(makers.get(total))
    if sums is None or sums.get(old) != 1:
        return None
    (y,) = (atom for atom in sums if atom is not old)
    for d in _others(terms, y):
        grown, given = _signed(makers.get(d)), _signed(makers.get(y))
        if grown is None or given is None or set(grown) != {total, old} or lost not in given:
            continue
        sign = given[lost]  # of the correction in y, and of y in the next correction
        takes_back = terms[y] == sign and terms[d] * grown[total] == -sign
        is_sum = sums[y] == 1 and grown[total] == -grown[old]
        if takes_back and is_sum and uses[y] == 2 and uses[d] == 1 and uses[lost] == 1:
            position = list(makers[total].invars).index(old)
            return {id(makers[total]): (position,), id(makers[d]): (0, 1)}
    return None


def _others(terms: dict[Any, int], y: Any) -> Iterator[Any]:
    if y in terms:
        yield from (atom for atom in terms if atom is not y)
