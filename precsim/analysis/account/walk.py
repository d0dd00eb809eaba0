"""A program run three times at once: emulated, exact, and on the path between the two.

Every operation meets the three sets of operands. Its own error is its emulated result less the
exact one for the emulated operands. The path adds a part of that error, ``t`` and a variable of
value 0, whose derivative is the operation's share.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.measures import Item, by_size, error_of, measured
from precsim.analysis.account.wide import HOST, INLINED, bind_wide, inlined_program, widen
from precsim.transform import jaxprs
from precsim.transform.interpreter import apply, context_of, ruled
from precsim.transform.operation import Context, Operation
from precsim.transform.rules.control import CALLS, is_exempt
from precsim.transform.treatment import How, Record
from precsim.transform.values import Value, format_of

LOOPS = ("scan", "while", "cond")

_SINGULAR = frozenset(
    [
        *("div", "sqrt", "rsqrt", "cbrt", "log", "log1p", "pow", "integer_pow", "atan2", "rem"),
        *("asin", "acos", "acosh", "atanh", "erf_inv", "lgamma", "digamma", "tan", "abs"),
        *("eigh", "eig", "svd", "qr", "lu", "cholesky", "triangular_solve", "cumprod"),
        *("reduce_prod", "cumlogsumexp", "igamma", "igammac", "exp", "exp2", "expm1"),
    ]
)
"""Operations with infinite derivatives: times the 0 of a part that does not count they are NaN."""

_TOGETHER = 1 << 20
"""Numbers that are measured together at most, but for those of one result."""

_ROUNDING_TO_INTEGERS = ("floor", "ceil", "round", "sign")


class Strand(NamedTuple):
    """An array of the program in its three runs."""

    value: Value
    """Emulated."""
    exact: Any
    path: Any
    sources: frozenset[str] = frozenset()
    """Keys of the operations that computed its numbers."""

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """The arrays: emulated, exact, on the path."""
        return self.value.array, self.exact, self.path

    def holding(self, arrays: tuple[Any, Any, Any]) -> "Strand":
        """Return a strand of other arrays of which the same is known."""
        return Strand(self.value._replace(array=arrays[0]), *arrays[1:], self.sources)

    @property
    def is_float(self) -> bool:
        """Whether the numbers are real or complex."""
        return bool(jnp.issubdtype(self.value.array.dtype, jnp.inexact))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program is run.

    Parameters
    ----------
    dtype : dtype
        Of the exact run and of the path.
    t : jax.Array
        Where on the path, between 0 (exact) and 1 (emulated).
    each : bool
        Whether the turns of loops are told apart.
    turns : mapping
        For the path of each `while_loop` the least and the largest number of its turns.
    holding : mapping
        What runs the operations that hold programs, by the name of the primitive.
    recompute : bool
        Whether the inside of loops and calls is computed again to differentiate it.
    devices : int
        How many devices run the program, inside a `shard_map`.
    tries : bool
        Whether each operation is tried for a derivative; one that JAX cannot differentiate counts
        as constant along the path.
    records : dict
        Filled while the program is traced: what each operation is, by key.
    operands : dict
        The same: keys of the operations whose results it takes, by key.
    ledgers : dict
        The same: which results a table of measures has, in order, by the ledger's key.
    elements : dict
        The same: how many numbers the results of an operation have, by its key.
    cut : set
        The same: keys of the operations that JAX cannot differentiate.
    """

    dtype: Any
    t: Array
    each: bool
    turns: Mapping[str, tuple[int, int]]
    holding: "Mapping[str, Holding]"
    recompute: bool
    devices: int = 1
    tries: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    operands: dict[str, frozenset[str]] = field(default_factory=dict)
    ledgers: dict[str, list[str]] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a program has to be measured, and what has been: by key, one table each."""

    items: list[Item] = field(default_factory=list)
    tables: dict[str, Array] = field(default_factory=dict)

    def add(self, item: Item, plan: "Plan") -> None:
        """Have a result measured with others; many numbers at once would need much memory."""
        self.items.append(item)
        if sum(each.emulated.size for each in self.items) > _TOGETHER:
            self.tables.update(self.closed(f"{item.key}+{len(self.items)}", plan))
            self.items.clear()

    def closed(self, key: str, plan: "Plan") -> dict[str, Array]:
        """Return all tables, the last one of what was left to measure."""
        items = by_size(self.items)
        plan.ledgers[key] = [item.key for item in items]
        return {**self.tables, key: measured(items, plan.dtype)}


Shares: TypeAlias = Mapping[str, dict[str, Array]]
"""For each operation, by key, two variables of value 0.

