"""Records of runs: whole or absent, and never taken for those of something else."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from precsim.analysis.figures import record
from precsim.analysis.figures.definition import load


def test_damaged_records_are_none(tmp_path: Path) -> None:
    """Property: a record damaged at random is computed again, or has the arrays of before."""
    arrays = {"x": np.arange(3.0), "text": np.array("abc")}
    record.save(tmp_path, "key", arrays, {"seconds": 1.5})
    kept = record.load(tmp_path, ["other", "key"])
    assert kept is not None
    assert kept.seconds == 1.5
    assert record.load(tmp_path, ["other"]) is None
    whole = {name: (tmp_path / name).read_bytes() for name in ("data.npz", "provenance.json")}
    rng, read_well = random.Random(0), 0
    for _ in range(300):
        name = rng.choice(list(whole))
        content = bytearray(whole[name])
        at = rng.randrange(len(content))
        match rng.randrange(3):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                del content[at:]
            case _:
                content[at:at] = rng.choice((b"[" * 20_000, b"null", b"\xff", b"{", b"0" * 9))
        (tmp_path / name).write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zip files
            found = record.load(tmp_path, ["key"])
        read_well += found is not None
        if found is not None and name == "provenance.json":
            assert found.results.keys() == arrays.keys()
        (tmp_path / name).write_bytes(whole[name])
    assert 0 < read_well < 150


def test_records_that_are_something_else_are_none(tmp_path: Path) -> None:
    """Defects: these were tracebacks instead of a new computation."""
    record.save(tmp_path, "key", {"x": np.arange(3.0)}, {"seconds": 1.5})
    facts = tmp_path / "provenance.json"
    text = facts.read_text()
    for other in ("[]", "null", "5", '{"key": []}', "[" * 100_000):
        facts.write_text(other)
        assert record.load(tmp_path, ["key"]) is None
    facts.write_text(text)
    np.savez(tmp_path / "data.npz", __key__=np.array("key"), x=np.arange(3.0))
    assert record.load(tmp_path, ["key"]) is None
    np.savez(tmp_path / "data.npz", __key__=np.array("key"), __seconds__=np.arange(3.0))
    assert record.load(tmp_path, ["key"]) is None
    (tmp_path / "data.npz").unlink()
    (tmp_path / "data.npz").mkdir()
    assert record.load(tmp_path, ["key"]) is None


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    """Defect: any file of the name provenance.json was taken for a record."""
    path = tmp_path / "mine.py"
    path.write_text("def compute(): return {'n': 1}")
    mine, folder = load(path), tmp_path / "mine"
    record.refuse_others(mine, folder)
    folder.mkdir()
    record.refuse_others(mine, folder)
    (folder / "figure.svg").touch()
    contents = (
        "",
        "[",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        '{"experiment": "mine"}',
        '{"key": "k"}',
    )
    for content in (None, *contents):
        if content is not None:
            (folder / "provenance.json").write_text(content)
        for force in (False, True):
            with pytest.raises(ValueError, match=r"files, but no provenance\.json of a figure"):
                record.refuse_others(mine, folder, force=force)
    (folder / "provenance.json").write_text('{"experiment": "mine", "key": "k"}')  # an old record
    record.refuse_others(mine, folder)
    (folder / "provenance.json").write_text('{"experiment": "yours", "key": "k"}')
    with pytest.raises(ValueError, match="was recorded from 'yours'"):
        record.refuse_others(mine, folder)
    record.refuse_others(mine, folder, force=True)
