"""Orders of matrix units that add a few products and the accumulator at once, by other rules.

`FusedBlock` is NVIDIA's rule. Each order here says what one step of L products does; a kernel
chains the steps over K by a schedule, as there.

Sources: MMA-Sim 2.1.1 (arXiv 2511.10909), whose rules for AMD's MFMA instructions were tested on
MI100, MI250X and MI300X; Khattak and Mikaitis, ACM TACO, doi 10.1145/3830409.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

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


StepBlock: TypeAlias = ExactBlock | PairwiseBlock | FlooredBlock


def parse_step_block(text: str) -> StepBlock | None:
    """Return the block that a string without a schedule stands for; None for anything else."""
    if match := re.fullmatch(r"exact(\d{1,9})", text):
        return ExactBlock(length=int(match[1]))
    if match := re.fullmatch(r"pairs(\d{1,9})", text):
        return PairwiseBlock(length=int(match[1]))
    if match := re.fullmatch(r"floored(\d{1,9})x(\d{1,9})(p2)?", text):
        parts = 2 if match[3] else 1
        return FlooredBlock(length=int(match[1]), fraction_bits=int(match[2]), parts=parts)
    return None
