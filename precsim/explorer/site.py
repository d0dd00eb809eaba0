"""The explorer as a folder of static files: the real package runs in the reader's browser tab.

::

    npm ci
    python -m precsim.explorer.site FOLDER

Any server of static files can serve the folder. It holds the page, the modules of precsim that need
only the standard library, and Pyodide, which is CPython compiled for browsers. Nothing is loaded
from elsewhere, so the page works offline too.
"""

import argparse
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from precsim.explorer.bytecode import write_member

PACKAGE = Path(__file__).parent.parent
PAGE = Path(__file__).parent / "page"
TAB = Path(__file__).parent / "tab"
BYTECODE = Path(__file__).parent / "bytecode.mjs"
PYODIDE = "314.0.7"
"""The version of the npm package ``pyodide`` that the page is tested with."""

FETCHED = ("pyodide-lock.json", "pyodide.asm.wasm", "python_stdlib.zip")
"""What a tab fetches of that package; it sees how far these files have come."""
RUNTIME = (*FETCHED, "pyodide.asm.mjs", "pyodide.mjs", "package.json")
"""With the modules that it imports, and the file that names the version and the license."""

# Run by a Python without packages: prints the files of the modules that it can import.
_LOADS_ALONE = """
import importlib, json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import precsim
files = [precsim.__file__]
for found in pkgutil.walk_packages(precsim.__path__, "precsim."):
    if found.name.endswith("__main__"):
        continue
    try:
        files.append(importlib.import_module(found.name).__file__)
    except ModuleNotFoundError as error:
        if error.name.startswith("precsim"):
            raise
print(json.dumps(files))
"""


def bare_modules() -> list[Path]:
    """Return the files of the modules of precsim that load with the standard library alone.

    A Python without packages imports every module and prints which it could import. So a browser
    meets no missing module that such a Python does not miss as well.
    """
    command = [sys.executable, "-I", "-S", "-c", _LOADS_ALONE, str(PACKAGE.parent)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return sorted(Path(file) for file in json.loads(done.stdout))


def write_package(file: Path) -> None:
    """Write these modules as a zip file, equal bytes from equal sources."""
    with zipfile.ZipFile(file, "w") as package:
        for path in [PACKAGE / "__init__.pyi", *bare_modules()]:
            write_member(package, path.relative_to(PACKAGE.parent).as_posix(), path.read_bytes())


def runtime_fault(runtime: Path) -> str | None:
    """Say in one line what keeps a folder from being the runtime; None where it is one."""
    if shutil.which("node") is None:
        return "node, which compiles the modules for the page, is not installed"
    wanted = f"`npm install --no-save pyodide@{PYODIDE}` brings it"
    missing = [name for name in RUNTIME if not (runtime / name).is_file()]
    if missing:
        return f"runtime {str(runtime)!r} has no {missing[0]}; {wanted}"
    version = json.loads((runtime / "package.json").read_text("utf-8")).get("version")
    if version != PYODIDE:
        return f"runtime {str(runtime)!r} is pyodide {version}; {wanted}"
    return None


def write_page(folder: Path) -> None:
    """Write all except the runtime into a folder; files of the same names are replaced."""
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    shutil.copytree(TAB, folder, dirs_exist_ok=True)  # its transport.js replaces the page's
    write_package(folder / "precsim.zip")


def copy_runtime(runtime: Path, folder: Path) -> str | None:
    """Copy the runtime into a folder that is made anew; return why there is none, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fault = runtime_fault(runtime)
    for name in RUNTIME if fault is None else ():
        shutil.copyfile(runtime / name, folder / name)
    return fault


def write_facts(folder: Path, fault: str | None) -> None:
    """Write what the page has to know before Python runs: made.json, which worker.js reads."""
    fetched = [] if fault else [folder / "pyodide" / name for name in FETCHED]
    size = sum(file.stat().st_size for file in [folder / "precsim.zip", *fetched])
    made = {"bytes": size, "fault": fault}
    (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")


def build(folder: Path, runtime: Path) -> str | None:
    """Write the page into a folder, and the runtime where there is one.

    Parameters
    ----------
    folder : Path
        Where the page goes. It is created; files of the same names are replaced.
    runtime : Path
        The npm package ``pyodide``, for example ``node_modules/pyodide``.

    Returns
    -------
    str or None
        One line that says why the page has no runtime, or None. The page then says so too.
    """
    write_page(folder)
    fault = copy_runtime(runtime, folder / "pyodide")
    if fault is None:
        subprocess.run(["node", BYTECODE, folder.resolve()], check=True)
    write_facts(folder, fault)
    return fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the page; return 1 where it has no runtime."""
    parser = argparse.ArgumentParser(prog="python -m precsim.explorer.site", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="where the page goes")
    text = "the npm package pyodide (default: %(default)s)"
    parser.add_argument("--runtime", type=Path, default="node_modules/pyodide", help=text)
    given = parser.parse_args(arguments)
    fault = build(given.folder, given.runtime)
    if fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file())
    sys.stdout.write(f"wrote {given.folder} ({size / 1e6:.1f} MB); any static server serves it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
