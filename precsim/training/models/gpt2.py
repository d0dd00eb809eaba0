"""GPT-2 small, the size that people train: 12 blocks of width 768, and one head tied to the tokens.

The blocks have equal shapes, so their weights are stacked and one program of a block runs for each
in turn (`Layers.scan`): the step compiles as fast as that of one block. Source: Radford et al.,
Language Models are Unsupervised Multitask Learners, 2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers
from precsim.training.models.initial import ones, zeros

BLOCKS = "blocks/"
"""What the names of stacked weights begin with."""
_DEVIATION = 0.02
_SUMMANDS = 4
"""Integers of 16 bits that make one initial weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GPT2:
    """A decoder as GPT-2's, of any size."""

    blocks: int = 12
    heads: int = 12
    width: int = 768
    context: int = 1024
    """Learned places; a sequence may be shorter."""

    def init(self, rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
        """Return weights for sequences (length,): deviation 0.02; gains 1, biases 0.

        The last product of each branch starts smaller by the root of the number of branches.
        """
        length, width, blocks = problem.shape[0], self.width, self.blocks
        if length > self.context:
            raise ValueError(
                f"sequences have {length} tokens; allowed for gpt2 are 1 to {self.context}"
            )
        weights = {
            "tokens": drawn(rng, (problem.classes, width), _DEVIATION),
            "places": drawn(rng, (self.context, width), _DEVIATION),
        }
        for norm in ("norm1", "norm2"):
            weights |= _norm(f"{BLOCKS}{norm}", blocks, width)
        of_branch = _DEVIATION / (2 * blocks) ** 0.5
        for name, rows, columns, deviation in (
            ("qkv", width, 3 * width, _DEVIATION),
            ("projection", width, width, of_branch),
            ("expand", width, 4 * width, _DEVIATION),
            ("contract", 4 * width, width, of_branch),
        ):
            weights[f"{BLOCKS}{name}/w"] = drawn(rng, (blocks, rows, columns), deviation)
            weights[f"{BLOCKS}{name}/b"] = zeros(blocks, columns)
        return weights | _norm("norm", width)

    def apply(self, params: Mapping[str, Array], tokens: Array, layers: Layers) -> Array:
        """Return each next token's logits (batch, length, classes), of tokens (batch, length)."""
        f = layers.functions
        batch, length = tokens.shape
        table, head = f.fork(params["tokens"])
        x = f.add(f.embed(table, tokens), params["places"][:length])
        x = x.reshape(batch * length, self.width)

        def block(layers: Layers, x: Array, weights: Any) -> Array:
            return self._block(layers, x, weights, (batch, length))

        stacked = {
            name.removeprefix(BLOCKS): w for name, w in params.items() if name.startswith(BLOCKS)
        }
        x = layers.scan("blocks", block, x, stacked)
        x = f.layer_norm(x, params["norm/gain"], params["norm/bias"])
        x = layers.rounded("logits", layers.product("output", x, head.T))
        return x.reshape(batch, length, -1)

    def _block(
        self, layers: Layers, x: Array, weights: Mapping[str, Array], shape: tuple[int, int]
    ) -> Array:
        """Return a block's output: rows plus attention, plus a perceptron of that."""
        f = layers.functions

        def linear(name: str, x: Array) -> Array:
            return layers.linear(f"{BLOCKS}{name}", x, weights[f"{name}/w"], weights[f"{name}/b"])

        def normalised(name: str, x: Array) -> Array:
            result: Array = f.layer_norm(x, weights[f"{name}/gain"], weights[f"{name}/bias"])
            return result

        x, branch = f.fork(x)
        mixed = self._attention(layers, linear("qkv", normalised("norm1", branch)), shape)
        x, branch = f.fork(f.add(x, linear("projection", mixed)))
        branch = f.gelu(linear("expand", normalised("norm2", branch)))
        result: Array = f.add(x, linear("contract", branch))
        return result

    def _attention(self, layers: Layers, qkv: Array, shape: tuple[int, int]) -> Array:
        """Mix the rows of each sequence, every row with itself and those before it."""
        batch, length = shape
        size = self.width // self.heads
        qkv = qkv.reshape(batch, length, 3, self.heads, size)
        q, k, v = (
            part.reshape(batch * self.heads, length, size)
            for part in jnp.split(qkv.transpose(2, 0, 3, 1, 4), 3)
        )
        f = layers.functions
        scores = f.scale(layers.product(f"{BLOCKS}scores", q, k.mT), size**-0.5)
        is_visible = np.tril(np.ones((length, length), bool))
        mixing = f.softmax(jnp.where(is_visible, scores, -jnp.inf))
        y = layers.product(f"{BLOCKS}values", mixing, v)
        y = y.reshape(batch, self.heads, length, size).transpose(0, 2, 1, 3)
        return y.reshape(batch * length, self.width)


def drawn(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Return nearly normal numbers: a sum of 4 integers of 16 bits, minus its mean, times a float.

    Integers and one multiplication in float32 are the same on every machine.
    """
    words = rng.integers(1 << 64, size=shape, dtype=np.uint64)
    parts = ((words >> np.uint64(16 * k)) & np.uint64(0xFFFF) for k in range(_SUMMANDS))
    total = sum(parts).astype(np.int32) - np.int32(_SUMMANDS * 0xFFFF // 2)  # type: ignore[union-attr]
    unit = ((1 << 32) * _SUMMANDS / 12) ** 0.5
    weights: np.ndarray = total.astype(np.float32) * np.float32(deviation / unit)
    return weights


def _norm(name: str, *shape: int) -> dict[str, np.ndarray]:
    return {f"{name}/gain": ones(*shape), f"{name}/bias": zeros(*shape)}


_SMALL = GPT2()
init, apply = _SMALL.init, _SMALL.apply
