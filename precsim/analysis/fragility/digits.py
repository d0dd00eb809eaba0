"""Significant digits of a result, estimated from runs whose roundings are random."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import t as student

from precsim._arrays import Array
from precsim.analysis.compiling import compiler_options
from precsim.analysis.fragility.random_rounding import compute_at_random, stochastic
from precsim.formats.arguments import integer, shown
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import real
from precsim.transform.emulate import check_rules, key_of, trace
from precsim.transform.interpreter import evaluate
from precsim.transform.noise import fold_in
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function, with_arrays
from precsim.transform.values import Format, format_of, real_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class SignificantDigits:
    """What runs with random roundings have in common.

    Parameters
    ----------
    mean : pytree of ndarray
        Mean of the runs, in float64.
    digits : pytree of ndarray
        Decimal digits of each element of the mean that are significant.
    deviation : pytree of ndarray
        Standard deviation of one run, in the unit of the result.
    samples : int
        Number of runs.
    confidence : float
        Probability with which the mean has that many digits.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> print(ps.significant_digits(jnp.sqrt, np.float32(2), policy="e=bf16"))
    2.4 significant digits (8 runs, confidence 0.95)
    """

    mean: Any
    digits: Any
    deviation: Any
    samples: int
    confidence: float

    @property
    def least(self) -> float:
        """The digits of the worst element; NaN if a run is not finite somewhere."""
        return min(_numbers(self.digits), default=math.inf)

    def __str__(self) -> str:
        """Return a sentence."""
        found = _numbers(self.digits)
        low, high = min(found, default=math.inf), max(found, default=math.inf)
        among = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
        runs = f"{self.samples} runs, confidence {self.confidence:g}"
        return f"{among} significant digits ({runs})"


def _numbers(tree: Any) -> list[float]:
    """Return all numbers of a tree, or a single NaN if there is one."""
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    numbers = np.concatenate(leaves).tolist() if leaves else []
    return [math.nan] if any(map(math.isnan, numbers)) else numbers


def significant_digits(
    fun: Callable[..., Any],
    /,
    *args: Any,
    policy: str | Policy,
    samples: int = 8,
    confidence: float = 0.95,
    seed: int = 0,
) -> SignificantDigits:
    """Estimate how many decimal digits of a result are significant, by rounding stochastically.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, which JAX can trace.
    *args : pytree of arrays
        Its arguments.
    policy : str or Policy
        Formats and orders, as of `emulate`; "fp32" for a function as it is.
    samples : int
        Number of runs N, at least 2. CADNA takes 3.
    confidence : float
        Probability that the mean has these digits at least, between 0 and 1.
    seed : int
        Seed of the roundings.

    Returns
    -------
    SignificantDigits
        For each element of the result: mean, digits, standard deviation.

    Raises
    ------
    TypeError
        If `fun` is no function.
    ValueError
        If `samples` or `confidence` is out of range, or the policy is unknown.
    NotImplementedError
        If an operation has no rule, as of `emulate`.

    Notes
    -----
    Every run computes the function under the policy with mode sr: each result goes to one of its
    two neighbours, with the probabilities that make it right in the mean. Digits are CADNA's
    ``log10(sqrt(N) |mean| / (t s))`` with the deviation s of the runs and Student's t for
    N - 1 degrees of freedom; not below 0, and not above those of the format of the result (7.2 in
    fp32, 2.4 in bf16), which is also what runs that agree have. NaN where a run is infinite or NaN.
    A result near a value of its format may well agree in few runs, of which more then help.

    Each operation is computed in float64, then rounded stochastically to the policy's format, fp32
    included, so results of functions and quotients are exact to 2**-53 before that. Partial sums
    of reductions and products are rounded one by one in the policy's order; tensor cores become
    sums one after the other in their accumulator. Operands that are brought to a format are rounded
    stochastically too. Not random are: conversions that the program itself asks for, block formats
    and scales, integer accumulators, operands of products that have two formats or a scale for
    their tensor. Products and powers along an axis (`prod`, `cumprod`) are rounded once.

    Limits, as of CADNA and of every such estimate: it is of first order. The result has to be
    nearly normally distributed about the exact one. That fails where a product of two numbers, or a
    divisor, has no digits of its own; where runs take different branches; and for programs that
    correct their rounding errors by errors of nearest rounding (Kahan's sum, TwoSum), where the
    random correction may be worse. An error that all runs share, as of a series cut off, is not
    seen, and neither is an exact cancellation: ``x - x`` is 0 in all runs.

    Source: Vignes, Discrete stochastic arithmetic for validating results of numerical software,
    Numerical Algorithms 37 (2004); Jezequel and Chesneaux, CADNA, Comput. Phys. Commun. 178 (2008).

    Examples
    --------
    The one-pass variance of numbers near 12 loses the digits that mean and square have in common:

    >>> import jax.numpy as jnp, numpy as np, precsim as ps
    >>> x = 12 + jnp.arange(8) / 7
    >>> one_pass = lambda x: jnp.mean(x * x) - jnp.mean(x) ** 2
    >>> two_pass = lambda x: jnp.mean((x - jnp.mean(x)) ** 2)
    >>> for variance in (one_pass, two_pass):
    ...     print(ps.significant_digits(variance, x, policy="fp32"))
    4.1 significant digits (8 runs, confidence 0.95)
    7.2 significant digits (8 runs, confidence 0.95)
    """
    check_function(fun)
    samples = integer(samples, "samples", 2)
    if not 0 < real(confidence, "confidence") < 1:
        raise ValueError(f"confidence is {shown(confidence)}; allowed are numbers between 0 and 1")
    random = stochastic(Policy.parse(policy))
    traced = trace(fun, with_arrays(args), {}, 0)
    check_rules(random, traced.program)
    formats: list[Format | None] = []

    def once(key: Array) -> list[Array]:
        context = Context(
            policy=random, backend="emulated", strict=True, key=key, compute=compute_at_random
        )
        results = evaluate(traced.program, traced.values(), context)
        formats[:] = [value.format for value in results]
        return [value.array for value in results]

    with jax.enable_x64(True):
        keys = jax.vmap(lambda n: fold_in(key_of(seed), n))(jnp.arange(samples))
        run = jax.jit(jax.vmap(once), compiler_options=compiler_options(traced.program))
        runs = [np.asarray(leaf) for leaf in run(keys)]
    found = [_of_runs(x, fmt, confidence) for x, fmt in zip(runs, formats, strict=True)]
    tree = jax.tree.structure(traced.shape)
    mean, digits, deviation = (
        jax.tree.unflatten(tree, list(column)) for column in zip(*found, strict=True)
    )
    return SignificantDigits(
        mean=mean, digits=digits, deviation=deviation, samples=samples, confidence=confidence
    )


def _of_runs(
    runs: np.ndarray, fmt: Format | None, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the digits and the standard deviation of runs along the first axis."""
    most = math.inf
    if jnp.issubdtype(runs.dtype, jnp.inexact):
        fmt = fmt if isinstance(fmt, FloatFormat) else format_of(real_dtype(runs.dtype))
        most = fmt.precision * math.log10(2) if isinstance(fmt, FloatFormat) else most
    wide = runs.astype(np.complex128 if np.iscomplexobj(runs) else np.float64)
    count = len(wide)
    with np.errstate(all="ignore"):
        # From the first run, so that runs that agree have a deviation of exactly 0.
        mean = wide[0] + np.mean(wide - wide[0], axis=0)
        squares = np.sum(np.abs(wide - wide[0]) ** 2, axis=0)
        squares = np.maximum(squares - count * np.abs(mean - wide[0]) ** 2, 0)
        deviation = np.sqrt(squares / (count - 1))
        half = student.ppf((1 + confidence) / 2, count - 1) * deviation / math.sqrt(count)
        digits = np.where(half == 0, most, np.clip(np.log10(np.abs(mean) / half), 0, most))
    digits = np.where(np.isfinite(wide).all(axis=0), digits, np.nan)
    return np.asarray(mean), digits, np.asarray(deviation)
