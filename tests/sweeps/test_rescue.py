"""A page of the file is damaged: it is told, and the rows on other pages are rescued."""

from pathlib import Path

import pytest

from precsim.sweeps.cell import versions
from precsim.sweeps.rescue import rescue
from precsim.sweeps.store import Store
from tests.sweeps.made import cell_of, failed_run, run_of_cell

PAGE = 4096
COUNT = 60


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runs.sqlite"
    cells = [cell_of("bf16", seed) for seed in range(COUNT)]
    made = [
        run_of_cell(cell, float(seed)) if seed % 9 else failed_run(cell, "no memory")
        for seed, cell in enumerate(cells)
    ]
    with Store(path, create=True) as store:
        store.begin({c.key(versions()): c.text for c in cells}, versions(), "precsim sweep", "#")
        store.copy([], made)
    return path


def runs(path: Path) -> dict[str, object]:
    with Store(path) as store:
        return {run.key: run.result for run in store.runs()}


def damage(path: Path, page: int) -> None:
    with path.open("r+b") as there:
        there.seek(page * PAGE)
        there.write(b"\xa5" * PAGE)


def fault(path: Path) -> str:
    try:
        runs(path)
    except ValueError as error:
        return str(error)
    return ""


def test_each_damaged_page_costs_its_own_rows_at_most(file: Path, tmp_path: Path) -> None:
    whole, content = runs(file), file.read_bytes()
    assert len(whole) == COUNT
    kept = []
    for page in range(1, len(content) // PAGE):
        file.write_bytes(content)
        damage(file, page)
        if not (told := fault(file)):
            assert runs(file) == whole  # a page that nothing is on
            continue
        assert f"precsim sweep rescue {file} --out NEW.sqlite" in told
        new = tmp_path / f"new-{page}.sqlite"
        try:
            copied, _ = rescue(file, new)
        except ValueError:
            assert not new.exists()
            kept.append(0)
            continue
        found = runs(new)
        assert len(found) == copied
        assert all(whole[key] == result for key, result in found.items())
        kept.append(copied)
    assert len(kept) > 10
    assert sorted(kept)[len(kept) // 5] >= COUNT - 10  # but for the roots of the tables


def test_whole_file_is_copied_whole(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    assert rescue(file, new) == (COUNT, 0)
    assert runs(new) == runs(file)
    with Store(file) as old, Store(new) as store:
        assert store.sessions() == old.sessions()
    with pytest.raises(FileExistsError, match="name another file"):
        rescue(file, new)


def test_file_without_a_header_has_nothing(file: Path, tmp_path: Path) -> None:
    damage(file, 0)
    with pytest.raises(ValueError, match="damaged"):
        rescue(file, tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()
