"""Which operation makes two readings of one model differ, and how a difference grows.

Each operation's results are kept by token, so that those of two ways of reading stand at the same
place. A second reading may go on with the results of the first: then both have equal operands in
each operation, and what differs is made there, and not carried along.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import decoder
from experiments import log_probabilities as lp

BY_KEY = ("scores", "scaled_scores", "softmax")
"""Operations whose results have a number per key; of those a token does not see, none is kept."""

Kept = dict[str, np.ndarray]


def results_of(
    using: decoder.Arithmetic,
    tokens: np.ndarray,
    lengths: np.ndarray,
    way: lp.Way,
    *,
    runs: str = "numpy",
    instead: Kept | None = None,
) -> Kept:
    """Return what each operation gives, in the order of execution.

    Parameters
    ----------
    using, tokens, lengths, way
        As of `log_probabilities.read`; keys stand by position.
    runs : {"numpy", "jax"}
        As of that.
    instead : dict of arrays, optional
        Results of another reading, with which this one goes on in place of its own.

    Returns
    -------
    dict of arrays, shape (count, length, ...)
        By the operation's name and block, as "qkv 1"; 0 at padding and at keys that are not seen.
        The last is what `log_probabilities.read` returns.

    Raises
    ------
    ValueError
        If keys stand by column, or a program is compiled.
    """
    if not way.is_aligned or runs == "program":
        raise ValueError(
            f"way is {way}, runs is {runs!r}; allowed are keys by position, and 'numpy' or 'jax'"
        )
    found: Kept = {}
    counts: Counter[str] = Counter()
    chunks = lp.chunks_of(tokens, lengths, way)
    shape = len(tokens), tokens.shape[1] - 1
    rows, positions = next(chunks)

    def see(name: str, result: Any) -> Any:
        nonlocal rows, positions
        if name == "embedding" and counts:  # the first operation of the next chunk
            rows, positions = next(chunks)
            counts.clear()
        label = f"{name} {counts[name]}"
        counts[name] += 1
        own = np.array(result)
        by_token = own.swapaxes(1, 2) if own.ndim == 4 else own
        by_token = by_token[..., : shape[1]] if name in BY_KEY else by_token
        token = np.nonzero(positions >= 0)
        at = rows[token[0]], positions[token]
        is_seen: Any = np.arange(shape[1]) <= at[1][:, None, None] if name in BY_KEY else True
        values = by_token[token]
        if label not in found:
            found[label] = np.zeros(shape + values.shape[1:], values.dtype)
        found[label][at] = np.where(is_seen, values, values.dtype.type(0))
        if instead is None:
            return result
        by_token[token] = np.where(is_seen, instead[label][at], values)
        return own if isinstance(result, np.ndarray) else _as_jax(own)

    lp.read(_Watched(using, see), tokens, lengths, way, runs=runs)
    return found


def _as_jax(x: np.ndarray) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(x)


class _Watched:
    """An arithmetic whose results go through a function of the operation's name and the result."""

    def __init__(self, using: decoder.Arithmetic, see: Callable[[str, Any], Any]) -> None:
        self.dtype = using.dtype
        self._using, self._see = using, see

    def __getattr__(self, operation: str) -> Any:
        run = getattr(self._using, operation)
        return lambda name, *given: self._see(name, run(name, *given))


def differing(ours: Kept, theirs: Kept) -> np.ndarray:
    """Return how many numbers of each operation differ."""
    return np.array([np.sum(x != theirs[label]) for label, x in ours.items()], float)
