"""Figures within a lesson: SVG pictures with a description, the same in every kind of page."""

import base64
import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marimo import Html
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def drawn(panels: "list[Axes]") -> "Figure":
    """Return the figure that panels made by ps.plots.figure belong to."""
    figure = panels[0].get_figure(root=True)
    assert figure is not None
    return figure


def picture(figure: "Figure") -> "Html":
    """Return a figure as a picture for a page, described by the titles of its panels."""
    import marimo

    file = io.BytesIO()
    figure.savefig(file, format="svg")
    code = base64.b64encode(file.getvalue()).decode()
    titles = "; ".join(title for axes in figure.axes if (title := axes.get_title()))
    return marimo.Html(
        f'<img alt="{html.escape(titles)}" style="max-width: 100%; background: white"'
        f' src="data:image/svg+xml;base64,{code}">'
    )
