"""`MatmulSpec`: everything that decides the bits of a matrix product."""

from dataclasses import dataclass, replace
from functools import lru_cache

from precsim.arithmetic.sums.order import SEQUENTIAL, Exact, Order, parse_order
from precsim.formats.scaled import refuse_scaled
from precsim.products.specs.fused_block import FusedBlock, parse_fused_block, parse_schedule
from precsim.products.specs.grammar import (
    parse_piece,
    piece,
    split_operands,
    split_outside_brackets,
)
from precsim.products.specs.limits import check_fused
from precsim.products.specs.machines import machine_name, parse_machine
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulSpec:
    """Formats and order of a product ``c + a @ b``; by default ``acc = fl(acc + a[k] * b[k])`` for ascending k.

    Parameters
    ----------
    lhs, rhs : RoundingSpec, str or None
        How the operands are rounded first; None takes them as they are.
    accumulator : RoundingSpec or str
        How each partial sum is rounded; in mode sr with bits made from `matmul`'s `random_bits`.
    product : RoundingSpec, str or None
        How each product is rounded before it is added; None keeps it exact (fused multiply-add).
    adder : RoundingSpec, str or None
        A format in which the addition takes place before the accumulator's rounding, which then is a
        second one ("fp32": added in float32, stored narrower); None rounds the exact sum once.
    output : RoundingSpec, str or None
        How the finished sums are rounded; None returns the accumulator.
    order : Order or str
        "sequential": k ascending. "pairwise", "blockedN", "kahan" and "two_sum": as in `accumulate`. "exact": the
        exact sum of the products, rounded to the accumulator once.
        "fusedLxF": as a tensor core, see `FusedBlock`; only there may both operands be block formats, which are
        quantized along K as `quantize` does and multiplied with their scales.

    Raises
    ------
    ValueError
        If a field is unknown, or stochastic rounding is asked for elsewhere than in the accumulator or the output.

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
    order: Order | FusedBlock = SEQUENTIAL

    def __post_init__(self) -> None:
        """Turn strings into specs and check."""
        if not isinstance(self.order, FusedBlock):
            object.__setattr__(
                self, "order", parse_fused_block(str(self.order)) or parse_order(self.order)
            )
        for name in ("lhs", "rhs", "product", "adder", "output", "accumulator"):
            value = getattr(self, name)
            if value is not None or name == "accumulator":
                rounding = RoundingSpec.parse(value)
                if name not in ("lhs", "rhs") or not isinstance(self.order, FusedBlock):
                    refuse_scaled(rounding.format, name)
                object.__setattr__(self, name, rounding)
        if isinstance(self.order, FusedBlock):
            check_fused(self)
        if isinstance(self.order, Exact) and self.adder is not None:
            raise ValueError(
                f"adder is '{self.adder}'; allowed with order 'exact' is None, since it rounds once"
            )
        for name in ("lhs", "rhs", "product", "adder"):
            value = getattr(self, name)
            if value is not None and value.mode is RoundingMode.STOCHASTIC:
                raise ValueError(
                    f"{name} is '{value}'; stochastic rounding is allowed in the accumulator and the output "
                    "(round the operands with round_to first)"
                )

    @classmethod
    def parse(cls, text: "str | MatmulSpec") -> "MatmulSpec":
        """Return the spec that a string stands for."""
        if isinstance(text, MatmulSpec):
            return text
        if not isinstance(text, str):
            raise TypeError(f"matmul spec is {text!r}; allowed are a string or a MatmulSpec")
        return _parsed(text)

    @classmethod
    def _from_string(cls, text: str) -> "MatmulSpec":
        if (machine := parse_machine(text)) is not None:
            return cls(**machine)  # type: ignore[arg-type]
        head, *options = split_outside_brackets(text, ":")
        operands, arrow, output = head.partition("->")
        pieces = split_operands(operands, (3,))
        if pieces is None:
            raise ValueError(
                f"matmul spec {text!r} is not understood; allowed is "
                "LHS_RHS_ACCUMULATOR[->OUTPUT][:ORDER], for example 'bf16_bf16_fp32'"
            )
        fields: dict[str, object] = dict(
            zip(("lhs", "rhs", "accumulator"), map(parse_piece, pieces), strict=True)
        )
        if arrow:
            fields["output"] = parse_piece(output)
        for option in options:
            if (order := fields.get("order")) is not None and isinstance(order, FusedBlock):
                fields["order"] = replace(order, schedule=parse_schedule(option))
                continue
            key, equals, value = option.partition("=")
            is_format = equals and key in ("product", "adder")
            key = key if is_format else "order"
            if key in fields:
                raise ValueError(f"matmul spec {text!r} gives {key} twice")
            fields[key] = (
                parse_piece(value)
                if is_format
                else parse_fused_block(option) or parse_order(option)
            )
        if fields["accumulator"] is None:
            raise ValueError(
                f"matmul spec {text!r} has no accumulator; 'raw' is allowed for operands only"
            )
        return cls(**fields)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the shortest string that parses to this spec."""
        if (name := machine_name(self)) is not None:
            return name
        text = "_".join(map(piece, (self.lhs, self.rhs, self.accumulator)))
        if self.output is not None:
            text += f"->{piece(self.output)}"
        if self.order != SEQUENTIAL:
            text += f":{self.order}"
        for name in ("product", "adder"):
            if getattr(self, name) is not None:
                text += f":{name}={piece(getattr(self, name))}"
        return text


# Errors are not remembered, and a name that means a format never means another one.
@lru_cache(maxsize=1024)
def _parsed(text: str) -> MatmulSpec:
    """Parse each string once: that takes as long as a small product."""
    return MatmulSpec._from_string(text)
