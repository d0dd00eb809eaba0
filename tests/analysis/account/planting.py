"""Bad operations, planted one at a time into emulated programs; a run says which one, and how bad.

An analysis is compiled once: its program takes an array ``[kind, place]``, and every operation
chooses by it between its own result and bad ones.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim.analysis.account.account import Account, Analysis
from precsim.analysis.account.measures import FIELDS
from precsim.transform.emulate import key_of, trace
from precsim.transform.interpreter import apply
from precsim.transform.operation import Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.treatment import How
from precsim.transform.values import Value

BASE = "c=fp16,o=fp16,red=bf16"
KINDS = {
    "3 bits": ("float(e=5,p=3)", (How.ROUNDED, How.COMPUTED)),
    "sequential order": (f"{BASE},order=sequential", (How.SUM,)),
    "flushed subnormals": (f"{BASE},e=fp16:flush_after_rounding", (How.ROUNDED, How.COMPUTED)),
    "narrow accumulator": (f"{BASE},acc=float(e=8,p=4)", (How.PRODUCT,)),
}
"""By name: the policy of a bad operation, and what operations it can befall."""
NOTHING = np.array([-1, -1], np.int32)


class Garden(NamedTuple):
    """A function of arrays, and what makes its arguments."""

    fun: Callable[..., Any]
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]


class Outcome(NamedTuple):
    """What an account says of a planting."""

    kind: str
    operation: str
    growth: float
    """Error of the results, over what it was before, or over the gross if that is larger."""
    rank: int
    """Place of the bad operation among the shares of the distance; 1 is the largest."""
    part: float
    """Its share over the sum of the magnitudes of all."""
    moved: float
    """What the shares of operations that do not depend on it moved by, over their gross."""
    swollen: float
    """Gross of the operations that do depend on it, over the same without the planting."""


@dataclass
class Soil:
    """A function into which bad operations can be planted.

    Parameters
    ----------
    fun : callable
        A function of arrays.
    args : tuple
        Arguments of the shapes that it will have.
    places : list
        The paths of the operations, in the order in which they are first traced.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    places: list[str] = field(default_factory=list)
    analysis: Analysis = field(init=False)
    nowhere: Any = field(init=False)
    chosen: Any = None

    def __post_init__(self) -> None:
        """Trace the function."""
        policies = [(Policy.parse(text), hows) for text, hows in KINDS.values()]

        def computed(op: Operation) -> list[Value]:
            """Return the results of an operation, bad ones where it is the chosen one."""
            path, context = op.context.path, op.context
            if path == "/0":
                self.chosen = op.operands[0].array
            values = apply(op)
            record = (context.records or {}).get((path, id(op.eqn)))
            if record is None or not any(record.how in hows for _, hows in policies):
                return values
            if path not in self.places:
                self.places.append(path)
            place = self.places.index(path)
            for kind, (policy, hows) in enumerate(policies):
                if record.how in hows:
                    bad = apply(replace(op, context=replace(context, policy=policy, records=None)))
                    is_it = (self.chosen == jnp.array([kind, place])).all()
                    values = [
                        good._replace(array=jnp.where(is_it, worse.array, good.array))
                        for good, worse in zip(values, bad, strict=True)
                    ]
            return values

        def planted(chosen: Any, wants: Any, exact: Any, args: Any) -> Any:
            return chosen + 1, wants, exact, self.fun(*args)

        context = Context(
            policy=Policy.parse(BASE),
            backend="auto",
            strict=True,
            key=key_of(0),
            compute=computed,
        )
        shape = jax.eval_shape(self.fun, *self.args)
        self.nowhere = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shape)
        traced = trace(planted, (NOTHING, np.float32(0), self.nowhere, self.args), {}, None)
        self.analysis = Analysis(traced, context, _asked, "fp64", 1, False, False)

    def account(
        self, args: Any, exact: Any = None, *, of_projection: bool, planting: Any = NOTHING
    ) -> Account:
        """Return the account of the distance from the exact results, or of a projection."""
        exact = self.nowhere if exact is None else exact
        asked = planting, np.float32(of_projection), exact, args
        return self.analysis.run(jax.tree.leaves(asked))

    def candidates(self, account: Account) -> dict[str, list[int]]:
        """Return the operations that each kind of planting can befall, by number."""
        found: dict[str, list[int]] = {}
        for kind, (_, hows) in KINDS.items():
            for n, path in enumerate(self.places):
                is_one = account.operations.records[path].how in hows
                if kind == "flushed subnormals":
                    is_one = is_one and _measure(account, path, "subnormal") > 0
                if is_one:
                    found.setdefault(kind, []).append(n)
        return found

    def outcome(self, kind: str, place: int, args: Any, before: Account) -> Outcome:
        """Plant, and compare with the account of the projection without the planting."""
        exact, path = before.exact[3], self.places[place]
        planting = np.array([list(KINDS).index(kind), place], np.int32)
        distance = self.account(args, exact, of_projection=False)
        grown = self.account(args, exact, of_projection=False, planting=planting)
        after = self.account(args, exact, of_projection=True, planting=planting)
        sizes = {key: abs(share.sum()) for key, share in grown.shares.items()}
        above = dependents(grown, path)
        apart = [key for key in grown.shares if key != path and key not in above]
        for key in apart:  # what does not depend on the planting errs by the same bits
            assert _measure(before, key, "error2") == _measure(after, key, "error2")
        moved = sum(abs(after.shares[k].sum() - before.shares[k].sum()) for k in apart)
        return Outcome(
            kind,
            f"{grown.operations.records[path].primitive} {path}",
            grown.value / max(distance.value, gross(distance, distance.shares)),
            1 + sum(size > sizes[path] for size in sizes.values()),
            sizes[path] / sum(sizes.values()),
            _ratio(moved, gross(before, apart)),
            _ratio(gross(after, above), gross(before, above)),
        )


