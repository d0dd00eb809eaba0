"""From names to formats: a table of registered names, and the families that are spelled out."""

import difflib
import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from precsim.formats.affine import AffineFormat, affine_format
from precsim.formats.block import BlockFormat
from precsim.formats.catalogue import FORMATS
from precsim.formats.dtypes import dtype_name
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.p3109 import p3109_format
from precsim.formats.scaled import AFFINE_NAMES, BLOCK_FORMATS, ScaledFormat, with_rule

if TYPE_CHECKING:
    import numpy as np

Format: TypeAlias = FloatFormat | FixedPointFormat
"""A set of numbers, each with a code. Nearly everything takes these."""

AnyFormat: TypeAlias = Format | ScaledFormat
"""Block and affine formats too, whose elements share scales; `scaled_format` tells them apart."""

_AnyFormat = TypeVar("_AnyFormat", bound=AnyFormat)

_FLOAT = re.compile(r"float\(e=(\d+|inf),p=(\d+)\)")
_FIXED = re.compile(r"(u?)q(-?\d+)\.(-?\d+)")

_registered: dict[str, Any] = {}
_canonical: list[str] = []


def register_format(fmt: _AnyFormat, *, aliases: tuple[str, ...] = ()) -> _AnyFormat:
    """Make a format known under its name and aliases.

    Parameters
    ----------
    fmt : FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
        The format; its `name` becomes the canonical name.
    aliases : tuple of str
        Other names for it.

    Returns
    -------
    FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
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


def get_format(name: "str | AnyFormat | np.dtype[Any] | type") -> Format | Any:
    """Return the format of that name.

    Parameters
    ----------
    name : str or Format
        A registered name or alias ("fp16", "e4m3", ...; `list_formats` lists them), ``"float(e=W,p=P)"``
        for a format with IEEE specials, W exponent bits (``inf`` for an unlimited range) and precision
        P, or ``"qI.F"`` / ``"uqI.F"`` for signed / unsigned fixed point with I integer bits (sign not
        counted) and F fraction bits, or ``"binary{K}p{P}{s|u}{e|f}"`` (also ``"p3109_k8p4se"``) for the
        IEEE P3109 format of K bits, precision P, signed or unsigned, extended or finite. Block formats
        may name another scale rule, ``"mxfp4_rceil"``; affine formats are spelled
        ``"[u]intBITS[_symmetric][_channel|_blockSIZE]"``. A dtype of floats (of NumPy, ml_dtypes, JAX or
        torch) stands for its format. A format is returned as it is.

    Returns
    -------
    FloatFormat, FixedPointFormat, BlockFormat or AffineFormat
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
    ValueError: unknown format 'fp15'; did you mean 'fp16'? (also float(e=W,p=P), qI.F, uqI.F, binary8p4se)
    """
    if isinstance(name, AnyFormat):
        return name
    name = dtype_name(name) or name
    if not isinstance(name, str):
        raise TypeError(f"format is {name!r}; allowed are a name or a format, or a dtype of floats")
    key = name.strip().lower()
    found = _registered.get(name) or _registered.get(key) or _spelled_out(key)
    if found is not None:
        return found
    near = difflib.get_close_matches(key, _registered, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_canonical)}"
    raise ValueError(
        f"unknown format {name!r}; {hint} (also float(e=W,p=P), qI.F, uqI.F, binary8p4se)"
    )


def short_name(fmt: Format) -> str:
    """Return the format's name, or an alias of it where the name has an underscore."""
    if "_" not in fmt.name:
        return fmt.name
    return next((n for n, f in _registered.items() if f == fmt and "_" not in n), fmt.name)


def list_formats(*, kind: str | None = None) -> tuple[str, ...]:
    """Return the canonical names of the registered formats.

    Parameters
    ----------
    kind : {"float", "fixed", "block", "affine"}, optional
        Restrict the list to formats of that kind.

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
    kinds: dict[str | None, type] = {
        None: object,
        "float": FloatFormat,
        "fixed": FixedPointFormat,
        "block": BlockFormat,
        "affine": AffineFormat,
    }
    if kind not in kinds:
        raise ValueError(
            f"kind is {kind!r}; allowed are 'float', 'fixed', 'block', 'affine' and None"
        )
    return tuple(name for name in _canonical if isinstance(_registered[name], kinds[kind]))


def _spelled_out(name: str) -> AnyFormat | None:
    """Parse ``float(e=,p=)``, ``qI.F``, ``uqI.F``, the names of P3109, scale rules and integers."""
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
    return p3109_format(name) or with_rule(name, _registered) or affine_format(name)


for _fmt, _aliases in FORMATS.items():
    register_format(_fmt, aliases=_aliases)
for _name in (
    "binary8p4se",
    "binary8p3se",
    "binary4p2sf",
    "q3.12",
    "q3.8",
    "q3.4",
    "q7.8",
    "uq0.8",
):
    register_format(get_format(_name))
for _block, _aliases in BLOCK_FORMATS.items():
    register_format(_block, aliases=_aliases)
for _name in AFFINE_NAMES:
    register_format(get_format(_name))
