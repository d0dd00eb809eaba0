"""What is fuzzed: a parser or reader, its inputs, and what it may refuse them with."""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Inputs = Callable[[random.Random], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One parser or reader.

    Parameters
    ----------
    read : callable
        Called with an input; what it returns is what the input stands for.
    make : callable
        ``make(rng)`` returns an input.
    written : callable, optional
        Returns a text that has to be read as the same again; None where there is none.
    refusals : tuple of types
        What it may raise, in one line. Everything else is a fault.
    share : int
        How many of its inputs are tried where each has its turn.
    """

    read: Callable[[Any], Any]
    make: Inputs
    written: Callable[[Any], str | None] | None = None
    refusals: tuple[type[Exception], ...] = (ValueError,)
    share: int = 1


def named(path: str) -> Callable[..., Any]:
    """Return the function ``module:name``, imported when it is called.

    Fuzzing looks inside: parsers are named by where they stand, whether that is public or not.
    """
    module, _, name = path.partition(":")

    def call(*args: Any, **kwargs: Any) -> Any:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found(*args, **kwargs)

    return call
