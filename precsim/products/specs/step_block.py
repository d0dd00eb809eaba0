"""Orders of matrix units that add a few products and the accumulator at once, by other rules.

`FusedBlock` is NVIDIA's rule. Each order here says what one step of L products does; a kernel
chains the steps over K by a schedule, as there.

Sources: see `matrix_units`, the file that has the machines.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from precsim.formats.arguments import integer
from precsim.products.specs.fused_block import FLAT, Schedule, check_steps, parse_schedule

_LONGEST = 64
"""Products of a step, as in `FusedBlock`."""
_FLOORED = 16
"""Products of a step whose sum fits int32."""
_MOST_BITS = 24
"""Fraction bits of a term whose sum fits int32."""


def _check(block: "StepBlock", longest: int) -> None:
    """Turn the fields of a block into integers and a schedule, and check them."""
    object.__setattr__(block, "length", integer(block.length, "length", 1, longest))
    object.__setattr__(block, "schedule", parse_schedule(block.schedule))
    check_steps(block.schedule, block.length)


def _with_schedule(text: str, schedule: Schedule) -> str:
    return text if schedule == FLAT else f"{text}:{schedule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactBlock:
    """A step is the exact sum of L products and the accumulator, rounded once.

    AMD's MI100 (CDNA1): L = 4 for fp16, 2 for bf16, to nearest even in float32.

    Parameters
    ----------
    length : int
        Number of products L that one step adds.
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``exactL``, then ``:SCHEDULE``.

    Examples
    --------
    One sum of four is rounded once; one after the other, each 1 is lost:

    >>> import numpy as np
    >>> import precsim as ps
    >>> a, b = np.float32([[1, 1, 1, 1]]), np.float32([[2048], [1], [1], [1]])
    >>> [ps.matmul(a, b, f"fp16_fp16_fp16{order}").item() for order in (":exact1", ":exact4")]
    [2048.0, 2052.0]
    >>> ps.MatmulSpec.parse("mi100:fp16").order
    ExactBlock(length=4, schedule=Flat())
    """

    length: int
    schedule: Schedule | Any = FLAT

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        _check(self, _LONGEST)

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        return _with_schedule(f"exact{self.length}", self.schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseBlock:
    """A step adds L rounded products in pairs, and their sum to the accumulator.

    ``c = fl(c + fl(fl(p0 + p1) + fl(p2 + p3)))`` for L = 4. Products are rounded to
    `MatmulSpec.product`, or to the accumulator's format where that is None. Zeros among the
    operands, and a first value of zero, count as +0. AMD's MI250 (CDNA2) does this with 4 products
    (the older bf16 instructions with 2), to nearest even in float32, and flushes subnormal
    operands, products and sums.

    Parameters
    ----------
    length : int
        Number of products L that one step adds, a power of two.
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``pairsL``, then ``:SCHEDULE``.

    Examples
    --------
    >>> import numpy as np
    >>> import precsim as ps
    >>> a, b = np.float32([[1, 1, 1, 1]]), np.float32([[2048], [1], [1], [1]])
    >>> ps.matmul(a, b, "fp16_fp16_fp16:pairs4").item()
    2050.0
    >>> ps.MatmulSpec.parse("mi250:bf16").order
    PairwiseBlock(length=4, schedule=Flat())
    """

    length: int
    schedule: Schedule | Any = FLAT

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        _check(self, _LONGEST)
        if self.length & (self.length - 1):
            raise ValueError(f"length is {self.length}; allowed in pairs are powers of two")

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        return _with_schedule(f"pairs{self.length}", self.schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlooredBlock:
    """A step adds truncated products, then floors their sum, the accumulator and the total.

    AMD's MI300X (CDNA3) with F = 24: L = 8 for fp16 and bf16, 4 for xf32, 16 in two parts for fp8.

    1. Products, exact, are cut off toward zero below 2**-F times the largest power of two among
       them and added. A product is below 4 times its power of two, as in `FusedBlock`. With two
       parts, the products with even and with odd numbers are added apart; then both sums are
       rounded down at F bits below the larger power of two, and added.
    2. The larger power of two of that sum and the accumulator's is E. The sum is rounded down below
       2**(E - F - 8), the accumulator below 2**(E - F). With two parts, an accumulator below
       2**(E - F - 1) counts as zero. A zero has the smallest normal exponent.
    3. The total is rounded down F + 7 bits below its own power of two, then to nearest even to
       float32.

    A product of 2**128 or more is infinite.

    Parameters
    ----------
    length : int
        Number of products L that one step adds, up to 16.
    fraction_bits : int
        F, up to 24.
    parts : int
        1, or 2 for products with even and odd numbers.
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``flooredLxF[p2]``, then ``:SCHEDULE``.

    Examples
    --------
    Beside 1, a tiny negative accumulator is not cut off but rounded down:

    >>> import numpy as np
    >>> import precsim as ps
    >>> spec = ps.MatmulSpec.parse("mi300x:fp16")
    >>> spec.order
    FlooredBlock(length=8, fraction_bits=24, parts=1, schedule=Flat())
    >>> one = np.ones((1, 1), np.float32)
    >>> ps.matmul(one, one, spec, c=np.float32(-(2.0**-40))).item() == 1 - 2.0**-24
    True
    """

    length: int
    fraction_bits: int
    parts: int = 1
    schedule: Schedule | Any = FLAT

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        _check(self, _FLOORED)
        for name, most in (("fraction_bits", _MOST_BITS), ("parts", 2)):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1, most))
        if self.length % self.parts:
            raise ValueError(f"length is {self.length}; allowed with two parts are even numbers")

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        text = f"floored{self.length}x{self.fraction_bits}"
        return _with_schedule(f"{text}p2" if self.parts == 2 else text, self.schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescendingBlock:
    """A step is L multiply-adds, from its last product to its first.

    x86's VDPBF16PS takes pairs: ``c = fma(a[0], b[0], fma(a[1], b[1], c))``, to nearest even in
    float32, with subnormal operands and tiny results as zeros. A first value is rounded to the
    accumulator's format before the first step.

    Parameters
    ----------
    length : int
        Number of products L of one step.
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``descendingL``, then ``:SCHEDULE``.

    Examples
    --------
    The larger product comes first, so that the 1 is not lost:

    >>> import numpy as np
    >>> import precsim as ps
    >>> a, b = np.float32([[1, 1]]), np.float32([[1], [-(2.0**24)]])
    >>> first = np.float32(2.0**24)
    >>> [ps.matmul(a, b, f"bf16_bf16_fp32{s}", c=first).item() for s in ("", ":descending2")]
    [0.0, 1.0]
    >>> ps.MatmulSpec.parse("avx512:bf16").order
    DescendingBlock(length=2, schedule=Flat())
    """

    length: int
    schedule: Schedule | Any = FLAT

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        _check(self, _LONGEST)

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        return _with_schedule(f"descending{self.length}", self.schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenOddBlock:
    """A step adds products with even and with odd numbers apart, then both sums to the accumulator.

    ``c = fl(c + fl(even + odd))``, where each sum is a chain of multiply-adds from +0, ascending.
    x86's AMX (TDPBF16PS, TDPFP16PS) does this with up to 32 products, to nearest even in float32,
    with subnormal numbers of float32 as zeros. A first value is rounded to the accumulator's format
    before the first step.

    Parameters
    ----------
    length : int
        Number of products L that one step adds, an even number.
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``evenoddL``, then ``:SCHEDULE``.

    Examples
    --------
    Beside an even product of 2**24, odd ones keep their sum:

    >>> import numpy as np
    >>> import precsim as ps
    >>> a, b = np.ones((1, 6), np.float32), np.float32([[2.0**24], [1], [0], [1], [0], [1]])
    >>> [ps.matmul(a, b, f"bf16_bf16_fp32{s}").item() - 2**24 for s in ("", ":evenodd6")]
    [0.0, 4.0]
    >>> ps.MatmulSpec.parse("amx:bf16").order
    EvenOddBlock(length=32, schedule=Flat())
    """

    length: int
    schedule: Schedule | Any = FLAT

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        _check(self, _LONGEST)
        if self.length % 2:
            raise ValueError(f"length is {self.length}; allowed in evenodd are even numbers")

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        return _with_schedule(f"evenodd{self.length}", self.schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DotBlock:
    """A step adds two products, and their sum to the accumulator: ``c = fl(c + fl(p0 + p1))``.

    Products are rounded to `MatmulSpec.product`; where that is None, their exact sum is rounded
    once. Arm's BFDOT and BFMMLA do the first, to odd, and flush subnormal operands, products and
    sums; with FPCR.EBF = 1 they do the second, to nearest even. In mode rto overflow gives infinity
    (BFRound). A first value is rounded to the accumulator's format before the first step.

    Parameters
    ----------
    schedule : Schedule or str
        How the steps cover K, as in `FusedBlock`.

    Notes
    -----
    As a string: ``dot2``, then ``:SCHEDULE``.

    Examples
    --------
    Rounded to odd, a sum that lost something has its last bit set:

    >>> import numpy as np
    >>> import precsim as ps
    >>> a, b = np.ones((1, 2), np.float32), np.float32([[2.0**24], [2.0**-3]])
    >>> [ps.matmul(a, b, f"{machine}:bf16").item() - 2**24 for machine in ("arm", "arm_ebf16")]
    [2.0, 0.0]
    >>> ps.MatmulSpec.parse("arm:bf16").order
    DotBlock(schedule=Flat())
    """

    schedule: Schedule | Any = FLAT
    length: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        object.__setattr__(self, "schedule", parse_schedule(self.schedule))
        check_steps(self.schedule, self.length)

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        return _with_schedule("dot2", self.schedule)


StepBlock: TypeAlias = (
    ExactBlock | PairwiseBlock | FlooredBlock | DescendingBlock | EvenOddBlock | DotBlock
)
_OF_LENGTH: dict[str, type[ExactBlock | PairwiseBlock | DescendingBlock | EvenOddBlock]] = {
    "exact": ExactBlock,
    "pairs": PairwiseBlock,
    "descending": DescendingBlock,
    "evenodd": EvenOddBlock,
}


def parse_step_block(text: str) -> StepBlock | None:
    """Return the block that a string without a schedule stands for; None for anything else."""
    if text == "dot2":
        return DotBlock()
    if match := re.fullmatch(rf"({'|'.join(_OF_LENGTH)})(\d{{1,9}})", text):
        return _OF_LENGTH[match[1]](length=int(match[2]))
    if match := re.fullmatch(r"floored(\d{1,9})x(\d{1,9})(p2)?", text):
        parts = 2 if match[3] else 1
        return FlooredBlock(length=int(match[1]), fraction_bits=int(match[2]), parts=parts)
    return None
