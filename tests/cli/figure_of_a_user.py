"""The text of a figure in a file of its own, for tests."""

FIGURE = '''"""A figure for tests."""

from pathlib import Path

import numpy as np

import precsim as ps

TITLE, CITATION, CLASS, SEED = "A test", "Nobody, 2026", "A", 7
PUBLISHED = {"two": 2.0}
INPUTS = ("input.txt",)
PANELS = 2


def compute(fast, *, factor=1.0, spec="bf16:rne", lengths=(1, 2)):
    """Return arrays.

    Parameters
    ----------
    fast : bool
        Ignored.
    factor : float
        What one is multiplied by. It is 1.
    """
    log = Path(__file__).parent / "runs.txt"
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    return {"x": np.arange(3.0), "pairs": np.arange(4).reshape(2, 2), "one": np.float64(factor)}


def check(results):
    two = ps.figures.Check("two", 2.0, 2.0 * float(results["one"]), grade="A")
    return [two, ps.figures.Check("inf", np.inf, np.inf)]


def plot(results, axes):
    axes[0].plot(results["x"])
    ps.plots.plot_published(axes[0], [1], [2], "published")
    ps.plots.finish(axes[0])
'''
