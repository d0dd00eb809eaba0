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
    """
    if not way.is_aligned or runs == "program":
        raise ValueError(
            f"way is {way}, runs is {runs!r}; allowed are keys by position, and one operation at a time"
        )
    found: Kept = {}
    chunks = lp.chunks_of(tokens, lengths, way)
    count, length = len(tokens), tokens.shape[1] - 1
    seen: Counter[str] = Counter()
    rows, positions = next(chunks)

    def see(name: str, result: Any) -> Any:
        nonlocal rows, positions
        if name == "embedding" and seen:
            rows, positions = next(chunks)
            seen.clear()
        label = f"{name} {seen[name]}"
        seen[name] += 1
        own = np.array(result)
        by_token = own.swapaxes(1, 2) if own.ndim == 4 else own
        is_kept = np.broadcast_to(
            (positions >= 0).reshape(*positions.shape, *(1,) * (by_token.ndim - 2)), by_token.shape
        )
        if name in BY_KEY:
            by_token, is_kept = by_token[..., :length], is_kept[..., :length]
            is_kept = is_kept & (np.arange(length) <= positions[:, :, None, None])
        at = rows[:, None], np.maximum(positions, 0)
        if label not in found:
            found[label] = np.zeros((count, length, *by_token.shape[2:]), by_token.dtype)
        is_token = positions >= 0
        kept = np.where(is_kept, by_token, by_token.dtype.type(0))
        found[label][at[0].repeat(len(positions[0]), 1)[is_token], positions[is_token]] = kept[
            is_token
        ]
        if instead is None:
            return result
        by_token[...] = np.where(is_kept, instead[label][at], by_token)
        return own if isinstance(result, np.ndarray) else _jax_array(own)

    lp.read(_Watched(using, see), tokens, lengths, way, runs=runs)
    return found


class _Watched:
    """An arithmetic whose results go through a function of the operation's name and the result."""

    def __init__(self, using: decoder.Arithmetic, see: Callable[[str, Any], Any]) -> None:
        self.dtype = using.dtype
        self._using, self._see = using, see

    def __getattr__(self, operation: str) -> Any:
        run = getattr(self._using, operation)
        return lambda name, *given: self._see(name, run(name, *given))


def _jax_array(x: np.ndarray) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(x)


def differing(ours: Kept, theirs: Kept) -> dict[str, int]:
    """Return how many numbers of each operation differ."""
    return {label: int(np.sum(x != theirs[label])) for label, x in ours.items()}
