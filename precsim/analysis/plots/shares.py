"""Pictures of reports: shares as bars, and shares of scopes along a training."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.patches import Rectangle

from precsim.analysis.plots.checks import instance
from precsim.analysis.plots.curves import finish, panel
from precsim.analysis.plots.heat_map import draw_cells, short_name
from precsim.formats.arguments import integer

if TYPE_CHECKING:
    from precsim.analysis.account.report import Report

_MORE, _LESS = "#D55E00", "#0072B2"
_DECADES = 3
"""Of the shares that the colours of a map tell apart on a logarithmic scale."""


def plot_shares(axes: Axes, report: "Report", *, by: str = "scope", k: int = 12) -> None:
    """Draw the shares of a report as bars, the largest at the top.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    report : Report
        What `analyze` returns.
    by : {"scope", "primitive", "line"}
        What the operations of a bar have in common.
    k : int
        How many bars there are at most; the others are one bar more.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or `report` is no Report.
    ValueError
        If `by` is none of those, or `k` is no integer from 1 on.

    Notes
    -----
    Shares are in percent of the change, where there is one: bars to the right have its sign. Shares
    that are infinite or NaN are drawn as 0, and their names say so.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> report = ps.analyze(lambda x: jnp.exp(x) - 1, jnp.float32(0.01), policy="fp16")
    >>> with ps.plots.figure() as axes:
    ...     ps.plots.plot_shares(axes[0], report, by="primitive")
    >>> [f"{bar.get_width():.0f}" for bar in axes[0].patches]
    ['100', '0']
    """
    from precsim.analysis.account.report import Report
    from precsim.analysis.account.rows import summed
    from precsim.analysis.account.words import group_name, groups, is_share

    axes, k = panel(axes), integer(k, "k", 1)
    found = groups(instance(report, Report, "report", "Reports, such as analyze returns"), by)
    scale = 100 / report.change if is_share(report.change) else 1.0
    bars = [(group_name(group, by), group.share * scale) for group in found]
    if len(bars) > k:
        bars[k:] = [(f"{len(bars) - k} others", summed(share for _, share in bars[k:]))]
    names = [short_name(name if math.isfinite(x) else f"{name} ({x:g})") for name, x in bars]
    shares = [x if math.isfinite(x) else 0.0 for _, x in bars]
    colors = [_LESS if x < 0 else _MORE for x in shares]
    axes.barh(range(len(bars)), shares, 0.7, color=colors)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(bars)), names)
    axes.set_ylim(max(len(bars), 2) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    unit = "share of the change (%)" if is_share(report.change) else "share"
    axes.set(xlabel=unit)


def plot_share_map(axes: Axes, shares: Any) -> None:
    """Draw the shares of each scope at each step of a training as colours.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    shares : ShareMap, or what `share_map` takes
        Scopes are rows, the first one of the program at the top; steps are columns. Some rows have
        no name where there is no room for all.

    Returns
    -------
    None
        The axes hold what is drawn, and a scale of the colours at their right.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or `shares` are no reports.
    ValueError
        If there is no step, or a step comes twice.

    Notes
    -----
    Red shares raise the scalar that the reports ask about, blue ones lower it. The scale is
    logarithmic in both directions over three decades below the largest magnitude, and linear
    below. Cells without a finite share are grey, as in steps that overflow.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> find = ps.analyzer(jnp.sin, policy="bf16")
    >>> with ps.plots.figure() as axes:
    ...     ps.plots.plot_share_map(axes[0], [(n, find(jnp.float32(n))) for n in (1, 2)])
    >>> axes[0].collections[0].get_array().shape
    (1, 2)
    """
    from precsim.analysis.account.share_map import ShareMap, share_map

    axes = panel(axes)
    found = shares if isinstance(shares, ShareMap) else share_map(shares)
    steps, order = np.unique(found.steps, return_index=True)
    if not steps.size or steps.size < found.steps.size:
        raise ValueError(
            f"shares have the steps {found.steps.tolist()}; allowed is each once, and at least one"
        )
    cells = np.ma.masked_invalid(found.shares[:, order])
    largest = (float(np.abs(cells).max()) if cells.count() else 0.0) or 1.0
    norm = SymLogNorm(largest * 10.0**-_DECADES, vmin=-largest, vmax=largest, base=10)
    scale = draw_cells(axes, steps, found.scopes, cells, cmap="RdBu_r", norm=norm, label="share")
    scale.set_ticks([-largest, -largest / 30, 0, largest / 30, largest])
    scale.ax.set_yticklabels([f"{x:.1g}" for x in scale.get_ticks()])
    scale.minorticks_off()
    axes.set_facecolor("0.75")
    axes.set(xlabel="step")
    if np.ma.is_masked(cells):
        axes.add_patch(Rectangle((steps[0], 0), 0, 0, color="0.75", label="no finite share"))
        finish(axes)
