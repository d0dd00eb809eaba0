"""`explain`: whether the order of sums explains a difference, and which arithmetic made it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from precsim.analysis.differences import (
    Flat,
    are_equal,
    equal_share,
    flat,
    format_of,
    is_of,
    relative_distance,
)
from precsim.analysis.errors import ulp_error
from precsim.analysis.explanation import products
from precsim.analysis.explanation.result import Attempt, Explanation, Try, attempt
from precsim.analysis.explanation.sampled import SampledProduct
from precsim.formats.arguments import shown
from precsim.rounding.round_to import round_to

_OUTPUTS = ("bf16", "fp16", "tf32", "e4m3", "e5m2")


def explain(
    got: Any,
    want: Any,
    *,
    fun: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None = None,
) -> Explanation:
    """Say why two results of one computation differ: the order of sums, or another arithmetic.

    Parameters
    ----------
    got : array_like or pytree of arrays, any shapes
        The result to explain, of any library: NumPy, JAX, or arrays with ``__dlpack__`` such as
        PyTorch's, of real numbers up to 64 bits.
    want : array_like or pytree of arrays
        What was expected, of the same shapes; another machine's result, or a float64 one.
    fun : callable, optional
        What was computed: a matrix product (`jax.numpy.matmul`, `numpy.dot`, `torch.matmul`, ...),
        or any function that JAX can trace.
    args : sequence
        Its arguments.
    candidates : sequence of str, or mapping of str to callable, optional
        What is tried: specs of products, or policies for other functions; or functions of `args`.
        By default those that machines and libraries are known for: operands in TF32, bf16, fp16;
        accumulators and outputs in fp16, bf16; products fused or rounded; sums in sequence,
        reversed, in pairs, blocks, lanes, split, exact; tensor cores (V100 to B200) with their
        schedules; for other functions the policies of `emulate`.

    Returns
    -------
    Explanation
        ``print(explanation)`` gives a sentence and a table. `by` names the arithmetics with all
        bits of `got`.

    Raises
    ------
    TypeError
        If `got` or `want` are no real numbers, `args` is no tuple, or JAX cannot trace `fun`.
    ValueError
        If shapes differ or do not fit `fun`, or a candidate is unknown.

    Notes
    -----
    Equal means equal bits; all NaN count as one, and -0 differs from 0. Candidates are tried from
    the cheap ones on, in groups. After the group in which one has all bits the rest is left out.
    Several can have them: these data then do not tell them apart. Of a product, candidates compute
    up to 16 x 16 elements of the first and the last matrix of a batch, and those that fit there
    compute all.

    The bound for products: any order of sums with unit roundoff u differs from the exact product by
    at most ``gamma(K, u) |a| |b|``, plus the rounding of the output; two results differ by at most
    the sum of both. Sums count as float32, those of float64 results as float64; overflow and
    underflow are not covered. No bound is stated for other functions.

    Cost: a candidate takes about a millisecond per product K, or a compilation where K > 256; for
    other functions a compilation each.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, (3.13).

    Examples
    --------
    A product whose operands a GPU has rounded to TF32:

    >>> import numpy as np, precsim as ps
    >>> a, b = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    >>> got = ps.matmul(a, b, "tf32_tf32_fp32")
    >>> found = ps.explain(got, a @ b, fun=np.matmul, args=(a, b))
    >>> found.by[0], found.share_of_bound > 1
    ('tf32_tf32_fp32', True)
    """
    ours, theirs = flat(got, "got"), flat(want, "want")
    if ours.shapes != theirs.shapes:
        raise ValueError(f"got has shape {ours.shown}, want {theirs.shown}; allowed is one")
    if fun is not None and not callable(fun):
        raise TypeError(f"fun is {shown(fun)}; allowed is a function, such as jax.numpy.matmul")
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args is {shown(args)}; allowed is a tuple, such as (a, b)")
    if fun is None and isinstance(candidates, Sequence):
        raise ValueError("candidates are names, and fun is not given; allowed are both")
    share = None
    if fun is not None and _is_product(fun, args, candidates):
        problem = SampledProduct(args, ours, theirs)
        share = problem.share_of_bound()
        groups = problem.groups(fun, candidates)
    else:
        groups = _function_groups(fun, tuple(args), ours, theirs, candidates)
    outputs = _outputs(ours, theirs) if candidates is None else []
    attempts, untried = _tried([outputs, *groups])
    return Explanation(
        elements=ours.values.size,
        different=int(np.count_nonzero(~are_equal(ours.values, theirs.values))),
        distance=relative_distance(ours.values, theirs.values),
        ulps=_largest_ulps(ours, theirs),
        format=format_of(ours.values),
        share_of_bound=share,
        attempts=attempts,
        untried=untried,
    )


def _is_product(fun: Callable[..., Any], args: Sequence[Any], candidates: Any) -> bool:
    """Return whether a function is a matrix product of its two arguments."""
    if products.is_known(fun, args):
        return True
    if isinstance(candidates, Mapping):
        return False  # nothing of the function itself is needed
    from precsim.analysis.explanation import functions

    return functions.is_product(fun, args)


def _tried(groups: Sequence[Sequence[Try]]) -> tuple[tuple[Attempt, ...], int]:
    """Return the attempts up to the group that explains, best first, and how many are left."""
    attempts: list[Attempt] = []
    left = list(groups)
    while left and not any(each.equal == 1 for each in attempts):
        attempts += itertools.chain.from_iterable(run() for run in left.pop(0))
    # Of about the same distance the simpler one counts as nearer: it comes first.
    ranked = sorted(attempts, key=lambda each: (each.equal != 1, float(f"{each.distance:.1e}")))
    return tuple(ranked), sum(map(len, left))


def _outputs(ours: Flat, theirs: Flat) -> list[Try]:
    """Return the rounding of `want` to formats that have all of `got`, unless that is `want`."""

    def rounded(name: str) -> list[Attempt]:
        result = np.asarray(round_to(theirs.values, name))
        if equal_share(result, theirs.values) == 1:
            return []
        return [attempt(f"want->{name}", f"want rounded to {name}", result, ours, theirs)]

    formats = [name for name in _OUTPUTS if is_of(ours.values, name)]
    return [partial(rounded, name) for name in formats]


def _function_groups(
    fun: Callable[..., Any] | None,
    args: tuple[Any, ...],
    ours: Flat,
    theirs: Flat,
    candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None,
) -> list[list[Try]]:
    """Return the candidates of a function that is no plain product."""
    from precsim.analysis.explanation import functions

    if isinstance(candidates, Mapping):
        named = [
            functions.Computation(name=name, meaning="given", run=run)
            for name, run in candidates.items()
        ]
        tiers = [named]
    elif fun is None:
        return []
    elif candidates is not None:
        tiers = [[functions.under(fun, policy, "given") for policy in candidates]]
    else:
        tiers = functions.computations(fun, args)

    def run(computation: functions.Computation) -> list[Attempt]:
        result = flat(computation.run(*args), f"the result of {computation.name}")
        if result.shapes != ours.shapes:
            raise ValueError(
                f"got has shape {ours.shown}; allowed is that of {computation.name}, {result.shown}"
            )
        return [attempt(computation.name, computation.meaning, result.values, ours, theirs)]

    return [[partial(run, each) for each in tier] for tier in tiers]


def _largest_ulps(ours: Flat, theirs: Flat) -> float:
    errors = np.asarray(ulp_error(ours.values, theirs.values, format_of(ours.values)))
    errors = np.where(are_equal(ours.values, theirs.values), 0.0, errors)
    return float(np.max(np.where(np.isnan(errors), np.inf, errors), initial=0.0))
