"""Checks of arguments, each with one clear line: what was given, what is allowed, what is near."""

import enum
import operator
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, TypeVar

_LISTED = 12
"""Names that a message lists at most."""

_SHOWN = 60
"""Characters of a value that a message shows at most."""

Member = TypeVar("Member", bound=enum.StrEnum)


def shown(value: object) -> str:
    """Return a value as messages show it: one line, quoted if text, without the middle if long."""
    if isinstance(value, str):
        return repr(_shortened(str(value)))
    try:
        return _shortened(" ".join(repr(value).split()))
    except ValueError:  # Python does not write integers of more than 4300 digits
        return "a number of thousands of digits"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 4 :]}"


def integer(value: Any, argument: str, least: int | None = None, most: int | None = None) -> int:
    """Return a Python, NumPy or JAX integer as int; refuse bool, float and what is out of range."""
    try:
        number = operator.index(value)
        is_allowed = not isinstance(value, bool)
    except TypeError:
        number, is_allowed = 0, False
    if is_allowed and (least is None or number >= least) and (most is None or number <= most):
        return number
    lower = "" if least is None else f" from {least}"
    upper = "" if least is None else " on" if most is None else f" to {most}"
    raise ValueError(f"{argument} is {shown(value)}; allowed are integers{lower}{upper}")


def axis_of(axis: Any, shape: tuple[int, ...], argument: str = "x") -> int:
    """Return an axis of an array as a negative int; refuse what is none."""
    if not shape:
        raise ValueError(f"{argument} has shape (); allowed are arrays of at least one axis")
    found = integer(axis, "axis", -len(shape), len(shape) - 1)
    return found if found < 0 else found - len(shape)


def not_allowed(argument: str, value: object, allowed: Iterable[str]) -> ValueError:
    """Return the error for a value that is none of those allowed; it suggests one that is near."""
    names = [str(name) for name in allowed]
    near = nearest(str(value), names)
    hint = f"; did you mean {near!r}?" if near else ""
    return ValueError(
        f"{argument} is {shown(value)}; allowed are {', '.join(map(repr, names))}{hint}"
    )


def member(kind: type[Member], value: object, argument: str) -> Member:
    """Return the member of an enumeration that a value, or its string, names."""
    try:
        return kind(str(value))
    except ValueError:
        raise not_allowed(argument, value, kind) from None


def unknown(what: str, name: str, known: Iterable[str], aliases: Iterable[str] = ()) -> ValueError:
    """Return the error for a name that nothing has; it suggests a near name or lists the first."""
    names = [str(each) for each in known]
    near = nearest(name, [*names, *aliases])
    first = ", ".join(names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    hint = f"did you mean {near!r}?" if near else f"known are {first}{more}"
    return ValueError(f"unknown {what} {shown(name)}; {hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, None if none is near.

    A name is near if one slip per four letters separates the two (at least one): a letter wrong,
    missing, superfluous, or exchanged with the next. Failing that, a name is near if `name`, of
    three letters or more, is its beginning or one of its words.
    """
    name, names = name.strip().lower(), list(known)
    slips, letters = max(1, len(name) // 4), set(name)

    def may_be_near(each: str) -> bool:
        """Return whether no more letters than that are in one name alone, which is quick to see."""
        missing, superfluous = letters.difference(each), set(each) - letters
        return abs(len(each) - len(name)) <= slips >= max(len(missing), len(superfluous))

    close = [each for each in names if may_be_near(each)]
    best = min(close, key=lambda each: _slips(name, each), default=None)
    if name and best is not None and _slips(name, best) <= slips:
        return best
    if len(name) < 3:
        return None
    return next((each for each in names if each.startswith(name) or name in each.split("_")), None)


def _slips(x: str, y: str) -> int:
    """Return the optimal string alignment distance of two names (Damerau; Levenshtein)."""
    d: dict[tuple[int, int], int] = {}
    for i in range(len(x) + 1):
        for j in range(len(y) + 1):
            if i == 0 or j == 0:
                d[i, j] = i + j
                continue
            wrong = d[i - 1, j - 1] + (x[i - 1] != y[j - 1])
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, wrong)
            if i > 1 and j > 1 and x[i - 2 : i] == y[j - 1] + y[j - 2]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[len(x), len(y)]


def number_within(value: object, name: str, least: float, most: float) -> float:
    """Return a number between two others, which are allowed too; refuse anything else."""
    allowed = f"allowed are numbers from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {shown(value)}; {allowed}")
    if not least <= float(value) <= most:
        raise ValueError(f"{name} is {shown(value)}; {allowed}")
    return float(value)


def each_of(value: Any, name: str, allowed: str) -> Iterator[Any]:
    """Return the elements of a list or another iterable; refuse a text and what has none."""
    try:
        if not isinstance(value, (str, bytes)):
            return iter(value)
    except TypeError:
        pass
    raise TypeError(f"{name} is {shown(value)}; allowed are {allowed}")
