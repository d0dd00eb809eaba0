"""Numbers of an emulated program, each with a bound on its distance from the exact one."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.account.wide import widen
from precsim.analysis.bounds.error_propagation import product
from precsim.analysis.bounds.local_errors import Likelihood
from precsim.transform import jaxprs
from precsim.transform.operation import Operation
from precsim.transform.values import Value, is_float

_SLACK = 1 + 2.0**-30
"""Covers the rounding of the bounds themselves, which are computed in float64."""


def in_float64(x: Any) -> Array:
    """Return real numbers in float64, exactly; other arrays as they are."""
    wide: Array = widen(x, np.float64)
    return wide


class Bounded(NamedTuple):
    """A value of an emulated program, and how far it may be from that of the exact program.

    Parameters
    ----------
    value : Value
        What the emulated program has.
    bound : jax.Array
        For real numbers a bound on the error, in float64; for integers and Booleans whether the
        exact program may have another one.
    """

    value: Value
    bound: Array

    @property
    def array(self) -> Array:
        """The emulated numbers."""
        array: Array = self.value.array
        return array

    @property
    def is_real(self) -> bool:
        """Whether these are real numbers."""
        return is_float(self.value.array)


def exact(value: Value) -> Bounded:
    """Return a value that the exact program has too."""
    dtype = jnp.float64 if is_float(value.array) else jnp.bool_
    return Bounded(value, jnp.zeros(jnp.shape(value.array), dtype))


def as_bounded(value: "Value | Bounded") -> Bounded:
    """Return a value with its bound; constants of a program are exact."""
    return value if isinstance(value, Bounded) else exact(value)


def bounded(value: Value, bound: Any) -> Bounded:
    """Return a value with a bound, which is infinite where nothing is known."""
    if not is_float(value.array):
        return Bounded(value, jnp.broadcast_to(bound, value.array.shape))
    known = jnp.where(jnp.isnan(bound), jnp.inf, bound * _SLACK)
    return Bounded(value, jnp.broadcast_to(known, value.array.shape))


def spoiled(given: Bounded, where: Any) -> Bounded:
    """Return a value of which nothing is known where a Boolean says so."""
    if given.is_real:
        return given._replace(bound=jnp.where(where, jnp.inf, given.bound))
    return given._replace(bound=given.bound | where)


def differs_anywhere(given: list[Bounded]) -> Any:
    """Return whether any integer or Boolean among values may differ from the exact one."""
    flags = [jnp.any(each.bound) for each in given if not each.is_real]
    return jnp.any(jnp.stack(flags)) if flags else jnp.bool_(False)


class End(NamedTuple):
    """An operation without a bound, though its operands have bounds."""

    primitive: str
    place: str
    has_infinite: bool
    """Whether a result is infinite or NaN itself."""
    is_real: bool
    """Whether real numbers lose their bound here; else integers or Booleans may differ."""

    def __str__(self) -> str:
        """Return primitive, line and scope."""
        return self.place


def _place(op: Operation) -> str:
    scope = f" in {op.scope}" if op.scope else ""
    line = re.split(r"[/\\](?=[^/\\]*:)", op.line)[-1] or jaxprs.NOWHERE
    return f"{op.name} at {line}{scope}"


def _any_infinite(arrays: list[Any]) -> Any:
    return jnp.any(jnp.stack([jnp.any(~jnp.isfinite(x)) for x in arrays] or [jnp.bool_(False)]))


def _ends(given: list[Bounded], results: list[Bounded]) -> tuple[Any, Any]:
    """Return whether real numbers lose their bound, and whether other ones begin to differ."""
    before, after = ([each for each in x if each.is_real] for x in (given, results))
    loses = _any_infinite([each.bound for each in after])
    loses &= ~_any_infinite([each.bound for each in before])
    return loses, differs_anywhere(results) & ~differs_anywhere(given)


def _note(
    ends: dict[int, End],
    number: int,
    name: str,
    place: str,
    loses: Any,
    differs: Any,
    has_infinite: Any,
) -> None:
    if (loses or differs) and number not in ends:
        ends[number] = End(name, place, bool(has_infinite), bool(loses))


@dataclass
class Walk:
    """One walk through a program: what it needs, and what it writes down.

    Parameters
    ----------
    likelihood : Likelihood
        With which probability bounds of sums shall hold.
    weights : jax.Array, optional
        Factors on what each operation adds to the errors, by its number.
    places : dict
        The operations that add to the errors, in order: by path and equation, for people.
    cancelled : dict
        Operands whose errors do not count, by the identity of the equation; see `compensated`.
    num_sums : int
        How many sums there are, those of all turns of loops together.
    unlimited : dict, optional
        Filled while the program runs: operations without a bound whose operands have bounds, by
        their numbers in the program.
    """

    likelihood: Likelihood = field(default_factory=Likelihood)
    weights: Any = None
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    cancelled: dict[int, tuple[int, ...]] = field(default_factory=dict)
    num_sums: int = 0
    unlimited: dict[int, End] | None = None
    _operations: int = 0

    def added(self, op: Operation, error: Any) -> Any:
        """Write down an operation that adds to the errors; return its error, times its factor."""
        key = op.context.path, id(op.eqn)
        self.places.setdefault(key, _place(op))
        if self.weights is None:
            return error
        return product(error, self.weights[list(self.places).index(key)])

    def watch(self, op: Operation, given: list[Bounded], results: list[Bounded]) -> None:
        """Have it written down, if that is asked for, that bounds end with an operation."""
        if self.unlimited is None:
            return
        self._operations += 1
        numbers = [each.array for each in results if each.is_real]
        note = partial(_note, self.unlimited, self._operations, op.name, _place(op))
        jax.debug.callback(note, *_ends(given, results), _any_infinite(numbers))

    def counting(self, op: Operation, given: list[Bounded]) -> list[Bounded]:
        """Return the operands of an operation, without errors that others take back."""
        numbers = self.cancelled.get(id(op.eqn), ())
        return [exact(each.value) if n in numbers else each for n, each in enumerate(given)]

    def of_sums(self, op: Operation) -> Likelihood:
        """Write down the sums of an operation; return with which probability each shall hold."""
        self.num_sums += op.eqn.outvars[0].aval.size * op.context.times
        return self.likelihood
