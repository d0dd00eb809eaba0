"""What there is to say about a number in a format: code, value, error, neighbours."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from precsim.cli import scaled
from precsim.formats.fields import Field, check_fields, derivation, fields_of
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.layout import BINARY64
from precsim.formats.oracle import decode_exact, encode_exact
from precsim.formats.registry import Format
from precsim.formats.scaled import scaled_format
from precsim.formats.written import approximate, exact_decimal, hex_float
from precsim.rounding.neighbours import neighbours_exact
from precsim.rounding.oracle import Flags, round_exact, ulp_exact
from precsim.rounding.spec import RoundingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What there is to say about a number in a format.

    Parameters
    ----------
    spec : str
        Format and rule.
    size : str
        Bits and precision of the format, in words.
    fields : tuple of Field
        The code, split; empty for a value without a code.
    code : int, optional
        The code.
    value : float
        What the number became.
    derivation : str
        How the value follows from the fields; empty without a code.
    is_exact : bool
        Whether the number is in the format.
    error : tuple of str
        Absolute, relative and in ulp; empty if there is none.
    below, above : float, optional
        The nearest other values of the format.
    flags : tuple of str, optional
        Exceptions of IEEE 754 that the rounding signals; None where nothing was rounded.
    """

    spec: str
    size: str
    fields: tuple[Field, ...]
    code: int | None
    value: float
    derivation: str
    is_exact: bool
    error: tuple[str, ...]
    below: float | None
    above: float | None
    flags: tuple[str, ...] | None

    @property
    def code_text(self) -> str | None:
        """The code in hexadecimal, with all its digits; None without a code."""
        if self.code is None:
            return None
        return f"0x{self.code:0{-(-sum(len(f.bits) for f in self.fields) // 4)}x}"

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints: exact numbers are strings."""
        names = ("absolute", "relative", "ulp")
        sides = (None if side is None else exact_decimal(side) for side in (self.below, self.above))
        return {
            "format": self.spec,
            "size": self.size,
            "bits": {field.name: field.bits for field in self.fields} or None,
            "code": self.code_text,
            "value": exact_decimal(self.value),
            "hex_float": hex_float(self.value),
            "derivation": self.derivation or None,
            "is_exact": self.is_exact,
            "error": dict(zip(names, self.error, strict=True)) if self.error else None,
            "neighbours": dict(zip(("below", "above"), sides, strict=True)),
            "flags": list(self.flags or ()),
        }


def describe(
    exact: Fraction | float, spec: RoundingSpec, random_bits: int = 0
) -> "Shown | scaled.ShownScaled":
    """Return all that there is to say about a number in a format.

    Parameters
    ----------
    exact : Fraction or float
        The number; a float only for -0, infinity and NaN.
    spec : RoundingSpec
        Format and rule.
    random_bits : int
        R of mode "sr".

    Returns
    -------
    Shown or ShownScaled
        Of a block or affine format, the number in a block of its own.

    Raises
    ------
    ValueError
        If float64 cannot hold the format, or the number, in a format of unlimited range.

    Examples
    --------
    >>> shown = describe(Fraction(500), RoundingSpec.parse("e4m3:saturate"))
    >>> shown.value, shown.error
    (448.0, ('52', '0.104', '1.625'))
    >>> shown.derivation
    '(-1)**0 * 2**(15-7) * 1.110b = 448'
    """
    fmt = spec.format
    if scaled_format(fmt) is not None:
        return scaled.describe(exact, spec, random_bits)
    _refuse_unlimited(exact, fmt)
    value, flags = round_exact(exact, spec, random_bits=random_bits)
    if isinstance(exact, float) and math.isnan(exact) and math.isnan(value) and _has_two_nans(fmt):
        value = math.copysign(value, exact)
    code = None if fmt.width is None or not _has(value, fmt) else encode_exact(value, fmt)
    raised = (flag.name.lower().replace("_", " ") for flag in Flags if flag in flags and flag.name)
    return _shown(spec, code, value, exact, tuple(raised))


def describe_code(code: int, spec: RoundingSpec, widths: tuple[int, ...] = ()) -> Shown:
    """Return all that there is to say about a code.

    Parameters
    ----------
    code : int
        Bits.
    spec : RoundingSpec
        Its format.
    widths : tuple of int
        How many bits are written, of each field where fields are.

    Returns
    -------
    Shown
        What `describe` says about the value of the code, with this code.

    Raises
    ------
    ValueError
        If the format has no such code, or other fields.

    Examples
    --------
    >>> describe_code(0x3C00, RoundingSpec.parse("fp16")).value
    1.0
    """
    fmt = spec.format
    if scaled_format(fmt) is not None:
        raise ValueError(
            f"--code is given for {fmt}; allowed are formats of single numbers ({scaled.parts(fmt)})"
        )
    if fmt.width is None or not fmt.fits(BINARY64):
        raise ValueError(f"format {fmt} has no codes, or values that float64 has not")
    if code >> fmt.width:
        raise ValueError(
            f"--code has more bits than {fmt}; allowed are 0 to {(1 << fmt.width) - 1:#x}"
        )
    check_fields(widths, fmt)
    exact = decode_exact(code, fmt)
    return _shown(spec, code, exact, exact, None)


def _shown(
    spec: RoundingSpec,
    code: int | None,
    value: float,
    exact: Fraction | float,
    flags: tuple[str, ...] | None,
) -> Shown:
    fmt: Format = spec.format
    below, above = neighbours_exact(exact, spec)
    return Shown(
        spec=str(spec),
        size=_size(fmt),
        fields=() if code is None else fields_of(code, fmt),
        code=code,
        value=value,
        derivation="" if code is None else derivation(code, fmt),
        is_exact=_same(value, exact) and _has(value, fmt),
        error=_error(value, exact, fmt),
        below=below,
        above=above,
        flags=flags,
    )


def _size(fmt: Format) -> str:
    if isinstance(fmt, FixedPointFormat):
        return f"{fmt.width} bits, step {exact_decimal(fmt.resolution)}"
    if fmt.width is None:
        return f"unlimited exponent range, precision {fmt.precision}"
    return f"{fmt.width} bits, precision {fmt.precision}"


def _refuse_unlimited(exact: Fraction | float, fmt: Format) -> None:
    """Refuse what float64 cannot hold, since the result is returned in it."""
    if not fmt.fits(BINARY64):
        raise ValueError(f"format {fmt} has values that float64 has not; show cannot take it")
    is_limited = isinstance(fmt, FixedPointFormat) or fmt.exponent_bits is not None
    if is_limited or isinstance(exact, float) or exact == 0:
        return
    if not Fraction(2) ** -1022 <= abs(exact) <= Fraction(2) ** 1023:
        raise ValueError(
            f"the number is outside float64's normal range; for {fmt} it has to be inside"
        )


def _has(value: float, fmt: Format) -> bool:
    """Return whether a result is in the format; NaN may stand outside."""
    return not math.isnan(value) or fmt.has_nan


def _has_two_nans(fmt: Format) -> bool:
    """Return whether a format keeps the sign of NaN."""
    return fmt.is_signed and fmt.has_nan and not getattr(fmt, "nan_replaces_negative_zero", False)


def _same(value: float, exact: Fraction | float) -> bool:
    return value == exact or (math.isnan(value) and isinstance(exact, float) and math.isnan(exact))


def _error(value: float, exact: Fraction | float, fmt: Format) -> tuple[str, ...]:
    """Return the absolute and relative error, and that in ulp; nothing if one is not finite."""
    if not math.isfinite(value) or (isinstance(exact, float) and not math.isfinite(exact)):
        return ()
    exact = Fraction(exact)
    error = abs(Fraction(value) - exact)
    if not error:
        return ()
    relative = approximate(error / abs(exact)) if exact else "infinite"
    return approximate(error), relative, approximate(error / Fraction(ulp_exact(exact, fmt)))


def neighbours(shown: Shown) -> tuple[str, str]:
    """Return the line of the neighbours."""
    below, above = (_short(side) for side in (shown.below, shown.above))
    return "neighbours", f"{below} below, {above} above"


def _short(value: float | None) -> str:
    """Write a value exactly, in hexadecimal if its decimal digits are many."""
    text = "none" if value is None else exact_decimal(value)
    return text if value is None or len(text) <= 40 else hex_float(value)
