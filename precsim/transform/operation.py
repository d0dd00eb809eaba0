"""One operation of an emulated program, as its rule sees it; rules stand in a registry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import jax.numpy as jnp

from precsim._arrays import Array
from precsim.formats.arguments import shown
from precsim.rounding.scaled.scale import Scale
from precsim.rounding.spec import RoundingSpec
from precsim.transform import jaxprs
from precsim.transform.policy import Policy
from precsim.transform.rounded import Place, nearest_value, with_rounded_cotangent
from precsim.transform.treatment import How, Record
from precsim.transform.values import (
    Format,
    Value,
    common_origin,
    format_of,
    has_all_of,
    is_float,
    is_known,
    rounds_nothing,
    widened,
)
from precsim.transform.watch import NOTHING, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where in a program its operations stand, and under which policy.

    Parameters
    ----------
    policy : Policy
        With its rules; `Operation.policy` is what they say for one operation.
    backend : str
        Backend of the products, as of `emulate`.
    strict : bool
        Whether an operation without a rule is refused.
    key : jax.Array
        Key of the random bits; inside a loop, that of one turn.
    scope : str
        The named scopes and functions around, joined by "/".
    path : str
        The equations around, by number: no two places of random bits have the same.
    line : str
        The user's source line around: programs that JAX keeps for later calls have none inside.
    is_backward : bool
        Whether this belongs to the backward pass.
    compute : callable, optional
        What computes an operation instead of the rules of emulation.
    records : dict, optional
        Where operations are written down, by path and equation: a loop that is traced again
        writes them down once.
    times : int
        How often this runs: the turns of the scans around, multiplied.
    count : callable, optional
        It is told the path of each `while_loop` that ends, and how many turns it took.
    most_turns : jax.Array, optional
        Every `while_loop` stops after as many turns.
    watch : Watch, optional
        It is told of each rounding, and of the largest magnitude of each operand under delayed
        scaling. Then the program is not differentiated.
    scales : mapping of str to Scale, optional
        Scales of operands of products that have a state, by their names; see
        `transform.tensor_scaling`.
    """

    policy: Policy
    backend: str
    strict: bool
    key: Array = field(compare=False)
    scope: str = ""
    path: str = ""
    line: str = ""
    is_backward: bool = False
    compute: "Rule | None" = field(default=None, compare=False)
    records: dict[tuple[str, int], Record] | None = field(default=None, compare=False)
    times: int = 1
    count: Callable[[str, Any], None] | None = field(default=None, compare=False)
    most_turns: Array | None = field(default=None, compare=False)
    watch: Watch | None = field(default=None, compare=False)
    scales: Mapping[str, Scale] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Operation:
    """An equation of a program, with the values of its operands."""

    context: Context
    eqn: Any
    operands: list[Value]
    user: str = ""
    """The one operation that uses the result; empty if there are several."""

    @property
    def name(self) -> str:
        """The name of the primitive."""
        name: str = self.eqn.primitive.name
        return name

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the primitive."""
        params: dict[str, Any] = self.eqn.params
        return params

    @cached_property
    def line(self) -> str:
        """The user's file, line and function that this stems from, or nothing."""
        return jaxprs.source_line(self.eqn) or self.context.line

    @cached_property
    def policy(self) -> Policy:
        """The policy of the scope in which the operation stands."""
        return self.context.policy.at(self.context.scope)

    @property
    def scope(self) -> str:
        """The named scopes and functions around, joined by "/"."""
        return self.context.scope

    @property
    def spec(self) -> RoundingSpec:
        """The rounding of elementwise results here."""
        return self.policy.elementwise

    @property
    def is_exact_everywhere(self) -> bool:
        """Whether the policy wants bits that no platform decides."""
        return self.policy.functions == "portable"

    @property
    def place(self) -> Place:
        """Where the random bits of this operation come from."""
        return Place(self.context.key, self.context.path)

    @property
    def arrays(self) -> list[Array]:
        """The operands without what is known of them."""
        return [value.array for value in self.operands]

    @property
    def is_watched(self) -> bool:
        """Whether roundings are counted; then nothing is differentiated."""
        return self.context.watch is not None

    def bind(self, *arrays: Array) -> list[Array]:
        """Run the program's own operation."""
        return jaxprs.bind(self.eqn, arrays)

    def rounds_nothing(self, spec: RoundingSpec) -> bool:
        """Return whether all numbers of the operands and results are of a format already."""
        atoms = [*self.eqn.invars, *self.eqn.outvars]
        return all(rounds_nothing(spec, a.aval.dtype) for a in atoms if is_float(a.aval))

    def brought(self, n: int, spec: RoundingSpec, *, has_one_use: bool = False) -> Array:
        """Return an operand in the carrier, its numbers rounded to the format of a spec."""
        value = self.operands[n]
        if is_known(value, spec.format):
            return widened(value.array)
        place = Place(self.context.key, f"{self.context.path}/operand {n}")
        has_one_use = has_one_use and not self.is_watched
        y = nearest_value(widened(value.array), spec, place, has_one_use=has_one_use)
        self.note(value.array, y, spec)
        return y

    def note(self, before: Array, after: Array, spec: RoundingSpec) -> None:
        """Let a rounding be counted, if anybody counts."""
        context = self.context
        if context.watch is not None:
            pair = widened(before), widened(after)
            context.watch.rounding(context.scope, *pair, spec, is_backward=context.is_backward)

    def count(self, events: Array) -> None:
        """Add events that are counted already, int32 of shape (7,)."""
        one = {self.context.scope: events}
        if self.context.watch is not None:
            way = {"backward": one} if self.context.is_backward else {"forward": one}
            self.context.watch.add(NOTHING._replace(**way))

    def result(
        self, y: Array, fmt: Format | None, *, cotangent: RoundingSpec | None = None, n: int = 0
    ) -> Value:
        """Return a computed array as a value of the program, in the dtype that it has there.

        Its cotangent is rounded by a spec, where one is given.
        """
        dtype = self.eqn.outvars[n].aval.dtype
        if y.dtype != dtype:
            own = format_of(dtype)
            if fmt is None or not has_all_of(own, fmt):
                if fmt is not None:
                    self._record_second(own)
                fmt = own
                y = nearest_value(y, RoundingSpec(format=own), self.place)
            y = y.astype(dtype)
        if cotangent is not None and not self.is_watched and not rounds_nothing(cotangent, dtype):
            y = with_rounded_cotangent(y, cotangent, self.place)
        origin = common_origin(self.operands, is_backward=self.context.is_backward)
        return Value(y, fmt, None, origin)

    def rounded(
        self, y: Array, spec: RoundingSpec, n: int = 0, *, has_one_use: bool = False
    ) -> Value:
        """Round a computed array, and in the backward pass its cotangent."""
        has_one_use = has_one_use and not self.is_watched
        before, y = y, nearest_value(widened(y), spec, self.place, has_one_use=has_one_use)
        self.note(before, y, spec)
        return self.result(y, spec.format, cotangent=spec, n=n)

    def as_it_is(self) -> list[Value]:
        """Run the program's own operation; nothing is known of the results."""
        origin = common_origin(self.operands, is_backward=self.context.is_backward)
        return [Value(y, None, None, origin) for y in self.bind(*self.arrays)]

    def record(self, how: How, fmt: object = "") -> None:
        """Write down how the operation was treated."""
        records, context, eqn = self.context.records, self.context, self.eqn
        if records is not None:
            used, result = _formats(eqn.invars), _formats(eqn.outvars)
            records[context.path, id(eqn)] = Record(
                primitive=self.name,
                line=self.line,
                scope=context.scope,
                is_backward=context.is_backward,
                how=how,
                dtype=used if used == result else f"{used}->{result}",
                format=str(fmt) or result,
                times=context.times,
            )

    def _record_second(self, own: Format) -> None:
        """Write down that a result is rounded once more, to a dtype that lacks its format."""
        records, place = self.context.records or {}, (self.context.path, id(self.eqn))
        record, second = records.get(place), f", then {own}"
        if record is not None and record.how is not How.CAST and second not in record.format:
            records[place] = record._replace(format=record.format + second)

    def inside(
        self,
        name: str = "",
        *,
        key: Array | None = None,
        turns: int = 1,
        watch: Watch | None = None,
    ) -> Context:
        """Return the context of a program that the operation holds, and runs this often.

        `watch` counts inside, where that is a loop or a branch.
        """
        context = self.context
        scope = "/".join(part for part in (context.scope, name) if part)
        key = context.key if key is None else key
        times = context.times * turns
        watch = context.watch if watch is None else watch
        return replace(context, scope=scope, line=self.line, key=key, times=times, watch=watch)


