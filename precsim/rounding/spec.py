"""`RoundingSpec`: everything that decides how a real number becomes a value of a format."""

import enum
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from precsim.formats.affine import AffineFormat
from precsim.formats.arguments import integer, member, shown, unknown
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32
from precsim.formats.notebook import InNotebooks
from precsim.formats.numbers import Format
from precsim.formats.registry import AnyFormat, get_format
from precsim.formats.scaled import scaled_format
from precsim.formats.tile import is_tile_option
from precsim.rounding.modes import (
    EvenRule,
    InfinityMode,
    NanMode,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)
from precsim.rounding.presets import PRESETS


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingSpec(InNotebooks):
    """A format, and the rule by which real numbers are rounded to it.

    Parameters
    ----------
    format : str, FloatFormat, FixedPointFormat, BlockFormat, AffineFormat or TileFormat
        The set of values. In a block, affine or tile format (`round_to` and `quantize` take them)
        the rule is that of the elements; their default overflow is "saturate".
    mode : RoundingMode or str
        "rne" nearest, ties to even; "rna" ties away; "rnz" ties to zero; "rno" ties to odd; "rnp",
        "rnn" ties toward positive, negative; "rtz" toward zero; "raz" away from zero; "rtp", "rtn"
        toward positive, negative; "rto" to odd; "sr" stochastic.
    overflow : OverflowMode or str, optional
        "infinity" (default of floating point), "infinity_or_max" (default of P3109 formats),
        "saturate" (default of fixed point), "saturate_symmetric", "saturate_zero" or "wrap" (fixed
        point).
    infinities : InfinityMode or str, optional
        What an infinite input becomes: "propagate" (default), "propagate_or_saturate" (default of
        P3109 formats) or "saturate_infinity".
    nans : NanMode or str
        What NaN becomes in a format without NaN: "nan_stays", "nan_to_zero", "nan_to_negative_zero"
        or "nan_to_max".
    even : EvenRule or str, optional
        "even_significand" (default) or "even_code" (default of P3109 formats); matters for
        precision 1.
    subnormals : SubnormalMode or str
        "gradual", "flush_after_rounding", "flush_before_rounding", "flush_tiny",
        "nearest_of_zero_and_min" or "flush_as_chop"; see `SubnormalMode`.
    num_random_bits : int
        Random bits N per element in mode "sr", 1 to 32; 0 stands for 32. Always 0 in other modes.
    stochastic_variant : StochasticVariant or str
        "a", "b" or "c", see P3109.

    Raises
    ------
    ValueError
        If a field is unknown or contradicts the format.

    Notes
    -----
    As a string: ``FORMAT[:MODE][:OVERFLOW][:INFINITIES][:NANS][:EVEN][:SUBNORMALS][:VARIANT]``;
    every part after the format is optional and recognised by its name. ``:scale=TILE`` and
    ``:pow2`` give the elements scales, see `TileFormat`. ``str(spec)`` gives the shortest such
    string. Names of other stacks stand for one or more parts: SystemC's and
    ac_fixed's trn, trn_zero, rnd, rnd_zero, rnd_inf, rnd_min_inf, rnd_conv, rnd_conv_odd, sat,
    sat_zero, sat_sym; P3109's satfinite, satpropagate, satnone; onnx, onnx_saturate, ml_dtypes,
    ml_dtypes_saturate.

    Examples
    --------
    >>> import precsim as ps
    >>> spec = ps.RoundingSpec.parse("e4m3:rtz:saturate")
    >>> spec.mode.name, spec.overflow.name, str(spec)
    ('TOWARD_ZERO', 'SATURATE', 'e4m3:rtz:saturate')
    >>> str(ps.RoundingSpec.parse("bf16:sr8"))
    'bf16:sr8'
    >>> str(ps.RoundingSpec.parse("q3.4:trn_zero:sat_sym"))
    'q3.4:rtz:saturate_symmetric'
    >>> str(ps.RoundingSpec.parse("e4m3:satfinite"))
    'e4m3:saturate:saturate_infinity'
    """

    format: Format | Any
    mode: RoundingMode | Any = RoundingMode.TIES_TO_EVEN
    overflow: OverflowMode | Any = None
    infinities: InfinityMode | Any = None
    nans: NanMode | Any = NanMode.STAYS
    even: EvenRule | Any = None
    subnormals: SubnormalMode | Any = SubnormalMode.GRADUAL
    num_random_bits: int = 0
    stochastic_variant: StochasticVariant | Any = StochasticVariant.A

    def __post_init__(self) -> None:
        """Turn strings into members, fill the defaults, check."""
        fill = object.__setattr__
        fill(self, "format", get_format(self.format))
        numbers = _numbers(self.format)
        is_fixed = isinstance(numbers, FixedPointFormat)
        for name, default in _defaults(self.format).items():
            if getattr(self, name) is None:
                fill(self, name, default)
        for name, kind in _KINDS.items():
            fill(self, name, member(kind, getattr(self, name), name))
        allowed_overflow = _FIXED_OVERFLOW if is_fixed else _FLOAT_OVERFLOW
        if isinstance(self.format, DynamicFormat) and self.mode is not RoundingMode.TIES_TO_EVEN:
            raise ValueError(
                f"mode is {self.mode.value!r} for {self.format}; allowed is 'rne', the nearest value of "
                "the table"
            )
        if isinstance(self.format, AffineFormat | DynamicFormat):
            allowed_overflow = _AFFINE_OVERFLOW
        if self.overflow not in allowed_overflow:
            names = ", ".join(repr(m.value) for m in allowed_overflow)
            raise ValueError(
                f"overflow is {self.overflow.value!r} for {self.format}; allowed are {names}"
            )
        if self.nans is not NanMode.STAYS and (scaled_format(self.format) or numbers.has_nan):
            raise ValueError(f"nans is {self.nans.value!r}, but {self.format} has NaN")
        if self.nans is NanMode.NEGATIVE_ZERO and not numbers.has_negative_zero:
            raise ValueError(f"nans is {self.nans.value!r}, but {self.format} has no -0")
        if is_fixed and self.subnormals is not SubnormalMode.GRADUAL:
            raise ValueError(
                f"subnormals is {self.subnormals.value!r}, but fixed point has no subnormals"
            )
        if self.subnormals is SubnormalMode.FLUSH_AS_CHOP:
            _check_chop(numbers, self.mode)
        is_stochastic = self.mode is RoundingMode.STOCHASTIC
        count = integer(self.num_random_bits, "num_random_bits")
        fill(self, "num_random_bits", 32 if is_stochastic and count == 0 else count)
        if self.num_random_bits not in (range(1, 33) if is_stochastic else range(1)):
            raise ValueError(
                f"num_random_bits is {shown(count)}; allowed are 1 to 32 in mode 'sr', 0 in the others"
            )

    @classmethod
    def parse(cls, text: "str | AnyFormat | RoundingSpec") -> "RoundingSpec":
        """Return the spec that a string, a format or a spec stands for."""
        if isinstance(text, RoundingSpec):
            return text
        if not isinstance(text, str):
            return cls(format=text)
        return _parsed(text)

    @classmethod
    def parse_with(
        cls,
        given: "SpecLike",
        *,
        mode: "RoundingMode | str | None",
        overflow: "OverflowMode | str | None",
    ) -> "RoundingSpec":
        """Return a spec with another mode and overflow, where they are given.

        A string that names one itself may not be given another one beside it.
        """
        spec = cls.parse(given)
        if mode is None and overflow is None:
            return spec
        named = _named(given) if isinstance(given, str) else {}
        changes: dict[str, Any] = {}
        for name, value in (("mode", mode), ("overflow", overflow)):
            if value is None or value == getattr(spec, name):
                continue
            if name in named:
                raise ValueError(
                    f"{name} is {shown(value)}, but spec {shown(given)} says {named[name]!s}; allowed is "
                    "one of the two"
                )
            changes[name] = value
        if "mode" in changes:
            changes["num_random_bits"] = 0
        return replace(spec, **changes) if changes else spec

    def __str__(self) -> str:
        """Return the shortest string that parses to this spec."""
        parts = [self.format.name]
        default = RoundingSpec(format=self.format)
        for name in _KINDS:
            value = getattr(self, name)
            if value is RoundingMode.STOCHASTIC:
                parts.append("sr" if self.num_random_bits == 32 else f"sr{self.num_random_bits}")
            elif value is not getattr(default, name):
                parts.append(str(value))
        return ":".join(parts)


