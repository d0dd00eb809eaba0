"""`tolerance`: what a test of a function should allow, and which operations make it so much."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim.analysis.bounds.bounded_values import End
from precsim.analysis.bounds.running_bounds import bounded_run
from precsim.formats import notebook
from precsim.transform.policy import Policy

_SHOWN = 6
"""Operations that the text lists."""


class Contribution(NamedTuple):
    """What one operation contributes to a tolerance.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> found = ps.tolerance(lambda x: jnp.sqrt(x * x + 1), np.float32(3), policy="bf16")
    >>> found.contributions[0].place.partition(" ")[0]
    'sqrt'
    """

    share: float
    """Its share of the bounds, from 0 to 1."""
    place: str
    """The operation: primitive, source line, scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a test should allow.

    Parameters
    ----------
    rtol, atol : pytree of float
        For each array of the result: ``|got - exact| <= atol + rtol * |exact|``, as
        `numpy.testing.assert_allclose` has it.
    bound : pytree of ndarray
        Bounds of the errors, element by element, as of `running_bound`.
    value : pytree of ndarray
        What the function gives under the policy.
    contributions : tuple of Contribution
        The operations, the largest share first; empty where a bound is infinite.
    policy : str
        The policy.
    confidence : float, optional
        The probability with which the bounds of sums hold; None: always.
    unlimited : str
        The first operation without a bound, and why; empty if all bounds are finite.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> found = ps.tolerance(jnp.exp, np.float32(1), policy="fp16")
    >>> f"{found.rtol:.1e}", found.atol
    ('4.9e-04', 0.0)
    """

    rtol: Any
    atol: Any
    bound: Any
    value: Any
    contributions: tuple[Contribution, ...]
    policy: str
    confidence: float | None
    unlimited: str = ""

    def __str__(self) -> str:
        """Return the tolerances, and the operations that contribute most."""
        reasons = [self.unlimited] if self.unlimited else []
        return "\n".join([*self._tolerances(), *reasons, *self._derivation()])

    def _tolerances(self) -> list[str]:
        rtols, _ = jax.tree.flatten_with_path(self.rtol)
        lines = []
        others = zip(jax.tree.leaves(self.atol), jax.tree.leaves(self.bound), strict=True)
        for (path, rtol), (atol, bound) in zip(rtols, others, strict=True):
            name = f"{jax.tree_util.keystr(path)}: " if path else ""
            known = f"rtol={rtol:.2g}, atol={atol:.2g}"
            unknown = "no bound" if bound.dtype == float else "the exact ones may be others"
            lines.append(name + (known if math.isfinite(atol) else unknown))
        return lines

    def _derivation(self) -> list[str]:
        parts = [
            f"  {100 * part.share:3.0f} %  {part.place}" for part in self.contributions[:_SHOWN]
        ]
        if not parts:
            return []
        probably = f" with probability {self.confidence:g}" if self.confidence else ""
        return [f"what '{self.policy}' may lose{probably}:", *parts]

    def _repr_html_(self) -> str:
        """Return the text for a notebook."""
        return notebook.preformatted(str(self))


def tolerance(
    fun: Callable[..., Any],
    /,
    *args: Any,
    policy: str | Policy,
    confidence: float | None = None,
    seed: int = 0,
) -> Tolerance:
    """Return what a test of a function should allow: what its formats may lose, and no more.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, which JAX can trace.
    *args : pytree of arrays
        The arguments of the test; tolerances depend on them.
    policy : str or Policy
        The formats and orders in which the tested implementation computes, as of `emulate`:
        "fp32" for float32 on a CPU, in any order.
    confidence : float, optional
        Between 0 and 1: bounds of sums and products that hold with this probability, for rounding
        errors that are independent. They grow with the root of the length. By default they always
        hold.
    seed : int
        Seed of stochastic rounding.

    Returns
    -------
    Tolerance
        `rtol` and `atol` for each array of the result. ``print`` shows them, and which operations
        contribute most.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As of `precsim.running_bound`.

    Notes
    -----
    The errors are bounded element by element by `precsim.running_bound`, which says what
    holds. ``atol + rtol * |exact|`` is above every bound, and of all such pairs the one with the
    least sum over the elements among 33 candidates; both are rounded up to two digits.
    An exact result is what the function has in float64. Two implementations in the same formats may
    differ by twice as much. Where the exact result is infinite or NaN, so is the tested one. The
    share of an operation is what would be left of the bounds if no other one erred: the compiled
    function runs once for each operation.

    Sums are taken in the policy's order; in float32 that is left to the platform, in any order.
    Products in TF32 are another policy ("fwd=tf32_tf32_fp32").

    Examples
    --------
    A sum of squares, and a tolerance for it in two formats:

    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> x = np.linspace(1, 2, 100, dtype=np.float32)
    >>> for policy in ("fp32", "bf16"):
    ...     found = ps.tolerance(lambda x: x @ x, x, policy=policy)
    ...     print(f"{policy}: rtol={found.rtol:.1g}, atol={found.atol:.1g}")
    fp32: rtol=6e-06, atol=0
    bf16: rtol=0.009, atol=0
    """
    found = bounded_run(fun, args, policy, confidence=confidence, seed=seed, has_shares=True)
    pairs = [_pair(x, b) for x, b in zip(found.values, found.bounds, strict=True)]
    parts: dict[str, float] = {}
    if found.shares is not None:
        for place, share in zip(found.places, found.shares.tolist(), strict=True):
            parts[place] = parts.get(place, 0.0) + share
    ordered = sorted(parts.items(), key=lambda part: -part[1])

    def tree_of(leaves: Sequence[Any]) -> Any:
        return jax.tree.unflatten(found.tree, leaves)

    return Tolerance(
        rtol=tree_of([rtol for rtol, _ in pairs]),
        atol=tree_of([atol for _, atol in pairs]),
        bound=tree_of(found.bounds),
        value=tree_of(found.values),
        contributions=tuple(Contribution(share, place) for place, share in ordered if share),
        policy=str(Policy.parse(policy).name),
        confidence=confidence,
        unlimited=_reason(found.unlimited),
    )


_SUMS = ("dot_general", "conv_general_dilated", "ragged_dot_general", "reduce_sum", "cumsum")


def _reason(end: End | None) -> str:
    """Return why there is no bound, and what there is instead."""
    if end is None:
        return ""
    if not end.is_real:
        why = "errors of its operands may give another integer or Boolean"
    elif end.has_infinite:
        why = "its result overflows or is NaN"
    elif end.primitive in ("cond", "while"):
        why = "the exact run may go another way"
    elif end.primitive in _SUMS:
        why = "its terms times u are 1 or more"
    else:
        why = "errors of its operands may bring it to a pole, or out of its domain"
    return f"no bound from {end} on: {why}; significant_digits samples such errors"


def _pair(values: np.ndarray, bounds: np.ndarray) -> tuple[float, float]:
    """Return the relative and the absolute tolerance of an array."""
    if bounds.dtype != float:
        return 0.0, math.inf if bounds.any() else 0.0
    bound = bounds.ravel()
    if not bound.size:
        return 0.0, 0.0
    if not np.isfinite(bound).all():
        return 0.0, math.inf
    # What is infinite or NaN with a finite bound is so in the exact result: no error is allowed.
    number = values.ravel().astype(float)
    number, bound = number[np.isfinite(number)], bound[np.isfinite(number)]
    if not bound.size:
        return 0.0, 0.0
    # The exact result is at least this large.
    size = np.maximum(np.abs(number) - bound, 0)
    ratios = np.divide(bound, size, out=np.zeros_like(bound), where=size > 0)
    total = float(size.sum())

    def cost(rtol: float) -> float:
        atol = max(float(np.max(bound - rtol * size)), 0.0)
        allowed: float = atol * size.size + rtol * total
        is_mixed = atol > 1e-12 * float(bound.max())
        return 1.05 * allowed if is_mixed else allowed  # rtol alone, if it will do

    candidates: list[float] = [0.0, *np.quantile(ratios, np.linspace(0, 1, 32)).tolist()]
    rtol = _rounded_up(min(candidates, key=cost))
    return rtol, _rounded_up(float(np.max(bound - rtol * size)))


def _rounded_up(x: float) -> float:
    """Return a number of two decimal digits that is no smaller; 0 for what is below."""
    if x <= 0:
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / digit * (1 - 1e-12)) * digit:.2g}") if digit > 0 else x
