"""Tensor scaling of a policy: one scale for each whole operand of a product.

Under "current" the largest magnitude of an operand decides its scale. Under "delayed" those of
earlier steps do. They are state, which a training keeps (`training.gradients`). The interpreter's
`Context` has ``scales``, a `Scale` for each operand by its name, and its ``watch`` is told the
name, format and largest magnitude of each operand. Where there are no scales (in the first pass,
over shapes, and outside of trainings) an operand's own largest magnitude decides.

Under "cotangents@S" the cotangents that enter a product of the backward pass are multiplied by the
power of two S before they are rounded, and its result is divided by S before that is: a loss scale
of one layer, in a rule. Under "cotangents@dynamic" it adapts, by the rule of a dynamic loss scale
and the overflows of this layer alone. Its state, too, is kept by a training; elsewhere the first
factor stays. All products of a scope share it: it is the layer.

An operand's name is ``PATH/lhs`` or ``PATH/rhs``: the path of the product's equation, and the side
on which its spec has the operand. It is the same in each pass of a program.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from precsim.formats.arguments import shown
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32
from precsim.formats.tile import POWER_OF_TWO, TileFormat
from precsim.rounding.spec import RoundingSpec
from precsim.transform.settings import (
    FIRST_FACTOR,
    LARGEST_FACTOR,
    LEAST_FACTOR,
    LOSS_SCALE_OPTIONS,
    positive,
)

if TYPE_CHECKING:
    from precsim.rounding.scaled.delayed import DelayedScale

LAYER = "/cotangents"
"""End of the name of a layer's own scale."""
_ALGORITHMS = ("max", "most_recent")
_ALLOWED = (
    "'none', 'current', 'delayed', 'delayed[LENGTH,max|most_recent,margin=N,pow2]', "
    "'cotangents@S' with a power of two S from 2**-100 to 2**100, 'cotangents@dynamic' with options as "
    "those of scale=, powers of two in that range, and no redo"
)


