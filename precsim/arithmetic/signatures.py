"""The types of public functions: the result is of the library of the operands.

A type checker reads them; nothing happens at run time. `random_bits` count as an operand.
"""

from collections.abc import Callable
from typing import Protocol, cast, overload

import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray, NumPyLike
from precsim.rounding.spec import SpecLike


class Unary(Protocol):
    """A function of one operand."""

    __name__: str

    @overload
    def __call__(
        self, x: JaxArray, spec: SpecLike, *, random_bits: ArrayLike | None = None
    ) -> JaxArray: ...
    @overload
    def __call__(
        self, x: NumPyLike, spec: SpecLike, *, random_bits: NumPyLike | None = None
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self, x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
    ) -> Array: ...


class Binary(Protocol):
    """A function of two operands."""

    __name__: str

    @overload
    def __call__(
        self, x: JaxArray, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
    ) -> JaxArray: ...
    @overload
    def __call__(
        self, x: ArrayLike, y: JaxArray, spec: SpecLike, *, random_bits: ArrayLike | None = None
    ) -> JaxArray: ...
    @overload
    def __call__(
        self, x: NumPyLike, y: NumPyLike, spec: SpecLike, *, random_bits: NumPyLike | None = None
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self, x: ArrayLike, y: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
    ) -> Array: ...


class Ternary(Protocol):
    """A function of three operands."""

    __name__: str

    @overload
    def __call__(
        self,
        x: JaxArray,
        y: ArrayLike,
        z: ArrayLike,
        spec: SpecLike,
        *,
        random_bits: ArrayLike | None = None,
    ) -> JaxArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        y: JaxArray,
        z: ArrayLike,
        spec: SpecLike,
        *,
        random_bits: ArrayLike | None = None,
    ) -> JaxArray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        z: JaxArray,
        spec: SpecLike,
        *,
        random_bits: ArrayLike | None = None,
    ) -> JaxArray: ...
    @overload
    def __call__(
        self,
        x: NumPyLike,
        y: NumPyLike,
        z: NumPyLike,
        spec: SpecLike,
        *,
        random_bits: NumPyLike | None = None,
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        z: ArrayLike,
        spec: SpecLike,
        *,
        random_bits: ArrayLike | None = None,
    ) -> Array: ...


def unary(function: Callable[..., Array]) -> Unary:
    """Return a function as it is, with the types of one operand."""
    return cast("Unary", function)


def binary(function: Callable[..., Array]) -> Binary:
    """Return a function as it is, with the types of two operands."""
    return cast("Binary", function)


def ternary(function: Callable[..., Array]) -> Ternary:
    """Return a function as it is, with the types of three operands."""
    return cast("Ternary", function)
