"""The first difference of two dumps is found, whatever the names, axes, files and dtypes."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import precsim as ps

RNG = np.random.default_rng(3)


def torch_names(layers: int = 3) -> dict[str, np.ndarray]:
    """Return tensors as a PyTorch GPT has them: weights (out, in)."""
    found = {"transformer.wte.weight": RNG.normal(size=(50, 8))}
    for n in range(layers):
        block = f"transformer.h.{n}"
        found |= {
            f"{block}.ln_1.weight": RNG.normal(size=8),
            f"{block}.attn.c_attn.weight": RNG.normal(size=(24, 8)),
            f"{block}.attn.c_proj.weight": RNG.normal(size=(8, 8)),
            f"{block}.ln_2.weight": RNG.normal(size=8),
            f"{block}.mlp.c_fc.weight": RNG.normal(size=(32, 8)),
            f"{block}.mlp.c_proj.weight": RNG.normal(size=(8, 32)),
            f"{block}.mlp.c_proj.bias": RNG.normal(size=8),
        }
    return {name: x.astype(np.float32) for name, x in found.items()}


def flax_names(torch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the same numbers as Flax has them: kernels (in, out), blocks shuffled."""
    found: dict[str, Any] = {}
    for n in (2, 0, 1):
        block = {name.split(".", 3)[3]: x for name, x in torch.items() if f".h.{n}." in name}
        found[f"blocks_{n}"] = {
            "LayerNorm_0": {"scale": block["ln_1.weight"]},
            "attn": {
                "proj": {"kernel": block["attn.c_proj.weight"].T},
                "qkv": {"kernel": block["attn.c_attn.weight"].T},
            },
            "LayerNorm_1": {"scale": block["ln_2.weight"]},
            "mlp": {
                "fc1": {"kernel": block["mlp.c_fc.weight"].T},
                "fc2": {"kernel": block["mlp.c_proj.weight"].T, "bias": block["mlp.c_proj.bias"]},
            },
        }
    return {"embedder": {"embedding": torch["transformer.wte.weight"]}, **found}


def test_names_of_two_frameworks_are_aligned() -> None:
    ours = torch_names()
    found = ps.compare_dumps(ours, {"params": flax_names(ours)})
    assert found.first is None, str(found)
    assert found.only_a == found.only_b == ()
    partners = {pair.name: pair.partner for pair in found.pairs}
    assert partners["transformer.h.1.attn.c_proj.weight"] == "params/blocks_1/attn/proj/kernel"
    assert partners["transformer.h.2.ln_1.weight"] == "params/blocks_2/LayerNorm_0/scale"
    axes = {pair.name: pair.axes for pair in found.pairs}
    assert axes["transformer.h.0.attn.c_proj.weight"] == (1, 0)  # square: the values tell
    assert axes["transformer.wte.weight"] is None


def test_first_difference_in_execution_order() -> None:
    ours = torch_names()
    theirs = flax_names(ours)
    for block, place in ((1, (0, 5)), (2, (1, 1))):
        kernel = theirs[f"blocks_{block}"]["mlp"]["fc1"]["kernel"].copy()
        kernel[place] = np.nextafter(kernel[place], np.float32(9))
        theirs[f"blocks_{block}"]["mlp"]["fc1"]["kernel"] = kernel
    found = ps.compare_dumps(ours, theirs)
    first = found.first
    assert first is not None
    assert (first.name, first.first) == ("transformer.h.1.mlp.c_fc.weight", (5, 0))
    assert (first.different, first.format) == (1, "fp32")
    assert 0.5 <= first.ulps <= 1
    assert 100 < first.sqnr < 200
    last = "transformer.h.2.mlp.c_fc.weight"
    reversed_order = ps.compare_dumps(ours, theirs, order=[last]).first
    assert reversed_order is not None
    assert reversed_order.name == last
    assert "after 12 without difference" in found.sentence
    assert "2 differ in all" in found.sentence
    assert ps.compare_dumps(ours, theirs, tolerance=1e-6).first is None


def test_counts_from_one_and_from_zero_and_numbers_by_value() -> None:
    ours = {f"layer{n}.fc.bias": np.full(2, n, np.float32) for n in range(12)}
    theirs = {f"layers_{n}/dense/b": np.full(2, n - 1, np.float32) for n in range(1, 13)}
    found = ps.compare_dumps(ours, theirs)
    assert found.first is None, str(found)
    assert [pair.name for pair in found.pairs][-2:] == ["layer10.fc.bias", "layer11.fc.bias"]


def test_convolution_kernels() -> None:
    kernel = RNG.normal(size=(4, 3, 5, 5)).astype(np.float32)  # (out, in, height, width)
    found = ps.compare_dumps(
        {"conv1.weight": kernel}, {"Conv_1/kernel": kernel.transpose(2, 3, 1, 0)}
    )
    assert found.first is None
    assert found.pairs[0].axes is not None
    assert "axes" in found._repr_html_()


