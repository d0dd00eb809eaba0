"""Pictures of training runs: losses, their gaps to the reference, drift of the weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.lib.stride_tricks import sliding_window_view

from precsim.analysis.plots.checks import by_label, numbers, pairs
from precsim.analysis.plots.curves import finish, panel, plot_curves
from precsim.formats.arguments import integer, shown

_SMALLEST_GAP = 1e-2
"""Gaps within it are drawn in proportion, larger ones on a logarithmic scale."""


def plot_loss_curves(axes: Axes, curves: Mapping[str, Any], *, window: int | None = None) -> None:
    """Draw training losses, one line for each run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    curves : mapping of str to array_like, shape (steps,)
        For each label the loss at steps 1, 2, ... (dimensionless).
    window : int, optional
        Draw the mean of this many latest steps, and the losses themselves faintly behind it. By
        default a fiftieth of the longest run; 1 draws the losses only. The axis label tells the
        window.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `curves` are no mapping of strings, or losses are no real numbers.
    ValueError
        If losses have a shape that is not (steps,), or `window` is no integer from 1 on.

    Notes
    -----
    The vertical axis is logarithmic if all finite losses are positive. Losses that are infinite or
    NaN are left out. A run that ends with one has an arrow at the upper edge where it is lost, and
    its label says from which step on it diverged.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_loss_curves(axes[0], {"fp32": [2.0, 1.0], "fp16": [2.0, float("nan")]})
    >>> [text.get_text() for text in axes[0].get_legend().get_texts()]
    ['fp32', 'fp16 (diverged, step 2)', 'overflow']
    """
    axes, runs = panel(axes), _arrays(curves)
    window = _window(runs, window)
    if window > 1:
        raw = {name: np.where(np.isfinite(losses), losses, np.nan) for name, losses in runs.items()}
        look: dict[str, Any] = {"linestyle": "-", "marker": "", "linewidth": 0.5, "label": "_"}
        plot_curves(axes, _by_step(raw), alpha=0.2, **look)
    plot_curves(axes, _by_step({name: _trailing_mean(y, window) for name, y in runs.items()}))
    if all(np.all(losses[np.isfinite(losses)] > 0) for losses in runs.values()):
        axes.set_yscale("log")
    axes.set(xlabel=_steps(window), ylabel="training loss")
    finish(axes)


def plot_loss_gaps(axes: Axes, curves: Mapping[str, Any], *, window: int | None = None) -> None:
    """Draw by how much the training losses are above those of the first run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    curves : mapping of str to array_like, shape (steps,)
        For each label the loss at steps 1, 2, ... (dimensionless); the first is the reference.
    window : int, optional
        Draw the mean of this many latest steps; by default a fiftieth of the longest run.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `curves` are no mapping of strings, or losses are no real numbers.
    ValueError
        If losses have a shape that is not (steps,), or `window` is no integer from 1 on;
        if there is no run.

    Notes
    -----
    The vertical axis is logarithmic in both directions beyond 0.01, and linear between. A run that
    diverges has an arrow at the upper edge, as in `plot_loss_curves`.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_loss_gaps(axes[0], {"fp32": [2.0, 1.0], "bf16": [2.0, 1.25]})
    >>> axes[0].lines[-1].get_ydata().tolist()
    [0.0, 0.25]
    """
    axes, runs = panel(axes), _arrays(curves)
    if not runs:
        raise ValueError(f"curves is {shown(curves)}; allowed are mappings of one run or more")
    (reference, baseline), *others = runs.items()
    gaps = {name: y[: baseline.size] - baseline[: y.size] for name, y in others}
    window = _window(gaps, window)
    axes.axhline(0, color="0.3", linewidth=0.8)
    plot_curves(axes, _by_step({name: _trailing_mean(y, window) for name, y in gaps.items()}))
    axes.set_yscale("symlog", linthresh=_SMALLEST_GAP)
    axes.set(xlabel=_steps(window), ylabel=f"training loss minus {reference}'s")
    finish(axes)


def plot_weight_drift(axes: Axes, drifts: Mapping[str, tuple[Any, Any]]) -> None:
    """Draw how far the weights of each run are from those of the reference run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    drifts : mapping of str to (steps, values)
        For each label: steps, shape (n,), and the relative distance ``||w - w_ref|| / ||w_ref||``
        (dimensionless), shape (n,).

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `drifts` are no mapping of strings to pairs, or their entries are no
        real numbers.
    ValueError
        If steps and distances have two shapes, or one that is not (n,).

    Notes
    -----
    The vertical axis is logarithmic. Distances that are 0 or NaN are left out, and infinite ones
    have an arrow at the upper edge; a run that has only zeros is named in the legend as identical.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_weight_drift(axes[0], {"fp32": ([1, 2], [0, 0]), "bf16": ([1, 2], [1e-3, 2e-3])})
    >>> [text.get_text() for text in axes[0].get_legend().get_texts()]
    ['fp32 (identical)', 'bf16']
    """
    axes, curves = panel(axes), {}
    for label, (steps, distances) in pairs(drifts, "drifts", ("steps", "values")).items():
        is_same = distances.size and not distances.any()
        name = f"{label} (identical)" if is_same else label
        curves[name] = (steps, np.where(distances == 0, np.nan, distances))
    plot_curves(axes, curves)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="relative distance of weights")
    finish(axes)


def _arrays(curves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return losses by name; a run that diverges has the step in its name."""
    runs = {}
    for label, values in by_label(curves, "curves", "losses").items():
        losses = numbers(values, f"curves[{shown(label)}]")
        if losses.ndim != 1:
            raise ValueError(
                f"curves[{shown(label)}] has shape {losses.shape}; allowed is a shape (steps,)"
            )
        finite = np.flatnonzero(np.isfinite(losses))
        name = label
        if losses.size and not np.isfinite(losses[-1]):
            name = f"{label} (diverged, step {finite[-1] + 2 if finite.size else 1})"
        runs[name] = losses
    return runs


def _by_step(runs: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (np.arange(1, y.size + 1), y) for name, y in runs.items()}


def _window(runs: Mapping[str, np.ndarray], given: int | None) -> int:
    """Return the window that is given, else a fiftieth of the longest run."""
    if given is not None:
        return integer(given, "window", 1)
    return max([1, *(losses.size // 50 for losses in runs.values())])


def _steps(window: int) -> str:
    return f"step (losses: mean of {window})" if window > 1 else "step"


def _trailing_mean(losses: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the finite losses among the latest `window`.

    NaN where a loss is not finite, and infinity at the step from which on none is.
    """
    is_finite, window = np.isfinite(losses), max(1, min(window, losses.size))
    padded = np.concatenate([np.full(window, np.nan), losses])
    means = [np.mean(w[np.isfinite(w)]) for w in sliding_window_view(padded, window)[1:][is_finite]]
    smooth = np.full(losses.shape, np.nan)
    smooth[is_finite] = means
    if losses.size and not is_finite[-1]:
        smooth[np.flatnonzero(is_finite)[-1] + 1 if is_finite.any() else 0] = np.inf
    return smooth
