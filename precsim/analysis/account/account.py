"""The account of a function: its change, and the share that each operation has in it."""

import math
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.loops import HOLDING
from precsim.analysis.account.measures import FIELDS, SUMMED, Item, error_of
from precsim.analysis.account.walk import (
    Ledger,
    Plan,
    Strand,
    errors_on_path,
    places,
    strand_of,
    walk,
)
from precsim.analysis.account.wide import evaluate_wide, widen
from precsim.analysis.compiling import compiler_options
from precsim.formats.arguments import shown
from precsim.transform import jaxprs
from precsim.transform.emulate import Traced, check_rules, output
from precsim.transform.interpreter import evaluate
from precsim.transform.operation import Context
from precsim.transform.treatment import How, Record
from precsim.transform.values import Value, is_float

DTYPES: dict[str, np.dtype[Any]] = {"fp64": np.dtype("f8"), "fp32": np.dtype("f4")}
NODES = {1: ((0.5, 1.0),), 3: ((0.0, 1 / 6), (0.5, 2 / 3), (1.0, 1 / 6))}
"""Number of nodes -> places on the path from exact to emulated, and their weights."""


@dataclass(frozen=True)
class Account:
    """What was found, as NumPy arrays.

    Parameters
    ----------
    emulated, exact : pytree
        Results of the emulated run, and of the reference.
    value, aligned, reference : float
        The scalar of the emulated run, of the exact one, and of the reference, which takes branches
        and turns of its own.
    shares, through : dict
        Parts of ``value - aligned``, by key of the operation: its own, and what it passes on.
    measures : dict
        By key, a number for each name in `FIELDS`, of all turns together.
    records : dict
        What each operation is, by key.
    operands : dict
        Keys of the operations whose results it takes.
    elements : dict
        How many numbers its results have.
    """

    emulated: Any
    exact: Any
    value: float
    aligned: float
    reference: float
    shares: dict[str, np.ndarray]
    through: dict[str, np.ndarray]
    measures: dict[str, dict[str, float]]
    records: dict[str, Record]
    operands: dict[str, frozenset[str]]
    elements: dict[str, int]