def test_without_partner_and_shapes_that_do_not_fit() -> None:
    ours = {"x": np.zeros(3), "y": np.zeros(3), "head.weight": np.zeros((2, 2))}
    theirs = {"x": np.zeros(4), "y": np.zeros(3), "rotary.table": np.zeros(64)}
    found = ps.compare_dumps(ours, theirs)
    assert found.first is not None
    assert not found.first.fits
    assert "shapes (3,) and (4,)" in found.sentence
    assert (found.only_a, found.only_b) == (("head.weight",), ("rotary.table",))
    assert "only in b: rotary.table" in str(found)
    assert json.loads(found.to_json())["pairs"][0]["relative"] is None


def test_dtypes_and_special_values() -> None:
    x = np.array([1.0, np.nan, np.inf, -0.0], np.float32)
    signed = ps.compare_dumps({"x": x}, {"x": x + np.float32(0)})
    assert "-0 against 0" in signed.sentence
    assert "zeros of other signs" in str(signed)
    assert ps.compare_dumps({"x": x}, {"x": x.astype(ml_dtypes.bfloat16)}).first is None
    found = ps.compare_dumps({"x": x}, {"x": np.abs(x)})
    assert found.first is not None
    assert (found.first.different, found.first.first) == (1, (3,))
    pi = np.array([3.14159274], np.float32)
    found = ps.compare_dumps({"x": pi.astype(ml_dtypes.bfloat16)}, {"x": pi})
    assert found.first is not None
    assert found.first.format == "bf16"
    assert found.first.ulps < 0.5
    assert "bfloat16, float32" in str(found)
    integers = {"x": np.arange(3), "b": np.array([True]), "z": np.array([1j])}
    assert ps.compare_dumps(integers, integers).first is None


def write_npz(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "dump.npz", **tensors)  # type: ignore[arg-type]
    return folder / "dump.npz"


def write_folder(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    for name, x in tensors.items():
        path = folder / "dump" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, x)
    return folder / "dump"


def write_safetensors(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    save_file(tensors, folder / "dump.safetensors")
    return folder / "dump.safetensors"


WRITERS = {"npz": write_npz, "folder": write_folder, "safetensors": write_safetensors}


@pytest.mark.parametrize("kind", WRITERS)
def test_files(kind: str, tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors: dict[str, np.ndarray] = {
        "layer2/w": values,
        "layer10/w": values.astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(0.5, np.float16),
    }
    if kind == "safetensors":
        tensors["f8"] = values.astype(ml_dtypes.float8_e4m3fn)
    path = WRITERS[kind](tmp_path, tensors)
    found = ps.compare_dumps(path, tensors)
    assert found.first is None
    assert len(found.pairs) == len(tensors)
    names = [pair.name for pair in found.pairs]
    assert names.index("layer2/w") < names.index("layer10/w")
    tensors["layer10/w"] = tensors["layer10/w"] * 2
    changed = ps.compare_dumps(str(path), tensors).first
    assert changed is not None
    assert changed.name == "layer10/w"


def broken_npz(folder: Path) -> Path:
    path = write_npz(folder, {"x": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:90])
    return path


def too_large(folder: Path) -> Path:
    """Write an npz whose member declares more than memory holds."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    )
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(64))
    return folder / "x.npz"


def objects(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    return path


def objects_inside(folder: Path) -> Path:
    np.savez(folder / "x.npz", x=np.array([{}], object))
    return folder / "x.npz"


def broken_safetensors(folder: Path) -> Path:
    path = folder / "x.safetensors"
    path.write_bytes(b"\xff" * 64)
    return path


def unclosed_header(folder: Path) -> Path:
    """Write an array whose header Python cannot divide into tokens; found by `conformance.fuzz`."""
    whole = io.BytesIO()
    np.save(whole, np.zeros(2))
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue().replace(b"(2,)", b"((2,"))
    return folder / "x.npz"


def long_dtype(folder: Path) -> Path:
    entry = {"dtype": "F" * 5_000, "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"x": entry}).encode()
    path = folder / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return path


def damaged_numbers(folder: Path) -> Path:
    """Damage what is read only when it is compared."""
    path = write_npz(folder, {"x": np.full(100, 1.5)})
    content = path.read_bytes()
    at = content.index(np.float64(1.5).tobytes())
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    return path


def nothing(folder: Path) -> Path:
    return folder


def text(folder: Path) -> Path:
    path = folder / "x.txt"
    path.write_text("1.0")
    return path


BAD = [
    *(broken_npz, too_large, objects, objects_inside, broken_safetensors, nothing, text),
    *(unclosed_header, long_dtype, damaged_numbers),
]


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_files_are_one_line(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=r"a: |tensor 'x'") as caught:
        ps.compare_dumps(path, {"x": np.zeros(100)})
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_bad_arguments() -> None:
    x = {"x": np.zeros(1)}
    with pytest.raises(FileNotFoundError, match=r"a is 'nowhere\.npz', where there is nothing"):
        ps.compare_dumps("nowhere.npz", x)
    with pytest.raises(TypeError, match="b is 3; allowed are paths, and mappings"):
        ps.compare_dumps(x, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order: unknown tensor of a 'xs'; did you mean 'x'"):
        ps.compare_dumps(x, x, order=["xs"])
    with pytest.raises(ValueError, match="tolerance is -1; allowed are numbers from 0 on"):
        ps.compare_dumps(x, x, tolerance=-1)
    with pytest.raises(ValueError, match="tensor 'x' has dtype"):
        ps.compare_dumps({"x": np.array(["a"])}, x)
