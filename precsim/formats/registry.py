"""From names to formats: a table of registered names, and the families that are spelled out."""

import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from precsim.formats.affine import AffineFormat, affine_format
from precsim.formats.arguments import not_allowed, shown, unknown
from precsim.formats.block import BlockFormat
from precsim.formats.dtypes import dtype_name
from precsim.formats.dynamic import dynamic_format
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.numbers import Format as Format  # noqa: PLC0414 (named beside AnyFormat)
from precsim.formats.numbers import canonical, registered, spelled_number
from precsim.formats.scaled import AFFINE_NAMES, BLOCK_FORMATS, ScaledFormat, block_variant
from precsim.formats.tile import TileFormat, tile_format

if TYPE_CHECKING:
    import numpy as np

AnyFormat: TypeAlias = Format | ScaledFormat
"""Block and affine formats too, whose elements share scales; `scaled_format` tells them apart."""

_AnyFormat = TypeVar("_AnyFormat", bound=AnyFormat)

_NAME = re.compile(r"[A-Za-z0-9.]+(_[A-Za-z0-9.]+)*")


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
        If one of the names already means another format, whatever its case, or would not be read
        back in strings of roundings and products: names are words of letters, digits and ".",
        joined by "_", and a format of single numbers has a name or alias without "_". Registering
        the same format again is allowed.

    Examples
    --------
    >>> import precsim as ps
    >>> tiny = ps.register_format(ps.FloatFormat(name="tiny", precision=3, exponent_bits=3))
    >>> ps.round_to(0.3, "tiny").item()
    0.3125
    """
    names = (fmt.name, *aliases)
    for name in names:
        known = _found(name)
        if known is not None and known != fmt:
            raise ValueError(f"format name {shown(name)} already means {known!r}")
        if known is None and not _NAME.fullmatch(name):
            raise ValueError(
                f"format name {shown(name)} is not allowed; allowed are letters, digits and '.', in words "
                "that single '_' join"
            )
    if isinstance(fmt, Format) and all("_" in name for name in names):
        raise ValueError(
            f"format name {shown(fmt.name)} has '_', which strings of matrix products split at; allowed are "
            "names without it, or an alias without it besides"
        )
    if fmt.name not in registered:
        canonical.append(fmt.name)
    for name in names:
        registered.setdefault(name, fmt)
    return fmt


def get_format(name: "str | AnyFormat | np.dtype[Any] | type") -> Format | Any:
    """Return the format of that name.

    Parameters
    ----------
    name : str, dtype or Format
        A registered name or alias ("fp16", "e4m3", ...; `list_formats` lists them),
        ``"float(e=W,p=P)"`` for a format with IEEE specials, W exponent bits (``inf`` for an
        unlimited range) and precision P, or ``"qI.F"`` / ``"uqI.F"`` for signed / unsigned fixed
        point with I integer bits (sign not counted) and F fraction bits, or
        ``"binary{K}p{P}{s|u}{e|f}"`` (also ``"p3109_k8p4se"``) for the IEEE P3109 format of K bits,
        precision P, signed or unsigned, extended or finite. Block formats may name another scale
        rule, ``"mxfp4_rceil"``; affine formats are spelled
        ``"[u]intBITS[_symmetric][_channel|_blockSIZE]"``. Floats with float32 scales are spelled
        ``"ELEMENT:scale=TILE[:pow2]"``, see `TileFormat`; the 8-bit tables of bitsandbytes
        ``"[u]dynamic8_blockSIZE"``, without a sign for second moments. A dtype of floats (of NumPy,
        ml_dtypes, JAX or torch) stands for its format. A format is returned as it is.

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
    ValueError: unknown format 'fp15'; did you mean 'fp16'? (also float(e=W,p=P), qI.F, uqI.F,
    binary8p4se)
    """
    if isinstance(name, AnyFormat):
        return name
    name = dtype_name(name) or name
    if not isinstance(name, str):
        raise TypeError(
            f"format is {shown(name)}; allowed are a name or a format, or a dtype of floats"
        )
    found = _found(name)
    if found is not None:
        return found
    error = unknown("format", name, canonical, aliases=registered)
    raise ValueError(f"{error} (also float(e=W,p=P), qI.F, uqI.F, binary8p4se)")


def short_name(fmt: AnyFormat) -> str:
    """Return the format's name, or an alias of it where the name has an underscore.

    Of elements with scales it is the element's; the scale is one of the options.
    """
    if isinstance(fmt, TileFormat):
        return short_name(fmt.element)
    if "_" not in fmt.name:
        return fmt.name
    return next((n for n, f in registered.items() if f == fmt and "_" not in n), fmt.name)


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
        raise not_allowed("kind", kind, [name for name in kinds if name])
    return tuple(name for name in canonical if isinstance(registered[name], kinds[kind]))


def _found(name: str) -> Any:
    """Return the format of a name, None if there is none."""
    key = name.strip().lower()
    return registered.get(name) or registered.get(key) or _spelled_out(key)


def _spelled_out(name: str) -> AnyFormat | None:
    """Parse the families of numbers, scale rules, affine names and elements with scales."""
    number = spelled_number(name) or block_variant(name, registered) or affine_format(name)
    return number or dynamic_format(name) or tile_format(name, _found)


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
