"""Which parts of a program must stay in a high precision: the smallest set, by delta debugging."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.analysis.account.wide import evaluate_wide, widen
from precsim.analysis.compiling import compiler_options
from precsim.formats import notebook
from precsim.formats.arguments import not_allowed, shown
from precsim.formats.reals import real
from precsim.transform import jaxprs
from precsim.transform.emulate import check_rules, key_of, output, trace
from precsim.transform.interpreter import apply, evaluate
from precsim.transform.operation import RULES, Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function, with_arrays
from precsim.transform.treatment import How
from precsim.transform.values import Value, is_inexact

PARTS = ("scope", "line", "primitive", "operation", "rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class FragileParts:
    """The parts of a program that must stay in a high precision.

    Parameters
    ----------
    parts : tuple of str
        The smallest set that was found: without any one of them the error is above the tolerance.
    by : str
        What a part is.
    error : float
        The error with these parts in the high policy and all others in the low one.
    low_error, high_error : float
        The errors with all parts in the low policy, and with all in the high one.
    tolerance : float
        The error that is allowed.
    candidates : tuple of str
        All parts.
    evaluations : int
        How often the function ran. It is compiled once.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> fun = lambda x: jnp.sqrt((x + 100) - 100)
    >>> x = jnp.float32(0.7)
    >>> print(ps.fragile_parts(fun, x, policy="bf16", tolerance=0.01, by="primitive"))
    of 3 parts by primitive 2 must stay high: error 0.00086, allowed 0.01 (5 evaluations)
      add
      sub
    """

    parts: tuple[str, ...]
    by: str
    error: float
    low_error: float
    high_error: float
    tolerance: float
    candidates: tuple[str, ...]
    evaluations: int

    def __str__(self) -> str:
        """Return a sentence, and each part on a line of its own."""
        lines = "".join(f"\n  {part}" for part in self.parts)
        return f"{self._summary()}{lines}"

    def _summary(self) -> str:
        count = len(self.parts) or "none"
        return (
            f"of {len(self.candidates)} parts by {self.by} {count} must stay high: error "
            f"{self.error:.2g}, allowed {self.tolerance:.2g} ({self.evaluations} evaluations)"
        )

    def _repr_html_(self) -> str:
        """Return the list for a notebook."""
        rows = ([part] for part in self.parts)
        summary = notebook.paragraph(self._summary())
        return notebook.fragment(summary, notebook.table(("part",), rows))


def fragile_parts(
    fun: Callable[..., Any],
    /,
    *args: Any,
    policy: str | Policy,
    tolerance: float,
    high: str | Policy = "fp32",
    by: str = "scope",
    reference: Any = None,
    of: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> FragileParts:
    """Find the smallest set of parts that must stay high for a result to meet a tolerance.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, which JAX can trace.
    *args : pytree of arrays
        Its arguments.
    policy : str or Policy
        The low policy, as of `emulate`.
    tolerance : float
        The largest error allowed, relative: ``||got - want|| / ||want||`` over all numbers of the
        result.
    high : str or Policy
        The policy of the parts that stay high. With two low policies, such as "e4m3" and "bf16",
        the answer is which parts cannot take the lower one.
    by : {"scope", "line", "primitive", "operation", "rule"}
        What a part is: all operations in one named scope (as in the rows of `coverage`), of one
        source line, of one primitive, single operations, or all operations that one rule of
        `policy` decides.
    reference : pytree of arrays, optional
        What the result should be; by default the function's own in float64.
    of : callable, optional
        What of the result, and of the reference, is compared; by default all of it.
    seed : int
        Seed of stochastic rounding.

    Returns
    -------
    FragileParts
        The set, the errors, and how often the function ran.

    Raises
    ------
    TypeError
        If `fun` or `of` is no function.
    ValueError
        If `by` or a policy is unknown, if `tolerance` is not a number from 0 on, or if not even
        all parts in the high policy meet it.
    NotImplementedError
        If an operation has no rule, as of `emulate`.

    Notes
    -----
    The algorithm is ddmin. Its set is 1-minimal: without any one of its parts the tolerance is
    missed; smaller sets of other parts may exist where errors cancel. It needs about
    ``2 k log2(n)`` runs for k fragile parts of n, and n**2 at worst.

    The program is compiled once, with every operation in both precisions and a choice between
    them, so it takes twice the memory and time of `emulate`. The error of the found set is that of
    a policy with rules for these scopes, but for how XLA fuses what is left in float32. An error
    that is not finite is above any tolerance.

    The reference is the program of the function for these arguments, every operation in float64.

    Source: Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE
    Transactions on Software Engineering 28(2), 2002; Rubio-Gonzalez et al., Precimonious, SC 2013.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def variance(x):
    ...     with jax.named_scope("centre"):
    ...         x = x - jnp.mean(x)
    ...     with jax.named_scope("square"):
    ...         return jnp.mean(x * x)
    >>> x = 100 + jnp.arange(8.0) / 7
    >>> ps.fragile_parts(variance, x, policy="bf16", tolerance=0.02).parts
    ('centre',)
    """
    check_function(fun)
    if of is not None and not callable(of):
        raise TypeError(f"of is {shown(of)}; allowed is a function of the result")
    if by not in PARTS:
        raise not_allowed("by", by, PARTS)
    if not real(tolerance, "tolerance") >= 0:
        raise ValueError(f"tolerance is {shown(tolerance)}; allowed are numbers from 0 on")
    low, top = Policy.parse(policy), Policy.parse(high)
    want = _numbers(_exactly(fun, args) if reference is None else reference, of)
    parts, evaluate = _two_precisions(fun, args, low, top, by, seed)
    errors: dict[frozenset[int], float] = {}

    def error(kept: frozenset[int]) -> float:
        if kept not in errors:
            is_high = np.isin(np.arange(len(parts)), list(kept))
            errors[kept] = _distance(_numbers(evaluate(is_high), of), want)
        return errors[kept]

    everything = frozenset(range(len(parts)))
    low_error = error(frozenset())
    kept = frozenset[int]()
    if not low_error <= tolerance:
        if not error(everything) <= tolerance:
            raise ValueError(
                f"tolerance is {tolerance:g}; allowed are numbers from {error(everything):.3g} on, "
                f"the error with every part in '{top}'"
            )
        kept = smallest(everything, lambda kept: error(kept) <= tolerance)
    return FragileParts(
        parts=tuple(parts[n] for n in sorted(kept)),
        by=by,
        error=error(kept),
        low_error=low_error,
        high_error=error(everything),
        tolerance=float(tolerance),
        candidates=tuple(parts),
        evaluations=len(errors),
    )


def smallest(
    everything: frozenset[int], is_enough: Callable[[frozenset[int]], bool]
) -> frozenset[int]:
    """Return a set of which every element is needed, by ddmin; everything is enough."""
    found, pieces = everything, 2
    if is_enough(frozenset()):
        return frozenset()
    while len(found) > 1:
        pieces = min(pieces, len(found))
        chunks = _chunks(sorted(found), pieces)
        for chunk in chunks:
            if is_enough(chunk):
                found, pieces = chunk, 2
                break
        else:
            for chunk in chunks if pieces > 2 else ():
                if is_enough(found - chunk):
                    found, pieces = found - chunk, pieces - 1
                    break
            else:
                if pieces >= len(found):
                    return found
                pieces *= 2
    return found


def _chunks(elements: Sequence[int], count: int) -> list[frozenset[int]]:
    """Return elements in pieces of nearly one size."""
    ends = [round(n * len(elements) / count) for n in range(count + 1)]
    return [frozenset(elements[a:b]) for a, b in itertools.pairwise(ends)]


def _two_precisions(
    fun: Callable[..., Any], args: Any, low: Policy, high: Policy, by: str, seed: int
) -> tuple[list[str], Callable[[np.ndarray], Any]]:
    """Return the names of the parts, and the function of which of them are in the high policy."""
    traced = trace(fun, with_arrays(args), {}, 0)
    check_rules(low, traced.program)
    operands = traced.values()
    places: dict[str, int] = {}

    def both(is_high: Any, arrays: Sequence[Any]) -> Any:
        compute = partial(_compute, low=low, high=high, by=by, places=places, is_high=is_high)
        context = Context(
            policy=low, backend="auto", strict=True, key=key_of(seed), compute=compute
        )
        values = [v._replace(array=x) for v, x in zip(operands, arrays, strict=True)]
        found = evaluate(traced.program, values, context)
        results = [output(value, context, n) for n, value in enumerate(found)]
        return jax.tree.unflatten(jax.tree.structure(traced.shape), results)

    arrays = [value.array for value in operands]
    jax.eval_shape(partial(both, None), arrays)  # finds the parts
    compiled = jax.jit(both, compiler_options=compiler_options(traced.program))
    return list(places), lambda is_high: compiled(is_high, arrays)


def _compute(
    op: Operation, low: Policy, high: Policy, by: str, places: dict[str, int], is_high: Any
) -> list[Value]:
    """Compute an operation in both policies and choose; loops and calls only once."""
    if next(jaxprs.inner_jaxprs(op.eqn), None) is not None and op.name in RULES:
        return RULES[op.name](_under(op, low))
    below, how = _treated(_under(op, low))
    if how in (How.MOVED, How.EXEMPT) or not any(is_inexact(value.array) for value in below):
        return below
    above, other = _treated(_under(op, high))
    if how is other is How.AS_IS:
        return below
    place = places.setdefault(_part(op, low, by), len(places))
    if is_high is None:
        return below
    return [
        Value(jnp.where(is_high[place], b.array, a.array), origin=a.origin)
        for a, b in zip(below, above, strict=True)
    ]


def _under(op: Operation, policy: Policy) -> Operation:
    return replace(op, context=replace(op.context, policy=policy, records={}))


def _treated(op: Operation) -> tuple[list[Value], How | None]:
    """Return the results of an operation, and how it was treated."""
    results, records = apply(op), op.context.records or {}
    return results, next((record.how for record in records.values()), None)


def _part(op: Operation, low: Policy, by: str) -> str:
    """Return the name of the part to which an operation belongs."""
    if by == "scope":
        return op.scope or "outside all scopes"
    if by == "primitive":
        return op.name
    if by == "rule":
        rule = low.matching(op.scope)
        return "all else" if rule is None else rule.scope
    line = op.line or jaxprs.NOWHERE
    return line if by == "line" else f"{op.name} at {line}, equation {op.context.path[1:]}"


def _exactly(fun: Callable[..., Any], args: Any) -> Any:
    """Return the result of the function's program in float64."""
    traced = trace(fun, with_arrays(args), {}, 0)
    with jax.enable_x64(True):
        arrays = [widen(x, np.float64) for x in traced.arrays]
        run = jax.jit(
            lambda arrays: evaluate_wide(traced.program, arrays, np.float64),
            compiler_options=compiler_options(traced.program),
        )
        leaves = [np.asarray(leaf) for leaf in run(arrays)]
    return jax.tree.unflatten(jax.tree.structure(traced.shape), leaves)


def _numbers(tree: Any, of: Callable[[Any], Any] | None) -> np.ndarray:
    """Return all numbers of a result in one vector of float64, or of complex128."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree if of is None else of(tree))]
    wide = [np.ravel(leaf).astype(np.result_type(leaf, np.float64)) for leaf in leaves]
    return np.concatenate(wide) if wide else np.zeros(0)


def _distance(got: np.ndarray, want: np.ndarray) -> float:
    """Return the distance of two vectors, over the length of the second; infinite if not finite."""
    if got.shape != want.shape:
        raise ValueError(
            f"reference has {want.size} numbers; allowed are the {got.size} of the result"
        )
    length, distance = np.linalg.norm(want), np.linalg.norm(got - want)
    if distance == 0:
        return 0.0
    return float(distance / length) if np.isfinite(distance) and length > 0 else math.inf
