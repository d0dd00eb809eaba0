"""A drop-in for `jax.numpy.einsum`, whose products of two operands follow a spec."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp

from precsim._arrays import Array, ArrayLike, JaxArray, as_array
from precsim.formats.arguments import shown
from precsim.products.dot_general import DotGeneral
from precsim.products.drop_in import carried, result_dtype, specs_of
from precsim.products.specs.spec import MatmulSpec


def einsum(
    spec: str | MatmulSpec,
    *,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
) -> Callable[..., JaxArray]:
    """Return a function with the signature of `jax.numpy.einsum` that computes by a spec.

    Parameters
    ----------
    spec : str or MatmulSpec
        Formats and order of the products.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients of the left and of the right operand; `spec` by default.
    backend : {"auto", "emulated", "native"}
        As in `matmul`.

    Returns
    -------
    callable
        ``f(subscripts, *operands, optimize="auto", precision=None, preferred_element_type=None,
        **ignored)``. Operands, result and equality as in `dot_general`.

    Raises
    ------
    ValueError
        If the backend has no kernel for the spec.

    Notes
    -----
    Two operands are one product, the first on the left: a sum over the indices that only they
    share, in the order in which the first operand has them. More than two are contracted pair by
    pair, along the path that `jax.numpy.einsum_path` finds for `optimize`; of each pair the one
    that comes first in the call, or was computed first, is on the left. An index that only one
    operand has is summed before, and a repeated index is a diagonal: both by `jax.numpy.einsum`, as
    one operand alone.

    `jax.numpy.einsum` itself takes a `dot_general`, by a private argument; there JAX chooses which
    operand is on the left, and with it the formats.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> f = ps.einsum("fp16_fp16_fp16")
    >>> float(f("i,i->", jnp.ones(4096), jnp.ones(4096)))
    2048.0
    """
    return Einsum(DotGeneral(specs_of("einsum", spec, dgrad, wgrad, backend)))


Operand = tuple[Array, str]
"""An array, and one letter for each of its dimensions."""


@dataclass(frozen=True, slots=True)
class Einsum:
    """A function with the signature of `jax.numpy.einsum`; equal specs make equal functions."""

    product: DotGeneral

    def __call__(
        self,
        subscripts: str,
        /,
        *operands: ArrayLike,
        optimize: Any = "auto",
        precision: Any = None,
        preferred_element_type: Any = None,
        **ignored: Any,
    ) -> JaxArray:
        """Sum products of operands, whose indices are named as in `numpy.einsum`."""
        if not isinstance(subscripts, str):
            raise TypeError(
                f"subscripts are {shown(subscripts)}; allowed is text such as 'ij,jk->ik'"
            )
        given = [as_array(x, f"operand {n}") for n, x in enumerate(operands)]
        arrays = [carried(x, f"operand {n}") for n, x in enumerate(given)]
        dtype = result_dtype(preferred_element_type, *given)
        *inputs, output = _labels(subscripts, tuple([x.ndim for x in arrays]))
        left = list(zip(arrays, inputs, strict=True))
        for pair in _path(subscripts, arrays, optimize):
            chosen = [left[n] for n in sorted(pair)]
            left = [part for n, part in enumerate(left) if n not in pair]
            needed = set(output).union(*(labels for _, labels in left))
            left.append(self._contracted(chosen, needed))
        ((x, labels),) = left
        result: Any = x if labels == output else jnp.einsum(f"{labels}->{output}", x)
        typed: JaxArray = result if result.dtype == dtype else result.astype(dtype)
        return typed

    def _contracted(self, pair: list[Operand], needed: set[str]) -> Operand:
        """Return one operand, or the product of two, without the indices that nobody needs."""
        if len(pair) == 1:
            return _reduced(*pair[0], needed)
        (x, left), (y, right) = pair
        x, left = _reduced(x, left, needed | set(right))
        y, right = _reduced(y, right, needed | set(left))
        x, left, y, right = *_without_ones(x, left, y, right), *_without_ones(y, right, x, left)
        shared = [c for c in left if c in right]
        batch, summed = ([c for c in shared if (c in needed) is kept] for kept in (True, False))
        numbers: Any = [
            [[labels.index(c) for c in chosen] for labels in (left, right)]
            for chosen in (summed, batch)
        ]
        free = [c for c in left + right if c not in shared]
        return self.product(x, y, numbers), "".join(batch + free)


def _reduced(x: Array, labels: str, needed: set[str]) -> Operand:
    """Take diagonals, and sum over what nobody needs."""
    kept = "".join(c for c in dict.fromkeys(labels) if c in needed)
    return (x if kept == labels else jnp.einsum(f"{labels}->{kept}", x)), kept


def _without_ones(x: Array, labels: str, y: Array, others: str) -> Operand:
    """Drop the indices of length 1 that are longer in the other operand: one entry for all."""
    sizes = dict(zip(others, y.shape, strict=True))
    ones = [n for n, c in enumerate(labels) if x.shape[n] == 1 and sizes.get(c, 1) != 1]
    return x.squeeze(tuple(ones)) if ones else x, "".join(
        c for n, c in enumerate(labels) if n not in ones
    )


def _path(subscripts: str, arrays: list[Array], optimize: Any) -> list[tuple[int, ...]]:
    """Return which operands are contracted one after the other; results come last."""
    if len(arrays) < 3:
        return [tuple(range(len(arrays)))]
    path, _ = jnp.einsum_path(
        subscripts, *arrays, optimize="optimal" if optimize == "auto" else optimize
    )
    return list(path)


@lru_cache(maxsize=1024)
def _labels(subscripts: str, ranks: tuple[int, ...]) -> tuple[str, ...]:
    """Return one letter for each dimension of each operand and of the result."""
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    parts = inputs.split(",")
    if len(parts) != len(ranks):
        raise ValueError(
            f"subscripts are {shown(subscripts)}; allowed are as many as operands, {len(ranks)}"
        )
    spare = [chr(n) for n in range(ord("\u00c0"), ord("\u00c0") + max(ranks, default=0))]
    hidden = [rank - len(part.replace("...", "")) for part, rank in zip(parts, ranks, strict=True)]
    most = max((n for n, part in zip(hidden, parts, strict=True) if part.count("...")), default=0)
    parts = [
        part.replace("...", "".join(spare[most - n : most]))
        for n, part in zip(hidden, parts, strict=True)
    ]
    if tuple(map(len, parts)) != ranks:
        raise ValueError(
            f"subscripts are {shown(subscripts)}; allowed is one letter for each dimension of operands "
            f"of {list(ranks)} dimensions"
        )
    if not arrow:
        every = "".join(parts)
        output = "..." + "".join(sorted(c for c in set(every) - set(spare) if every.count(c) == 1))
    return *parts, output.replace("...", "".join(spare[:most]))
