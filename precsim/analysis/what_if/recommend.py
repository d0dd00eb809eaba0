"""`recommend`: the cheapest format and scale of each tensor for a stated loss."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from precsim._arrays import is_array, is_traced
from precsim.analysis.errors import sqnr as measured_sqnr
from precsim.analysis.ranges import range_rates
from precsim.analysis.what_if.predict import Prediction, exponent_of, predict
from precsim.analysis.what_if.statistics import TensorStatistics, statistics
from precsim.formats.arguments import number_within, shown
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import as_carrier
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec, SpecLike

FORMATS = (
    *("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2"),
    *("e4m3", "e5m2", "fp16", "bf16", "fp32"),
)
"""What `recommend` chooses from by default."""

_SCALES_BELOW = 3
"""Powers of two that are tried, from the one that brings the largest number to the format's end."""

_SCALE_BITS = 32


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
        Formats that could not be predicted for this tensor, and why.

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
        return "\n".join(_line(row, widths) for row in rows)


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


def recommend(
    values: Any,
    *,
    sqnr: float | None = None,
    underflow: float | None = None,
    overflow: float = 0.0,
    saturation: float | None = None,
    formats: Sequence[SpecLike] = FORMATS,
    scales: Sequence[float] | None = None,
    measure: bool = False,
    axis: int = -1,
) -> Recommendation:
    """Return the cheapest format and scale of each tensor that loses no more than is stated.

    Parameters
    ----------
    values : array_like of float, TensorStatistics, or a pytree of them
        Weights, gradients, activations; or their `precsim.errors.statistics`, merged over steps.
    sqnr : float, optional
        The least signal-to-noise ratio of the rounded tensor, in dB. 6 dB are one bit.
    underflow : float, optional
        The largest share of the nonzero elements that become 0.
    overflow : float
        The largest share of elements that become infinite or NaN.
    saturation : float, optional
        The largest share of elements that become the largest value instead.
    formats : sequence of str, Format or RoundingSpec
        What to choose from.
    scales : sequence of float, optional
        Powers of two to choose from; by default 1, or what brings the largest element near the end
        of the format. Block formats have scales of their own.
    measure : bool
        Round the tensors, too, and say what that did.
    axis : int
        The axis along which blocks run.

    Returns
    -------
    Recommendation
        A choice for each tensor; ``print`` shows a table.

    Raises
    ------
    ValueError
        If neither `sqnr` nor `underflow` is given, a format or a scale is not allowed, or `measure`
        is asked for statistics.
    TypeError
        If an array is not of floats, or traced.

    Notes
    -----
    The cheapest format has the least bits per element, scales included (32 bits for that of a whole
    tensor); of two, that with the higher SQNR. Scale 1 is taken where it will do, else the scale
    with the highest SQNR. Losses are those that `precsim.errors.predict` predicts. Formats that it
    refuses, such as nvfp4, are measured if there are values, else they stand in `refused`.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> gradients = {"w": np.float32([1e-3, 3e-6, 2e-8, 1e-9])}
    >>> choice = ps.recommend(gradients, underflow=0.0, formats=["fp16", "fp32"])["w"]
    >>> str(choice.spec), choice.scale, choice.predicted.underflowed
    ('fp16', 33554432.0, 0)
    """
    if sqnr is None and underflow is None:
        raise ValueError("sqnr and underflow are None; allowed is a number for one or both")
    if sqnr is not None:
        number_within(sqnr, "sqnr", -1e3, 1e3)
    shares = {"underflow": underflow, "overflow": overflow, "saturation": saturation}
    for name, value in shares.items():
        if value is not None:
            number_within(value, name, 0, 1)
    if isinstance(formats, str):
        raise TypeError(f"formats is {shown(formats)}; allowed is a list of formats")
    limits = _Limits(sqnr=sqnr, underflow=underflow, overflow=overflow, saturation=saturation)
    for scale in scales or ():
        exponent_of(scale)
    specs = [RoundingSpec.parse(each) for each in formats]
    if not specs:
        raise ValueError("formats is empty; allowed are one or more formats")
    choices = [
        _choose(_Tensor(name, leaf, axis), limits, specs, scales, measure)
        for name, leaf in named_leaves(values)
    ]
    return Recommendation(choices=tuple(choices), loss=str(limits))


@dataclass(frozen=True, kw_only=True)
class _Limits:
    sqnr: float | None
    underflow: float | None
    overflow: float
    saturation: float | None

    def allow(self, outcome: Prediction) -> bool:
        return (
            (self.sqnr is None or outcome.sqnr >= self.sqnr)
            and (self.underflow is None or outcome.underflow_of_nonzero <= self.underflow)
            and outcome.overflow_of_all <= self.overflow
            and (self.saturation is None or outcome.saturation_of_all <= self.saturation)
        )

    def __str__(self) -> str:
        given = {
            "SQNR of at least {:g} dB": self.sqnr,
            "underflow of at most {:g}": self.underflow,
            "overflow of at most {:g}": self.overflow,
            "saturation of at most {:g}": self.saturation,
        }
        return ", ".join(text.format(x) for text, x in given.items() if x is not None)


