"""Which operations of a model give a row other bits when fewer rows are computed with it."""

from functools import partial
from typing import Any

import numpy as np

import precsim as ps
from experiments import decoder
from experiments import log_probabilities as lp


class Recorded:
    """An arithmetic that keeps the operands and the result of each operation."""

    def __init__(self, using: decoder.Arithmetic) -> None:
        """Record nothing so far."""
        self._using, self.dtype = using, using.dtype
        self.calls: list[tuple[str, str, tuple[Any, ...], Any]] = []

    def __getattr__(self, kind: str) -> Any:
        """Return an operation that is recorded."""
        return partial(self._record, kind)

    def _record(self, kind: str, name: str, *operands: Any) -> Any:
        result = getattr(self._using, kind)(name, *operands)
        self.calls.append((kind, name, operands, result))
        return result


def dump(
    using: decoder.Arithmetic, tokens: np.ndarray, way: lp.Way, *, runs: str = "jax"
) -> dict[str, np.ndarray]:
    """Return the results of all operations by name, in order; full sequences, their tokens rows."""
    recorded = Recorded(using)
    lengths = np.full(len(tokens), tokens.shape[1] - 1)
    lp.read(recorded, tokens, lengths, way, runs=runs)
    chunk = way.chunk or int(lengths[0])
    size = len(recorded.calls) // -(-int(lengths[0]) // chunk)
    results: dict[str, np.ndarray] = {}
    for k in range(size):
        _, name, _, _ = recorded.calls[k]
        parts = [np.asarray(call[3]) for call in recorded.calls[k::size]]
        results[f"{k:02} {name}"] = np.concatenate(parts, axis=-2).astype(np.float32)
    return results


def first_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> str:
    """Return the first operation whose results differ between two dumps; "" for none."""
    first = ps.compare_dumps(one, other).first
    return "" if first is None else first.name


def own_differences(using: decoder.Arithmetic, tokens: np.ndarray) -> dict[str, float]:
    """Return, for each operation, the share of results that depend on how many rows there are.

    The operands are those of a reading of whole sequences. Each row of each operation is computed
    again, alone, from the same numbers. So nothing is inherited from earlier operations.
    """
    import jax

    recorded = Recorded(using)
    lengths = np.full(len(tokens), tokens.shape[1] - 1)
    lp.read(recorded, tokens, lengths, lp.Way(batch=len(tokens)), runs="jax")
    rows = int(lengths[0])
    counts: dict[str, list[int]] = {}
    for kind, name, operands, _ in recorded.calls:
        run = jax.jit(partial(getattr(using, kind), name))
        whole = np.asarray(run(*operands))
        # The second operand of a product is the same for all rows.
        first = operands[:1] if kind == "product" else operands
        parts = []
        for t in range(rows):
            own = [x[..., t : t + 1, :] if _has_rows(x, rows) else x for x in first]
            parts.append(np.asarray(run(*own, *operands[len(first) :])))
        alone = np.concatenate(parts, axis=-2)
        found = counts.setdefault(name, [0, 0])
        found[0] += int(np.sum(alone != whole))
        found[1] += whole.size
    return {name: different / size for name, (different, size) in counts.items()}


def _has_rows(x: Any, rows: int) -> bool:
    return x.ndim > 1 and x.shape[-2] == rows
