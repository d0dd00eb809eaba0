"""`FusedBlock`: how a tensor core orders a product, and the schedules by which kernels use it.

One step of a tensor core adds L products and the accumulator at once. All terms are aligned to the
largest exponent, cut off below F fraction bits and added exactly; the sum is rounded to the
accumulator's format. A kernel chains such steps over K by a schedule.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from precsim.formats.arguments import integer, shown


def _check_counts(schedule: object, **least: int) -> None:
    """Turn the fields of a schedule into Python's integers; refuse those below the least."""
    for name, bound in least.items():
        argument = f"{name} of {type(schedule).__name__}"
        object.__setattr__(schedule, name, integer(getattr(schedule, name), argument, bound))


@dataclass(frozen=True, slots=True)
class Flat:
    """One chain over K, ascending (wgmma loops, Triton, cuBLASLt without split-K).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.MatmulSpec.parse("h100:bf16").order.schedule == ps.options.Flat()
    True
    """

    def __str__(self) -> str:
        """Return the name."""
        return "flat"


@dataclass(frozen=True, slots=True)
class Promote:
    """Chains of `interval` products from zero, each added to a total with one rounding to nearest.

    Interval 128 is what CUTLASS, DeepGEMM and cuBLASLt without fast accumulation do for fp8.

    Parameters
    ----------
    interval : int
        Products per chain, a multiple of the products of a step.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.MatmulSpec.parse("h100:e4m3:promote128").order.schedule
    Promote(interval=128)
    """

    interval: int

    def __post_init__(self) -> None:
        """Check the count."""
        _check_counts(self, interval=1)

    def __str__(self) -> str:
        """Return the name."""
        return f"promote{self.interval}"


@dataclass(frozen=True, slots=True)
class PairInterleaved:
    """FP8 through mma.sync on Hopper and Blackwell.

    Every 32 products are two steps of 16, then one addition.

    The first step takes the products with k mod 4 in {0, 1}, the second the others.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.MatmulSpec.parse("h100:e4m3:mma").order.schedule
    PairInterleaved()
    """

    def __str__(self) -> str:
        """Return the name."""
        return "mma"


@dataclass(frozen=True, slots=True)
class SplitK:
    """`splits` chains over consecutive parts of K, whose results are added in order in float32.

    A part is ``ceil(ceil(K / granule) / splits) * granule`` long, the last one what remains
    (cuBLASLt). With a `residue` other than 0, each part begins as in `ResidueFirst` (cuBLASLt's
    tf32 on shapes of few tiles).

    Parameters
    ----------
    splits : int
        Number of parts.
    granule : int
        What the length of a part is a multiple of.
    residue : int
        0, or the granule of `ResidueFirst` in each part.

    Examples
    --------
    >>> import precsim as ps
    >>> str(ps.options.SplitK(splits=6)), str(ps.options.SplitK(splits=8, granule=4, residue=16))
    ('splitk6x64', 'splitk8x4+residue16')
    """

    splits: int
    granule: int = 64
    residue: int = 0

    def __post_init__(self) -> None:
        """Check the counts."""
        _check_counts(self, splits=1, granule=1, residue=0)

    def __str__(self) -> str:
        """Return the name."""
        text = f"splitk{self.splits}x{self.granule}"
        return f"{text}+residue{self.residue}" if self.residue else text


@dataclass(frozen=True, slots=True)
class ResidueFirst:
    """One chain that begins with the K mod `granule` left-over products (CUTLASS, unaligned K).

    Parameters
    ----------
    granule : int
        What K is divided by; a multiple of the products of a step.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.MatmulSpec.parse("h100:bf16:residue64").order.schedule
    ResidueFirst(granule=64)
    """

    granule: int

    def __post_init__(self) -> None:
        """Check the count."""
        _check_counts(self, granule=1)

    def __str__(self) -> str:
        """Return the name."""
        return f"residue{self.granule}"


Schedule: TypeAlias = Flat | Promote | PairInterleaved | SplitK | ResidueFirst
FLAT = Flat()

_SCHEDULES: dict[str, type[Schedule]] = {
    r"flat": Flat,
    r"promote(\d+)": Promote,
    r"mma": PairInterleaved,
    r"splitk(\d+)(?:x(\d+)(?:\+residue(\d+))?)?": SplitK,
    r"residue(\d+)": ResidueFirst,
}


def parse_schedule(text: str | Schedule) -> Schedule:
    """Return the schedule that a string stands for."""
    if isinstance(text, Schedule):
        return text
    for pattern, kind in _SCHEDULES.items():
        if match := re.fullmatch(pattern, str(text)):
            return kind(*(int(n) for n in match.groups() if n is not None))
    raise ValueError(
        f"schedule is {shown(text)}; allowed are flat, promoteN, splitkS, splitkSxG or splitkSxG+residueN, residueN, mma"
    )