def named_leaves(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays and statistics of a tree with their paths, "layers/0/w"."""
    if is_array(values) or isinstance(values, TensorStatistics) or _is_numbers(values):
        yield "values", values
        return
    import jax

    found = jax.tree_util.tree_flatten_with_path(
        values, is_leaf=lambda x: isinstance(x, TensorStatistics) or _is_numbers(x)
    )[0]
    for path, leaf in found:
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _is_numbers(x: Any) -> bool:
    """Return whether `x` is a Python number or a list of numbers, which counts as an array."""
    if isinstance(x, list):
        return bool(x) and all(map(_is_numbers, x))
    return isinstance(x, (int, float))


class _Tensor:
    """An array, or statistics; the statistics of an array are taken once for each block size."""

    def __init__(self, name: str, leaf: Any, axis: int) -> None:
        self.name, self.axis = name, axis
        self._statistics: dict[int | None, TensorStatistics] = {}
        self.given = leaf if isinstance(leaf, TensorStatistics) else None
        if self.given is None:
            self.values = np.asarray(as_carrier(_not_traced(leaf, name), name)[0])
            self.elements = self.values.size
        else:
            self.elements = self.given.elements

    def statistics(self, spec: RoundingSpec) -> TensorStatistics:
        if self.given is not None:
            return self.given
        size = spec.format.block_size if isinstance(spec.format, BlockFormat) else None
        size = size if self.values.ndim else None
        if size not in self._statistics:
            self._statistics[size] = statistics(self.values, block_size=size, axis=self.axis)
        return self._statistics[size]

    def measure(self, spec: RoundingSpec, scale: float) -> Prediction:
        if self.given is not None:
            raise ValueError(f"measure is True, but {self.name} is statistics; allowed are values")
        x = self.values if scale == 1 else self.values.astype(np.float64) * scale
        rates = range_rates(x, spec, axis=self.axis)
        ratio = measured_sqnr(round_to(x, spec, axis=self.axis), x)
        return Prediction(spec=spec, scale=scale, **rates._asdict(), sqnr=ratio)


def _not_traced(leaf: Any, name: str) -> Any:
    if is_traced(leaf):
        raise TypeError(f"{name} is a value that JAX traces; allowed is its use outside of jax.jit")
    return leaf


def _choose(
    tensor: _Tensor,
    limits: _Limits,
    specs: Sequence[RoundingSpec],
    scales: Sequence[float] | None,
    measure: bool,
) -> Choice:
    """Try the formats, the cheapest first."""
    refused: dict[str, str] = {}
    best: tuple[float, float, Prediction, bool] | None = None
    for spec in sorted(specs, key=_bits):
        if best is not None and _bits(spec) > best[0]:
            break
        for scale in _scales(tensor, spec, scales):
            try:
                outcome, is_predicted = predict(tensor.statistics(spec), spec, scale=scale), True
            except ValueError as error:
                if tensor.given is not None:
                    refused[str(spec)] = str(error)
                    continue
                outcome, is_predicted = tensor.measure(spec, scale), False
            bits = _bits(spec) + (scale != 1) * _SCALE_BITS / max(tensor.elements, 1)
            if limits.allow(outcome) and (
                best is None or (bits, -outcome.sqnr) < (best[0], -best[1])
            ):
                best = bits, outcome.sqnr, outcome, is_predicted
    found = Choice(
        name=tensor.name,
        elements=tensor.elements,
        spec=None,
        scale=1.0,
        bits=math.nan,
        predicted=None,
        measured=None,
        refused=refused,
    )
    if best is None:
        return found
    bits, _, outcome, is_predicted = best
    measured = None if is_predicted else outcome
    if measure and is_predicted:
        measured = tensor.measure(outcome.spec, outcome.scale)
    return replace(
        found,
        spec=outcome.spec,
        scale=outcome.scale,
        bits=bits,
        predicted=outcome if is_predicted else None,
        measured=measured,
    )


def _bits(spec: RoundingSpec) -> float:
    """Return the bits of an element, with its share of the scales of blocks."""
    fmt = spec.format
    scaled = scaled_format(fmt)
    if scaled is None:
        return math.inf if fmt.width is None else float(fmt.width)
    return float(getattr(scaled, "bits_per_element", scaled.element.width or math.inf))


def _scales(tensor: _Tensor, spec: RoundingSpec, given: Sequence[float] | None) -> Sequence[float]:
    """Return the scales to try."""
    if scaled_format(spec.format) is not None:
        return [1.0]
    if given is not None:
        return given
    amax = float(tensor.statistics(spec).amax)
    fmt = spec.format
    largest = fmt.max_finite if isinstance(fmt, FloatFormat) else fmt.max_value
    if not amax or not math.isfinite(largest):
        return [1.0]
    top = math.frexp(largest)[1] - math.frexp(amax)[1]
    return [1.0, *(math.ldexp(1.0, top - n) for n in range(_SCALES_BELOW))]
