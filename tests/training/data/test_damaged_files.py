"""Damaged and hostile files are read, or refused in one line; memory stays small."""

import resource
import shutil
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from precsim.training.data.registry import TASKS
from tests.training.data.small_files import WRITERS, random
from tests.training.data.test_registry import checked

MUTATIONS = 60
"""Of each form of files."""
MOST_MEMORY = 2**25
"""Bytes; the largest form that is read here has 50 kB."""
FORMS = [form for form in WRITERS if form not in {("fashion", "idx"), ("masked", "plain")}]
EXTREMES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0", b"99999999")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change bytes, most of them in the header, or cut, or lengthen, or repeat."""
    place = int(rng.integers(len(content) + 1) if rng.random() < 0.4 else rng.integers(100))
    kind = rng.integers(7)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.bytes(int(rng.integers(1, 9))) + content[place:]
    if kind == 2:
        return content[:place] + content[place + int(rng.integers(1, 9)) :]
    if kind == 3:
        return content + content[: place + 1]
    new = bytearray(content)
    if kind == 4:
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        new[place : place + len(extreme)] = extreme
    else:
        for _ in range(int(rng.integers(1, 4))):
            if new:
                new[int(rng.integers(min(len(new), 2 * place + 1)))] = int(rng.integers(256))
    return bytes(new)


@pytest.mark.long
@pytest.mark.parametrize(("task", "form"), FORMS)
def test_read_or_refused_in_one_line(task: str, form: str, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    WRITERS[task, form](whole)
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    rng, refused = random(len(form) + 10 * len(task)), 0
    TASKS[task].load(0, str(whole))  # libraries are loaded, which takes memory
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATIONS):
        shutil.copytree(whole, folder)
        file = folder / names[rng.integers(len(names))]
        if rng.random() < 0.05:
            file.unlink()
        else:
            file.write_bytes(mutated(file.read_bytes(), rng))
        tracemalloc.start()
        try:
            with warnings.catch_warnings(action="error"):
                data = TASKS[task].load(0, str(folder))
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            message = str(error)
            assert "\n" not in message
            assert len(message) < 500 + 2 * len(str(folder)), message
        else:
            checked(task, data)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
        tracemalloc.stop()
        shutil.rmtree(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_MEMORY * 4 / 1024  # kilobytes; what other libraries take too
    assert refused > 0 or task == "text"
