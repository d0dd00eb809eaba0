"""From names to formats: a table of registered names, and two families that are spelled out."""

import difflib
import re
from typing import TypeAlias

from precsim.formats.catalogue import FORMATS
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat

Format: TypeAlias = FloatFormat | FixedPointFormat

_FLOAT = re.compile(r"float\(e=(\d+|inf),p=(\d+)\)")
_FIXED = re.compile(r"(u?)q(-?\d+)\.(-?\d+)")

_registered: dict[str, Format] = {}
_canonical: list[str] = []


def register_format(fmt: Format, *, aliases: tuple[str, ...] = ()) -> Format:
    """Make a format known under its name and aliases.

    Parameters
    ----------
    fmt : FloatFormat or FixedPointFormat
        The format; its `name` becomes the canonical name.
    aliases : tuple of str
        Other names for it.

    Returns
    -------
    FloatFormat or FixedPointFormat
        `fmt`, so that the call can be part of a definition.

    Raises
    ------
    ValueError
        If one of the names already means another format. Registering the same format again is allowed.

    Examples
    --------
    >>> import precsim as ps
    >>> tiny = ps.register_format(ps.FloatFormat(name="tiny", precision=3, exponent_bits=3))
    >>> ps.round_to(0.3, "tiny").item()
    0.3125
    """
    names = (fmt.name, *aliases)
    for name in names:
        known = _registered.get(name) or _spelled_out(name)
        if known is not None and known != fmt:
            raise ValueError(f"format name {name!r} already means {known!r}")
        if re.search(r"[\s:]", name) or not name:
            raise ValueError(
                f"format name {name!r} is not allowed: names have no spaces and no ':'"
            )
    if fmt.name not in _registered:
        _canonical.append(fmt.name)
    for name in names:
        _registered.setdefault(name, fmt)
    return fmt


def get_format(name: "str | Format") -> Format:
    """Return the format of that name.

    Parameters
    ----------
    name : str or Format
        A registered name or alias ("fp16", "e4m3", ...; `list_formats` lists them), ``"float(e=W,p=P)"``
        for a format with IEEE specials, W exponent bits (``inf`` for an unlimited range) and precision
        P, or ``"qI.F"`` / ``"uqI.F"`` for signed / unsigned fixed point with I integer bits (sign not
        counted) and F fraction bits. A format is returned as it is.

    Returns
    -------
    FloatFormat or FixedPointFormat
        The format.

    Raises
    ------
    ValueError
        If no format has that name; the message suggests the nearest one.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.get_format("bf16").max_finite
    3.3895313892515355e+38
    >>> ps.get_format("float(e=5,p=11)") == ps.get_format("fp16")
    True
    >>> ps.get_format("fp15")
    Traceback (most recent call last):
    ...
    ValueError: unknown format 'fp15'; did you mean 'fp16'? (also float(e=W,p=P), qI.F, uqI.F)
    """
    if isinstance(name, (FloatFormat, FixedPointFormat)):
        return name
    if not isinstance(name, str):
        raise TypeError(f"format is {name!r}; allowed are a name or a format")
    key = name.strip().lower()
    found = _registered.get(name) or _registered.get(key) or _spelled_out(key)
    if found is not None:
        return found
    near = difflib.get_close_matches(key, _registered, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_canonical)}"
    raise ValueError(f"unknown format {name!r}; {hint} (also float(e=W,p=P), qI.F, uqI.F)")


def short_name(fmt: Format) -> str:
    """Return the format's name, or an alias of it where the name has an underscore."""
    if "_" not in fmt.name:
        return fmt.name
    return next((n for n, f in _registered.items() if f == fmt and "_" not in n), fmt.name)


def list_formats(*, kind: str | None = None) -> tuple[str, ...]:
    """Return the canonical names of the registered formats.

    Parameters
    ----------
    kind : {"float", "fixed"}, optional
        Restrict the list to floating-point or to fixed-point formats.

    Returns
    -------
    tuple of str
        Names, in the order of registration.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.list_formats(kind="float")[:5]
    ('fp64', 'fp32', 'tf32', 'fp16', 'bf16')
    """
    kinds: dict[str | None, type | tuple[type, ...]] = {
        None: (FloatFormat, FixedPointFormat),
        "float": FloatFormat,
        "fixed": FixedPointFormat,
    }
    if kind not in kinds:
        raise ValueError(f"kind is {kind!r}; allowed are 'float', 'fixed' and None")
    return tuple(name for name in _canonical if isinstance(_registered[name], kinds[kind]))


def _spelled_out(name: str) -> Format | None:
    """Parse ``float(e=,p=)``, ``qI.F`` and ``uqI.F``."""
    if match := _FLOAT.fullmatch(name.replace(" ", "")):
        width = None if match[1] == "inf" else int(match[1])
        return FloatFormat(
            name=match[0], precision=int(match[2]), exponent_bits=width, source="user"
        )
    if match := _FIXED.fullmatch(name):
        return FixedPointFormat(
            name=name,
            integer_bits=int(match[2]),
            fraction_bits=int(match[3]),
            is_signed=not match[1],
            source="Q notation; the sign bit is not counted",
        )
    return None


for _fmt, _aliases in FORMATS.items():
    register_format(_fmt, aliases=_aliases)
for _name in ("q3.12", "q3.8", "q3.4", "q7.8", "uq0.8"):
    register_format(get_format(_name))
