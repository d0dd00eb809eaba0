"""`Recommendation`: the formats and scales that were chosen, as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from precsim.analysis.what_if.predict import Prediction
from precsim.rounding.spec import RoundingSpec


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one tensor.

    Parameters
    ----------
    name : str
        Where the tensor is in the tree, "layers/0/w".
    elements : int
        Its elements.
    spec : RoundingSpec, optional
        None if no format loses so little.
    scale : float
        What the tensor is multiplied with before it is rounded: a power of two.
    bits : float
        Bits per element, scales included; NaN without format.
    predicted : Prediction, optional
        None for formats that have to be measured, too.
    measured : Prediction, optional
        What rounding the tensor did, if asked for.
    refused : mapping
        Formats that could not be predicted for this tensor, and why. They were measured instead,
        or not tried where there are only statistics.

    Examples
    --------
    >>> import precsim as ps
    >>> choice = ps.recommend([1e-7, 3e-6, 2e-9], underflow=0, formats=["e4m3", "fp16"])["values"]
    >>> str(choice.spec), choice.scale
    ('e4m3', 134217728.0)
    """

    name: str
    elements: int
    spec: RoundingSpec | None
    scale: float
    bits: float
    predicted: Prediction | None
    measured: Prediction | None
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The choices for all tensors; printed as a table.

    Parameters
    ----------
    choices : tuple of Choice
        One for each tensor.
    loss : str
        The loss that was stated.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> rng = np.random.default_rng(0)
    >>> tree = {"w": rng.standard_normal((64, 64)), "g": 1e-6 * rng.standard_normal((64, 64))}
    >>> print(ps.recommend(tree, sqnr=24))
    tensor  elements  format      scale  bits  SQNR dB  underflow %  beyond range %
    g           4096  mxfp6_e2m3      1  6.25     30.9         2.03            0.17
    w           4096  mxfp6_e2m3      1  6.25     30.9         1.76            0.22
    all         8192                     6.25
    """

    choices: tuple[Choice, ...]
    loss: str

    def __getitem__(self, name: str) -> Choice:
        """Return the choice for the tensor of a name."""
        for choice in self.choices:
            if choice.name == name:
                return choice
        names = ", ".join(choice.name for choice in self.choices[:12])
        raise KeyError(f"no tensor is named {name!r}; names are {names}")

    @property
    def bits(self) -> float:
        """Bits per element over all tensors; NaN if one has no format."""
        elements = sum(choice.elements for choice in self.choices)
        return sum(choice.elements * choice.bits for choice in self.choices) / max(elements, 1)

    def __str__(self) -> str:
        """Return the table."""
        is_measured = any(choice.measured is not None for choice in self.choices)
        losses = ["SQNR dB", "underflow %", "beyond range %"]
        head = ["tensor", "elements", "format", "scale", "bits", *losses]
        rows = [head + [f"measured {n}" for n in losses] * is_measured]
        for choice in self.choices:
            spec = "none" if choice.spec is None else str(choice.spec)
            row = [choice.name, str(choice.elements), spec, _scale(choice), f"{choice.bits:.3g}"]
            outcomes = [choice.predicted, choice.measured][: 1 + is_measured]
            rows.append(row + [cell for outcome in outcomes for cell in _losses(outcome)])
        total = str(sum(choice.elements for choice in self.choices))
        rows.append(["all", total, "", "", f"{self.bits:.3g}"] + [""] * (len(rows[0]) - 5))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join([*(_line(row, widths) for row in rows), *self._not_predicted()])

    def _not_predicted(self) -> list[str]:
        """Return a line for each format that was not predicted, with the first reason."""
        reasons: dict[str, str] = {}
        for choice in self.choices:
            reasons = {**choice.refused, **reasons}
        return [
            f"{name} is not predicted, but measured where there are values: {text.partition(';')[0]}"
            for name, text in reasons.items()
        ]


def _scale(choice: Choice) -> str:
    exponent = round(math.log2(choice.scale))
    return f"2**{exponent}" if abs(exponent) > 9 else f"{choice.scale:g}"


def _losses(outcome: Prediction | None) -> list[str]:
    if outcome is None:
        return ["", "", ""]
    beyond = outcome.overflow_of_all + outcome.saturation_of_all
    shares = (outcome.underflow_of_nonzero, beyond)
    return [f"{outcome.sqnr:.1f}", *(f"{100 * share:.2f}" for share in shares)]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, 2)
    cells = (
        c.ljust(w) if n in left else c.rjust(w)
        for n, (c, w) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
