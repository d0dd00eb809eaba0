"""Programs inside a program, run three times at once; the emulated run decides where they go."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim.analysis.account.measures import Item, over_turns
from precsim.analysis.account.walk import (
    Holding,
    Ledger,
    Plan,
    Shares,
    Strand,
    recorded,
    walk,
)
from precsim.analysis.account.wide import INLINED, inlined_operands, inlined_program, kept, widen
from precsim.transform import jaxprs
from precsim.transform.noise import fold_in
from precsim.transform.operation import Context, Operation
from precsim.transform.rules.control import is_stochastic, mapped, mapped_axes


def _called(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run the program of a call."""
    context = op.inside(str(op.params.get("name", "")) if "jaxpr" in op.params else "")
    operands = inlined_operands(op.eqn, strands)
    program = inlined_program(op.eqn)
    if not plan.recompute:
        return walk(program, operands, context, key, shares, plan, ledger)
    results: list[Strand] = []

    def run(arrays: Sequence[Any], part: Shares) -> tuple[list[Any], dict[str, Array]]:
        own = Ledger()
        given = _with(operands, arrays)
        results[:] = walk(program, given, context, key, part, plan, own)
        return [s.arrays for s in results], own.closed(key, plan)

    arrays, tables = jax.checkpoint(run)([s.arrays for s in operands], _below(key, shares))
    ledger.tables.update(tables)
    return _with(results, arrays)


def _below(key: str, shares: Shares) -> Shares:
    """Return the shares of the operations inside an operation."""
    inside = tuple(key + mark for mark in "/:?")
    return {k: v for k, v in shares.items() if k.startswith(inside)}


def _with(strands: Sequence[Strand], arrays: Sequence[Any]) -> list[Strand]:
    return [s.holding(x) for s, x in zip(strands, arrays, strict=True)]


def _loose(strands: Sequence[Strand]) -> list[Strand]:
    """Return strands of which no format is known, and whose arrays are arrays of JAX."""
    return [
        s._replace(
            value=s.value._replace(array=jnp.asarray(s.value.array), format=None, constant=None)
        )
        for s in strands
    ]


def _carried(strands: Sequence[Strand], key: str) -> list[Strand]:
    """Return what a loop carries; where its numbers come from is known at the end of a turn."""
    return [s._replace(sources=frozenset([f"{key}^{n}"])) for n, s in enumerate(_loose(strands))]


def _note_sources(
    start: Sequence[Strand], after: Sequence[Strand], key: str, plan: Plan
) -> list[Strand]:
    """Write down where the numbers come from that a loop carries, and return its last ones."""
    for n, (first, last) in enumerate(zip(start, after, strict=False)):
        plan.operands[f"{key}^{n}"] = first.sources | last.sources
    return _loose(after)


def _split(key: str, shares: Shares, plan: Plan) -> tuple[Shares, Shares]:
    """Return the shares that differ from turn to turn, and those that do not."""
    return (_below(key, shares), shares) if plan.each else ({}, shares)


def _turned(tables: dict[str, Array], plan: Plan) -> dict[str, Array]:
    """Return what a loop has measured, its turns told apart or together."""
    return tables if plan.each else {k: over_turns(x) for k, x in tables.items()}


