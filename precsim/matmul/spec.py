"""`MatmulSpec`: everything that decides the bits of a matrix product."""

import re
from dataclasses import dataclass

from precsim.arithmetic.order import SEQUENTIAL, Order, parse_order
from precsim.formats.registry import short_name
from precsim.rounding.spec import RoundingMode, RoundingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulSpec:
    """Formats and order of a product ``c + a @ b``; every element is ``acc = fl(acc + a[k] * b[k])``.

    Parameters
    ----------
    lhs, rhs : RoundingSpec, str or None
        How the operands are rounded first; None takes them as they are.
    accumulator : RoundingSpec or str
        How each partial sum is rounded.
    product : RoundingSpec, str or None
        How each product is rounded before it is added; None keeps it exact (fused multiply-add).
    adder : RoundingSpec, str or None
        A format in which the addition takes place before the accumulator's rounding, which then is a
        second one ("fp32": added in float32, stored narrower); None rounds the exact sum once.
    output : RoundingSpec, str or None
        How the finished sums are rounded; None returns the accumulator.
    order : Order or str
        "sequential": k ascending.

    Raises
    ------
    ValueError
        If a field is unknown, or stochastic rounding is asked for anywhere but in the output.

    Notes
    -----
    As a string: ``LHS_RHS_ACCUMULATOR[->OUTPUT][:ORDER][:product=FORMAT][:adder=FORMAT]``, where each
    format may carry rounding options in brackets and ``raw`` stands for None, for example
    ``"bf16_bf16_fp32->bf16"`` or ``"q3.8_q3.8_fp32->q3.8[sr]"``. ``str(spec)`` gives such a string.
    Formats with an underscore in their name have aliases without.

    Examples
    --------
    >>> import precsim as ps
    >>> spec = ps.MatmulSpec.parse("e4m3_e4m3_fp16:sequential")
    >>> spec.accumulator.format.precision, str(spec)
    (11, 'e4m3_e4m3_fp16')
    >>> str(ps.MatmulSpec(lhs="bf16", rhs="bf16", accumulator="fp32:rtz", output="bf16"))
    'bf16_bf16_fp32[rtz]->bf16'
    """

    lhs: RoundingSpec | None = None
    rhs: RoundingSpec | None = None
    accumulator: RoundingSpec
    product: RoundingSpec | None = None
    adder: RoundingSpec | None = None
    output: RoundingSpec | None = None
    order: Order = SEQUENTIAL

    def __post_init__(self) -> None:
        """Turn strings into specs and check."""
        for name in ("lhs", "rhs", "product", "adder", "output", "accumulator"):
            value = getattr(self, name)
            if value is not None or name == "accumulator":
                object.__setattr__(self, name, RoundingSpec.parse(value))
        object.__setattr__(self, "order", parse_order(self.order))
        if self.order != SEQUENTIAL:
            raise ValueError(f"order is '{self.order}'; allowed for a matmul is 'sequential'")
        for name in ("lhs", "rhs", "product", "adder", "accumulator"):
            value = getattr(self, name)
            if value is not None and value.mode is RoundingMode.STOCHASTIC:
                raise ValueError(
                    f"{name} is '{value}'; stochastic rounding is allowed in the output only (round the "
                    "operands with round_to first)"
                )

    @classmethod
    def parse(cls, text: "str | MatmulSpec") -> "MatmulSpec":
        """Return the spec that a string stands for."""
        if isinstance(text, MatmulSpec):
            return text
        if not isinstance(text, str):
            raise TypeError(f"matmul spec is {text!r}; allowed are a string or a MatmulSpec")
        head, *options = re.split(r":(?![^\[]*\])", text)
        operands, arrow, output = head.partition("->")
        pieces = re.split(r"_(?![^\[]*\])", operands)
        if len(pieces) != 3:
            raise ValueError(
                f"matmul spec {text!r} is not understood; allowed is "
                "LHS_RHS_ACCUMULATOR[->OUTPUT][:ORDER], for example 'bf16_bf16_fp32'"
            )
        fields: dict[str, object] = dict(
            zip(("lhs", "rhs", "accumulator"), map(_parse_piece, pieces), strict=True)
        )
        if arrow:
            fields["output"] = _parse_piece(output)
        for option in options:
            key, equals, value = option.partition("=")
            is_format = equals and key in ("product", "adder")
            key = key if is_format else "order"
            if key in fields:
                raise ValueError(f"matmul spec {text!r} gives {key} twice")
            fields[key] = _parse_piece(value) if is_format else parse_order(option)
        if fields["accumulator"] is None:
            raise ValueError(
                f"matmul spec {text!r} has no accumulator; 'raw' is allowed for operands only"
            )
        return cls(**fields)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the shortest string that parses to this spec."""
        text = "_".join(map(_piece, (self.lhs, self.rhs, self.accumulator)))
        if self.output is not None:
            text += f"->{_piece(self.output)}"
        if self.order != SEQUENTIAL:
            text += f":{self.order}"
        for name in ("product", "adder"):
            if getattr(self, name) is not None:
                text += f":{name}={_piece(getattr(self, name))}"
        return text


def _parse_piece(text: str) -> RoundingSpec | None:
    if text == "raw":
        return None
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", text)
    if match is None:
        raise ValueError(f"format {text!r} is not understood; allowed is NAME or NAME[OPTIONS]")
    return RoundingSpec.parse(match[1] if match[2] is None else f"{match[1]}:{match[2]}")


def _piece(spec: RoundingSpec | None) -> str:
    if spec is None:
        return "raw"
    _, colon, options = str(spec).partition(":")
    name = short_name(spec.format)
    return f"{name}[{options}]" if colon else name
