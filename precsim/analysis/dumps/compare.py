"""`compare_dumps`: the first tensor that differs between two dumps, from any framework."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np

from precsim.analysis.differences import are_equal, relative_distance
from precsim.analysis.dumps.names import Pair, align
from precsim.analysis.dumps.read import Tensor, read_dump
from precsim.analysis.errors import ulp_error
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import each_of, shown, unknown
from precsim.formats.reals import real
from precsim.formats.registry import get_format

_LISTED = 20
_RELATED = 0.5
"""Relative distance up to which two tensors are taken to have their axes in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPair:
    """Two tensors that belong together, and how they differ.

    Parameters
    ----------
    name, partner : str
        Their names in the two dumps.
    likeness : float
        How alike the names and shapes are; 1 for the same words and numbers.
    is_unique : bool
        Whether no other partner was as likely.
    shape, partner_shape : tuple of int
        Their shapes.
    dtype, partner_dtype : str
        Their dtypes.
    axes : tuple of int, optional
        How the partner's axes were permuted before the comparison; None if they were not.
    different : int
        Elements whose values differ; all, where the shapes do not fit.
    ulps : float
        Largest difference in ulps of `format`, the coarser of the two formats; NaN for shapes that
        do not fit, as are the next two.
    format : str
        The format of those ulps.
    relative : float
        ``||a - b|| / ||b||`` in the 2-norm.
    first : tuple of int, optional
        Index of the first element that differs, in `a`'s shape.
    values : tuple of float, optional
        Both values there.
    differs : bool
        Whether the tensors differ by more than the tolerance.

    Examples
    --------
    >>> import precsim as ps
    >>> [pair.partner for pair in ps.compare_dumps({"fc.weight": 1}, {"fc/kernel": 1}).pairs]
    ['fc/kernel']
    """

    name: str
    partner: str
    likeness: float
    is_unique: bool
    shape: tuple[int, ...]
    partner_shape: tuple[int, ...]
    dtype: str
    partner_dtype: str
    axes: tuple[int, ...] | None
    different: int
    ulps: float
    format: str
    relative: float
    first: tuple[int, ...] | None
    values: tuple[float, float] | None
    differs: bool

    @property
    def sqnr(self) -> float:
        """Signal to noise, ``||b||**2 / ||a - b||**2``, in decibels."""
        if math.isnan(self.relative):
            return math.nan
        return -20 * math.log10(self.relative) if self.relative else math.inf

    @property
    def fits(self) -> bool:
        """Whether both have the same numbers of elements along their axes, in some order."""
        return not math.isnan(self.relative)


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpComparison:
    """Two dumps, tensor by tensor.

    Parameters
    ----------
    pairs : tuple of TensorPair
        In the order of execution.
    only_a, only_b : tuple of str
        Tensors without a partner.

    Examples
    --------
    >>> import precsim as ps
    >>> found = ps.compare_dumps({"x": 1.0, "y": 3.0}, {"x": 1.0, "y": 3.5, "z": 0.0})
    >>> found.first.name, found.only_b
    ('y', ('z',))
    """

    pairs: tuple[TensorPair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def first(self) -> TensorPair | None:
        """The first tensor that differs by more than the tolerance; None if none does."""
        return next((pair for pair in self.pairs if pair.differs), None)

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        first, count = self.first, len(self.pairs)
        if not count:
            return f"no tensor of one has a partner in the other{self._alone()}"
        if first is None:
            return f"none of {count} tensors differs{self._alone()}"
        before = self.pairs.index(first)
        partner = "" if first.partner == first.name else f" (in b: {first.partner})"
        differing = sum(pair.differs for pair in self.pairs)
        return (
            f"the first of {count} tensors that differs is {first.name}{partner}, after {before} "
            f"without difference: {_how(first)}; {differing} differ in all{self._alone()}"
        )

    def _alone(self) -> str:
        alone = len(self.only_a) + len(self.only_b)
        return f"; {alone} have no partner" if alone else ""

    def __str__(self) -> str:
        """Return the sentence, a table of what differs, and what has no partner."""
        differing = [pair for pair in self.pairs if pair.differs]
        lines = [self.sentence]
        if differing:
            lines += ["", text_table(_HEADER, [_row(pair) for pair in differing[:_LISTED]])]
        if len(differing) > _LISTED:
            lines.append(f"and {len(differing) - _LISTED} more")
        for side, names in (("a", self.only_a), ("b", self.only_b)):
            if names:
                more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
                lines.append(f"only in {side}: {', '.join(names[:_LISTED])}{more}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return all pairs and names without partner as JSON."""
        pairs = [{**asdict(pair), "sqnr": pair.sqnr} for pair in self.pairs]
        return json_text(
            {
                "sentence": self.sentence,
                "pairs": pairs,
                "only_a": self.only_a,
                "only_b": self.only_b,
            }
        )

    def _repr_html_(self) -> str:
        """Return the sentence and all pairs for a notebook."""
        return html_table(self.sentence, _HEADER, [_row(pair) for pair in self.pairs])


_HEADER = ("tensor of a", "tensor of b", "hint", "differ", "ulps", "relative", "SQNR dB", "first")


def _row(pair: TensorPair) -> tuple[object, ...]:
    partner = "same name" if pair.partner == pair.name else pair.partner
    first = None if pair.first is None else str(list(pair.first))
    numbers = (pair.ulps, pair.relative, pair.sqnr) if pair.fits else (None, None, None)
    return pair.name, partner, _hint(pair), pair.different, *numbers, first or ""


def _hint(pair: TensorPair) -> str:
    """Return what a reader should check: axes in another order, dtypes, other likely partners."""
    hints = []
    if not pair.fits:
        hints.append(f"shapes {pair.shape}, {pair.partner_shape}")
    elif pair.axes == (1, 0):
        hints.append("transposed")
    elif pair.axes is not None:
        hints.append(f"axes {pair.axes}")
    elif pair.shape != pair.partner_shape:
        hints.append("reshaped")
    if pair.dtype != pair.partner_dtype:
        hints.append(f"{pair.dtype}, {pair.partner_dtype}")
    if pair.different and not pair.relative and not pair.ulps:
        hints.append("zeros of other signs")
    if not pair.is_unique:
        hints.append("other partners as likely")
    return "; ".join(hints)


def _how(pair: TensorPair) -> str:
    if not pair.fits:
        return f"shapes {pair.shape} and {pair.partner_shape}"
    assert pair.values is not None
    return (
        f"{pair.different} of {math.prod(pair.shape)} elements, by up to {pair.ulps:.3g} ulps of "
        f"{pair.format}, relative distance {pair.relative:.2g}; first {list(pair.first or ())}, "
        f"{pair.values[0]:.9g} against {pair.values[1]:.9g}"
    )


def compare_dumps(
    a: str | PathLike[str] | Mapping[str, Any],
    b: str | PathLike[str] | Mapping[str, Any],
    *,
    order: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> DumpComparison:
    """Find the first tensor that differs between two dumps, whatever framework wrote them.

    Parameters
    ----------
    a, b : path or mapping of str to array_like
        The dumps: ``.npz``, ``.safetensors``, ``.npy``, a folder of such files, or a mapping, also
        a nested one. `b` is what `a` is compared with.
    order : sequence of str, optional
        Names of `a` in the order of execution; those that it lacks follow. By default the order of
        a mapping or an npz, as tensors were stored; of folders and safetensors, which keep no
        order, that of the names with their numbers by value ("layer2" before "layer10").
    tolerance : float, optional
        Relative distance ``||a - b|| / ||b||`` up to which tensors count as equal; by default their
        values have to be equal.

    Returns
    -------
    DumpComparison
        `first` is the first pair that differs; ``print(comparison)`` shows all that do.

    Raises
    ------
    TypeError
        If a dump is neither a path nor a mapping of arrays.
    ValueError
        If a file is damaged or has objects of Python, `order` names no tensor of `a`, or
        `tolerance` is negative.
    OSError
        If a file is not there or cannot be read.

    Notes
    -----
    Equal names belong together. Others are aligned: names are split into words and numbers, and
    spellings of one thing count as one (weight and kernel, h and blocks, attn and attention, counts
    from 0 and from 1); then names of the same words, then the assignment with the largest sum of
    likeness among tensors with as many elements; between equally likely partners the values decide.
    What is too unlike has no partner. Axes are permuted where that makes the shapes fit, and of a
    square matrix where that makes the values fit. Such hints stand in the table.

    Values are compared exactly, also between dtypes; NaN equals NaN, and -0 differs from 0.
    bfloat16 that NumPy has stored (as ``|V2``) is read as such. Nothing is unpickled. Files are
    read one pair of tensors at a time; memory is about ten times the larger one in float32.

    Source: the assignment is SciPy's `linear_sum_assignment`.

    Examples
    --------
    A weight of PyTorch beside one of Flax, whose axes are the other way round:

    >>> import numpy as np, precsim as ps
    >>> w = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> ours = {"h.0.fc.weight": w, "h.0.fc.bias": np.zeros(2, np.float32)}
    >>> theirs = {"blocks_0/dense": {"kernel": w.T, "bias": np.full(2, 2.0**-20, np.float32)}}
    >>> found = ps.compare_dumps(ours, theirs)
    >>> found.first.name, found.first.partner, found.pairs[0].axes
    ('h.0.fc.bias', 'blocks_0/dense/bias', (1, 0))
    """
    ours, theirs = read_dump(a, "a"), read_dump(b, "b")
    least = 0.0
    if tolerance is not None:
        least = float(real(tolerance, "tolerance"))
        if not least >= 0:
            raise ValueError(f"tolerance is {shown(tolerance)}; allowed are numbers from 0 on")
    ours = _ordered(ours, order)
    pairs = align(ours, theirs)
    compared = tuple(_compared(pair, ours[pair.ours], theirs[pair.theirs], least) for pair in pairs)
    partners = {pair.theirs for pair in pairs}
    found = {pair.ours for pair in pairs}
    return DumpComparison(
        pairs=compared,
        only_a=tuple(name for name in ours if name not in found),
        only_b=tuple(name for name in theirs if name not in partners),
    )


def _ordered(ours: dict[str, Tensor], order: Sequence[str] | None) -> dict[str, Tensor]:
    if order is None:
        return ours
    order = list(each_of(order, "order", "lists of names"))
    for name in order:
        if name not in ours:
            raise ValueError(f"order: {unknown('tensor of a', str(name), ours)}")
    return {name: ours[name] for name in dict.fromkeys([*order, *ours])}


def _compared(pair: Pair, ours: Tensor, theirs: Tensor, tolerance: float) -> TensorPair:
    x, y = _loaded(ours, pair.ours), _loaded(theirs, pair.theirs)
    dtypes = str(x.dtype), str(y.dtype)
    formats = [get_format(z.dtype) for z in (x, y) if z.dtype.kind in "fV"] or ["fp64"]
    coarser = str(min(formats, key=lambda fmt: getattr(fmt, "precision", 53)))
    here, there = x.astype(np.float64), y.astype(np.float64)
    arranged = _arranged(here, there)
    axes, different, ulps, relative, first, values = None, here.size, math.nan, math.nan, None, None
    if arranged is not None:
        axes, there = arranged
        here, there = here.ravel(), there.ravel()
        equal = are_equal(here, there)
        different, relative = int(np.count_nonzero(~equal)), relative_distance(here, there)
        errors = np.where(equal, 0.0, np.asarray(ulp_error(here, there, coarser)))
        ulps = float(np.max(np.where(np.isnan(errors), np.inf, errors), initial=0.0))
    if different and arranged is not None:
        place = int(np.argmin(equal))
        first = tuple(int(n) for n in np.unravel_index(place, x.shape))
        values = float(here[place]), float(there[place])
    is_beyond = arranged is None or (different > 0 and not relative <= tolerance)
    return TensorPair(
        name=pair.ours,
        partner=pair.theirs,
        likeness=pair.likeness,
        is_unique=pair.is_unique,
        shape=x.shape,
        partner_shape=y.shape,
        dtype=dtypes[0],
        partner_dtype=dtypes[1],
        axes=axes,
        different=different,
        ulps=ulps,
        format=coarser,
        relative=relative,
        first=first,
        values=values,
        differs=bool(is_beyond or (tolerance == 0 and different > 0)),
    )


def _loaded(tensor: Tensor, name: str) -> np.ndarray:
    """Return the values of a tensor, complex ones as pairs of real ones."""
    try:
        x = tensor.load()
    except ValueError as error:
        raise ValueError(f"tensor {shown(name)}: {str(error).splitlines()[0]}") from None
    if x.dtype.kind == "c":
        x = np.ascontiguousarray(x).view(x.real.dtype).reshape(*x.shape, 2)
    if x.dtype.kind not in "fiubV":
        raise ValueError(f"tensor {shown(name)} has dtype {x.dtype}; allowed are numbers")
    return x


def _arranged(x: np.ndarray, y: np.ndarray) -> tuple[tuple[int, ...] | None, np.ndarray] | None:
    """Return y with its axes in the order of x, and that order; None if there is none.

    The order stays where the values are alike so; otherwise the one with the nearest values counts.
    """
    if x.shape == y.shape:
        near = relative_distance(x.ravel(), y.ravel())
        if near <= _RELATED or x.ndim < 2:
            return None, y
    orders = itertools.permutations(range(y.ndim)) if 2 <= y.ndim <= 4 else []
    fitting = [axes for axes in orders if tuple(y.shape[n] for n in axes) == x.shape]
    if not fitting:
        return (None, y.reshape(x.shape)) if x.size == y.size else None
    distances = [relative_distance(x.ravel(), y.transpose(axes).ravel()) for axes in fitting]
    best = fitting[int(np.argmin(distances))]
    is_kept = best == tuple(range(y.ndim)) or (x.shape == y.shape and min(distances) > _RELATED)
    return (None, y) if is_kept else (best, y.transpose(best))
