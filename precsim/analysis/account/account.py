"""The account of a function: its change, and the share that each operation has in it."""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.loops import HOLDING
from precsim.analysis.account.measures import Item, distance
from precsim.analysis.account.operations import Operations
from precsim.analysis.account.walk import (
    Ledger,
    Plan,
    Strand,
    errors_on_path,
    is_differentiable,
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

AUTO = "auto"

Turns: TypeAlias = dict[str, tuple[int, int]]
"""The least and the largest number of turns of each `while_loop`, by its path."""

_MOST_TURNS, _PATIENCE = 10_000, 10
"""A loop of more turns, and of so many times the turns of the exact run, does not end."""


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
    measures : ndarray
        For each operation a number for each name in `FIELDS`, of all turns together.
    operations : Operations
        What is known of the operations.
    nodes : int
        Nodes of the shares.
    """

    emulated: Any
    exact: Any
    value: float
    aligned: float
    reference: float
    shares: dict[str, np.ndarray]
    through: dict[str, np.ndarray]
    measures: np.ndarray
    operations: Operations
    nodes: int


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
    nodes : int or str
        1 (midpoint), 3 (Simpson) or "auto": 3 where 1 leaves an account open.
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
    nodes: int | str
    each: bool
    recompute: bool
    once: bool = True
    _compiled: dict[Any, Any] = field(default_factory=dict, repr=False)
    _counts: Turns = field(default_factory=dict, repr=False)

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
        arrays = [_strong(x, d) for x, d in zip(arrays, dtypes, strict=True)]
        key = self.context.key if key is None else key
        turns, endless = self._turns(arrays, key)
        with self._wide():
            kind = tuple(sorted(turns.items())), endless
            if kind not in self._compiled:
                self._compiled[kind] = self._traced(turns, endless, arrays, key)
            return self._run(self._compiled[kind], arrays, key)

    def _wide(self) -> Any:
        return jax.enable_x64(self.dtype == np.float64 or jax.config.jax_enable_x64)  # type: ignore[attr-defined]

    def _traced(
        self, turns: Turns, endless: frozenset[str], arrays: list[Any], key: Any
    ) -> "_Programs":
        """Return the programs that make an account, for these numbers of turns.

        Where they cannot be traced, each operation is tried for a derivative. What else is wrong is
        raised then.
        """
        for tries in (False, True):
            programs = self._compile(turns, endless, tries=tries)
            try:
                programs.run.eval_shape(np.zeros((), self.dtype), arrays, key)
            except Exception:
                if tries:
                    raise
            else:
                break
        return programs

    def _compile(self, turns: Turns, endless: frozenset[str], *, tries: bool) -> "_Programs":
        """Return these programs, not yet traced."""
        program, target, dtype = self.traced.program, self._target(), self.dtype
        zero = jnp.zeros(())
        plan = Plan(dtype, zero, self.each, turns, HOLDING, self.recompute, tries=tries)
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
        nodes = {t: jnp.asarray(t, dtype) for t, _ in NODES[1] + NODES[3]}
        return _Programs(compiled, wide if has_branches else None, plan, shapes, endless, nodes)

    def _run(self, programs: "_Programs", arrays: list[Any], key: Any) -> Account:
        vectors: dict[float, np.ndarray] = {}
        aux: Any = None

        def shares(nodes: int) -> tuple[dict[str, np.ndarray], ...]:
            nonlocal aux
            total = np.zeros((), self.dtype)
            for t, weight in NODES[nodes]:
                if t not in vectors:
                    found, aux = programs.run(programs.nodes[t], arrays, key)
                    vectors[t] = np.asarray(found)
                total = total + weight * vectors[t]
            return tuple(map(programs.operations.apart, np.split(total, 2)))

        nodes = 1 if self.nodes == AUTO else int(self.nodes)
        own, through = shares(nodes)
        emulated, exact, value, aligned, tables = _fetched(aux)
        reference = aligned
        if programs.reference is not None:  # on branches of its own
            exact, own_value, reference = _fetched(programs.reference(arrays, emulated))
            aligned, value = aligned + (own_value - value), own_value
        tree = jax.tree.structure(self.traced.shape)
        if self.nodes == AUTO and _is_open(own, float(value - aligned)):
            nodes = 3
            own, through = shares(nodes)
        return Account(
            emulated=jax.tree.unflatten(tree, emulated),
            exact=jax.tree.unflatten(tree, exact),
            value=float(value),
            aligned=float(aligned),
            reference=float(reference),
            shares=own,
            through=through,
            measures=programs.operations.together(tables),
            operations=programs.operations,
            nodes=nodes,
        )

    @cached_property
    def _primitives(self) -> frozenset[str]:
        return frozenset(e.primitive.name for e in jaxprs.equations(self.traced.program))

    def _values(self, arrays: list[Any]) -> list[Value]:
        return self.traced._replace(arrays=arrays).values()

    def _turns(self, arrays: list[Any], key: Any) -> tuple[Turns, frozenset[str]]:
        """Return how many turns each `while_loop` takes in the emulated run, and which never end.

        A loop does not end if it takes many more turns than in the exact run, as one that waits for
        a number which the format rounds back. Of those it is as many turns as there.
        """
        if "while" not in self._primitives:
            return {}, frozenset()
        most = _MOST_TURNS
        turns = self._counted("emulated", arrays, key, most)
        if not any(count[1] >= most for count in turns.values()):
            return turns, frozenset()
        exact = self._counted("exact", arrays, key, most)
        most = max([most, *(_PATIENCE * count[1] for count in exact.values())])
        if most > _MOST_TURNS:
            turns = self._counted("emulated", arrays, key, most)
        endless = frozenset(path for path, count in turns.items() if count[1] >= most)
        return turns | {path: exact.get(path, (0, 0)) for path in endless}, endless

    def _counted(self, which: str, arrays: list[Any], key: Any, most: int) -> Turns:
        """Return how many turns each `while_loop` takes in one of the runs."""
        if which not in self._compiled:
            run = {"emulated": self._emulated, "exact": self._exact}[which]
            options = compiler_options(self.traced.program)
            self._compiled[which] = jax.jit(run, compiler_options=options)
        self._counts.clear()
        with self._wide() if which == "exact" else nullcontext():
            found = self._compiled[which](arrays, key, np.uint32(most))
        jax.block_until_ready(found)  # type: ignore[no-untyped-call]
        jax.effects_barrier()  # type: ignore[no-untyped-call]
        return dict(self._counts)

    def _emulated(self, arrays: list[Any], key: Any, most: Any) -> list[Any]:
        context = replace(self.context, records={}, count=self._count, key=key, most_turns=most)
        values = evaluate(self.traced.program, self._values(arrays), context)
        return [value.array for value in values]

    def _exact(self, arrays: list[Any], *_: Any) -> list[Any]:
        wide = [widen(x, self.dtype) for x in arrays]
        return evaluate_wide(self.traced.program, wide, self.dtype, self._count)

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
            return lambda results, emulated, exact: distance(
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
        path, moving = [s.path for s in results], [n for n, s in enumerate(results) if s.is_float]
        asked: Callable[..., list[Array]] = lambda path: [target(path, *still)]
        if plan.tries and not is_differentiable(asked, path, moving):
            raise NotImplementedError("of has no derivative in JAX; allowed are functions with one")
        (scalar,) = asked(path)
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


@dataclass(frozen=True)
class _Programs:
    """What is compiled for one kind of arguments."""

    run: Any
    """Compiled by `jax.jit`, from t, arguments and key to the shares, in one vector, and what else
    was found."""
    reference: Callable[..., Any] | None
    """From arguments and emulated results to those of the reference, where that may branch by
    itself, and to the scalars of both."""
    plan: Plan
    shapes: dict[str, tuple[int, ...]]
    """Of the shares of each operation."""
    endless: frozenset[str]
    """Paths of the loops that do not end in the emulated run."""
    nodes: dict[float, Any]
    """Places on the path, as arrays that need not be transferred for each run."""

    @cached_property
    def operations(self) -> Operations:
        """What is known of the operations, once `run` has been traced."""
        p = self.plan
        return Operations(
            p.ledgers, p.records, p.operands, p.elements, self.shapes, p.cut, self._endless()
        )

    def _endless(self) -> dict[str, int]:
        loops = [key for key, record in self.plan.records.items() if record.primitive == "while"]
        paths = {key: re.sub(r":\d+|\?", "", key) for key in loops}
        return {key: self.plan.turns[x][1] for key, x in paths.items() if x in self.endless}


def _strong(x: Any, dtype: Any) -> Array:
    """Return an array of JAX with a dtype of its own; most are that already, and asking is slow."""
    is_it = isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type
    return x if is_it else jnp.asarray(x, dtype)


def _fetched(tree: Any) -> Any:
    """Return a tree with NumPy arrays; those of a CPU take a tenth of the time of a transfer."""
    on_cpu = jax.default_backend() == "cpu"
    return jax.tree.map(np.asarray, tree) if on_cpu else jax.device_get(tree)


def _is_open(shares: dict[str, np.ndarray], change: float) -> bool:
    """Return whether shares leave more than 1 % of the gross, or of a change not much smaller."""
    if not math.isfinite(change):
        return False  # what overflowed is in no share, wherever on the path
    parts = [float(share.sum()) for share in shares.values()]
    rest, gross = abs(change - sum(parts)), sum(map(abs, parts))
    return rest > 0.01 * gross or (gross < 10 * abs(change) and rest > 0.01 * abs(change))
