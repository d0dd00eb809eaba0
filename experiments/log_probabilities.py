"""Log-probabilities of one language model, read in many ways, and how far two readings differ.

A way is a batch size, a side of padding, and the number of tokens that are read at once: all of
them (prefill, as in training), some (chunked prefill), or one (decoding, as in sampling).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from experiments import decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How sequences are read.

    Parameters
    ----------
    batch : int
        Sequences at once. The last batch is filled up with the first sequences.
    padding : {"right", "left"}
        Where the padding of shorter sequences stands.
    chunk : int
        Tokens at once; 0 for all.
    is_aligned : bool
        Whether a key is kept at its position in the sequence. Else at its column of the batch,
        which left padding shifts.
    """

    batch: int
    padding: str = "right"
    chunk: int = 0
    is_aligned: bool = True

    def __str__(self) -> str:
        """Return the way in words."""
        read = {0: "all tokens", 1: "one token"}.get(self.chunk, f"{self.chunk} tokens")
        return f"batch {self.batch}, {self.padding} padding, {read} at once"


TRAINING = Way(batch=64)


def sequences(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unseen texts: tokens (count, LENGTH + 1), and how many of them each sequence has."""
    tokens = decoder.texts()[:count]
    lengths = decoder.LENGTH - (np.arange(count) * 7) % 24
    return tokens, lengths


def read(
    using: decoder.Arithmetic,
    tokens: np.ndarray,
    lengths: np.ndarray,
    way: Way,
    *,
    masked: float = -np.inf,
    is_compiled: bool = False,
) -> np.ndarray:
    """Return log-probabilities of the next token, float32 (count, LENGTH, WORDS); 0 at padding.

    `is_compiled` runs a whole batch as one program of JAX. Else NumPy arrays go from one operation
    to the next.
    """
    count, length = len(tokens), tokens.shape[1] - 1
    chunk = way.chunk or length
    columns = -(-length // chunk) * chunk
    first = (columns - lengths if way.padding == "left" else 0 * lengths)[:, None]
    positions = np.arange(columns)[None] - first
    is_token = (positions >= 0) & (positions < lengths[:, None])
    kept = np.where(is_token, positions, 0)
    given = np.take_along_axis(tokens, kept, axis=1) * is_token
    slots = kept if way.is_aligned else np.broadcast_to(np.arange(columns), kept.shape)
    positions = np.where(is_token, positions, -1)
    weights = decoder.load()
    run = _program(using, chunk, masked) if is_compiled else partial(_run, using, chunk, masked)
    found = np.zeros((count, length, decoder.WORDS), np.float32)
    for start in range(0, count, way.batch):
        rows = np.arange(start, start + way.batch) % count
        result = np.asarray(run(weights, *(np.int32(x[rows]) for x in (given, positions, slots))))
        for n, row in enumerate(rows[: count - start]):
            found[row, : lengths[row]] = result[n][is_token[row]]
    return found


def _run(
    using: decoder.Arithmetic, chunk: int, masked: float, weights: decoder.Weights, *given: Any
) -> np.ndarray:
    """Read a batch, chunk by chunk, with a cache."""
    batch, columns = given[0].shape
    cache, found = decoder.empty_cache(batch, columns), []
    for k in range(0, columns, chunk):
        parts = (x[:, k : k + chunk] for x in given)
        part, cache = decoder.extend(weights, cache, *parts, using, masked)
        found.append(part)
    return np.concatenate(found, axis=1)


@cache
def _program(using: decoder.Arithmetic, chunk: int, masked: float) -> Callable[..., Any]:
    """Return `_run` compiled, with arrays of the arithmetic's dtype."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def run(weights: Any, *given: Any) -> Any:
        batch, columns = given[0].shape
        weights = {name: jnp.asarray(x).astype(using.dtype) for name, x in weights.items()}

        def one(cache: Any, parts: Any) -> Any:
            found, cache = decoder.extend(weights, cache, *parts, using, masked)
            return cache, found

        parts = [x.reshape(batch, -1, chunk).swapaxes(0, 1) for x in given]
        cache = jax.tree.map(jnp.asarray, decoder.empty_cache(batch, columns, using.dtype))
        _, found = jax.lax.scan(one, cache, parts)
        return jnp.moveaxis(found, 0, 1).reshape(batch, columns, -1)

    return run


def digest(found: np.ndarray) -> str:
    """Return the SHA-256 of log-probabilities, little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(found, "<f4").tobytes()).hexdigest()


def differences(
    ours: np.ndarray, theirs: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, clip: float = 0.2
) -> dict[str, float]:
    """Compare two readings of the same sequences.

    Returns
    -------
    dict of float
        Of the tokens that came next: "largest" and "mean" magnitude of the difference of their
        log-probabilities, "ratio" (the token's importance ratio exp(difference) that is farthest
        from 1), "clipped tokens" and "clipped sequences" (shares of those with a ratio outside 1 -
        clip to 1 + clip, that of a sequence being the product over its tokens). Of whole
        distributions: "divergence" (mean Kullback-Leibler divergence of `theirs` from `ours`),
        "argmax" (share of positions whose most probable token is another).
    """
    is_token = np.arange(ours.shape[1]) < lengths[:, None]
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    chosen = tokens[:, 1:, None]
    change = np.take_along_axis(ours - theirs, chosen, axis=2)[..., 0] * is_token
    each = change[is_token]
    of_sequences = change.sum(axis=1)
    divergence = np.sum(np.exp(ours) * (ours - theirs), axis=2)[is_token]
    is_other = (ours.argmax(axis=2) != theirs.argmax(axis=2))[is_token]
    is_clipped = lambda change: float(np.mean(np.abs(np.expm1(change)) > clip))
    return {
        "largest": float(np.abs(each).max()),
        "mean": float(np.abs(each).mean()),
        "ratio": float(np.exp(each[np.argmax(np.abs(each))])),
        "ratio of a sequence": float(np.exp(of_sequences[np.argmax(np.abs(of_sequences))])),
        "clipped tokens": is_clipped(each),
        "clipped sequences": is_clipped(of_sequences),
        "divergence": float(divergence.mean()),
        "argmax": float(is_other.mean()),
    }