def refuse_beyond_float32(what: str, spec: RoundingSpec) -> None:
    """Refuse a format with values that are not float32 numbers, in which the results are kept."""
    if not spec.format.fits(BINARY32):
        raise ValueError(
            f"{what} is '{spec}'; allowed are formats whose values are float32 numbers, which hold the "
            "results"
        )


def _named(text: str) -> dict[str, object]:
    """Return the fields that a string names, and their values."""
    name, *parts = text.split(":")
    name = ":".join([name, *filter(is_tile_option, parts)])
    fields: dict[str, object] = {"format": name}
    for part in parts:
        if is_tile_option(part):
            continue
        for key, value in _parse_part(part, _numbers(get_format(name))).items():
            if key in fields:
                raise ValueError(f"rounding {shown(text)} gives {key} twice")
            fields[key] = value
    return fields


# Errors are not remembered, and a name that means a format never means another one.
@lru_cache(maxsize=1024)
def _parsed(text: str) -> RoundingSpec:
    """Parse each string once: that takes as long as a small product."""
    return RoundingSpec(**_named(text))  # type: ignore[arg-type]


SpecLike: TypeAlias = str | AnyFormat | RoundingSpec

_AFFINE_OVERFLOW: tuple[OverflowMode, ...] = (OverflowMode.SATURATE,)
_FLOAT_OVERFLOW: tuple[OverflowMode, ...] = (
    OverflowMode.INFINITY,
    OverflowMode.INFINITY_OR_MAX,
    OverflowMode.SATURATE,
)
_FIXED_OVERFLOW: tuple[OverflowMode, ...] = (
    OverflowMode.SATURATE,
    OverflowMode.SATURATE_SYMMETRIC,
    OverflowMode.SATURATE_ZERO,
    OverflowMode.WRAP,
)

