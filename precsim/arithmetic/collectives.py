"""Sums over the ranks of a distributed program, in the order of the algorithm that computes them.

An all-reduce gives every rank the sum of what all ranks have. Addition in floating point depends on
the order, and algorithms differ in it; where parts travel in a narrow format, each hop rounds.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from precsim._arrays import Array, ArrayLike, entry, is_jax, namespace
from precsim._calls import call
from precsim._loops import repeat
from precsim.arithmetic.elementwise import add, subtract
from precsim.arithmetic.sums.all_reduce import AllReduce
from precsim.formats.carrier import as_carrier
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec

Result = TypeVar("Result")


def all_reduce(parts: ArrayLike, how: str | AllReduce = "doubling") -> Array:
    """Return the sum of the parts of all ranks, with the bits that an all-reduce gives them.

    Parameters
    ----------
    parts : array_like, shape (R, ...)
        What each rank has; NumPy or JAX, as in `accumulate`.
    how : str or AllReduce
        Algorithm and format, such as "ring" or "tree:bf16".

    Returns
    -------
    array, shape (...)
        The sum, values of the format, in the carrier. All ranks get the same bits.

    Raises
    ------
    ValueError
        If there is no rank; if the algorithm is "halving" and R is no power of two; if `how` has
        feedback, which needs `feedback_all_reduce`.
    TypeError
        If `parts` are no real numbers.

    Notes
    -----
    Every addition is rounded once, so for R ranks and unit roundoff u the error of an element is at
    most ``gamma(R - 1, u) * sum|parts|`` in a ring and ``gamma(ceil(log2(R)), u) * sum|parts|``
    under doubling and halving, beside what rounding the parts first loses. JAX's gradient is that
    of the unrounded sum.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> parts = np.float32([[1], [2**-8], [2**-8], [-1]])
    >>> [ps.all_reduce(parts, f"{name}:bf16").item() for name in ("ring", "doubling", "tree")]
    [0.0, 0.00390625, 0.0078125]
    """
    how = AllReduce.parse(how, "how")
    if how.has_feedback:
        raise ValueError(f"how is '{how}'; feedback needs feedback_all_reduce and residuals")
    parts, _ = as_carrier(parts, "parts")
    _check(parts, how)
    return _run(_summed, how, parts)


def feedback_all_reduce(
    parts: ArrayLike, residuals: ArrayLike, how: str | AllReduce
) -> tuple[Array, Array]:
    """Return the sum of parts plus residuals, and what rounding them has lost at each rank.

    Parameters
    ----------
    parts : array_like, shape (R, ...)
        What each rank has now.
    residuals : array_like, shape (R, ...)
        What the last call returned; zeros at first.
    how : str or AllReduce
        Algorithm and format.

    Returns
    -------
    tuple of arrays
        (sum, residuals): shapes (...) and (R, ...). A part and its residual are added, and what
        rounding loses is found, with one rounding each in the carrier. Where a part overflows or
        is NaN, its residual is 0. Losses of the hops are not fed back.

    Raises
    ------
    ValueError
        As `all_reduce`, and if the shapes differ.
    TypeError
        If an array has no real numbers.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> lost, total = np.zeros((2, 1), np.float32), 0.0
    >>> for step in range(4):
    ...     each, lost = ps.feedback_all_reduce(np.float32([[1.001], [0]]), lost, "ring:bf16")
    ...     total += each.item()
    >>> total  # without feedback: 4.0
    4.0078125
    """
    how = AllReduce.parse(how, "how")
    parts, _ = as_carrier(parts, "parts")
    residuals, _ = as_carrier(residuals, "residuals")
    _check(parts, how)
    for said, given, allowed in (
        ("shape", residuals.shape, parts.shape),
        ("dtype", residuals.dtype, parts.dtype),
    ):
        if given != allowed:
            raise ValueError(f"residuals have {said} {given}; allowed is that of parts, {allowed}")
    return _run(_fed_back, how, parts, residuals)


def _run(function: Callable[..., Result], how: AllReduce, *arrays: Array) -> Result:
    """Run a sum over ranks; what the platform adds in NumPy is never XLA's sum."""
    if how.algorithm == "platform" and not any(map(is_jax, arrays)):
        return function(how, *arrays)
    ranks = len(arrays[0])
    return call(function, how, *arrays, steps=4 * ranks * len(arrays), patience=8 * ranks)


