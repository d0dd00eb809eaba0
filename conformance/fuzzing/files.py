"""Readers of files: data sets, tensors, checkpoints, runs, hashes, vectors."""

import gzip
import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import precsim as ps
from conformance import vector_file
from conformance.fuzzing.inputs import NUMBERS, changed_bytes, changed_text
from conformance.fuzzing.parser import Inputs, Parser, named

Folder = Mapping[str, bytes]
"""Name of a file -> what it holds."""

_WORDS = (*NUMBERS, *'"{}[]:,', "null", "true", "shape", "dtype", "F32", "data_offsets", "NaN")
_REFUSALS = (ValueError, OSError)


@cache
def place() -> Path:
    """Return a folder of this process, in memory where the system has such a place."""
    shared = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="fuzz", dir=shared if shared.is_dir() else None)
    return Path(made)


def in_folder(read: Callable[[Path], Any], *, of_file: str = "") -> Callable[[Folder], None]:
    """Return what writes files, reads their folder or one of them, and removes them."""

    def run(files: Folder) -> None:
        folder = place()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            read(folder / of_file if of_file else folder)
        finally:
            for name in files:
                (folder / name).unlink()

    return run


def _from(*folders: Callable[[], Folder]) -> Inputs:
    """Return what makes inputs: valid folders with one file changed, or what it holds."""
    made = cache(lambda: tuple(dict(each()) for each in folders))

    def make(rng: random.Random) -> Folder:
        files = dict(rng.choice(made()))
        name = rng.choice(sorted(files))
        content = files[name]
        if name.endswith(".gz") and rng.random() < 0.7:
            content = gzip.compress(changed_bytes(rng, gzip.decompress(content)), 1)
        elif name.endswith(".npz") and rng.random() < 0.7:
            content = _changed_archive(rng, content)
        elif name.endswith(".safetensors") and rng.random() < 0.7:
            content = _changed_header(rng, content)
        elif name.endswith((".json", ".txt", ".csv", ".data", ".toml")) and rng.random() < 0.7:
            text = changed_text(rng, content.decode("utf-8"), _WORDS)
            content = text.encode("utf-8", "surrogatepass")
        else:
            content = changed_bytes(rng, content)
        return files | {name: content}

    return make


def _changed_archive(rng: random.Random, content: bytes) -> bytes:
    """Return an archive with one member changed, and right sums of all."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    members[name] = changed_bytes(rng, members[name])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
        for each, data in members.items():
            new.writestr(each, data)
    return made.getvalue()


def _changed_header(rng: random.Random, content: bytes) -> bytes:
    """Return tensors with their header changed, and its right length."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = changed_text(rng, content[8:end].decode("utf-8"), _WORDS)
    data = header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data + content[end:]


def _idx() -> Folder:
    files: dict[str, bytes] = {}
    for part, count in (("train", 4), ("t10k", 2)):
        for name, values in (
            (
                f"{part}-images-idx3-ubyte",
                np.arange(count * 6, dtype=np.uint8).reshape(count, 3, 2),
            ),
            (f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8)),
        ):
            magic = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
            content = magic + values.tobytes()
            is_plain = part == "train"
            files[name if is_plain else f"{name}.gz"] = (
                content if is_plain else gzip.compress(content)
            )
    return files


def _cifar10() -> Folder:
    record = bytes([3]) + bytes(range(256)) * 12
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    return dict.fromkeys(names, record)


def _movielens() -> Folder:
    lines = "".join(f"{u}\t{i}\t{1 + i % 5}\t881250949\n" for u in (1, 2, 7) for i in (3, 10, 11))
    return {"u.data": lines.encode()}


def _ratings() -> Folder:
    lines = "".join(f"{u},{i},{0.5 + i % 4},964982703\n" for u in (1, 2, 7) for i in (3, 10, 11))
    return {"ratings.csv": f"userId,movieId,rating,timestamp\n{lines}".encode()}


def _arrays() -> dict[str, np.ndarray]:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    y = np.array([0, 1, 2, 1])
    return {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]}


def _npy() -> Folder:
    files = {}
    for name, array in _arrays().items():
        made = io.BytesIO()
        np.save(made, array)
        files[f"{name}.npy"] = made.getvalue()
    return files


def _npz() -> Folder:
    made = io.BytesIO()
    np.savez(made, **_arrays())  # type: ignore[arg-type]
    return {"data.npz": made.getvalue()}


def _tensors() -> Folder:
    header = {
        "__metadata__": {"format": "np"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "I64", "shape": [], "data_offsets": [32, 40]},
    }
    text = json.dumps(header).encode()
    return {"model.safetensors": struct.pack("<Q", len(text)) + text + bytes(range(40))}


def _indexed() -> Folder:
    weights = dict.fromkeys("abc", "model.safetensors")
    index = {"metadata": {"total_size": 40}, "weight_map": weights}
    return {**_tensors(), "model.safetensors.index.json": json.dumps(index).encode()}


def _checkpoint() -> Folder:
    state = {"w": np.array([[1.5, -2.0]], np.float32), "step": 3, "n": np.arange(3)}
    with tempfile.TemporaryDirectory() as folder:
        file = ps.replay.save_checkpoint(
            folder, state, about={"step": 3}, arrays={"loss": np.ones(2)}
        )
        return {file.name: file.read_bytes()}