def blind(garden: Garden, seed: int, count: int, *, least: float = 2.0) -> Iterator[Outcome]:
    """Yield the outcomes of plantings that are drawn by seed, each with arguments of its own.

    Operations whose `growth` is less than `least` are not bad: the error is of the size that all
    others make anyway. Others are drawn for them, and not more than ten for each.
    """
    rng = np.random.default_rng(seed)
    soil = Soil(garden.fun, garden.arguments(rng))
    for _ in range(10 * count):
        args = garden.arguments(rng)
        before = soil.account(args, of_projection=True)
        found = soil.candidates(before)
        kind = list(found)[rng.integers(len(found))]
        outcome = soil.outcome(kind, int(rng.choice(found[kind])), args, before)
        yield outcome
        count -= outcome.growth >= least
        if not count:
            return


def gross(account: Account, keys: Iterable[str]) -> float:
    """Return the sum of the magnitudes of shares."""
    return float(sum(abs(account.shares[key].sum()) for key in keys))


def _measure(account: Account, path: str, name: str) -> float:
    return float(account.measures[account.operations.keys.index(path), FIELDS.index(name)])


def _ratio(x: float, y: float) -> float:
    return x / y if y else 0.0


def dependents(account: Account, path: str) -> set[str]:
    """Return the operations that take what an operation computes, directly or not."""
    takers: dict[str, set[str]] = {}
    for taker, given in account.operations.operands.items():
        for key in given:
            takers.setdefault(key, set()).add(taker)
    seen: set[str] = set()
    rest = [path]
    while rest:
        new = takers.get(rest.pop(), set()) - seen
        seen |= new
        rest.extend(new)
    return {key for key in seen - {path} if key in account.shares}


def _asked(result: Any) -> Any:
    """Return a fixed projection of the results, or their distance from the exact ones."""
    _, wants_projection, exact, found = result
    found, exact = (
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (found, exact)
    )
    weights = np.random.default_rng(0).standard_normal(found.size).astype(np.float32)
    distance = jnp.sqrt(jnp.sum((found - exact) ** 2))
    return jnp.where(wants_projection > 0, found @ weights, distance)