def _formats(atoms: Sequence[Any]) -> str:
    """Return the formats of the dtypes of those that are inexact, each once."""
    dtypes = [getattr(atom.aval, "dtype", None) for atom in atoms]
    floats = [d for d in dtypes if d is not None and jnp.issubdtype(d, jnp.inexact)]
    names = [str(format_of(d)) if jnp.issubdtype(d, jnp.floating) else str(d) for d in floats]
    return " ".join(dict.fromkeys(names))


Rule: TypeAlias = Callable[[Operation], list[Value]]

RULES: dict[str, Rule] = {}
"""By the name of the primitive."""

COMPLEX_RULES: dict[str, Rule] = {}
"""Of operations on complex numbers, by the name of the primitive."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorate the rule of these primitives."""
    return partial(_register, RULES, names)


def complex_rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorate the rule of these primitives on complex numbers."""
    return partial(_register, COMPLEX_RULES, names)


def _register(rules: dict[str, Rule], names: Sequence[str], function: Rule) -> Rule:
    rules.update(dict.fromkeys(names, function))
    return function


def register_rule(
    primitive: Any, function: Callable[..., Array | Sequence[Array]] | None = None
) -> Any:
    """Say how `emulate` computes a primitive of your own.

    Parameters
    ----------
    primitive : str or jax.extend.core.Primitive
        The primitive, or its name. A rule that it has already is replaced.
    function : callable
        ``function(operation, *arrays)`` returns the result, or a sequence of results. The arrays
        are the operands in the carrier, rounded to the format of the policy's elementwise
        operations. `operation` has `bind` (the primitive itself), `params`, `policy`, `spec` (the
        policy's rounding of elementwise results at this place) and `scope`. The result is rounded
        by `spec` if it is not a value of that format. Without it, this is a decorator.

    Returns
    -------
    callable
        The function.

    Raises
    ------
    TypeError
        If `primitive` is no primitive and no name, or `function` cannot be called.

    Notes
    -----
    The derivative is that of what the function computes. A rule counts for the whole process, from
    the next trace on.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> @ps.register_rule("symmetric_product")
    ... def symmetric_product(operation, *arrays):
    ...     return operation.bind(*arrays)  # in float32
    >>> square = ps.emulate(jax.lax.linalg.symmetric_product, "bf16")
    >>> square(jnp.full((1, 2), 0.3), jnp.zeros((1, 1))).tolist()
    [[0.1806640625]]
    """
    name = getattr(primitive, "name", primitive)
    if not isinstance(name, str):
        raise TypeError(
            f"primitive is {shown(primitive)}; allowed are a primitive of JAX or its name"
        )
    if function is None:
        return lambda function: register_rule(name, function)
    if not callable(function):
        raise TypeError(f"function is {shown(function)}; allowed is a function of arrays")

    def own_rule(operation: Operation) -> list[Value]:
        spec = operation.spec
        arrays = [
            operation.brought(n, spec) if is_float(value.array) else value.array
            for n, value in enumerate(operation.operands)
        ]
        results: Any = function(operation, *arrays)
        operation.record(How.COMPUTED, spec)
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        _check_results(name, results, operation.eqn.outvars)
        return [
            operation.rounded(jnp.asarray(y), spec, n) if is_float(y) else Value(y)
            for n, y in enumerate(results)
        ]

    RULES[name] = own_rule
    return function


def _check_results(name: str, results: list[Any], wanted: Sequence[Any]) -> None:
    """Refuse the results of a user's rule unless shapes and kinds are those of the primitive."""
    allowed = [(atom.aval.shape, is_float(atom.aval)) for atom in wanted]
    given = [
        (x.shape, is_float(x)) if hasattr(x, "shape") and hasattr(x, "dtype") else None
        for x in results
    ]
    if given != allowed:
        texts = ", ".join(str(atom.aval) for atom in wanted)
        raise TypeError(
            f"the rule for {name!r} returns {shown(results)}; allowed are arrays of shapes and kinds "
            f"{texts}"
        )
