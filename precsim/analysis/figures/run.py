"""One run of a figure: compute, or take what an earlier run of the same code left; check; draw."""

import math
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from precsim.analysis.figures import data_files, record
from precsim.analysis.figures.check import Check
from precsim.analysis.figures.definition import load
from precsim.analysis.figures.parameters import Value
from precsim.training.replay.files import file_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of a figure gave.

    Parameters
    ----------
    name, title, citation, grade : str
        Of the figure; `grade` is its class: "A", "B" or "C".
    checks : tuple of Check
        The comparisons; none with parameters of one's own.
    seconds : float
        How long the computation took, now or in the earlier run.
    reused : bool
        Whether the arrays are those of an earlier run.
    absent : tuple of str
        Ends of the names of published files that were not found.
    parameters : dict
        The parameters that are not the default.
    folder : Path
        Where figure, data and provenance are.

    Examples
    --------
    >>> import precsim as ps
    >>> check = ps.figures.Check("two", 2, 3.0, grade="C")
    >>> outcome = Outcome(name="sums", checks=(check,))
    >>> [each.name for each in outcome.mismatches], outcome.failed
    (['two'], False)
    """

    name: str
    title: str = ""
    citation: str = ""
    grade: str = "A"
    checks: tuple[Check, ...] = ()
    seconds: float = math.nan
    reused: bool = False
    absent: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def mismatches(self) -> list[Check]:
        """Return the checks that do not match."""
        return [check for check in self.checks if not check.matched]

    @property
    def failed(self) -> bool:
        """Return whether a number of class A does not match."""
        return any(check.grade == "A" for check in self.mismatches)


def run(
    figure: str | Path,
    *,
    out: str | Path = "figures",
    fast: bool = True,
    parameters: Mapping[str, Any] | None = None,
    force: bool = False,
    data_dir: str | Path | None = None,
    width: float | None = None,
    command: str = "",
) -> Outcome:
    """Compute a figure, compare its numbers with the published ones, draw and record it.

    Parameters
    ----------
    figure : str or Path
        A Python file that defines it (docs/how-to/own-figure.md), or the name of a module.
    out : str or Path
        A folder. The figure has a folder of its own there: ``figure.svg``, ``figure.png``,
        ``data.csv``, ``data.npz`` and ``provenance.json``.
    fast : bool
        What `compute` gets: sizes that take seconds, or the published ones.
    parameters : mapping of str to values, optional
        Keyword-only parameters of `compute`. With one that is not the default, the folder is
        another one and nothing is compared.
    force : bool
        Whether to compute although an earlier run of the same code left its arrays.
    data_dir : str or Path, optional
        Folder with published files, for figures that name such TABLES.
    width : float, optional
        Centimetres of the picture.
    command : str
        What the record says about how the run was started.

    Returns
    -------
    Outcome
        The comparisons, and where the files are.

    Raises
    ------
    ValueError
        If the file defines no figure, a parameter is not allowed, or the folder of the figure
        holds files of something else. Whatever the figure itself raises is passed on.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import precsim as ps
    >>> text = "def compute(*, n=300): return {'n': n}"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "count.py").write_text(text)
    ...     outcome = run(Path(folder, "count.py"), out=folder, parameters={"n": 5})
    ...     outcome.folder.name, sorted(path.name for path in outcome.folder.iterdir())
    ('count,n=5', ['data.csv', 'data.npz', 'provenance.json'])
    """
    found = load(figure)
    own = found.own(parameters or {})
    files = data_files.locate(None if data_dir is None else Path(data_dir), found.tables)
    tables = {name: data_files.read_columns(path) for name, path in files.items()}
    words = [f",{name.rstrip('_')}={_plain(value)}" for name, value in own.items()]
    folder = Path(out) / (file_name(found.name + "".join(words)) if own else found.name)
    record.refuse_others(folder)
    sources = tuple(files.values())
    keys = [
        record.code_key(found, fast=speed, parameters=own, tables=sources)
        for speed in (fast, False)
    ]
    kept = None if force else record.load(folder, keys)
    start = time.perf_counter()
    results = found.compute(fast=fast, parameters=own) if kept is None else kept.results
    seconds = time.perf_counter() - start if kept is None else kept.seconds
    checks = () if own else found.check(results, tables)
    if kept is None:
        facts = record.provenance(
            found, command=command, fast=fast, parameters=own, seconds=seconds, checks=checks
        )
        record.save(folder, keys[0], results, facts)
    if hasattr(found.module, "plot"):
        from precsim.analysis.plots.curves import without_published
        from precsim.analysis.plots.figures import figure as new_figure

        with (
            new_figure(found.panels, width=width, path=folder / "figure") as axes,
            without_published(bool(own)),
        ):
            found.plot(results, axes, tables)
            if own and (picture := axes[0].get_figure(root=True)) is not None:
                text = textwrap.fill(" ".join(found.options(own)), int(15 * picture.get_figwidth()))
                picture.suptitle(text, fontsize="small")
    return Outcome(
        name=found.name,
        title=found.title,
        citation=found.citation,
        grade=found.grade,
        checks=checks,
        seconds=seconds,
        reused=kept is not None,
        absent=tuple(name for name in found.tables if name not in files),
        parameters=own,
        folder=folder,
    )


def _plain(value: Value) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
