"""Log-probabilities of one language model, read in many ways, and how far two readings differ.

A way is a batch size, a side of padding, and the number of tokens that are read at once: all of
them (prefill, as in training), some (chunked prefill), or one (decoding, as in sampling).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from experiments import decoder

RUNS = ("numpy", "jax", "program")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How sequences are read.

    Parameters
    ----------
    batch : int
        Sequences at once. A batch is filled up with sequences that have been read already.
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
        at_once = {0: "whole", 1: "token by token"}.get(self.chunk, f"by {self.chunk} tokens")
        kept = "" if self.is_aligned else ", keys by column"
        return f"batch {self.batch}, padded {self.padding}, {at_once}{kept}"


def sequences(count: int, length: int = decoder.LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Return unseen texts: tokens (count, length + 1), and how many of them each sequence reads."""
    if not (1 <= count <= decoder.UNSEEN and 2 <= length <= decoder.LENGTH):
        raise ValueError(
            f"sequences are {count} of length {length}; allowed are 1 to {decoder.UNSEEN} of "
            f"length 2 to {decoder.LENGTH}"
        )
    lengths = length - (7 * np.arange(count)) % (length // 2)
    return decoder.texts()[:count, : length + 1], lengths


def read(
    using: decoder.Arithmetic,
    tokens: np.ndarray,
    lengths: np.ndarray,
    way: Way,
    *,
    runs: str = "numpy",
    masked: float = -np.inf,
) -> np.ndarray:
    """Return log-probabilities of the next token, float32 (count, length, WORDS); 0 at padding.

    `runs` says how: "numpy" and "jax" go with such arrays from one operation to the next,
    "program" compiles a whole batch. `masked` is as of `decoder.extend`.
    """
    if runs not in RUNS:
        raise ValueError(f"runs is {runs!r}; allowed are {', '.join(map(repr, RUNS))}")
    count, length = len(tokens), tokens.shape[1] - 1
    given, positions, slots = _layout(tokens, lengths, way)
    is_token, chunk = positions >= 0, way.chunk or length
    read_batch = (
        _program(using, chunk, masked) if runs == "program" else _eager(using, chunk, masked, runs)
    )
    found = np.zeros((count, length, decoder.WORDS), np.float32)
    for start in range(0, count, way.batch):
        rows = np.arange(start, start + way.batch) % count
        result = read_batch([x[rows] for x in (given, positions, slots)])
        for n, row in enumerate(rows[: count - start]):
            found[row, : lengths[row]] = result[n][is_token[row]]
    return found


def _layout(tokens: np.ndarray, lengths: np.ndarray, way: Way) -> tuple[np.ndarray, ...]:
    """Return tokens, positions (-1 at padding) and slots, each int32 (count, columns)."""
    length = tokens.shape[1] - 1
    chunk = way.chunk or length
    columns = -(-length // chunk) * chunk
    first = (columns - lengths if way.padding == "left" else 0 * lengths)[:, None]
    positions = np.arange(columns)[None] - first
    is_token = (positions >= 0) & (positions < lengths[:, None])
    kept = np.where(is_token, positions, 0)
    given = np.take_along_axis(tokens, kept, axis=1) * is_token
    slots = kept if way.is_aligned else np.broadcast_to(np.arange(columns), kept.shape)
    positions = np.where(is_token, positions, -1)
    return given.astype(np.int32), positions.astype(np.int32), slots.astype(np.int32)


def chunks_of(
    tokens: np.ndarray, lengths: np.ndarray, way: Way
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each chunk in the order of `read`, its sequences and their tokens' positions."""
    positions = _layout(tokens, lengths, way)[1]
    chunk = way.chunk or positions.shape[1]
    for start in range(0, len(tokens), way.batch):
        rows = np.arange(start, start + way.batch) % len(tokens)
        for k in range(0, positions.shape[1], chunk):
            yield rows, positions[rows, k : k + chunk]


def _eager(
    using: decoder.Arithmetic, chunk: int, masked: float, runs: str
) -> Callable[..., np.ndarray]:
    """Return a function that reads a batch, chunk by chunk, with a cache."""

    def run(batch: list[np.ndarray]) -> np.ndarray:
        rows, columns = batch[0].shape
        weights: Any = {name: x.astype(using.dtype) for name, x in decoder.load().items()}
        state: Any = decoder.empty_cache(rows, columns, using.dtype)
        if runs == "jax":
            import jax
            import jax.numpy as jnp

            weights, state, batch = jax.tree.map(jnp.asarray, (weights, state, batch))
        found = []
        for k in range(0, columns, chunk):
            tokens, positions, slots = (x[:, k : k + chunk] for x in batch)
            part, state = decoder.extend(weights, state, tokens, positions, slots, using, masked)
            found.append(np.asarray(part))
        return np.concatenate(found, axis=1)

    return run


@cache
def _program(using: Any, chunk: int, masked: float) -> Callable[..., np.ndarray]:
    """Return a function of a batch, compiled, whose arrays have the arithmetic's dtype."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def run(weights: Any, *given: Any) -> Any:
        batch, columns = given[0].shape
        parts = [x.reshape(batch, -1, chunk).swapaxes(0, 1) for x in given]
        state = jax.tree.map(jnp.asarray, decoder.empty_cache(batch, columns, using.dtype))

        def one(state: Any, parts: Any) -> Any:
            tokens, positions, slots = parts
            found, state = decoder.extend(weights, state, tokens, positions, slots, using, masked)
            return state, found

        _, found = jax.lax.scan(one, state, parts)
        return jnp.moveaxis(found, 0, 1).reshape(batch, columns, -1)

    weights = {name: jnp.asarray(x).astype(using.dtype) for name, x in decoder.load().items()}
    return lambda batch: np.asarray(run(weights, *batch))


def digest(found: np.ndarray) -> str:
    """Return the SHA-256 of log-probabilities, as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(found, "<f4").tobytes()).hexdigest()


def differences(
    ours: np.ndarray, theirs: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, clip: float = 0.2
) -> dict[str, float]:
    """Compare two readings of the same sequences.

    Returns
    -------
    dict of float
        Of the tokens that came next: the "largest" and "mean" magnitude of the difference of their
        log-probabilities; of a token and of a whole sequence the importance ratio, exp(difference),
        that is farthest from 1 ("token ratio", "sequence ratio"), and the share of those that are
        outside 1 - clip to 1 + clip ("clipped tokens", "clipped sequences"). Of all positions: the
        mean Kullback-Leibler "divergence" of `theirs` from `ours`, and the share whose most
        probable token is another ("argmax").
    """
    is_token = np.arange(ours.shape[1]) < lengths[:, None]
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    change = np.take_along_axis(ours - theirs, tokens[:, 1:, None], axis=2)[..., 0] * is_token
    each, whole = change[is_token], change.sum(axis=1)
    divergence = np.sum(np.exp(ours) * (ours - theirs), axis=2)[is_token]
    is_other = (ours.argmax(axis=2) != theirs.argmax(axis=2))[is_token]
    found = {"largest": np.abs(each).max(), "mean": np.abs(each).mean()}
    for name, values in (("token", each), ("sequence", whole)):
        found[f"{name} ratio"] = np.exp(values[np.argmax(np.abs(values))])
        found[f"clipped {name}s"] = np.mean(np.abs(np.expm1(values)) > clip)
    found |= {"divergence": divergence.mean(), "argmax": is_other.mean()}
    return {name: float(value) for name, value in found.items()}
