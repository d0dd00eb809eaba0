"""The pictures of the gallery, drawn at the width of a column, from stored results.

`gallery.npz` has the arrays of the fast runs. Where an experiment's arrays change, run this file
after ``python -m experiments --force``: it stores those of ``experiments/out`` again.
"""

import csv
import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import precsim as ps
from experiments import summation_orders
from precsim.analysis.figures import record
from precsim.cli.experiments_package import figure_names
from tests.picture_faults import picture_faults

STORED = Path(__file__).parent / "gallery.npz"


@functools.cache
def results() -> dict[str, dict[str, np.ndarray]]:
    """Return the stored arrays of each experiment."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(STORED) as stored:
        for key in stored:
            name, _, array = key.partition("|")
            found.setdefault(name, {})[array] = stored[key]
    return found


def test_every_experiment_is_stored() -> None:
    assert sorted(results()) == figure_names()


def test_the_readme_counts_figures_and_their_numbers() -> None:
    modules = {name: importlib.import_module(f"experiments.{name}") for name in figure_names()}
    count = sum(len(module.check(results()[name])) for name, module in modules.items())
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"[{len(modules)} recomputed](docs/gallery/index.md), {count} of {count} numbers" in text


@pytest.mark.long
@pytest.mark.parametrize(
    "width", [ps.plots.COLUMN_WIDTH, pytest.param(ps.plots.PAGE_WIDTH, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", figure_names())
def test_gallery_picture(name: str, width: float) -> None:
    module = importlib.import_module(f"experiments.{name}")
    with ps.plots.figure(module.PANELS, width=width) as axes:
        module.plot(results()[name], axes)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert picture_faults(figure) == []


@pytest.mark.long
def test_picture_of_orders() -> None:
    rows = np.array([[10, 1e-7, 1e-6], [100, 0, 1e-5], [1000, 2e-7, np.inf]])
    found = {(a, o): rows for a in summation_orders.ACCUMULATORS for o in summation_orders.ORDERS}
    with ps.plots.figure(3, width=ps.plots.COLUMN_WIDTH) as axes:
        summation_orders.plot(found, axes)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert picture_faults(figure) == []


@pytest.mark.parametrize("name", figure_names())
def test_csv_is_tidy(name: str, tmp_path: Path) -> None:
    arrays = results()[name]
    record.save(tmp_path, "key", arrays, {"seconds": 1.0})
    with (tmp_path / "data.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        rows = list(reader)
    assert len(set(header)) == len(header)
    assert header[0] == "array"
    assert header[-1] == "value"
    assert all(set(row) == set(header) and None not in row.values() for row in rows)
    assert len(rows) == sum(array.size for array in arrays.values())
    keys = {tuple(row[column] for column in header[:-1]) for row in rows}
    assert len(keys) == len(rows)
    read = [row["value"] for row in rows if row["array"] == header_array(arrays)]
    assert read == [str(value) for value in arrays[header_array(arrays)].ravel().tolist()]


def header_array(arrays: dict[str, np.ndarray]) -> str:
    """Return the name of the array with the most dimensions."""
    return max(arrays, key=lambda name: arrays[name].ndim)


def store(out: Path) -> None:
    """Store the arrays of a run, in float32 where that is enough for a picture."""
    stored: dict[str, Any] = {}
    for name in figure_names():
        with np.load(out / name / "data.npz") as file:
            for key in file:
                if not key.startswith("__"):
                    is_wide = file[key].dtype == np.float64 and np.all(abs(file[key]) < 1e38)
                    stored[f"{name}|{key}"] = file[key].astype(np.float32) if is_wide else file[key]
    np.savez_compressed(STORED, allow_pickle=False, **stored)


if __name__ == "__main__":
    store(Path(__file__).parents[2] / "experiments" / "out")
