"""JAX's persistent compilation cache: what a command has compiled, later ones only load."""

import argparse
import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from precsim.cli.output import print_note

MOST_BYTES = 2**29
"""Of the programs that are kept, at most, when a command begins."""

_BROKEN = "Error (reading|writing) persistent compilation cache entry"

Command = Callable[[argparse.Namespace], int]


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="keep no compiled programs for later runs, and use none of former ones; it changes no "
        "result (default: off)",
    )


def with_cache(command: Command) -> Command:
    """Let a command use the cache, unless its arguments have `no_cache`."""

    @wraps(command)
    def run(args: argparse.Namespace) -> int:
        import jax

        # What the user has told JAX, for example by JAX_COMPILATION_CACHE_DIR, is left as it is.
        if args.no_cache:
            settings: dict[str, Any] = {"jax_enable_compilation_cache": False}
        elif jax.config.jax_enable_compilation_cache and _told_to_jax() is None:  # type: ignore[attr-defined]
            settings = _settings()
        else:
            settings = {}
        with _set(settings), _told_once():
            return command(args)

    return run


def user_folder() -> Path:
    """Return the folder of the cache, in the place that the system has for such files.

    Examples
    --------
    >>> user_folder().name
    'precsim'
    """
    if sys.platform == "win32":
        place, usual = os.environ.get("LOCALAPPDATA", ""), "AppData/Local"
    elif sys.platform == "darwin":
        place, usual = "", "Library/Caches"
    else:
        place, usual = os.environ.get("XDG_CACHE_HOME", ""), ".cache"
    above = Path(place) if Path(place).is_absolute() else Path.home() / usual
    return above / "precsim"


def _told_to_jax() -> str | None:
    """Return the folder that JAX uses as its cache."""
    import jax

    folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return folder


def _settings() -> dict[str, Any]:
    """Return what JAX has to be told, nothing if the folder cannot be used."""
    folder = None
    try:
        folder = user_folder()
        programs = folder / "programs" / _processor()
        programs.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(programs, os.W_OK | os.X_OK):
            raise PermissionError(None, "it is read-only")
        shrink(folder / "programs", MOST_BYTES)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = getattr(error, "strerror", None) or error
        print_note(f"compiled programs are not kept in {folder or 'a folder'}: {reason}")
        return {}
    return {
        "jax_compilation_cache_dir": str(programs),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        # `shrink` bounds the folder: JAX's own way needs a package that precsim does not.
        "jax_compilation_cache_max_size": -1,
        # A GPU's choice of kernels is made as without a cache.
        "jax_persistent_cache_enable_xla_caches": "none",
    }


def _processor() -> str:
    """Return a name for this kind of processor.

    Programs are for its instructions, and machines of one home folder may differ.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    digest = hashlib.sha256("\n".join([platform.processor(), *told]).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


def shrink(folder: Path, most: int) -> None:
    """Delete the files below a folder that have gone unused for longest, until `most` bytes remain.

    Other processes may read and delete there at the same time.
    """
    found = []
    for file in folder.rglob("*"):
        with suppress(OSError):  # another process has deleted it
            about = file.stat()
            if file.is_file():
                found.append((max(about.st_atime, about.st_mtime), about.st_size, file))
    size = sum(bytes_ for _, bytes_, _ in found)
    for _, bytes_, file in sorted(found, key=lambda one: one[0]):
        if size <= most:
            break
        with suppress(OSError):
            file.unlink()
        size -= bytes_


@contextmanager
def _set(settings: dict[str, Any]) -> Iterator[None]:
    """Let JAX have other settings for a while."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    if settings:
        compilation_cache.reset_cache()  # so that JAX looks at them again
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
        if settings:
            compilation_cache.reset_cache()


@contextmanager
def _told_once() -> Iterator[None]:
    """Print one line for all warnings of JAX that a program could not be read or kept.

    JAX compiles it then, as without a cache. It never replaces a damaged one.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning
        is_told = False

        def told(message: Warning | str, *args: Any, **options: Any) -> None:
            nonlocal is_told
            if "persistent compilation cache entry" not in str(message):
                show(message, *args, **options)
            elif not is_told:
                is_told = True
                print_note(f"{message}; no result changes; to mend it, delete {_told_to_jax()}")

        warnings.showwarning = told
        warnings.filterwarnings("always", _BROKEN)
        yield