@dataclass(frozen=True)
class Analysis:
    """A traced function, ready to be run for arrays of the same shapes.

    Parameters
    ----------
    traced : Traced
        The function's program.
    context : Context
        Policy, backend, key of the emulated run.
    of : callable, optional
        The scalar that is asked about, a function of the result.
    reference : str
        "fp64" or "fp32".
    nodes : int
        1 (midpoint) or 3 (Simpson).
    each : bool
        Whether turns of loops are told apart.
    recompute : bool
        Whether the inside of calls and loops is computed again.
    once : bool
        Whether it runs a few times only: then it compiles sooner, and runs longer.
    """

    traced: Traced
    context: Context
    of: Callable[[Any], Any] | None
    reference: str
    nodes: int
    each: bool
    recompute: bool
    once: bool = True
    _compiled: dict[Any, Any] = field(default_factory=dict, repr=False)
    _counts: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the policy's rules."""
        check_rules(self.context.policy, self.traced.program)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the reference's arithmetic."""
        return DTYPES[self.reference]

    def run(self, arrays: list[Any], key: Any = None) -> Account:
        """Return the account for these arguments, with the random bits of a key if one is given."""
        program = jaxprs.opened(self.traced.program)
        dtypes = [atom.aval.dtype for atom in program.invars]
        arrays = [jnp.asarray(x, d) for x, d in zip(arrays, dtypes, strict=True)]
        key = self.context.key if key is None else key
        turns = self._turns(arrays, key)
        with jax.enable_x64(self.dtype == np.float64 or jax.config.jax_enable_x64):  # type: ignore[attr-defined]
            kind = tuple(sorted(turns.items()))
            if kind not in self._compiled:
                self._compiled[kind] = self._compile(turns)
            return self._run(self._compiled[kind], arrays, key)

    def _compile(self, turns: dict[str, tuple[int, int]]) -> "_Programs":
        """Return the programs that make an account, for these numbers of turns."""
        program, target, dtype = self.traced.program, self._target(), self.dtype
        plan = Plan(dtype, jnp.zeros(()), self.each, turns, HOLDING, self.recompute)
        shapes = dict(places(program, self.each, turns))
        shapes |= {f"/output {n}": () for n in range(len(jaxprs.opened(program).outvars))}

        def run(t: Array, arrays: list[Any], key: Any) -> Any:
            zeros = {
                name: {kind: jnp.zeros(shape, dtype) for kind in ("share", "through")}
                for name, shape in shapes.items()
            }
            walked = lambda x: self._walked(x, arrays, key, replace(plan, t=t), target)
            _, back, aux = jax.vjp(walked, zeros, has_aux=True)
            (found,) = back(jnp.ones((), dtype))
            both = [jnp.ravel(found[k][kind]) for kind in ("share", "through") for k in shapes]
            return jnp.concatenate(both), aux  # one array: there may be thousands of shares

        options = compiler_options(program) if self.once else {}
        has_branches = not self._primitives.isdisjoint(("cond", "while"))
        wide = jax.jit(partial(self._reference, target=target), compiler_options=options)
        compiled = jax.jit(run, compiler_options=options)
        return _Programs(compiled, wide if has_branches else None, plan, shapes)

    def _run(self, programs: "_Programs", arrays: list[Any], key: Any) -> Account:
        shares, aux, plan = np.zeros((), self.dtype), None, programs.plan
        for t, weight in NODES[self.nodes]:
            found, aux = programs.run(np.asarray(t, self.dtype), arrays, key)
            shares = shares + weight * np.asarray(found)
        emulated, exact, value, aligned, tables = jax.device_get(aux)
        reference = aligned
        if programs.reference is not None:  # on branches of its own
            exact, own_value, reference = jax.device_get(programs.reference(arrays, emulated))
            aligned, value = aligned + (own_value - value), own_value
        tree = jax.tree.structure(self.traced.shape)
        measured = _by_operation(tables, plan)
        own, through = (_apart(x, programs.shapes, measured) for x in np.split(shares, 2))
        return Account(
            emulated=jax.tree.unflatten(tree, emulated),
            exact=jax.tree.unflatten(tree, exact),
            value=float(value),
            aligned=float(aligned),
            reference=float(reference),
            shares=own,
            through=through,
            measures=measured,
            records=dict(plan.records),
            operands=dict(plan.operands),
            elements=dict(plan.elements),
        )

    @cached_property
    def _primitives(self) -> frozenset[str]:
        return frozenset(e.primitive.name for e in jaxprs.equations(self.traced.program))

    def _values(self, arrays: list[Any]) -> list[Value]:
        return self.traced._replace(arrays=arrays).values()

    def _turns(self, arrays: list[Any], key: Any) -> dict[str, tuple[int, int]]:
        """Return how many turns each `while_loop` takes in the emulated run."""
        if "while" not in self._primitives:
            return {}
        if "turns" not in self._compiled:
            context = replace(self.context, records={}, count=self._count)

            def run(arrays: list[Any], key: Any) -> list[Any]:
                values, here = self._values(arrays), replace(context, key=key)
                return [v.array for v in evaluate(self.traced.program, values, here)]

            self._compiled["turns"] = jax.jit(
                run, compiler_options=compiler_options(self.traced.program)
            )
        self._counts.clear()
        jax.block_until_ready(self._compiled["turns"](arrays, key))  # type: ignore[no-untyped-call]
        jax.effects_barrier()  # type: ignore[no-untyped-call]
        return dict(self._counts)

    def _count(self, path: str, turns: Any) -> None:
        """Take note of the turns of a loop that has ended."""
        least, most = self._counts.get(path, (int(turns), int(turns)))
        self._counts[path] = min(least, int(turns)), max(most, int(turns))

    def _reference(self, arrays: list[Any], emulated: list[Any], *, target: Any) -> Any:
        """Return the results of the reference, and the scalar of the emulated ones and of them."""
        wide = [widen(x, self.dtype) for x in arrays]
        exact = evaluate_wide(self.traced.program, wide, self.dtype)
        wide = [widen(x, self.dtype) for x in emulated]
        return exact, target(wide, wide, exact), target(exact, wide, exact)

    def _target(self) -> Callable[..., Array]:
        """Return the scalar as a function of wide results, and of the emulated and exact ones.

        Without a function of the user's it is the result itself, if that is one real number, else
        the distance from the exact results, along the direction in which they have moved.
        """
        dtype = self.dtype
        if self.of is None:
            leaves = jax.tree.leaves(self.traced.shape)
            floats = [n for n, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.inexact)]
            if not floats:
                raise ValueError("fun returns no floating-point number; allowed are those that do")
            if len(leaves) == 1 and leaves[0].shape == () and is_float(leaves[0]):
                return lambda results, *_: results[0]
            return lambda results, emulated, exact: _along(
                *([x[n] for n in floats] for x in (results, emulated, exact))
            )
        program, shape = jax.make_jaxpr(self.of, return_shape=True)(self.traced.shape)
        if not (hasattr(shape, "dtype") and shape.shape == () and is_float(shape)):
            raise TypeError(f"of returns {shown(shape)}; allowed is one real number")
        return lambda results, *_: evaluate_wide(program, results, dtype)[0]

    def _walked(self, shares: Any, arrays: list[Any], key: Any, plan: Plan, target: Any) -> Any:
        """Return the scalar on the path, and what else was found."""
        context, ledger = replace(self.context, records={}, key=key), Ledger()
        strands = [strand_of(value, self.dtype) for value in self._values(arrays)]
        results = walk(self.traced.program, strands, context, "", shares, plan, ledger)
        results = [self._last(s, n, shares, context, plan, ledger) for n, s in enumerate(results)]
        emulated = [s.value.array for s in results]
        wide, exact = [widen(x, self.dtype) for x in emulated], [s.exact for s in results]
        still = jax.lax.stop_gradient((wide, exact))
        scalar = target([s.path for s in results], *still)
        value, aligned = target(wide, *still), target(exact, *still)
        return scalar, (emulated, exact, value, aligned, ledger.closed("", plan))

    def _last(
        self, strand: Strand, n: int, shares: Any, context: Context, plan: Plan, ledger: Ledger
    ) -> Strand:
        """Return a result; where the policy rounds results that is an operation of its own."""
        rounded, key = output(strand.value, context, n), f"/output {n}"
        if rounded is strand.value.array or context.policy.output is None:
            return strand
        emulated, local = widen(rounded, plan.dtype), widen(strand.value.array, plan.dtype)
        fmt = context.policy.output.format
        ledger.add(Item(key, emulated, local, strand.exact, fmt), plan)
        plan.operands[key], plan.elements[key] = strand.sources, emulated.size
        plan.records[key] = Record("result", "", "", False, How.ROUNDED, "", str(fmt), 1)
        moved = errors_on_path(emulated, local, strand.exact, key, shares, plan)
        return Strand(strand.value._replace(array=rounded), strand.exact, strand.path + moved)


