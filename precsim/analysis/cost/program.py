"""A program of JAX as a flat list of steps: calls and loops are opened, and arrays keep one name.

An array that is only reshaped, transposed or broadcast is the same `Tensor` before and after, and
so are the rows that a `scan` takes from an array or stacks to one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import jax

from precsim.transform import jaxprs
from precsim.transform.emulate import Traced
from precsim.transform.interpreter import context_of, ruled
from precsim.transform.operation import Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.rules.control import CALLS, called_program
from precsim.transform.values import Origin, Value, common_origin, is_inexact

HOLDING = frozenset(
    [
        *(*CALLS, "remat2", "checkpoint", "remat", "shard_map"),
        *("custom_jvp_call", "custom_vjp_call", "custom_vmap_call"),
    ]
)
"""Primitives with one program, which they run once, on all their operands."""

_REARRANGES = frozenset(
    [
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "copy", "copy_p"),
        *("name", "stop_gradient", "convert_element_type", "reduce_precision"),
    ]
)
"""Primitives with one operand, whose result a machine need not store beside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array that a program is given, or computes."""

    shape: tuple[int, ...]
    dtype: Any
    origin: Origin
    is_backward: bool = False
    """Whether a step of the backward pass computes it."""
    times: int = 1
    """How many of them there are: one for each turn of the scans around."""
    is_constant: bool = False
    """Whether it is computed from no argument."""

    @property
    def size(self) -> int:
        """The number of its elements, in all turns."""
        return math.prod(self.shape) * self.times

    @property
    def value(self) -> Value:
        """The tensor as an operand of an operation."""
        return Value(self, None, None, self.origin)


class Step(NamedTuple):
    """An operation, and the tensors that it computes."""

    op: Operation
    results: list[Tensor]

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that it reads."""
        return cast("list[Tensor]", self.op.arrays)


class Link(NamedTuple):
    """Tensors of which others are made without any work: what a loop carries, a branch returns."""

    operands: list[Tensor]
    results: list[Tensor]


@dataclass(frozen=True, slots=True)
class Program:
    """The steps of a program whose results somebody needs, in their order."""

    inputs: list[Tensor]
    steps: list[Step]
    outputs: list[Tensor]

    def readers(self) -> dict[Tensor, list[tuple[Step, int]]]:
        """Return, for each tensor that is read, the steps that do, and as which operand."""
        found: dict[Tensor, list[tuple[Step, int]]] = defaultdict(list)
        for step in self.steps:
            for n, tensor in enumerate(step.operands):
                found[tensor].append((step, n))
        return found

    def sources(self) -> dict[Tensor, Step]:
        """Return the step that computes each tensor."""
        return {tensor: step for step in self.steps for tensor in step.results}


def flat_program(traced: Traced, policy: Policy) -> Program:
    """Return the steps of a traced function; the policy says which scopes they are in."""
    inputs = [
        Tensor(x.shape, x.dtype, origin)
        for x, origin in zip(traced.arrays, traced.origins, strict=True)
    ]
    opening = _Opening()
    context = Context(policy=policy, backend="auto", strict=False, key=jax.random.key(0))
    outputs = opening.run(traced.program, inputs, context)
    return Program(inputs, opening.needed(outputs), outputs)