The derivative by "share" is the part of the change that its own error makes, the derivative by
"through" the part that its operands bring and its result takes on.
"""
Holding: TypeAlias = Callable[[Operation, list[Strand], str, Shares, Plan, Ledger], list[Strand]]


def recorded(op: Operation, key: str, plan: Plan) -> Record:
    """Write down what an operation is; what decides where a program goes is moved."""
    records = op.context.records
    assert records is not None
    place = op.context.path, id(op.eqn)
    if place not in records:
        op.record(How.MOVED)
    return plan.records.setdefault(key, records[place])


def strand_of(value: Value, dtype: Any) -> Strand:
    """Return a strand whose three arrays have the same numbers."""
    wide = widen(value.array, dtype)
    return Strand(value, wide, wide)


def inner_programs(eqn: Any, path: str, turns: Mapping[str, tuple[int, int]]) -> Iterator[Any]:
    """Yield mark, program and number of turns of each program that is run strand by strand.

    The number is None where there is no loop.
    """
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        yield "", params["jaxpr"], params["length"]
    elif name == "while":
        count = turns.get(path, (0, 0))[1]
        yield "?", params["cond_jaxpr"], count
        yield "", params["body_jaxpr"], count
    elif name == "cond":
        for n, branch in enumerate(params["branches"]):
            yield f":{n}", branch, None
    elif name in INLINED:
        yield "", inlined_program(eqn), None
    elif name == "shard_map":
        yield "", params["jaxpr"], None


def places(
    program: Any,
    each: bool,
    turns: Mapping[str, tuple[int, int]],
    at: str = "",
    path: str = "",
    shape: tuple[int, ...] = (),
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the key of each operation that may be measured, and the shape of its measures."""
    for n, eqn in enumerate(map(ruled, jaxprs.opened(program).eqns)):
        key, place = f"{at}/{n}", f"{path}/{n}"
        yield key, shape
        for mark, inner, count in inner_programs(eqn, place, turns):
            inside = (*shape, count) if each and count is not None else shape
            yield from places(inner, each, turns, key + mark, place, inside)


def walk(
    program: Any,
    operands: list[Strand],
    context: Context,
    at: str,
    shares: Shares,
    plan: Plan,
    ledger: Ledger,
) -> list[Strand]:
    """Return the results of a program in its three runs; what it measures goes to the ledger."""
    jaxpr = jaxprs.opened(program)
    known: dict[Any, Strand] = {}
    for variable, constant in zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True):
        known[variable] = _constant(constant, plan)
    known.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Any) -> Strand:
        if jaxprs.is_variable(atom):
            return known[atom]
        return _constant(np.asarray(atom.val, atom.aval.dtype), plan)

    for n, eqn in enumerate(map(ruled, jaxpr.eqns)):
        here, names = context_of(eqn, n, context)
        strands = list(map(read, eqn.invars))
        op = Operation(here, eqn, [strand.value for strand in strands])
        run = plan.holding.get(op.name)
        if run is None or (op.name in CALLS and is_exempt(op)):
            run = _single
        with jax.named_scope(names) if names else nullcontext():
            results = run(op, strands, f"{at}/{n}", shares, plan, ledger)
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _constant(array: Any, plan: Plan) -> Strand:
    is_single = isinstance(array, (np.ndarray, np.generic)) and array.ndim == 0
    is_number = is_single and jnp.issubdtype(array.dtype, jnp.floating)
    return strand_of(Value(array, None, float(array) if is_number else None), plan.dtype)