def _with_right_hash(make: Inputs) -> Inputs:
    """Return what makes checkpoints whose document is changed, under its right hash."""
    words = (*_WORDS, "float32", "leaves", "about", "structure", "version", "key", "bool", "int4")

    def changed(rng: random.Random) -> Folder:
        if rng.random() < 0.3:
            files: Folder = make(rng)
            return files
        ((name, content),) = _checkpoint_once().items()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        said = header.pop("__metadata__")
        document = changed_text(rng, said["checkpoint"], words)
        data = {
            tensor: content[end + entry["data_offsets"][0] : end + entry["data_offsets"][1]]
            for tensor, entry in header.items()
        }
        try:
            digest = named("precsim.training.replay.checkpoint:_digest")(document, data)
        except UnicodeEncodeError:
            digest = ""
        metadata = {"checkpoint": document, "sha256": digest}
        text = json.dumps({"__metadata__": metadata, **header}).encode()
        return {name: struct.pack("<Q", len(text)) + text + content[end:]}

    return changed


_checkpoint_once = cache(_checkpoint)


def _hashes() -> Folder:
    digits = "0123456789abcdef" * 4
    content = {
        "every": 1,
        "about": {"policy": "fp32"},
        "steps": {"0": {"": digits, "params/w": digits}, "5": {"": digits}},
    }
    return {"hashes.json": json.dumps(content).encode()}


def _usual() -> dict[str, Any]:
    return {
        "model": "mlp",
        "task": "digits",
        "steps": 900,
        "learning_rate": 0.01,
        "clip_norm": None,
    }


def _run() -> Folder:
    content = {
        "settings": _usual(),
        "policies": {"bf16": "bf16_mixed", "a": "fp32;*:bf16"},
        "checkpoint_every": 5,
        "provenance": {"seed": 0},
    }
    return {"run.json": json.dumps(content).encode()}


def _read_run(path: Path) -> None:
    named("precsim.cli.resume:_checked")(path, _usual())


def _read_hashes(folder: Path) -> None:
    _ = ps.replay.BitLog(every=1, stored=folder).stored_hashes


def _read_data(module: str, *before: Any) -> Callable[[Path], None]:
    load = named(f"precsim.training.data.{module}:load")
    return lambda folder: load(*before, str(folder))


def _read_tensors(path: Path) -> None:
    """List the tensors of a file or folder, and read their numbers."""
    for file in named("precsim.analysis.files.finding:find_files")(path):
        with named("precsim.analysis.files.finding:open_tensors")(file) as tensors:
            for tensor in tensors:
                for _ in tensor.pieces() if hasattr(tensor, "pieces") else ():
                    pass


def _read_dump(folder: Path) -> None:
    """List the tensors of a dump, and load each."""
    for tensor in named("precsim.analysis.dumps.read:read_dump")(folder, "ours").values():
        tensor.load()


def _vectors() -> Folder:
    text = (vector_file.FOLDER / "round" / "e2m1.any.txt").read_text("ascii")
    head, _, table = text.partition("\n\n")
    lines = table.splitlines()[:12]
    counted = [
        f"cases: {len(lines) - 1}" if line.startswith("cases:") else line
        for line in head.splitlines()
    ]
    return {"vectors.txt": ("\n".join(counted) + "\n\n" + "\n".join(lines) + "\n").encode()}


def _read_vectors(path: Path) -> None:
    vector_file.parse(path.read_text("ascii"))


def _text() -> Folder:
    return {"text.txt": ("To be, or not to be: that is the question.\n" * 30).encode()}


def _grid() -> Folder:
    text = (
        'policies = ["bf16", "bf16_mixed;head:fp16"]\nschedules = ["bf16@0,fp32@5"]\n'
        'models = ["mlp", "cnn"]\nseeds = "0-3"\n\n[settings]\nsteps = [10, 20]\n'
        'learning_rate = 0.01\n\n[[paired]]\noptimizer = "adam"\nbatch_size = 16\n'
    )
    return {"grid.toml": text.encode()}


def _read_grid(path: Path) -> None:
    policy, schedule = (
        named(f"precsim.cli.policies:read_{kind}") for kind in ("policy", "schedule")
    )
    named("precsim.sweeps.grid:read_grid")(path, policy, schedule)


FILES: dict[str, Parser] = {
    name: Parser(read=read, make=make, refusals=_REFUSALS, share=share)
    for name, read, make, share in (
        ("idx", in_folder(_read_data("idx")), _from(_idx), 4),
        ("cifar10", in_folder(_read_data("cifar10")), _from(_cifar10), 2),
        ("movielens", in_folder(_read_data("movielens", 0)), _from(_movielens, _ratings), 4),
        ("arrays", in_folder(_read_data("arrays")), _from(_npy, _npz), 2),
        ("text", in_folder(_read_data("text")), _from(_text), 2),
        ("tensors", in_folder(_read_tensors), _from(_tensors, _indexed, _npz, _npy), 4),
        ("dumps", in_folder(_read_dump), _from(_tensors, _npz), 2),
        (
            "checkpoints",
            in_folder(ps.replay.load_checkpoint),
            _with_right_hash(_from(_checkpoint)),
            2,
        ),
        ("hashes", in_folder(_read_hashes), _from(_hashes), 4),
        ("runs", in_folder(_read_run, of_file="run.json"), _from(_run), 2),
        ("grids", in_folder(_read_grid, of_file="grid.toml"), _from(_grid), 2),
        ("vectors", in_folder(_read_vectors, of_file="vectors.txt"), _from(_vectors), 2),
    )
}
"""Name -> reader of files."""