_CHOP_MODES = ("rne", "rtp", "rtn", "rtz", "sr")

_KINDS: dict[str, type[enum.StrEnum]] = {
    "mode": RoundingMode,
    "overflow": OverflowMode,
    "infinities": InfinityMode,
    "nans": NanMode,
    "even": EvenRule,
    "subnormals": SubnormalMode,
    "stochastic_variant": StochasticVariant,
}


def _check_chop(numbers: Format, mode: RoundingMode) -> None:
    """Refuse what chop has no rule for."""
    if mode.value not in _CHOP_MODES:
        raise ValueError(
            f"mode is {mode.value!r} with subnormals 'flush_as_chop'; allowed are chop's modes, "
            f"{', '.join(map(repr, _CHOP_MODES))}"
        )
    assert isinstance(numbers, FloatFormat)
    has_subnormals = numbers.has_subnormals and numbers.exponent_bits is not None
    if numbers.precision < 3 or not has_subnormals:
        raise ValueError(
            f"subnormals is 'flush_as_chop' for {numbers}; allowed are formats with subnormals and "
            "at least 3 bits of precision"
        )


def _numbers(fmt: AnyFormat) -> Format:
    """Return the format of the numbers that are rounded; of a block or affine format, elements'."""
    scaled = scaled_format(fmt)
    return fmt if scaled is None else scaled.element  # type: ignore[return-value]


def _defaults(fmt: AnyFormat) -> dict[str, enum.StrEnum]:
    """Return the fields whose default depends on the format."""
    numbers = _numbers(fmt)
    is_p3109 = isinstance(numbers, FloatFormat) and numbers.specials.is_p3109
    overflow = OverflowMode.INFINITY_OR_MAX if is_p3109 else OverflowMode.INFINITY
    saturates = scaled_format(fmt) is not None or isinstance(numbers, FixedPointFormat)
    return {
        "overflow": OverflowMode.SATURATE if saturates else overflow,
        "infinities": InfinityMode.PROPAGATE_OR_SATURATE if is_p3109 else InfinityMode.PROPAGATE,
        "even": EvenRule.CODE if is_p3109 else EvenRule.SIGNIFICAND,
    }


def _parse_part(part: str, fmt: Format) -> dict[str, object]:
    if match := re.fullmatch(r"sr([1-9]\d{,5})", part):
        return {"mode": RoundingMode.STOCHASTIC, "num_random_bits": int(match[1])}
    for name, kind in _KINDS.items():
        if part in list(kind):
            return {name: kind(part)}
    if part in PRESETS:
        return PRESETS[part](fmt)
    members = [member for kind in _KINDS.values() for member in kind]
    raise unknown("rounding option", part, [*members, *PRESETS])
