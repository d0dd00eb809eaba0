"""Measured errors against the bounds that theory has for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from precsim.analysis.plots.checks import pairs
from precsim.analysis.plots.curves import finish, panel, plot_curves


def plot_bounds(axes: Axes, errors: Mapping[str, tuple[Any, Any]]) -> None:
    """Draw measured errors over their bounds: points stay below the diagonal, near it if sharp.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    errors : mapping of str to (bound, measured)
        For each label, such as a format, bounds and absolute errors in one unit, array_like,
        shape (n,).

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `errors` are no mapping of strings to pairs, or their entries are no
        real numbers.
    ValueError
        If bounds and errors have two shapes, or one that is not (n,).

    Notes
    -----
    Both axes are logarithmic. Errors of 0 stand at the lower edge as arrows, and so do infinite
    bounds not appear. Points above the diagonal would be errors beyond their bound.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_bounds(axes[0], {"fp16": ([1e-3, 2e-3], [2e-4, 1e-3])})
    >>> axes[0].get_ylabel()
    'measured error'
    """
    axes, names = panel(axes), ("bound", "measured")
    found = pairs(errors, "errors", names)
    kept = {}
    for label, (bound, measured) in found.items():
        is_drawn = np.isfinite(bound) & (bound > 0)
        kept[label] = bound[is_drawn], measured[is_drawn]
    numbers = np.concatenate([np.concatenate(pair) for pair in kept.values()] or [np.zeros(0)])
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    low, high = (numbers.min() / 3, numbers.max() * 3) if numbers.size else (0.1, 1.0)
    plot_curves(axes, kept, linestyle="none", markevery=1)
    for line in axes.lines:
        line.set_linestyle("none")
    axes.plot([low, high], [low, high], color="black", linewidth=0.8, label="error = bound")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="bound", ylabel="measured error")
    finish(axes)
