"""`RoundingSpec`: everything that decides how a real number becomes a value of a format."""

import difflib
import enum
import re
from dataclasses import dataclass
from typing import TypeAlias, cast

from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format


class RoundingMode(enum.StrEnum):
    """Which neighbour a number between two values goes to (IEEE 754-2019, 4.3; P3109, 4.6)."""

    TIES_TO_EVEN = "rne"
    TIES_TO_AWAY = "rna"
    TIES_TO_ZERO = "rnz"
    TOWARD_ZERO = "rtz"
    AWAY_FROM_ZERO = "raz"
    TOWARD_POSITIVE = "rtp"
    TOWARD_NEGATIVE = "rtn"
    TO_ODD = "rto"
    STOCHASTIC = "sr"


class OverflowMode(enum.StrEnum):
    """What a finite number beyond the largest value becomes, after it has been rounded."""

    INFINITY = "infinity"
    """IEEE 754: infinity or the largest value, by direction; NaN without infinity; largest without NaN."""
    SATURATE = "saturate"
    """The largest value of that sign."""
    WRAP = "wrap"
    """The low bits of the two's complement code; fixed point only.

    An operation's result so large that its low bits are not known becomes NaN (that takes operands far
    outside the format: beyond 2**24 times its quantum in float32, 2**53 in float64).
    """


class InfinityMode(enum.StrEnum):
    """What an infinite input becomes."""

    PROPAGATE = "propagate"
    """Infinity; NaN without infinity; the largest value without NaN."""
    SATURATE = "saturate_infinity"
    """The largest value of that sign."""


class SubnormalMode(enum.StrEnum):
    """What happens below the smallest normal value."""

    GRADUAL = "gradual"
    """Subnormals, as the format has them."""
    FLUSH_AFTER_ROUNDING = "flush_after_rounding"
    """Round with subnormals, then replace a subnormal result by zero (chop; Higham and Pranesh 2019)."""
    NEAREST_OF_ZERO_AND_MIN = "nearest_of_zero_and_min"
    """Round on the grid {0, smallest normal} (CPFloat; Mary and Mikaitis 2024)."""


class StochasticVariant(enum.StrEnum):
    """How N random bits decide (IEEE P3109 v4.0): the discarded fraction plus R * 2**-N carries or not."""

    A = "a"
    """The fraction is truncated to N bits first."""
    B = "b"
    """The fraction is rounded to N bits first, ties up."""
    C = "c"
    """The fraction is rounded to N bits first, ties to even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingSpec:
    """A format, and the rule by which real numbers are rounded to it.

    Parameters
    ----------
    format : str, FloatFormat or FixedPointFormat
        The set of values.
    mode : RoundingMode or str
        "rne" nearest, ties to even; "rna" ties away; "rnz" ties to zero; "rtz" toward zero; "raz" away
        from zero; "rtp", "rtn" toward positive, negative; "rto" to odd; "sr" stochastic.
    overflow : OverflowMode or str, optional
        "infinity" (default of floating point), "saturate" (default of fixed point) or "wrap".
    infinities : InfinityMode or str
        What an infinite input becomes: "propagate" or "saturate_infinity".
    subnormals : SubnormalMode or str
        "gradual", "flush_after_rounding" or "nearest_of_zero_and_min".
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
    As a string: ``FORMAT[:MODE][:OVERFLOW][:INFINITIES][:SUBNORMALS][:VARIANT]``; every part after the
    format is optional and recognised by its name. ``str(spec)`` gives the shortest such string.

    Examples
    --------
    >>> import precsim as ps
    >>> spec = ps.RoundingSpec.parse("e4m3:rtz:saturate")
    >>> spec.mode.name, spec.overflow.name, str(spec)
    ('TOWARD_ZERO', 'SATURATE', 'e4m3:rtz:saturate')
    >>> str(ps.RoundingSpec.parse("bf16:sr8"))
    'bf16:sr8'
    """

    format: Format
    mode: RoundingMode = RoundingMode.TIES_TO_EVEN
    overflow: OverflowMode = None  # type: ignore[assignment]
    infinities: InfinityMode = InfinityMode.PROPAGATE
    subnormals: SubnormalMode = SubnormalMode.GRADUAL
    num_random_bits: int = 0
    stochastic_variant: StochasticVariant = StochasticVariant.A

    def __post_init__(self) -> None:
        """Turn strings into members, fill the defaults, check."""
        fill = object.__setattr__
        fill(self, "format", get_format(self.format))
        is_fixed = isinstance(self.format, FixedPointFormat)
        if cast("OverflowMode | None", self.overflow) is None:
            fill(self, "overflow", OverflowMode.SATURATE if is_fixed else OverflowMode.INFINITY)
        for name, kind in _KINDS.items():
            fill(self, name, _member(kind, getattr(self, name), name))
        if is_fixed and self.overflow is OverflowMode.INFINITY:
            raise ValueError(
                f"overflow is 'infinity', which {self.format} has not; allowed are 'saturate', 'wrap'"
            )
        if not is_fixed and self.overflow is OverflowMode.WRAP:
            raise ValueError(
                f"overflow is 'wrap' for {self.format}; allowed are 'infinity', 'saturate' (wrap: fixed point)"
            )
        if is_fixed and self.subnormals is not SubnormalMode.GRADUAL:
            raise ValueError(
                f"subnormals is {self.subnormals.value!r}, but fixed point has no subnormals"
            )
        is_stochastic = self.mode is RoundingMode.STOCHASTIC
        if is_stochastic and self.num_random_bits == 0:
            fill(self, "num_random_bits", 32)
        allowed = range(1, 33) if is_stochastic else range(1)
        if self.num_random_bits not in allowed:
            raise ValueError(
                f"num_random_bits is {self.num_random_bits}; allowed are 1 to 32 in mode 'sr', 0 in the others"
            )

    @classmethod
    def parse(cls, text: "str | Format | RoundingSpec") -> "RoundingSpec":
        """Return the spec that a string, a format or a spec stands for."""
        if isinstance(text, RoundingSpec):
            return text
        if not isinstance(text, str):
            return cls(format=text)
        name, *parts = text.split(":")
        options: dict[str, object] = {"format": name}
        for part in parts:
            for key, value in _parse_part(part).items():
                if key in options:
                    raise ValueError(f"rounding {text!r} gives {key} twice")
                options[key] = value
        return cls(**options)  # type: ignore[arg-type]

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


SpecLike: TypeAlias = str | Format | RoundingSpec

_KINDS: dict[str, type[enum.StrEnum]] = {
    "mode": RoundingMode,
    "overflow": OverflowMode,
    "infinities": InfinityMode,
    "subnormals": SubnormalMode,
    "stochastic_variant": StochasticVariant,
}


def _member(kind: type[enum.StrEnum], value: object, argument: str) -> enum.StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        allowed = ", ".join(repr(str(m)) for m in kind)
        near = difflib.get_close_matches(str(value), list(kind), n=1)
        hint = f"; did you mean {str(near[0])!r}?" if near else ""
        raise ValueError(f"{argument} is {value!r}; allowed are {allowed}{hint}") from None


def _parse_part(part: str) -> dict[str, object]:
    if match := re.fullmatch(r"sr([1-9]\d*)", part):
        return {"mode": RoundingMode.STOCHASTIC, "num_random_bits": int(match[1])}
    for name, kind in _KINDS.items():
        if part in list(kind):
            return {name: kind(part)}
    known = [str(m) for kind in _KINDS.values() for m in kind]
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise ValueError(f"unknown rounding option {part!r}; {hint}")