@dataclass(slots=True)
class _Opening:
    """Writes down the steps of a program, and of those inside."""

    made: list[Step | Link] = field(default_factory=list)

    def run(self, program: Any, operands: Sequence[Tensor], context: Context) -> list[Tensor]:
        """Return the results of a program."""
        jaxpr = jaxprs.opened(program)
        known: dict[Any, Tensor] = {v: _constant(v.aval) for v in jaxpr.constvars}
        known.update(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Any) -> Tensor:
            return known[atom] if jaxprs.is_variable(atom) else _constant(atom.aval)

        for n, eqn in enumerate(map(ruled, jaxpr.eqns)):
            here, _ = context_of(eqn, n, context)
            op = Operation(here, eqn, [read(atom).value for atom in eqn.invars])
            known.update(zip(eqn.outvars, self._results(op), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _results(self, op: Operation) -> list[Tensor]:
        params, tensors = op.params, cast("list[Tensor]", op.arrays)
        match op.name:
            case name if name in HOLDING:
                program = called_program(op.eqn)
                return self.run(program, tensors, op.inside(str(params.get("name", ""))))
            case "cond":
                runs = [self.run(b, tensors[1:], op.inside()) for b in params["branches"]]
                return [
                    self._linked(op, [tensors[0], *branches], atom.aval)
                    for *branches, atom in zip(*runs, op.eqn.outvars, strict=True)
                ]
            case "while":
                first = params["cond_nconsts"]
                last = first + params["body_nconsts"]
                return self._loop(op, tensors[first:last], tensors[last:], [], tensors[:first])
            case "scan":
                first, carried = jaxprs.scan_counts(params)
                last = first + carried
                return self._loop(op, tensors[:first], tensors[first:last], tensors[last:])
            case name if name in _REARRANGES and _is_same_kind(tensors[0], op.eqn.outvars[0].aval):
                return tensors[:1]
        results = [_made(op, atom.aval) for atom in op.eqn.outvars]
        self.made.append(Step(op, results))
        return results

    def _loop(
        self,
        op: Operation,
        fixed: list[Tensor],
        first: list[Tensor],
        rows: list[Tensor],
        asked: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Open the body of a loop, once, and the condition of a `while_loop`."""
        inside = op.inside(turns=int(op.params.get("length", 1)))
        body = op.params["jaxpr" if asked is None else "body_jaxpr"]
        turns = jaxprs.opened(body).invars[len(fixed) : len(fixed) + len(first)]
        carried = [_made(op, atom.aval, times=inside.times) for atom in turns]
        results = self.run(body, [*fixed, *carried, *rows], inside)
        goes_on = []
        if asked is not None:
            goes_on = self.run(op.params["cond_jaxpr"], [*asked, *carried], inside)
        for turn, before, after in zip(carried, first, results, strict=False):
            self.made.append(Link([before, after, *goes_on], [turn]))
        pairs = zip(results[: len(first)], op.eqn.outvars, strict=False)
        last = [self._linked(op, [x], atom.aval) for x, atom in pairs]
        return [*last, *results[len(first) :]]

    def _linked(self, op: Operation, operands: list[Tensor], aval: Any) -> Tensor:
        result = _made(op, aval, operands)
        self.made.append(Link(operands, [result]))
        return result

    def needed(self, outputs: Sequence[Tensor]) -> list[Step]:
        """Return the steps from which results follow; JAX leaves others in its programs."""
        sources = {tensor: each for each in self.made for tensor in each.results}
        seen: set[int] = set()
        left = list(outputs)
        while left:
            source = sources.get(left.pop())
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                left += source.operands
        return [each for each in self.made if isinstance(each, Step) and id(each) in seen]


def _constant(aval: Any) -> Tensor:
    return Tensor(aval.shape, aval.dtype, Origin.WEIGHTS, is_constant=True)


def _made(
    op: Operation, aval: Any, operands: Iterable[Tensor] = (), *, times: int | None = None
) -> Tensor:
    """Return a tensor that an operation makes of its operands, or of those given."""
    tensors = [*operands] or cast("list[Tensor]", op.arrays)
    is_backward = op.context.is_backward
    return Tensor(
        tuple(aval.shape),
        aval.dtype,
        common_origin([x.value for x in tensors], is_backward=is_backward),
        is_backward,
        op.context.times if times is None else times,
        all(x.is_constant for x in tensors),
    )


def _is_same_kind(tensor: Tensor, aval: Any) -> bool:
    """Return whether numbers stay numbers with a point, or stay integers."""
    return tensor.dtype == aval.dtype or (is_inexact(tensor) and is_inexact(aval))
