"""Floating-point formats, described as sets of values."""

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from precsim.formats.arguments import integer, member
from precsim.formats.layout import Layout, as_float
from precsim.formats.notebook import InNotebooks


class Specials(enum.StrEnum):
    """Which codes are not finite numbers.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.get_format("e4m3").specials is ps.Specials.FN
    True
    """

    IEEE = "ieee"
    """The top exponent holds infinity (fraction 0) and NaN (IEEE 754)."""
    FN = "fn"
    """The top code is NaN and there is no infinity (OFP8 E4M3, E8M0)."""
    FNUZ = "fnuz"
    """The code of -0 is NaN; no infinity, no -0."""
    NONE = "none"
    """Every code is a finite number (OCP MX FP6 and FP4)."""
    P3109_FINITE = "p3109_finite"
    """NaN alone: in place of -0 if signed, else the top code (IEEE P3109 v4.0, 4.7.2)."""
    P3109_EXTENDED = "p3109_extended"
    """NaN as above, and infinity: the top code if signed, else the one below NaN."""

    @property
    def is_p3109(self) -> bool:
        """Whether these are the rules of IEEE P3109."""
        return self in (Specials.P3109_FINITE, Specials.P3109_EXTENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatFormat(InNotebooks):
    """A binary floating-point format: a finite set of values, or one of unlimited range.

    A finite value is ``(-1)**s * m * 2**(e - precision + 1)`` with an integer significand
    ``0 <= m < 2**precision`` and ``emin <= e <= emax``. A format never holds a rounding mode.

    Parameters
    ----------
    name : str
        Label. Not compared: two formats that differ only in name and source are equal.
    precision : int
        Significand bits p, counting the implicit bit; 1 to 53.
    exponent_bits : int or None
        Width w of the exponent field; None for an unlimited exponent range, which ends where that
        of the carrier ends: beyond it numbers overflow as in IEEE 754, whatever the overflow mode.
    bias : int, optional
        Exponent bias; by default 2**(w - 1) - 1, for P3109 formats 2**(w - 1).
    specials : Specials or str
        Which codes are not finite numbers.
    has_subnormals : bool
        Whether exponent field 0 means zero and subnormals. Without them the field means zero only;
        with precision 1 and no sign it is then an ordinary exponent, and the format has no zero
        (E8M0).
    is_signed : bool
        Whether there is a sign bit.
    has_negative_zero : bool, optional
        By default true for signed formats, except where the code of -0 is NaN.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If the fields contradict each other; the message names the field.

    Examples
    --------
    >>> import precsim as ps
    >>> half = ps.FloatFormat(name="half", precision=11, exponent_bits=5)
    >>> half.max_finite, half.unit_roundoff == 2**-11
    (65504.0, True)
    >>> half == ps.get_format("fp16")
    True
    """

    name: str = field(compare=False)
    precision: int
    exponent_bits: int | None
    bias: int = None  # type: ignore[assignment]
    specials: Specials | Any = Specials.IEEE
    has_subnormals: bool = True
    is_signed: bool = True
    has_negative_zero: bool = None  # type: ignore[assignment]
    source: str = field(default="", compare=False)
    _further: ClassVar = (
        *("width", "emin", "emax", "max_finite", "min_normal", "min_subnormal", "unit_roundoff"),
        *("has_zero", "has_infinity", "has_nan", "source"),
    )

    def __post_init__(self) -> None:
        """Fill the defaults and check the fields."""
        fill = object.__setattr__
        fill(self, "specials", member(Specials, self.specials, "specials"))
        fill(self, "precision", integer(self.precision, "precision", 1, 53))
        if self.exponent_bits is not None:
            fill(self, "exponent_bits", integer(self.exponent_bits, "exponent_bits", 1, 16))
        if self.exponent_bits is None and self.specials is not Specials.IEEE:
            raise ValueError(f"specials {self.specials.value!r} need codes, hence exponent_bits")
        if cast("int | None", self.bias) is None:
            w = self.exponent_bits
            fill(self, "bias", 0 if w is None else (1 << (w - 1)) - (not self.specials.is_p3109))
        fill(self, "bias", integer(self.bias, "bias"))
        if cast("bool | None", self.has_negative_zero) is None:
            fill(self, "has_negative_zero", self.is_signed and not self.nan_replaces_negative_zero)
        if self.nan_replaces_negative_zero and self.has_negative_zero:
            raise ValueError(
                f"specials {self.specials.value!r} use the code of -0 for NaN: the format has no -0"
            )
        if self.specials is Specials.FNUZ and not self.is_signed:
            raise ValueError("specials 'fnuz' use the code of -0 for NaN: the format is signed")
        if self.has_negative_zero and not self.is_signed:
            raise ValueError("has_negative_zero is True for an unsigned format; allowed is False")
        if self.specials is Specials.IEEE and self.precision == 1:
            raise ValueError(
                "specials 'ieee' needs precision >= 2: one code for infinity, one for NaN"
            )
        if self.exponent_bits is not None and self._max_code < 1:
            raise ValueError(
                f"exponent_bits is {self.exponent_bits}: no code is left for finite values"
            )

    @property
    def has_zero(self) -> bool:
        """Whether 0 is in the format."""
        return self.is_signed or self.has_subnormals or self.precision > 1

    @property
    def has_infinity(self) -> bool:
        """Whether the format has infinities."""
        return self.specials in (Specials.IEEE, Specials.P3109_EXTENDED)

    @property
    def nan_replaces_negative_zero(self) -> bool:
        """Whether the code that would be -0 is the (only) NaN."""
        return self.specials is Specials.FNUZ or (self.specials.is_p3109 and self.is_signed)

    @property
    def has_nan(self) -> bool:
        """Whether the format has a NaN."""
        return self.specials is not Specials.NONE

    @property
    def width(self) -> int | None:
        """Number of bits of a code, None for an unlimited exponent range."""
        return None if self.exponent_bits is None else self.is_signed + self._magnitude_bits

    @property
    def _magnitude_bits(self) -> int:
        if self.exponent_bits is None:
            raise ValueError(f"{self.name} has an unlimited exponent range, hence no codes")
        return self.exponent_bits + self.precision - 1

    @property
    def _max_code(self) -> int:
        """Code of the largest finite value."""
        reserved = {
            Specials.IEEE: 1 << (self.precision - 1),
            Specials.FN: 1,
            Specials.P3109_FINITE: int(not self.is_signed),
            Specials.P3109_EXTENDED: 1 + (not self.is_signed),
        }
        return (1 << self._magnitude_bits) - 1 - reserved.get(self.specials, 0)

    @property
    def _nan_code(self) -> int:
        """Code of the quiet NaN, with its sign bit clear where the format has two of them."""
        if self.nan_replaces_negative_zero:
            return 1 << self._magnitude_bits
        if self.specials is Specials.IEEE:
            return self._max_code + 1 + (1 << (self.precision - 2))
        return self._max_code + 1 + self.has_infinity

    def magnitude(self, code: int) -> tuple[int, int]:
        """Return (significand, exponent of its last bit) of a non-negative finite code."""
        exponent_field = code >> (self.precision - 1)
        significand = code & ((1 << (self.precision - 1)) - 1)
        if exponent_field == 0 and self.has_zero:
            return (significand if self.has_subnormals else 0), self.emin - self.precision + 1
        return significand | 1 << (
            self.precision - 1
        ), exponent_field - self.bias - self.precision + 1

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal value."""
        if self.exponent_bits is None:
            raise ValueError(f"{self.name} has an unlimited exponent range, hence no emin")
        return (1 if self.has_zero else 0) - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value."""
        significand, exponent = self.magnitude(self._max_code)
        return exponent + significand.bit_length() - 1

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest in the normal range, u = 2**-p."""
        return 2.0**-self.precision

    @property
    def machine_epsilon(self) -> float:
        """Distance from 1 to the next larger value, 2u = 2**(1-p)."""
        return 2.0 ** (1 - self.precision)

    @property
    def max_finite(self) -> float:
        """Largest finite value (infinity for an unlimited exponent range)."""
        if self.exponent_bits is None:
            return float("inf")
        return as_float(*self.magnitude(self._max_code), self.name)

    @property
    def min_normal(self) -> float:
        """Smallest positive normal value (0 for an unlimited exponent range)."""
        return 0.0 if self.exponent_bits is None else as_float(1, self.emin, self.name)

    @property
    def min_subnormal(self) -> float:
        """Smallest positive value: the smallest subnormal, or `min_normal` without subnormals."""
        if self.exponent_bits is None or not self.has_subnormals:
            return self.min_normal
        return as_float(1, self.emin - self.precision + 1, self.name)

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier has every value of this format.

        For an unlimited range these are the ones within the carrier's own range.
        """
        if self.exponent_bits is None:
            return self.precision <= carrier.precision
        smallest = self.emin - (self.precision - 1 if self.has_subnormals else 0)
        return (
            self.precision <= carrier.precision
            and self.emax <= carrier.bias
            and smallest >= carrier.lsb_min
        )

    def __str__(self) -> str:
        """Return the name."""
        return self.name
