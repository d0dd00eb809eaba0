"""All-reduces: orders of the additions by which the ranks of a program get one sum."""

from dataclasses import dataclass
from typing import Any

from precsim.formats.arguments import not_allowed, shown
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

ALGORITHMS = ("doubling", "halving", "ring", "tree", "sequential", "platform")
"""Names of algorithms; `AllReduce` says in which order each adds."""

_FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """How the parts of several ranks become one sum.

    Parameters
    ----------
    algorithm : {"doubling", "halving", "ring", "tree", "sequential", "platform"}
        The order of the additions, for R ranks:

        * ``doubling``: neighbours first, then pairs of neighbours, and so on (recursive doubling);
          a group without a partner waits for the next round;
        * ``halving``: ranks at distance R/2 first, then R/4, and so on (recursive halving);
        * ``ring``: the vector in R chunks of equal length, the last one filled up; chunk c starts
          at rank c and is passed on to c + 1, c + 2, ... (modulo R), each adding its part;
        * ``tree``: a binary tree of ranks in order, odd ranks its leaves; a rank adds to its part
          that of its lower child, then that of its upper child;
        * ``sequential``: rank 0, 1, 2, ...;
        * ``platform``: what XLA and the devices do by themselves, in float32. Its bits depend on
          them and on their number: it is for comparison.
    rounding : RoundingSpec or str
        Format and rule of what travels: each part is rounded by it, then each sum.
    has_feedback : bool
        Whether a rank adds what rounding its last part has lost to its next one.

    Raises
    ------
    ValueError
        If the algorithm is unknown, or the rounding stochastic or of a format with scales.
    TypeError
        If `has_feedback` is no boolean.

    Notes
    -----
    As a string: ``algorithm[:rounding][:feedback]``, such as "ring:bf16:feedback". Sources: Thakur,
    Rabenseifner and Gropp 2005 (halving, doubling, ring); the tree is that of NCCL's source,
    `trees.cc`, of which NCCL runs two at a time, here one; error feedback: Seide et al. 2014.

    Examples
    --------
    >>> import precsim as ps
    >>> how = ps.options.AllReduce.parse("ring:bf16:feedback")
    >>> how.has_feedback, str(how.rounding), str(how)
    (True, 'bf16', 'ring:bf16:feedback')
    """

    algorithm: str = "doubling"
    rounding: RoundingSpec | Any = RoundingSpec.parse("fp32")  # noqa: RUF009  # frozen
    has_feedback: bool = False

    def __post_init__(self) -> None:
        """Check the algorithm, parse the rounding."""
        if self.algorithm not in ALGORITHMS:
            raise not_allowed("all_reduce", self.algorithm, ALGORITHMS)
        if not isinstance(self.has_feedback, bool):
            raise TypeError(
                f"has_feedback is {shown(self.has_feedback)}; allowed are True and False"
            )
        spec = RoundingSpec.parse(self.rounding)
        refuse_scaled(spec.format, "rounding of an all-reduce")
        if spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(f"rounding of an all-reduce is '{spec}'; allowed are modes but sr")
        object.__setattr__(self, "rounding", spec)
        if self.algorithm == "platform" and (
            self.has_feedback or spec != RoundingSpec.parse("fp32")
        ):
            raise ValueError(f"all_reduce is '{self}'; allowed for 'platform' is 'platform' alone")

    @classmethod
    def parse(cls, text: "str | AllReduce", argument: str = "all_reduce") -> "AllReduce":
        """Return the all-reduce that a string stands for; messages name the argument."""
        if isinstance(text, AllReduce):
            return text
        if not isinstance(text, str):
            raise TypeError(f"{argument} is {shown(text)}; allowed are a string or an AllReduce")
        algorithm, *rest = text.split(":")
        if "" in rest:
            raise ValueError(
                f"{argument} is {shown(text)}; allowed is ALGORITHM[:ROUNDING][:{_FEEDBACK}], such "
                f"as 'ring:bf16:{_FEEDBACK}'"
            )
        has_feedback = rest[-1:] == [_FEEDBACK]
        if algorithm not in ALGORITHMS:
            raise not_allowed(argument, algorithm, ALGORITHMS)
        rounding = ":".join(rest[:-1] if has_feedback else rest)
        try:
            spec = RoundingSpec.parse(rounding or "fp32")
        except ValueError as error:
            raise ValueError(f"{argument} is {shown(text)}: {error}") from error
        return cls(algorithm=algorithm, rounding=spec, has_feedback=has_feedback)

    def check_ranks(self, count: int) -> None:
        """Refuse a number of ranks that the algorithm cannot have."""
        if self.algorithm == "halving" and count & (count - 1):
            raise ValueError(f"all_reduce is '{self}' for {count} ranks; allowed are powers of two")

    def __str__(self) -> str:
        """Return a string that parses to this all-reduce."""
        rounding = "" if self.rounding == RoundingSpec.parse("fp32") else f":{self.rounding}"
        return f"{self.algorithm}{rounding}{f':{_FEEDBACK}' * self.has_feedback}"
