"""`compress`: the weights of a finished model in narrower formats, and what that loses."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim._arrays import Array, is_traced
from precsim.analysis.compression.fixed_scale import round_with_scale
from precsim.analysis.errors import sqnr
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.arguments import integer, not_allowed, shown
from precsim.formats.scaled import scaled_format
from precsim.formats.storage import element_bits, has_one_scale, in_bytes, scale_bits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.round_to import round_to
from precsim.rounding.scaled.calibration import METHODS, calibrate
from precsim.rounding.spec import RoundingSpec, SpecLike
from precsim.training.recipes.leaves import is_trained, widened
from precsim.transform.scopes import check_pattern, matches


class CompressedRow(NamedTuple):
    """What became of an array.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> ps.compress({"w": np.float32([0.1, 1.0])}, "bf16").rows[0].max_error
    9.765475988388062e-05
    """

    path: str
    """Its place in the tree, such as "layers/0/w"."""
    format: str
    """The format and rule of its numbers; "-" where it stayed as it was."""
    elements: int
    """How many there are."""
    bytes: int
    """Bytes of elements, scales and mask."""
    sqnr: float
    """Signal to noise in dB, against the weights before; infinity where nothing changed."""
    max_error: float
    """The largest absolute difference."""


class Compression(NamedTuple):
    """Weights in narrower formats, and what that lost.

    Parameters
    ----------
    params : pytree of arrays
        The weights; every number is a value of its format, in a float32 or float64 array.
    rows : tuple of CompressedRow
        One for each array of numbers.
    total : CompressedRow
        All of them together.
    bytes_before : int
        Bytes of the arrays that were given.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> found = ps.compress({"w": np.ones((64, 8), np.float32)}, "mxfp4")
    >>> found.total.bytes, found.bytes_before
    (272, 2048)
    """

    params: Any
    rows: tuple[CompressedRow, ...]
    total: CompressedRow
    bytes_before: int

    def __str__(self) -> str:
        """Return a table."""
        return text_table(CompressedRow._fields, [*self.rows, self.total])

    def to_json(self) -> str:
        """Return rows, total and bytes before as JSON; an infinite ratio is null."""
        rows = [row._asdict() for row in self.rows]
        total = self.total._asdict()
        return json_text({"rows": rows, "total": total, "bytes_before": self.bytes_before})

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        summary = f"{self.bytes_before} bytes before, {self.total.bytes} after"
        return html_table(summary, CompressedRow._fields, [*self.rows, self.total])


def compress(
    params: Any,
    spec: SpecLike | Mapping[str, SpecLike | None],
    *,
    masks: Any = None,
    axis: int | None = None,
    method: str = "minmax",
    percentile: float = 99.99,
) -> Compression:
    """Round the weights of a finished model to narrower formats, and measure what that loses.

    Parameters
    ----------
    params : pytree of arrays
        Weights, not traced. Arrays without numbers stay as they are.
    spec : str, Format, RoundingSpec or mapping
        Format and rule of all, for example "bf16", "e4m3:saturate", "int8_symmetric_channel",
        "mxfp4". Or ``{pattern: spec}``: for each array the first pattern that matches its path
        decides, as in rules of a policy ("layers/*/w", "head", "*"); None, or no match, leaves it.
    masks : pytree of bool arrays, optional
        Of `prune`: weights that are not kept become 0 first.
    axis : int, optional
        The axis along which blocks and tiles run, or channels lie. By default the last but one,
        along which products of weights (inputs, outputs) sum; for channels the last.
    method : {"minmax", "percentile", "mse"}
        How a format with one scale for each array ("int8", "e4m3:scale=tensor") finds it, as of
        `calibrate`. Other formats follow their own rule.
    percentile : float
        For that method, 50 to 100.

    Returns
    -------
    Compression
        Weights of the same structure and shapes, and a table: bytes, SQNR and largest error of each
        array and of all.

    Raises
    ------
    ValueError
        If a pattern matches nothing, masks do not fit, a format or method is unknown, or a spec
        needs random bits.
    TypeError
        If `params` are traced, or have a number where an array belongs.

    Notes
    -----
    Results are NumPy or JAX arrays as given; narrow floats (bfloat16, float16) come back as
    float32. Each number is rounded once; a scale of `method` other than "minmax" costs a second
    rounding, of the product by it. Bytes: elements by the width of the format, scales as it stores
    them, and with masks one bit for each weight beside the elements that are kept.

    Run the result under a policy for the activations: ``ps.emulate(apply, policy)(found.params,
    x)``, or with scales fixed beforehand by `ps.fix_scales`.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> params = {"w": np.float32([[0.11, -0.52], [0.35, 0.98]]), "b": np.float32([0.1, 0.2])}
    >>> found = ps.compress(params, {"w": "int4"})
    >>> found.params["w"].tolist()
    [[0.10000000149011612, -0.5], [0.30000001192092896, 1.0]]
    >>> [(row.path, row.format, row.bytes) for row in found.rows]
    [('b', '-', 8), ('w', 'int4', 7)]
    """
    if method not in METHODS:
        raise not_allowed("method", method, METHODS)
    if axis is not None:
        axis = integer(axis, "axis")
    structure: Any
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    leaves = [leaf for _, leaf in flat]
    if any(map(is_traced, leaves)):
        raise TypeError("params are traced; allowed are arrays: compress outside of jax.jit")
    for name, leaf in zip(names, leaves, strict=True):
        if isinstance(leaf, float):
            raise TypeError(f"params has the number {shown(leaf)} at {name!r}; allowed are arrays")
    specs = _specs(spec, names)
    for given in filter(None, specs):
        if given.mode is RoundingMode.STOCHASTIC:
            raise ValueError(f"spec is '{given}'; allowed are roundings without random bits")
    kept = [None] * len(leaves) if masks is None else structure.flatten_up_to(masks)
    rows, befores, afters = [], [], []
    for n, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        if not is_trained(leaf):
            continue
        before, chosen = widened(leaf), specs[n]
        after = before if kept[n] is None else _masked(before, kept[n], name)
        if chosen is not None:
            after = _rounded(after, chosen, axis, method, percentile)
        is_changed = chosen is not None or kept[n] is not None
        leaves[n] = after if is_changed else leaf
        size = _bytes(leaf, chosen, axis, kept[n])
        rows.append(_row(name, "-" if chosen is None else str(chosen), size, before, after))
        befores.append(np.asarray(before, np.float64).reshape(-1))
        afters.append(np.asarray(after, np.float64).reshape(-1))
    whole = [np.concatenate(x) if x else np.zeros(0) for x in (befores, afters)]
    total = _row("all", "", sum(row.bytes for row in rows), *whole)
    size = sum(np.size(x) * x.dtype.itemsize for _, x in flat if is_trained(x))
    return Compression(structure.unflatten(leaves), tuple(rows), total, size)


def _specs(spec: Any, names: list[str]) -> list[RoundingSpec | None]:
    """Return the spec of each path."""
    if not isinstance(spec, Mapping):
        return [RoundingSpec.parse(spec)] * len(names)
    rules: list[tuple[str, RoundingSpec | None]] = []
    for pattern, each in spec.items():
        check_pattern(pattern)
        if not any(matches(pattern, name) for name in names):
            listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
            raise ValueError(f"pattern {shown(pattern)} matches nothing; paths are {listed}")
        rules.append((pattern, None if each is None else RoundingSpec.parse(each)))
    return [next((s for pattern, s in rules if matches(pattern, name)), None) for name in names]


def _rounded(
    x: Array, spec: RoundingSpec, axis: int | None, method: str, percentile: float
) -> Array:
    fmt = scaled_format(spec.format)
    if fmt is None:
        return round_to(x, spec)
    if has_one_scale(fmt) and method != "minmax":
        narrow = x.astype(np.float32)
        scale = calibrate(narrow, spec, method=method, percentile=percentile)
        return round_with_scale(narrow, spec, scale).astype(x.dtype)
    if not np.ndim(x):
        return round_to(x.reshape(1), spec).reshape(())
    return round_to(x, spec, axis=_axis(fmt, x.ndim, axis))


def _axis(fmt: Any, ndim: int, axis: int | None) -> int:
    if axis is not None:
        return axis
    has_channels = isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.CHANNEL
    return -1 if has_channels or ndim < 2 else -2


def _masked(x: Array, mask: Any, name: str) -> Array:
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != x.shape:
        raise ValueError(
            f"mask of {name!r} is {mask.dtype} of shape {mask.shape}; allowed is bool of {x.shape}"
        )
    masked: Array = x * mask.astype(x.dtype)  # exact, and infinities are not hidden
    return masked


def _bytes(x: Any, spec: RoundingSpec | None, axis: int | None, mask: Any) -> int:
    """Return the bytes of an array: of its elements that are kept, its scales, its mask."""
    size = int(np.size(x))
    count = size if mask is None else int(np.count_nonzero(mask))
    flags = 0 if mask is None or count == size else size
    if spec is None:
        return in_bytes(count * x.dtype.itemsize * 8 + flags)
    fmt = scaled_format(spec.format)
    groups = 1
    if fmt is not None and not has_one_scale(fmt) and np.ndim(x):
        along = x.shape[_axis(fmt, x.ndim, axis)]
        is_channel = isinstance(fmt, AffineFormat)
        groups = along if is_channel else -(-size // max(along, 1))
    return in_bytes(count * element_bits(spec.format) + scale_bits(spec.format, groups) + flags)


def _row(name: str, spec: str, size: int, before: Array, after: Array) -> CompressedRow:
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    with np.errstate(invalid="ignore"):
        error = float(np.max(np.abs(after - before), initial=0.0))
    return CompressedRow(name, spec, before.size, size, sqnr(after, before), error)
