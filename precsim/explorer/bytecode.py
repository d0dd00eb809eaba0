"""Bytecode beside the sources of a zip file, for the Python that will import from it."""

import py_compile
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_DATE = (1980, 1, 1, 0, 0, 0)


def write_member(archive: ZipFile, name: str, content: bytes) -> None:
    """Write a file of a zip file, equal bytes from equal content."""
    archive.writestr(ZipInfo(name, _DATE), content, ZIP_DEFLATED)


def add_bytecode(archive: str, target: str) -> None:
    """Copy a zip file, and add the bytecode of its modules that are loaded now.

    Parameters
    ----------
    archive : str
        A zip file on the import path.
    target : str
        The file to write.
    """
    files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    before = f"{archive}/"
    loaded = {file.removeprefix(before) for file in files if file and file.startswith(before)}
    with ZipFile(archive) as given, ZipFile(target, "w") as made, TemporaryDirectory() as folder:
        for name in given.namelist():
            write_member(made, name, given.read(name))
            if name in loaded:
                file = given.extract(name, folder)
                bytecode = py_compile.compile(
                    file,
                    f"{file}c",
                    dfile=before + name,
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
                assert bytecode is not None
                write_member(made, f"{name}c", Path(bytecode).read_bytes())