def check_steps(schedule: Schedule, length: int) -> None:
    """Refuse a schedule whose chains are no whole numbers of steps of `length` products."""
    match schedule:
        case Promote(interval=n):
            count, name = n, "interval"
        # Left-over products first: then the parts may have any length.
        case SplitK(residue=n) if n:
            count, name = n, "residue"
        case ResidueFirst(granule=n) | SplitK(granule=n):
            count, name = n, "granule"
        case _:
            count, name = 0, ""
    if count % length:
        raise ValueError(
            f"{name} of schedule '{schedule}' is {count}; allowed are multiples of the "
            f"{length} products of a step"
        )
    if schedule == PairInterleaved() and 16 % length:
        raise ValueError(f"length is {length}; allowed for schedule 'mma' are divisors of 16")


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedBlock:
    """The order of a tensor core: L products and the accumulator, aligned, cut off, added exactly.

    Parameters
    ----------
    length : int
        Number of products L that one step adds.
    fraction_bits : int
        F: terms are cut off, toward zero, below 2**-F times the largest power of two among the
        terms' exponents. The exponent of a product is the sum of the operands' exponents, so that a
        product is below 4 times its power of two.
    zero_exponent : int, optional
        Exponent with which a zero term takes part in that maximum. None: zero terms take no part.
    schedule : Schedule or str
        How the steps cover K: "flat", "promoteN", "splitkSxG", "splitkSxG+residueN", "residueN" or
        "mma".
    sticky : bool
        Whether a term that lost something when it was cut off has its last bit set (it is rounded
        to odd). No tensor core does this: the field is there to ask what if.
    group : int
        For block-scaled operands: number of products that are added exactly and multiplied by their
        scales to make one term. The exponent of that term is that of the scales (Blackwell's FP4).
        With 1, each product is a term.

    Raises
    ------
    ValueError
        If L or F is out of range, or L steps do not fit the schedule.

    Notes
    -----
    As a string: ``fusedLxF[gGROUP][@ZERO_EXPONENT][+sticky]``, then ``:SCHEDULE``.

    The accumulator's rounding is `MatmulSpec.accumulator`. Overflow gives infinity in every mode,
    as on the machines. A result of zero is +0; without products (K = 0) the first value is
    returned.

    Source: MMA-Sim (arXiv 2511.10909); Khattak and Mikaitis, ACM TACO, doi 10.1145/3830409.

    Examples
    --------
    >>> import precsim as ps
    >>> str(ps.FusedBlock(length=16, fraction_bits=25, schedule="promote128"))
    'fused16x25:promote128'
    """

    length: int
    fraction_bits: int
    zero_exponent: int | None = None
    schedule: Schedule | Any = FLAT
    sticky: bool = False
    group: int = 1

    def __post_init__(self) -> None:
        """Turn a string into a schedule and check."""
        object.__setattr__(self, "schedule", parse_schedule(self.schedule))
        for name, least, most in (("length", 1, 64), ("fraction_bits", 1, 50), ("group", 1, None)):
            object.__setattr__(self, name, integer(getattr(self, name), name, least, most))
        if self.zero_exponent is not None:
            object.__setattr__(self, "zero_exponent", integer(self.zero_exponent, "zero_exponent"))
        if self.length % self.group:
            raise ValueError(
                f"group is {self.group}; allowed are divisors of the {self.length} products of a step"
            )
        check_steps(self.schedule, self.length)

    def __str__(self) -> str:
        """Return the string that a `MatmulSpec` understands."""
        text = f"fused{self.length}x{self.fraction_bits}"
        text += f"g{self.group}" if self.group > 1 else ""
        if self.zero_exponent is not None:
            text += f"@{self.zero_exponent}"
        text += "+sticky" if self.sticky else ""
        return text if self.schedule == FLAT else f"{text}:{self.schedule}"


def ceil_div(x: int, y: int) -> int:
    """Return x / y, rounded up."""
    return (x + y - 1) // y


def parse_fused_block(text: str) -> FusedBlock | None:
    """Return the block that ``fusedLxF[gG][@E][+sticky]`` stands for; None for anything else."""
    match = re.fullmatch(r"fused(\d+)x(\d+)(?:g(\d+))?(?:@(-?\d+))?(\+sticky)?", text)
    if match is None:
        return None
    return FusedBlock(
        length=int(match[1]),
        fraction_bits=int(match[2]),
        group=int(match[3] or 1),
        zero_exponent=None if match[4] is None else int(match[4]),
        sticky=match[5] is not None,
    )