@dataclass(frozen=True, slots=True)
class Delayed:
    """The options of delayed scaling; they are those of `DelayedScale`."""

    length: int = 1024
    algorithm: str = "max"
    margin: int = 0
    is_power_of_two: bool = False

    def start(self, fmt: TileFormat) -> "DelayedScale":
        """Return the state of an operand before the first step."""
        from precsim.rounding.scaled.delayed import DelayedScale

        options = {"length": self.length, "algorithm": self.algorithm, "margin": self.margin}
        return DelayedScale.start(fmt, **options)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the string that parses to these options: those that are no defaults."""
        usual = Delayed()
        parts = [
            str(self.length) if self.length != usual.length else "",
            self.algorithm if self.algorithm != usual.algorithm else "",
            f"margin={self.margin}" if self.margin != usual.margin else "",
            POWER_OF_TWO if self.is_power_of_two else "",
        ]
        text = ",".join(filter(None, parts))
        return f"delayed[{text}]" if text else "delayed"


def tensor_scaling_text(given: object) -> str:
    """Return a tensor scaling as a policy writes it; refuse what is none."""
    if given in ("none", "current") or of_cotangents(str(given)) is not None:
        return str(given)
    options = delayed(str(given))
    if options is None:
        raise ValueError(f"tensor scaling is {shown(given)}; allowed are {_ALLOWED}")
    return str(options)


def of_cotangents(text: str) -> float | None:
    """Return the factor on the cotangents, the first one if it adapts; None of other scalings.

    Wrong options of one that adapts are refused.
    """
    kind, at, number = text.partition("@")
    if kind != "cotangents" or not at:
        return None
    match = re.fullmatch(r"dynamic(?:@([^\[\]]*))?(?:\[([^\[\]]+)\])?", number)
    if match is not None:
        return _first_factor(match[1], match[2])
    return _power_of_two(number)


def _power_of_two(text: str) -> float | None:
    """Return a factor on cotangents; None if a text is none."""
    number = positive(text)
    if number is None or math.frexp(number)[0] != 0.5:
        return None
    return number if 2.0**-100 <= number <= 2.0**100 else None


def _first_factor(first: str | None, options: str | None) -> float:
    """Return the first factor of scales that adapt; refuse what is wrong in it or the options."""
    own = "tensor=cotangents@dynamic"
    given = {} if first is None else {"first factor": first}
    for part in options.split(",") if options else ():
        key, _, value = part.partition("=")
        if key not in LOSS_SCALE_OPTIONS:
            allowed = ", ".join(LOSS_SCALE_OPTIONS)
            raise ValueError(f"option of {own} is {shown(key)}; allowed are {allowed}")
        if key in given:
            raise ValueError(f"{own} gives {key} twice; allowed are options given once")
        given[key] = value
    numbers = {"first factor": FIRST_FACTOR, "min": LEAST_FACTOR, "max": LARGEST_FACTOR}
    for key, value in given.items():
        _, is_allowed, allowed = LOSS_SCALE_OPTIONS.get(key, LOSS_SCALE_OPTIONS["min"])
        if key == "interval":
            number = positive(value)
        else:
            number = _power_of_two(value)
            side = {"growth": " above 1", "backoff": " below 1"}.get(key, "")
            allowed = f"powers of two{side} from 2**-100 to 2**100"
        if number is None or not is_allowed(number):
            raise ValueError(f"{key} of {own} is {shown(value)}; allowed are {allowed}")
        numbers[key] = number
    factor, least, most = (numbers[key] for key in ("first factor", "min", "max"))
    if not least <= factor <= most:
        raise ValueError(
            f"first factor of {own} is {factor:.10g}; allowed are those from its min, {least:.10g}, "
            f"to its max, {most:.10g}"
        )
    return factor


def adapts(text: str) -> bool:
    """Return whether a tensor scaling is a factor on the cotangents of each layer that adapts."""
    return text.startswith("cotangents@dynamic")


def name_of_layer(scope: str) -> str:
    """Return the name of the scale that all products of a scope share."""
    return f"{scope or 'model'}{LAYER}"


def delayed(text: str) -> Delayed | None:
    """Return the options of delayed scaling; None if a tensor scaling is another one."""
    match = re.fullmatch(r"delayed(?:\[([^\[\]]*)\])?", text)
    if match is None:
        return None
    found: dict[str, int | str | bool] = {}
    for part in filter(None, (match[1] or "").split(",")):
        key, _, value = part.partition("=")
        if part.isdecimal():
            name, chosen = "length", int(part)
        elif part in _ALGORITHMS:
            name, chosen = "algorithm", part
        elif key == "margin" and value.isdecimal():
            name, chosen = "margin", int(value)
        elif part == POWER_OF_TWO:
            name, chosen = "is_power_of_two", True
        else:
            name, chosen = part, part
        if name in found or name not in Delayed.__dataclass_fields__:
            raise ValueError(f"tensor scaling is {shown(text)}; allowed are {_ALLOWED}")
        found[name] = chosen
    options = Delayed(**found)  # type: ignore[arg-type]
    options.start(TileFormat(element="e4m3"))  # refuses a length or a margin out of range
    return options


def with_tensor_scale(operand: RoundingSpec | None, scaling: str) -> RoundingSpec | None:
    """Return the rounding of an operand with a scale, if it is to a float narrower than float32."""
    if scaling == "none" or of_cotangents(scaling) is not None:
        return operand
    if operand is None or not isinstance(operand.format, FloatFormat):
        return operand
    if not operand.format.fits(BINARY32) or operand.format.precision >= BINARY32.precision:
        return operand
    options = delayed(scaling)
    is_power_of_two = options is None or options.is_power_of_two
    fmt = TileFormat(element=operand.format, is_power_of_two=is_power_of_two)
    return replace(operand, format=fmt)
