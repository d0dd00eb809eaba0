"""`recommend`: the cheapest format and scale of each tensor for a stated loss."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from precsim._arrays import is_array, is_traced
from precsim.analysis.errors import sqnr as measured_sqnr
from precsim.analysis.ranges import range_rates
from precsim.analysis.what_if.predict import Prediction, predict
from precsim.analysis.what_if.recommendation import Choice, Recommendation
from precsim.analysis.what_if.statistics import TensorStatistics, statistics
from precsim.formats.arguments import each_of, number_within
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import as_carrier
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import exponent_of_power
from precsim.formats.scaled import scaled_format
from precsim.rounding.modes import RoundingMode
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
        Weights, gradients, activations; or their `precsim.errors.statistics`, merged over steps. A
        scalar counts as an array of one element.
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
        If neither `sqnr` nor `underflow` is given, a format or a scale is not allowed (such as one
        that rounds stochastically), or `measure` is asked for statistics.
    TypeError
        If an array is not of floats, or traced.

    Notes
    -----
    The cheapest format has the least bits per element, scales included (32 bits for that of a whole
    tensor); of two, that with the higher SQNR. Scale 1 is taken where it will do, else the scale
    with the highest SQNR. Losses are those that `precsim.errors.predict` predicts. Formats that it
    refuses, such as nvfp4, are measured if there are values, else they are not tried. Either is
    said below the table, with the reason, which `Choice.refused` has.

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
    limits = _Limits(sqnr=sqnr, underflow=underflow, overflow=overflow, saturation=saturation)
    specs = [RoundingSpec.parse(each) for each in each_of(formats, "formats", "lists of formats")]
    if not specs:
        raise ValueError("formats is empty; allowed are one or more formats")
    for spec in specs:
        if spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(
                f"formats has '{spec}', which rounds stochastically; allowed are modes that need no "
                "random bits"
            )
    if scales is not None:
        scales = list(each_of(scales, "scales", "lists of powers of two"))
        for n, scale in enumerate(scales):
            exponent_of_power(scale, f"scales[{n}]")
        if not scales:
            raise ValueError("scales is empty; allowed are one or more powers of two, and None")
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
        yield jax.tree_util.keystr(path, simple=True, separator="/") or "values", leaf


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
            self.values = np.atleast_1d(as_carrier(_not_traced(leaf, name), name)[0])
            self.elements = self.values.size
        else:
            self.elements = self.given.elements

    def statistics(self, spec: RoundingSpec) -> TensorStatistics:
        if self.given is not None:
            return self.given
        size = spec.format.block_size if isinstance(spec.format, BlockFormat) else None
        if size not in self._statistics:
            self._statistics[size] = statistics(self.values, block_size=size, axis=self.axis)
        return self._statistics[size]

    def measure(self, spec: RoundingSpec, scale: float) -> Prediction:
        if self.given is not None:
            raise ValueError(f"measure is True, but {self.name} is statistics; allowed are values")
        x = self.values if scale == 1 else _scaled(self.values.astype(np.float64), scale)
        rates = range_rates(x, spec, axis=self.axis)
        ratio = measured_sqnr(round_to(x, spec, axis=self.axis), x)
        return Prediction(spec=spec, scale=scale, **rates._asdict(), sqnr=ratio)


def _scaled(x: np.ndarray, scale: float) -> np.ndarray:
    """Return products; those beyond float64's range are its last numbers, so that they count."""
    with np.errstate(over="ignore", under="ignore"):
        product = x * scale
    ends = np.finfo(np.float64)
    product = np.where((product == 0) & (x != 0), np.copysign(ends.smallest_subnormal, x), product)
    return np.where(np.isinf(product) & np.isfinite(x), np.copysign(ends.max, x), product)


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
                refused[str(spec)] = str(error)
                if tensor.given is not None:
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