def _scanned(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run the body of a `scan`."""
    params = op.params
    constants, carried = jaxprs.scan_counts(params)
    start = strands[constants : constants + carried]
    state, rows = _carried(start, key), _loose(strands[constants + carried :])
    length = params["length"]
    numbers = jnp.arange(length, dtype=jnp.uint32) if is_stochastic(op) else None
    apart, together = _split(key, shares, plan)
    known: list[Strand] = []

    def body(arrays: list[Any], row: Any) -> Any:
        number, given, part = row
        seed = None if number is None else fold_in(op.context.key, number)
        operands = [*strands[:constants], *_with(state, arrays), *_with(rows, given)]
        context, own = op.inside(key=seed, turns=length), Ledger()
        known[:] = walk(params["jaxpr"], operands, context, key, {**together, **part}, plan, own)
        new = [s.arrays for s in known]
        return new[:carried], (new[carried:], own.closed(key, plan))

    after, (stacked, tables) = lax.scan(
        jax.checkpoint(body) if plan.recompute else body,
        [s.arrays for s in state],
        (numbers, [s.arrays for s in rows], apart),
        length=length,
        reverse=params["reverse"],
    )
    ledger.tables.update(_turned(tables, plan))
    return _with(_note_sources(start, known, key, plan), [*after, *stacked])


def _repeated(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run a `while_loop` as a `scan` of as many turns as the emulated run takes."""
    params, first = op.params, op.params["cond_nconsts"]
    before = first + params["body_nconsts"]
    asked, fixed, start = strands[:first], strands[first:before], strands[before:]
    state = _carried(start, key)
    least, most = plan.turns.get(op.context.path, (0, 0))
    apart, together = _split(key, shares, plan)
    known = list(state)
    recorded(op, key, plan)

    def answered(arrays: list[Any], part: Shares, context: Context, own: Ledger) -> Strand:
        operands = [*asked, *_with(state, arrays)]
        shares = {**together, **part}
        return walk(params["cond_jaxpr"], operands, context, f"{key}?", shares, plan, own)[0]

    def turn(arrays: list[Any], number: Array, part: Shares) -> Any:
        context, own = op.inside(key=fold_in(op.context.key, number), turns=most), Ledger()
        answer = answered(arrays, part, context, own)
        operands, shares = [*fixed, *_with(state, arrays)], {**together, **part}
        known[:] = walk(params["body_jaxpr"], operands, context, key, shares, plan, own)
        new = kept(answer.value.array, [s.arrays for s in known], arrays)
        return [tuple(x) for x in new], own.closed(key, plan)

    def body(arrays: list[Any], row: Any) -> Any:
        number, part = row
        if least == most:
            return turn(arrays, number, part)
        answer = answered(arrays, part, op.inside(key=fold_in(op.context.key, number)), Ledger())
        run = lambda arrays: turn(arrays, number, part)
        return _chosen(jnp.any(answer.value.array).astype(int), [lambda x: (x, {}), run], arrays)

    after, tables = lax.scan(
        jax.checkpoint(body) if plan.recompute else body,
        [s.arrays for s in state],
        (jnp.arange(most, dtype=jnp.uint32), apart),
        length=most,
    )
    ledger.tables.update(_turned(tables, plan))
    last = answered(after, jax.tree.map(lambda x: x.sum(0), apart), op.inside(), Ledger())
    _have_decided(last, key, plan, ledger)
    return _with(_note_sources(start, known, key, plan), after)


def _on_shards(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run the function of a shard on every device; what the devices measure is added up."""
    operands, known = _loose(strands), list[Strand]()
    axes = tuple(sorted(mapped_axes(op.params)))
    devices = plan.devices * math.prod(op.params["mesh"].shape[axis] for axis in axes)

    def run(everywhere: Any, *arrays: tuple[Any, Any, Any]) -> tuple[Any, ...]:
        seed, t, part = everywhere
        given, own, here = _with(operands, arrays), Ledger(), replace(plan, t=t, devices=devices)
        known[:] = walk(op.params["jaxpr"], given, op.inside(key=seed), key, part, here, own)
        tables = {k: x[None] for k, x in own.closed(key, plan).items()}
        return (*[s.arrays for s in known], tables)

    everywhere = op.context.key, plan.t, _below(key, shares)
    spec: Any = jax.sharding.PartitionSpec
    *results, tables = mapped(run, op.params, spec(axes))(everywhere, *[s.arrays for s in operands])
    ledger.tables.update({k: over_turns(x) for k, x in tables.items()})
    return _with(_loose(known), results)


def _have_decided(where: Strand, key: str, plan: Plan, ledger: Ledger) -> None:
    """Have it counted whether the exact program would have gone elsewhere."""
    emulated = widen(where.value.array, plan.dtype)
    plan.elements[key] = plan.devices * emulated.size
    ledger.add(Item(key, emulated, emulated, where.exact, None), plan)


def _chosen(index: Array, runs: Sequence[Callable[..., Any]], arrays: list[Any]) -> Any:
    """Run one of several parts of a program; those that do not run have measures of zero."""
    shapes: dict[str, Any] = {}
    for run in runs:
        shapes.update(jax.eval_shape(run, arrays)[1])

    def complete(run: Callable[..., Any]) -> Callable[..., Any]:
        def completed(arrays: list[Any]) -> Any:
            results, tables = run(arrays)
            blank = {k: jnp.zeros(x.shape, x.dtype) for k, x in shapes.items()}
            return results, {**blank, **tables}

        return completed

    return lax.switch(index, [complete(run) for run in runs], arrays)


def _branched(
    op: Operation, strands: list[Strand], key: str, shares: Shares, plan: Plan, ledger: Ledger
) -> list[Strand]:
    """Run the branch of a `cond` that the emulated run takes."""
    index, *others = strands
    others = _loose(others)
    recorded(op, key, plan)
    known: dict[int, list[Strand]] = {}

    def branch(n: int, program: Any) -> Callable[..., Any]:
        def run(arrays: list[Any]) -> Any:
            own, at = Ledger(), f"{key}:{n}"
            given = _with(others, arrays)
            known[n] = _loose(walk(program, given, op.inside(), at, shares, plan, own))
            return [s.arrays for s in known[n]], own.closed(at, plan)

        return run

    runs = [branch(n, program) for n, program in enumerate(op.params["branches"])]
    arrays, tables = _chosen(index.value.array, runs, [s.arrays for s in others])
    ledger.tables.update(tables)
    _have_decided(index, key, plan, ledger)
    sources = [
        frozenset[str]().union(*(s.sources for s in x)) for x in zip(*known.values(), strict=True)
    ]
    results = _with(known[0], arrays)
    return [s._replace(sources=x) for s, x in zip(results, sources, strict=True)]


HOLDING: dict[str, Holding] = {
    **dict.fromkeys(INLINED, _called),
    "scan": _scanned,
    "while": _repeated,
    "cond": _branched,
    "shard_map": _on_shards,
}
"""What runs the operations that hold programs, by the name of the primitive."""
