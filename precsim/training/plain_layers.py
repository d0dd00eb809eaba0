"""`PlainLayers`: what a model of `Layers` computes without roundings, in the same scopes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.training.functions import platform


@dataclass(frozen=True, slots=True)
class PlainLayers:
    """The operations of `Layers` without roundings, each in the scope of its place."""

    functions: Any = field(default_factory=lambda: ScopedFunctions({}))

    def data(self, name: str, x: Array) -> Array:
        """Return the data as they are."""
        return x

    def rounded(self, name: str, x: Array) -> Array:
        """Return values as they are."""
        return x

    def linear(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Return x @ w + b."""
        with jax.named_scope(name):
            return x @ w + b

    def product(self, name: str, a: Array, b: Array) -> Array:
        """Return a @ b."""
        with jax.named_scope(name):
            return a @ b

    def scan(
        self, name: str, body: Callable[["PlainLayers", Array, Any], Array], x: Array, stacked: Any
    ) -> Array:
        """Apply ``x = body(layers, x, weights)`` for the weights of each block."""
        step = lambda x, weights: (body(self, x, weights), None)
        with jax.named_scope(name):
            return jax.lax.scan(step, x, stacked)[0]

    def conv(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Convolve with "SAME" padding and add a bias."""
        with jax.named_scope(name):
            image, kernel = jnp.asarray(x), jnp.asarray(w)
            numbers = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(
                image, kernel, (1, 1), "SAME", dimension_numbers=numbers
            )
            return y + jnp.asarray(b)


@dataclass(frozen=True, slots=True)
class ScopedFunctions:
    """The platform's functions, in the scopes of a training: ``softmax 1``, ``softmax 2``."""

    calls: dict[str, int]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function in its scope."""

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            with jax.named_scope(f"{name} {self.calls[name]}"):
                return getattr(platform, name)(*args)

        return call
