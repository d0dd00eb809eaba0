"""Damaged and hostile files end in a result or in one line, quickly and in little memory."""

import io
import json
import resource
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from precsim.analysis.files import npz
from precsim.analysis.files.measure import parse_formats
from precsim.analysis.files.walk import FileReport, analyse_files

SPECS = parse_formats(["e4m3"])
MUTATIONS = 250
"""Of each of three files."""


def analysed(path: Path) -> FileReport:
    return analyse_files([path], SPECS)


def small_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "layers.0.weight": random.normal(size=(4, 6)).astype(np.float32),
        "bias": random.normal(size=7).astype(np.float16),
        "steps": np.arange(3),
    }


def npy_bytes(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


VALID = {
    ".safetensors": save(small_arrays() | {"half": np.ones(5, ml_dtypes.bfloat16)}),
    ".npz": npz_bytes(**small_arrays()),
    ".npy": npy_bytes(small_arrays()["layers.0.weight"]),
}
HEADERS = {".safetensors": 400, ".npz": 10_000, ".npy": 128}
"""Bytes, at the beginning, in which most mutations happen."""


def mutated(data: bytes, header: int, random: np.random.Generator) -> bytes:
    """Cut a file off, flip a bit, write a huge number, repeat or remove a part."""
    at: int = int(random.integers(min(header, len(data))))
    kind = random.integers(6)
    if kind == 0:
        return data[: int(random.integers(len(data)))]
    if kind == 1:
        flipped = bytes([data[at] ^ (1 << int(random.integers(8)))])
        return data[:at] + flipped + data[at + 1 :]
    if kind == 2:
        size = int(random.choice([1, 2, 4, 8]))
        huge = (0, 2**31 - 1, 2**63 - 1, 2**64 - 1)[random.integers(4)] & ((1 << 8 * size) - 1)
        return data[:at] + huge.to_bytes(size, "little") + data[at + size :]
    if kind == 3:
        digits = str(10 ** int(random.integers(1, 40))).encode()
        return data[:at] + digits + data[at + 1 :]
    end = min(at + int(random.integers(1, 40)), len(data))
    return bytes(data[:end] + data[at:] if kind == 4 else data[:at] + data[end:])


@pytest.mark.long
@pytest.mark.parametrize("kind", list(VALID))
def test_mutations_end_in_a_result_or_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{kind}"
    path.write_bytes(VALID[kind])
    assert not analysed(path).failures
    random = np.random.default_rng(17)
    refused = 0
    tracemalloc.start()
    begun = time.process_time()
    try:
        for _ in range(MUTATIONS):
            path.write_bytes(mutated(VALID[kind], HEADERS[kind], random))
            report = analysed(path)
            for reason in report.failures.values():
                assert reason
                assert "\n" not in reason
            refused += bool(report.failures)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > MUTATIONS / 3  # the mutations do harm
    assert peak < 2**26
    assert time.process_time() - begun < 60


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "ends inside its header": b"\x08\0",
    "its header declares 18446744073709551615 bytes": b"\xff" * 8 + b"{}",
    "nested too deeply": safetensors_bytes(b'{"a":' + b"[" * 200_000),
    "no JSON": safetensors_bytes(b"{"),
    "is not UTF-8": safetensors_bytes(b'{"\xff": 1}'),
    "no JSON object": safetensors_bytes([1]),
    "'a' twice": safetensors_bytes(b'{"a": 1, "a": 2}'),
    "no object of strings": safetensors_bytes({"__metadata__": {"a": 1}}),
    "no Unicode text": safetensors_bytes({"\ud800": entry()}, bytes(8)),
    "not the fields dtype, shape, data_offsets": safetensors_bytes({"a": {"dtype": "F32"}}),
    "dtype of tensor 'a' is no string": safetensors_bytes({"a": entry(dtype=3)}),  # type: ignore[arg-type]
    "shape of tensor 'a' is [-1]": safetensors_bytes({"a": entry(shape=[-1])}),
    "shape of tensor 'a' is [True]": safetensors_bytes({"a": entry(shape=[True])}),
    "shape of tensor 'a' has 65 numbers": safetensors_bytes({"a": entry(shape=[1] * 65)}),
    "more elements than any file": safetensors_bytes({"a": entry(shape=[2**40, 2**40])}),
    "not two ascending numbers": safetensors_bytes({"a": entry(offsets=[8, 0])}, bytes(8)),
    "its dtype and shape take 8": safetensors_bytes({"a": entry(offsets=[0, 12])}, bytes(12)),
    "tensor 'b' overlaps another": safetensors_bytes(
        {"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)
    ),
    "tensor 'a' leaves a hole": safetensors_bytes({"a": entry(offsets=[4, 12])}, bytes(12)),
    "have 8 bytes, and the file has fewer": safetensors_bytes({"a": entry()}, bytes(7)),
    "have 8 bytes, and the file has more": safetensors_bytes({"a": entry()}, bytes(9)),
    "more than 2097152 values": safetensors_bytes(b"[" + b"," * 2_097_152),
}


@pytest.mark.parametrize("message", list(SAFETENSORS))
def test_safetensors_headers_that_lie(message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(SAFETENSORS[message])
    (reason,) = analysed(path).failures.values()
    assert message in reason
    assert "\n" not in reason


def npy_of(header: str, data: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def npy_header(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


NPY = {
    "does not begin as .npy": b"PK\3\4" + bytes(20),
    "ends inside its header": npy_of(npy_header())[:30],
    "its version is 9.0": npy_of(npy_header(), version=b"\x09\0"),
    "declares 60000 bytes": b"\x93NUMPY\x01\0" + struct.pack("<H", 60_000) + bytes(100),
    "declares 4294967295 bytes": b"\x93NUMPY\x02\0" + b"\xff" * 4 + bytes(100),
    "not a dictionary of Python": npy_of("__import__('os')"),
    "a dictionary of Python": npy_of("-" * 9000 + "1"),
    "has not the fields": npy_of("{'descr': '<f4'}"),
    "fortran_order is no boolean": npy_of(npy_header(order="3")),
    "descr names no dtype": npy_of(npy_header(descr="'float'")),
    "shape is (-2,)": npy_of(npy_header(shape="(-2,)")),
    "shape is 3;": npy_of(npy_header(shape="3")),
    "more elements than any file": npy_of(npy_header(shape="(2**62,)".replace("2**62", "9" * 19))),
    "take 8 bytes, and it has 7": npy_of(npy_header(), bytes(7)),
    "take 8 bytes, and it has 9": npy_of(npy_header(), bytes(9)),
    "Python objects, which only pickle reads": npy_bytes(np.array([{}, None], object)),
}


@pytest.mark.parametrize("message", list(NPY))
def test_npy_headers_that_lie(message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(NPY[message])
    (reason,) = analysed(path).failures.values()
    assert message in reason
    assert "\n" not in reason


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_a_zip_bomb_is_streamed_as_far_as_its_own_header_says(tmp_path: Path) -> None:
    """Three bombs: more than the shape says, an endless shape, numbers that end early."""
    path, zeros = tmp_path / "x.npz", bytes(2**24)
    longer = npy_of(npy_header(), zeros)
    huge = npy_of(npy_header(shape="(999999999999,)"), zeros)
    path.write_bytes(zipped(("more.npy", longer), ("huge.npy", huge)))
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    report = analysed(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.failures == {
        f"{path}:more": "it has more numbers than its shape says",
        f"{path}:huge": report.failures[f"{path}:huge"],
    }
    assert report.failures[f"{path}:huge"].endswith("bytes early")
    assert peak < 2**26


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """A bomb's members share their compressed bytes; here two entries name one member."""
    data = bytearray(zipped(("a.npy", npy_bytes(np.ones(2, np.float32)))))
    directory, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    twice = data[:end] + data[directory:end] + data[end:]
    tail = len(twice) - 22
    struct.pack_into("<HHI", twice, tail + 8, 2, 2, 2 * (end - directory))
    path = tmp_path / "x.npz"
    path.write_bytes(twice)
    (reason,) = analysed(path).failures.values()
    assert "overlaps another one" in reason


def test_a_huge_table_of_contents_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    data = bytearray(zipped(("a.npy", npy_bytes(np.ones(2, np.float32)))))
    with path.open("wb") as file:  # sparse: the table would be all of it
        file.write(data)
        file.seek(2**31)
        end = bytearray(data[data.index(b"PK\5\6") :])
        struct.pack_into("<I", end, 12, 2**31 - 100)
        file.write(end)
    (reason,) = analysed(path).failures.values()
    assert f"table of contents has more than {npz.MAX_DIRECTORY} bytes" in reason


def corrupted(data: bytes) -> bytes:
    """Change a number in a stored member, so that its checksum is wrong."""
    at = data.index(np.float32(1.5).tobytes())
    return data[:at] + b"\1" + data[at + 1 :]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "damaged archive"),
        (lambda: zipped(("a.npy", b"no array")), "does not begin as .npy"),
        (
            lambda: corrupted(
                zipped(("a.npy", npy_bytes(np.full(9, 1.5, np.float32))), method=zipfile.ZIP_STORED)
            ),
            "Bad CRC-32",
        ),
        (
            lambda: zipped(("a.npy", npy_bytes(np.ones(9))), method=zipfile.ZIP_LZMA),
            "its compression is number 14; allowed are 0 and 8",
        ),
    ],
)
def test_damaged_archives(make: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(make())
    (reason,) = analysed(path).failures.values()
    assert message in reason


def test_a_member_without_a_name_is_no_tensor(tmp_path: Path) -> None:
    """Python asks whether the last letter of a name is "/"; found by `conformance.fuzz`."""
    data = bytearray(zipped(("x", b""), ("a.npy", npy_bytes(np.ones(2, np.float32)))))
    struct.pack_into("<HH", data, data.index(b"PK\1\2") + 28, 0, 1)  # of name and extra field
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    (tensor,) = analysed(path).tensors
    assert tensor.name == "a"


def test_names_are_only_names(tmp_path: Path) -> None:
    """No member is unpacked, wherever its name points to."""
    folder = tmp_path / "inner"
    folder.mkdir()
    path = folder / "x.npz"
    path.write_bytes(zipped(("../../up.npy", npy_bytes(np.ones(2, np.float32)))))
    (tensor,) = analysed(path).tensors
    assert tensor.name == "../../up"
    assert sorted(tmp_path.rglob("*")) == [folder, path]


@pytest.mark.long
def test_a_file_larger_than_the_memory_for_it(tmp_path: Path) -> None:
    """A quarter of a gigabyte of zeros, of which nothing is on the disk, in 64 MiB."""
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        file.write(npy_of(npy_header("'<f2'", shape="(32768, 4096)")))
        file.truncate(file.tell() + 2 * 32768 * 4096)
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tensor,) = analysed(path).tensors
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tensor.extent.elements, tensor.extent.zeros) == (32768 * 4096, 32768 * 4096)
    assert peak < 2**26
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