def _check(parts: Array, how: AllReduce) -> None:
    ranks = parts.shape[0] if parts.ndim else 0
    if ranks == 0:
        raise ValueError(f"parts have shape {parts.shape}; allowed are (R, ...) for R >= 1 ranks")
    how.check_ranks(ranks)


def _fed_back(how: AllReduce, parts: Array, residuals: Array) -> tuple[Array, Array]:
    exact = RoundingSpec.parse("fp64" if parts.dtype == np.float64 else "fp32")
    sent = add(parts, residuals, exact)
    return _summed(how, sent), lost_by_rounding(sent, how, exact)


def lost_by_rounding(sent: Array, how: AllReduce, exact: RoundingSpec) -> Array:
    """Return what rounding a part loses; 0 where it overflows or is NaN, which nothing makes up."""
    xp: Any = namespace(sent)
    arrives = round_to(sent, how.rounding)
    lost: Array = xp.where(xp.isfinite(arrives), subtract(sent, arrives, exact), 0)
    return lost.astype(sent.dtype)


def _summed(how: AllReduce, parts: Array) -> Array:
    shape = parts.shape
    chunks = in_chunks(parts.reshape(shape[0], -1), shape[0])
    total = sum_chunks(chunks, np.arange(shape[0]), how)
    size = int(np.prod(shape[1:]))
    result: Array = total.reshape(-1)[:size].reshape(shape[1:])
    return result


def in_chunks(vectors: Array, count: int) -> Array:
    """Return vectors (R, n) as (R, count, ceil(n / count)), filled up with zeros."""
    ranks, size = vectors.shape
    length = -(-size // count)
    pad: Any = namespace(vectors).pad
    filled: Array = pad(vectors, ((0, 0), (0, count * length - size)))
    return filled.reshape(ranks, count, length)


def sum_chunks(parts: Array, chunks: Any, how: AllReduce) -> Array:
    """Return the sums over ranks of some of the R chunks of a vector.

    `parts` has shape (R, number of chunks, length), `chunks` says which ones they are.
    """
    xp: Any = namespace(parts)
    ranks = parts.shape[0]
    rounded = round_to(parts, how.rounding)

    def plus(x: Array, y: Array) -> Array:
        return add(x, y, how.rounding)

    if how.algorithm == "ring":
        order = (np.arange(ranks)[:, None] + chunks) % ranks
        rounded = xp.take_along_axis(rounded, order[:, :, None], axis=0)
    if how.algorithm in ("ring", "sequential"):
        step = lambda k, total: plus(total, entry(rounded, k + 1))
        total: Array = repeat(ranks - 1, step, rounded[0])
        return total
    if how.algorithm == "tree":
        return _of_tree(rounded, plus, 0)
    if how.algorithm == "platform":
        return round_to(rounded.sum(0), how.rounding)
    while len(rounded) > 1:
        half = len(rounded) // 2
        if how.algorithm == "halving":
            first, second = rounded[:half], rounded[half:]
        else:
            first, second = rounded[: 2 * half : 2], rounded[1 : 2 * half : 2]
        rounded = xp.concatenate([plus(first, second), rounded[2 * half :]])
    return rounded[0]


def _of_tree(parts: Array, plus: Any, rank: int) -> Array:
    """Return the sum of what a rank has and of its children."""
    total = parts[rank]
    for child in _children(rank, len(parts)):
        total = plus(total, _of_tree(parts, plus, child))
    return total


def _children(rank: int, count: int) -> list[int]:
    """Return the children of a rank in the binary tree of `count` ranks, whose root is 0.

    A rank whose lowest set bit is b has children at distance b/2 on both sides; where the upper one
    does not exist, the distance above is halved until one does. The root has one child, the
    greatest power of two below `count`.
    """
    if rank == 0:
        return [1 << (count - 1).bit_length() - 1] if count > 1 else []
    bit = rank & -rank
    if bit == 1:
        return []
    upper = bit >> 1
    while upper and rank + upper >= count:
        upper >>= 1
    return [rank - (bit >> 1)] + ([rank + upper] if upper else [])