@jax.custom_vjp
def _sane(x: Array) -> Array:
    """Return an array as it is; what comes back to it and is not finite counts as 0."""
    return x


_sane.defvjp(
    lambda x: (x, None), lambda _, g: (jnp.where(jnp.isfinite(g), g, jnp.zeros((), g.dtype)),)
)


def _single(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run one operation three times, and have it measured."""
    values = (op.context.compute or apply)(op)
    if all(s.exact is s.value.array and s.path is s.exact for s in strands):  # integers
        return [strand_of(value, plan.dtype) for value in values]
    record = recorded(op, key, plan)
    exact = bind_wide(op.eqn, [s.exact for s in strands], plan.dtype)
    on_path, path = [s.path for s in strands], exact
    moving = [n for n, s in enumerate(strands) if s.path is not s.exact]
    if moving:
        run = partial(bind_wide, op.eqn, dtype=plan.dtype)
        tried = plan.tries and not is_differentiable(run, on_path, moving)
        if tried or op.name in HOST:
            plan.cut.add(key)
            on_path = jax.lax.stop_gradient(on_path)
        if op.name in _SINGULAR:
            on_path = [_sane(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in on_path]
        path = run(on_path)
    sources = frozenset[str]().union(*(s.sources for s in strands))
    every = zip(values, exact, path, strict=True)
    if record.how is How.MOVED:
        results = [Strand(v, y, z, sources) for v, y, z in every]
        _have_compared(op, strands, results, key, plan, ledger)
        return results
    plan.operands[key] = sources
    plan.elements[key] = plan.devices * sum(y.size for y in exact)
    local = bind_wide(op.eqn, [widen(s.value.array, plan.dtype) for s in strands], plan.dtype)
    results = []
    for n, (value, y, z) in enumerate(every):
        if not jnp.issubdtype(y.dtype, jnp.inexact):
            results.append(Strand(value, y, z))
            continue
        emulated = widen(value.array, plan.dtype)
        fmt = value.format or format_of(value.array.real.dtype)
        ledger.add(Item(key, emulated, local[n], y, fmt), plan)
        moved = errors_on_path(emulated, local[n], y, key, shares, plan)
        results.append(Strand(value, y, z + moved, frozenset([key])))
    return results


def is_differentiable(
    fun: Callable[[list[Array]], Sequence[Array]], arrays: Sequence[Array], moving: Sequence[int]
) -> bool:
    """Return whether JAX has a derivative of a function of arrays, by those that move."""
    arrays = jax.lax.stop_gradient(list(arrays))

    def run(moved: Sequence[Array]) -> list[Array]:
        given = dict(enumerate(arrays)) | dict(zip(moving, moved, strict=True))
        return [y for y in fun(list(given.values())) if jnp.issubdtype(y.dtype, jnp.inexact)]

    try:
        results, back = jax.vjp(run, [arrays[n] for n in moving])
        back(results)
    except Exception:  # noqa: BLE001 - each primitive refuses in its own way
        return False
    return True


def errors_on_path(
    emulated: Array, local: Array, exact: Array, key: str, shares: Shares, plan: Plan
) -> Array:
    """Return what the path adds to the result of an operation."""
    own, inherited = jax.lax.stop_gradient((error_of(emulated, local), error_of(local, exact)))
    return (plan.t + shares[key]["share"]) * own + shares[key]["through"] * inherited


def _have_compared(
    op: Operation,
    strands: list[Strand],
    results: list[Strand],
    key: str,
    plan: Plan,
    ledger: Ledger,
) -> None:
    """Have the elements counted for which numbers were compared or chosen differently."""
    if not any(s.is_float for s in strands):
        return
    for result in results:
        if not result.is_float or op.name in _ROUNDING_TO_INTEGERS:
            emulated = widen(result.value.array, plan.dtype)
            plan.elements[key] = plan.devices * emulated.size
            ledger.add(Item(key, emulated, emulated, result.exact, None), plan)
