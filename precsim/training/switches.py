"""JAX's global switches, which change no number of a training."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, TypeVar

import jax

F = TypeVar("F", bound=Callable[..., Any])


def with_default_switches(function: F) -> F:
    """Let a function run, or be traced, as if no switch of JAX had been set.

    With 64-bit types on, optax would compute in float64. Without promotion of ranks or dtypes, or
    where it is an error, optax and several functions of JAX refuse to work.
    """

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(jax.enable_x64(False))
            stack.enter_context(jax.numpy_rank_promotion("allow"))
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
            return function(*args, **options)

    return run  # type: ignore[return-value]
