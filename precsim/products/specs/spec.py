"""`MatmulSpec`: everything that decides the bits of a matrix product."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from precsim.arithmetic.sums.order import SEQUENTIAL, Exact, Order, parse_order
from precsim.formats.affine import AffineFormat
from precsim.formats.arguments import shown
from precsim.formats.block import BlockFormat
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.notebook import InNotebooks
from precsim.formats.scaled import refuse_scaled, scaled_format
from precsim.products.specs.core import Core
from precsim.products.specs.fused_block import (
    FLAT,
    FusedBlock,
    Promote,
    parse_fused_block,
    parse_schedule,
)
from precsim.products.specs.grammar import (
    parse_accumulator,
    parse_piece,
    piece,
    split_operands,
    split_outside_brackets,
)
from precsim.products.specs.limits import (
    SumRoundings,
    check_fused,
    check_step_block,
    needs_two_words,
)
from precsim.products.specs.machines import machine_name, parse_machine
from precsim.products.specs.scaling import (
    check_register,
    common_length,
    element_rounding,
    is_register,
    parse_register,
    register_name,
    scaling_of,
)
from precsim.products.specs.spellings import likely_spellings
from precsim.products.specs.step_block import StepBlock, parse_step_block
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

ROTATION = 16
"""Elements along K that a random Hadamard transform mixes."""

_LONGEST = 1000
"""Characters of a string; the longest that a spec prints has some 300."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulSpec(InNotebooks):
    """Formats and order of a product ``c + a @ b``.

    By default ``acc = fl(acc + a[k] * b[k])`` for ascending k.

    Parameters
    ----------
    lhs, rhs : RoundingSpec, str or None
        How the operands are rounded first; None takes them as they are. Block, affine and tile
        formats ("mxfp8", "int8", "e4m3:scale=1x128") choose scales first; see "Scaled operands". In
        mode sr their bits are made from `matmul`'s `random_bits`.
    accumulator : RoundingSpec or str
        How each partial sum is rounded. In mode sr its bits are made from `matmul`'s `random_bits`.
        For two affine operands also "intN" (up to "int32"), a register of integers: it wraps, or
        saturates as "int32:saturate".
    product : RoundingSpec, str or None
        How each product is rounded before it is added; None keeps it exact (fused multiply-add).
    adder : RoundingSpec, str or None
        A format to which each sum is rounded first; the accumulator's rounding is then a second one
        ("fp32": added in float32, stored narrower). None rounds the exact sum once.
    output : RoundingSpec, str or None
        How the finished sums are rounded; None returns the accumulator.
    order : Order or str
        "sequential": k ascending. "pairwise", "blockedN", "kahan" and "two_sum": as in
        `accumulate`. "exact": the exact sum of the products, rounded to the accumulator once.
        "fusedLxF": as a tensor core, see `FusedBlock`. It takes block formats for both operands or
        none.
    rotation : int, optional
        16: both operands are rotated along K first, 16 elements at a time, by a random Hadamard
        transform, which spreads large elements over their neighbours. The product stays the same
        but for roundings.

    Raises
    ------
    ValueError
        If a field is unknown, or stochastic rounding is asked for in `product` or `adder`.

    Notes
    -----
    As a string: ``LHS_RHS_ACCUMULATOR[->OUTPUT][:ORDER][:product=FORMAT][:adder=FORMAT][:rht=16]``,
    for example ``"bf16_bf16_fp32->bf16"`` or ``"q3.8_q3.8_fp32->q3.8[sr]"``. Each format may have
    rounding options in brackets; ``raw`` stands for None. ``str(spec)`` gives such a string. A
    format with an underscore in its name has an alias without one. The string of a tensor core is
    ``MACHINE:LHS[_RHS][->OUTPUT][:acc=fp16][:SCHEDULE]``, for example ``"h100:e4m3:promote128"``;
    ``h200`` is another name of ``h100``.

    Scaled operands: each is quantized along the contracted axis K, in gradients as well (``g @
    b.T`` contracts the columns of g, ``a.T @ g`` the rows of a). Elements are multiplied and
    summed as the spec says, an affine code without its zero point. Scales that all products of an
    element share multiply its finished sum: ``fl32(sum * fl32(lhs_scale * rhs_scale))``. Where
    scales change along K, each stretch of K with the same scales is a sum of its own, from +0 in
    the order of the spec: ``total = fl32(total + fl32(lhs_scale * rhs_scale) * sum)``, one rounding
    each, over ascending stretches from +0. Elements of block formats are multiplied by the scales
    of their blocks first, which is exact; only NVFP4's scale of the array stays apart. The output
    is rounded from that.

    Examples
    --------
    >>> import precsim as ps
    >>> spec = ps.MatmulSpec.parse("e4m3_e4m3_fp16:sequential")
    >>> spec.accumulator.format.precision, str(spec)
    (11, 'e4m3_e4m3_fp16')
    >>> str(ps.MatmulSpec(lhs="int8", rhs="int8", accumulator="int32:saturate", output="bf16"))
    'int8_int8_int32[saturate]->bf16'
    >>> str(ps.MatmulSpec(lhs="bf16", rhs="bf16", accumulator="fp32:rtz", output="bf16"))
    'bf16_bf16_fp32[rtz]->bf16'
    """

    lhs: RoundingSpec | Any | None = None
    rhs: RoundingSpec | Any | None = None
    accumulator: RoundingSpec | Any
    product: RoundingSpec | Any | None = None
    adder: RoundingSpec | Any | None = None
    output: RoundingSpec | Any | None = None
    order: Order | FusedBlock | StepBlock | Any = SEQUENTIAL
    rotation: int | None = None

    def __post_init__(self) -> None:
        """Turn strings into specs and check."""
        if not isinstance(self.order, FusedBlock | StepBlock):
            object.__setattr__(self, "order", _parsed_order(self.order))
        register = parse_register(self.accumulator)
        if register is not None:
            object.__setattr__(self, "accumulator", register)
        for name in ("lhs", "rhs", "product", "adder", "output", "accumulator"):
            value = getattr(self, name)
            if value is not None or name == "accumulator":
                rounding = RoundingSpec.parse(value)
                if name not in ("lhs", "rhs") or isinstance(rounding.format, DynamicFormat):
                    refuse_scaled(rounding.format, name)
                object.__setattr__(self, name, rounding)
        if register is not None or self.has_register:
            self._check_register()
        if isinstance(self.order, FusedBlock):
            for name in ("product", "adder"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is '{getattr(self, name)}'; allowed with a fused block is None"
                    )
            _ = self.core
        if isinstance(self.order, StepBlock):
            sums = SumRoundings(self.accumulator, self.product, self.adder)
            check_step_block(self.order, self.lhs, self.rhs, sums)
        self._check_stretches()
        if isinstance(self.order, Exact) and self.adder is not None:
            raise ValueError(
                f"adder is '{self.adder}'; allowed with order 'exact' is None, since it rounds once"
            )
        for name in ("product", "adder"):
            value = getattr(self, name)
            if value is not None and value.mode is RoundingMode.STOCHASTIC:
                raise ValueError(
                    f"{name} is '{value}'; stochastic rounding is allowed in the operands, the "
                    "accumulator and the output"
                )
        if self.is_block_scaled and (self.rotation is not None or self.has_random_operands):
            raise ValueError(
                f"spec is '{self}'; allowed for the block formats of a tensor core are operands "
                "rounded to nearest, without a rotation"
            )
        if self.rotation not in (None, ROTATION):
            raise ValueError(f"rotation is {shown(self.rotation)}; allowed are None, {ROTATION}")

    @property
    def core(self) -> Core:
        """The typed problem of a tensor core; TypeError if the order is not a `FusedBlock`."""
        if not isinstance(self.order, FusedBlock):
            raise TypeError(f"order of '{self}' is '{self.order}'; allowed is a FusedBlock")
        lhs, rhs = (x if _has_blocks(x) else element_rounding(x) for x in (self.lhs, self.rhs))
        return check_fused(self.order, lhs, rhs, self.accumulator)

    def _check_register(self) -> None:
        check_register(self.lhs, self.rhs, self.accumulator)
        defaults = {"product": None, "adder": None, "order": SEQUENTIAL}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                raise ValueError(
                    f"{name} is '{value}'; allowed with the integer accumulator "
                    f"'{register_name(self.accumulator)}' is the default"
                )

    def _check_stretches(self) -> None:
        """Refuse what is not defined where scales change along K."""
        length = self.stretch
        if length is None:
            return
        if self.accumulator.mode is RoundingMode.STOCHASTIC:
            raise ValueError(
                f"accumulator is '{self.accumulator}'; where scales change along K, stochastic "
                "rounding is allowed in the output only"
            )
        allowed = FLAT, Promote(interval=length)
        order = self.order
        if isinstance(order, FusedBlock | StepBlock) and order.schedule not in allowed:
            raise ValueError(
                f"schedule is '{order.schedule}'; allowed for scales of {length} products are "
                f"flat and 'promote{length}', which are the same: each {length} are a sum of their own"
            )

    @property
    def is_block_scaled(self) -> bool:
        """Whether a tensor core multiplies block formats, with the scales of their blocks."""
        return isinstance(self.order, FusedBlock) and _has_blocks(self.lhs)

    @property
    def has_scales(self) -> bool:
        """Whether operands are quantized and their elements multiplied by `elements`."""
        parts = (part for part in (self.lhs, self.rhs) if part is not None)
        has_any = any(scaled_format(part.format) is not None for part in parts)
        return has_any and not self.is_block_scaled

    @property
    def has_random_operands(self) -> bool:
        """Whether an operand is rounded stochastically."""
        parts = (self.lhs, self.rhs)
        return any(x is not None and x.mode is RoundingMode.STOCHASTIC for x in parts)

    @property
    def needs_seeds(self) -> bool:
        """Whether something before the output is rounded stochastically."""
        return self.has_random_operands or self.accumulator.mode is RoundingMode.STOCHASTIC

    @property
    def elements(self) -> "MatmulSpec":
        """The product of the elements of scaled operands; of a stretch, where scales change."""
        order = self.order
        if isinstance(order, FusedBlock | StepBlock) and self.stretch is not None:
            order = replace(order, schedule=FLAT)
        lhs, rhs = map(element_rounding, (self.lhs, self.rhs))
        return replace(self, lhs=lhs, rhs=rhs, order=order, output=None, rotation=None)

    @property
    def stretch(self) -> int | None:
        """Number of products along K that have the same scales; None if all have."""
        return common_length(self.lhs, self.rhs)

    @property
    def has_register(self) -> bool:
        """Whether the accumulator is a register of integers."""
        operands = self.lhs, self.rhs
        are_affine = all(x is not None and isinstance(x.format, AffineFormat) for x in operands)
        return are_affine and is_register(self.accumulator)

    @property
    def scales_sums(self) -> bool:
        """Whether scales multiply finished sums, which leaves no place for a first value."""
        return scaling_of(self.lhs) is not None or scaling_of(self.rhs) is not None

    def check_first_value(self) -> None:
        """Refuse a first value of the sums where scales multiply them at the end."""
        if self.scales_sums:
            raise ValueError(
                f"c is given; allowed for '{self}' is None, since its sums are multiplied by "
                "scales at the end"
            )

    @property
    def has_tensor_scale(self) -> bool:
        """Whether rows or columns of an operand share scales: a batch cannot become more rows."""
        found = scaling_of(self.lhs), scaling_of(self.rhs)
        return any(scaling is not None and scaling.across != 1 for scaling in found)

    @property
    def needs_two_words(self) -> bool:
        """Whether the sum of a tensor core's step needs two words of 32 bits."""
        return isinstance(self.order, FusedBlock) and needs_two_words(self.core)

    @classmethod
    def parse(cls, text: "str | MatmulSpec") -> "MatmulSpec":
        """Return the spec that a string stands for."""
        if isinstance(text, MatmulSpec):
            return text
        if not isinstance(text, str):
            raise TypeError(f"matmul spec is {shown(text)}; allowed are a string or a MatmulSpec")
        if len(text) > _LONGEST:
            raise ValueError(
                f"matmul spec {shown(text)} has {len(text)} characters; allowed are {_LONGEST}"
            )
        return _parsed(text)

    @classmethod
    def _from_string(cls, text: str) -> "MatmulSpec":
        bare = text.removesuffix(f":rht={ROTATION}")
        if (machine := parse_machine(bare)) is not None:
            rotation = None if bare == text else ROTATION
            return cls(**machine, rotation=rotation)
        head, *options = split_outside_brackets(text, ":")
        operands, arrow, output = head.partition("->")
        pieces = split_operands(operands, (3,))
        if pieces is None:
            raise ValueError(
                f"matmul spec {shown(text)} is not understood; allowed is "
                "LHS_RHS_ACCUMULATOR[->OUTPUT][:ORDER], for example 'bf16_bf16_fp32', or "
                f"MACHINE:LHS[_RHS], for example 'h100:bf16'{_hint(text)}"
            )
        lhs, rhs, accumulator = pieces
        fields: dict[str, object] = {
            "lhs": parse_piece(lhs),
            "rhs": parse_piece(rhs),
            "accumulator": parse_accumulator(accumulator),
        }
        if arrow:
            fields["output"] = parse_piece(output)
        for option in options:
            order = fields.get("order")
            if isinstance(order, FusedBlock | StepBlock) and "=" not in option:
                fields["order"] = replace(order, schedule=parse_schedule(option))
                continue
            key, equals, value = option.partition("=")
            if key == "rht" and value == str(ROTATION) and "rotation" not in fields:
                fields["rotation"] = ROTATION
                continue
            is_format = equals and key in ("product", "adder")
            key = key if is_format else "order"
            if key in fields:
                raise ValueError(f"matmul spec {shown(text)} gives {key} twice")
            fields[key] = parse_piece(value) if is_format else _parsed_order(option)
        if fields["accumulator"] is None:
            raise ValueError(
                f"matmul spec {shown(text)} has no accumulator; 'raw' is allowed for operands only"
            )
        return cls(**fields)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the shortest string that parses to this spec."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        rotation = "" if values.pop("rotation") is None else f":rht={self.rotation}"
        if (name := machine_name(values)) is not None:
            return name + rotation
        register = register_name(self.accumulator) if self.has_register else None
        pieces = piece(self.lhs), piece(self.rhs), register or piece(self.accumulator)
        text = "_".join(pieces)
        if self.output is not None:
            text += f"->{piece(self.output)}"
        if self.order != SEQUENTIAL:
            text += f":{self.order}"
        for name in ("product", "adder"):
            if getattr(self, name) is not None:
                text += f":{name}={piece(getattr(self, name))}"
        return text + rotation


def _parsed_order(order: str | Order) -> Order | FusedBlock | StepBlock:
    text = str(order)
    return parse_fused_block(text) or parse_step_block(text) or parse_order(order)


def _has_blocks(operand: RoundingSpec | None) -> bool:
    return operand is not None and isinstance(operand.format, BlockFormat)


# Errors are not remembered, and a name that means a format never means another one.
@lru_cache(maxsize=1024)
def _parsed(text: str) -> MatmulSpec:
    """Parse each string once: that takes as long as a small product."""
    return MatmulSpec._from_string(text)


def _hint(text: str) -> str:
    """Return what a string may have meant, as the end of a message."""
    for likely in likely_spellings(text):
        try:
            MatmulSpec.parse(likely)
        except ValueError:
            continue
        return f"; did you mean {likely!r}?"
    return ""
