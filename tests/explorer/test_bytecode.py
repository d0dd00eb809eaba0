"""Bytecode beside the sources of a zip file."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

PROGRAM = """
import sys
archive, target = sys.argv[1:]
sys.path.insert(0, archive)
import loaded
from precsim.explorer.bytecode import add_bytecode
add_bytecode(archive, target)
"""


def test_modules_that_are_loaded_have_bytecode_beside_their_sources(tmp_path: Path) -> None:
    archive, target = tmp_path / "in.zip", tmp_path / "out.zip"
    with ZipFile(archive, "w") as made:
        made.writestr("loaded.py", "def where(): return __file__\n")
        made.writestr("unused.py", "never = 1\n")
        made.writestr("note.txt", "no module")
    subprocess.run([sys.executable, "-c", PROGRAM, archive, target], check=True)
    with ZipFile(archive) as given, ZipFile(target) as made:
        assert set(made.namelist()) == {*given.namelist(), "loaded.pyc"}
        assert all(made.read(name) == given.read(name) for name in given.namelist())


def test_python_runs_the_bytecode_and_names_the_source(tmp_path: Path) -> None:
    archive, target = tmp_path / "in.zip", tmp_path / "out.zip"
    with ZipFile(archive, "w") as made:
        made.writestr("loaded.py", "def where(): return where.__code__.co_filename\n")
    subprocess.run([sys.executable, "-c", PROGRAM, archive, target], check=True)
    target.replace(archive)  # the place that the bytecode was made for
    show = "import sys; sys.path[:0] = sys.argv[1:]; import loaded; print(loaded.where())"
    show += "; print(loaded.__spec__.origin)"
    done = subprocess.run(
        [sys.executable, "-c", show, archive], capture_output=True, text=True, check=True
    )
    code, origin = done.stdout.split()
    assert code == f"{archive}/loaded.py"
    assert origin == f"{archive}/loaded.pyc"