def _by_operation(tables: dict[str, Any], plan: Plan) -> dict[str, dict[str, float]]:
    """Return the measures of each operation, of all its results and turns together."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for ledger, table in tables.items():
        turns = np.asarray(table)
        turns = turns.reshape(math.prod(turns.shape[:-2]), *turns.shape[-2:])
        most = turns[..., len(SUMMED) :].max(0, initial=0)
        every = np.concatenate([turns[..., : len(SUMMED)].sum(0), most], -1).tolist()
        for key, numbers in zip(plan.ledgers[ledger], every, strict=True):
            found[key].append(numbers)
    return {key: _together(results) for key, results in found.items()}


def _together(results: list[list[float]]) -> dict[str, float]:
    every = zip(FIELDS, zip(*results, strict=True), strict=True)
    return {name: sum(x) if name in SUMMED else _largest(x) for name, x in every}


def _largest(x: Sequence[float]) -> float:
    """Return the largest number, NaN if there is one."""
    return math.nan if any(map(math.isnan, x)) else max(x)


class _Programs(NamedTuple):
    """What is compiled for one kind of arguments."""

    run: Callable[..., Any]
    """From t, arguments and key to the shares, in one vector, and to what else was found."""
    reference: Callable[..., Any] | None
    """From arguments and emulated results to those of the reference, where that may branch by
    itself, and to the scalars of both."""
    plan: Plan
    shapes: dict[str, tuple[int, ...]]
    """Of the shares of each operation."""


def _apart(
    vector: np.ndarray, shapes: dict[str, tuple[int, ...]], wanted: Container[str]
) -> dict[str, np.ndarray]:
    """Return the wanted shares in one vector, by key."""
    found, start = {}, 0
    for key, shape in shapes.items():
        end = start + math.prod(shape)
        if key in wanted:
            found[key] = vector[start:end].reshape(shape)
        start = end
    return found


def _along(results: list[Any], emulated: list[Any], exact: list[Any]) -> Array:
    """Return how far results are from the exact ones, along the error of the emulated ones."""
    steps = [error_of(x, y) for x, y in zip(emulated, exact, strict=True)]
    size = jnp.sqrt(sum(jnp.sum(jnp.abs(s) ** 2) for s in steps))
    unit = jnp.where(size > 0, size, 1)
    every = zip(steps, results, exact, strict=True)
    parts = [jnp.sum((jnp.conj(s) * error_of(x, y)).real) for s, x, y in every]
    return sum(parts[1:], parts[0]) / unit
