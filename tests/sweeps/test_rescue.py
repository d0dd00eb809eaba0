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
            copied = rescue(file, new).copied
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
    assert rescue(file, new) == (COUNT, 0, "")
    assert runs(new) == runs(file)
    with Store(file) as old, Store(new) as store:
        assert store.sessions() == old.sessions()
    with pytest.raises(FileExistsError, match="name another file"):
        rescue(file, new)


def test_file_without_a_header_has_nothing(file: Path, tmp_path: Path) -> None:
    damage(file, 0)
    assert "sweep rescue" not in fault(file)
    with pytest.raises(ValueError, match="no run can be read; SQLite says: file is not a database"):
        rescue(file, tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_of_a_file_that_is_cut_off_the_pages_that_are_there_are_read(
    file: Path, tmp_path: Path
) -> None:
    whole, content = runs(file), file.read_bytes()
    kept = []
    for size in range(len(content) - 1, 0, -5000):
        file.write_bytes(content[:size])
        assert fault(file)
        new = tmp_path / f"new-{size}.sqlite"
        try:
            copied, lost, found = rescue(file, new)
        except ValueError as error:
            assert "no run can be read" in str(error)  # noqa: PT017
            assert "sweep rescue" not in str(error)  # noqa: PT017
            assert not new.exists()
            kept.append(0)
            continue
        assert found
        assert lost is None or copied + lost <= COUNT
        assert runs(new).items() <= whole.items()
        kept.append(copied)
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 0
    assert sum(count > 0 for count in kept) > len(kept) // 3


@pytest.mark.parametrize("content", [b"", b"no database", b"policies = []\n" * 999])
def test_file_that_is_none_of_sqlite_has_one_line_that_does_not_name_rescue(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "x.sqlite"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no run can be read") as caught:
        rescue(file, tmp_path / "new.sqlite")
    assert "sweep rescue" not in str(caught.value)
    assert "sweep rescue" not in fault(file)
    assert [path.name for path in tmp_path.iterdir()] == ["x.sqlite"]
