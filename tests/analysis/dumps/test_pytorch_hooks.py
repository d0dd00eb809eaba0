"""The recipe of the how-to page: hooks of PyTorch write a dump in the order of execution."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "make-two-machines-agree.md"


def recipe() -> str:
    (found,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_recipe_is_short_and_compiles() -> None:
    assert len(list(filter(None, recipe().splitlines()))) <= 10
    compile(recipe(), "recipe", "exec")


@pytest.mark.long
def test_recipe_writes_a_dump_that_is_compared(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch", reason="the recipe is for PyTorch")
    (tmp_path / "recipe.py").write_text(recipe(), "utf-8")
    names = runpy.run_path(str(tmp_path / "recipe.py"))
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    names["dump_outputs"](model, tmp_path / "a.npz", torch.ones(2, 4))
    with torch.no_grad():
        weight, bias = (p.numpy() for p in model.parameters())
    ours = {"0": np.ones((2, 4), np.float32) @ weight.T + bias}
    found = ps.compare_dumps(tmp_path / "a.npz", ours, tolerance=1e-6)
    assert found.first is None
    assert [pair.name for pair in found.pairs] == ["0"]
