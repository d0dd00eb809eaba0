"""Cases of ``precsim analyze``: a file of weights, against a disk that gives 200 MB a second."""

import contextlib
import io
import runpy
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import ml_dtypes
import numpy as np

from benchmarks.case import Case, Contender, Goal, Setting

READ, DISK, ANALYZE = "read", "read at 200 MB/s", "precsim analyze"
FORMATS = ("fp16", "bf16", "e4m3", "e5m2")
_RATE = 200e6
_PIECE = 1 << 20


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    kinds = {
        "float32": (FORMATS, 1.0),
        "bfloat16": (FORMATS, 1.0),
        "bfloat16, int8": (("int8",), 1.0),
        "bfloat16, mxfp4": (("mxfp4",), None),
    }
    for kind, (formats, goal) in kinds.items():
        yield Case(
            name=f"files/{kind}",
            build=partial(build, kind.partition(",")[0], formats),
            goals=(
                Goal(measured=ANALYZE, against=DISK, at_most=goal),
                Goal(measured=ANALYZE, against=READ),
            ),
            size=1 << 26,
            quick_size=1 << 24 if kind in ("float32", "bfloat16") else None,
        )


def build(dtype: str, formats: tuple[str, ...], setting: Setting) -> Mapping[str, Contender | str]:
    """Write a file of normal weights; read it, and run the command on it in this process."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "weights.safetensors"
    _write(path, dtype, setting.size)
    words = ["precsim", "analyze", str(path), "--format", *formats, "--csv"]

    def analyze() -> None:
        assert folder.name  # which is there as long as this function
        with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()):
            try:
                runpy.run_module("precsim", run_name="__main__", alter_sys=True)
            except SystemExit as done:
                if done.code:
                    raise RuntimeError(f"precsim analyze: status {done.code}") from None

    found: dict[str, Contender | str] = {
        READ: Contender(run=partial(_read, path)),
        DISK: Contender(run=partial(_read_slowly, path)),
        ANALYZE: Contender(run=analyze),
    }
    if setting.processor_time:
        found[DISK] = "a disk takes no processor time"
    return found


def _write(path: Path, dtype: str, size: int) -> None:
    from safetensors.numpy import save_file

    weights = np.random.default_rng(0).standard_normal(size, np.float32) / 50
    save_file({"w": weights.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))}, path)


def _read(path: Path) -> None:
    data = bytearray(_PIECE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(data):
            pass


def _read_slowly(path: Path) -> None:
    end = time.perf_counter() + path.stat().st_size / _RATE
    _read(path)
    time.sleep(max(end - time.perf_counter(), 0))
