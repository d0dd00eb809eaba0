"""Checkpoints: every leaf comes back with its bits; what is damaged is told, never loaded."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from safetensors import safe_open

import precsim as ps
from precsim.training.replay import checkpoint
from precsim.training.replay.checkpoint import load_checkpoint, save_checkpoint
from tests.training.conftest import single

DTYPES = [
    *(np.dtype(kind) for kind in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")),
    *(np.dtype(kind) for kind in ("f2", "f4", "f8", "c8", "c16", ">f4", ">i8")),
    *(
        np.dtype(getattr(ml_dtypes, name))
        for name in (
            *("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
            *("float8_e8m0fnu", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz"),
            *("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn", "int4", "uint4"),
        )
    ),
]


def state() -> Any:
    """Return a state with all that a training may have, without a compilation."""
    params = {"hidden/w": jnp.asarray(single([[1, 2], [3, -0.0]])), "b": single([np.nan])}
    return {
        "params": params,
        "optimizer": optax.chain(optax.clip(1.0), optax.trace(0.9)).init(params),
        "scale": ps.DynamicLossScale(),
        "amax": ps.DelayedScale.start("e4m3:scale=tensor", length=3).update(single([7])),
        "keys": (jax.random.key(3), jax.random.key(4, impl="rbg"), jax.random.PRNGKey(5)),
        "numbers": [3, 2.5, True, 1 + 2j, -(10**400), float("inf"), np.float64(0.1), None],
        "nothing": (),
        "empty": np.zeros((0, 3), np.int8),
    }


def bits(leaf: Any) -> tuple[str, bytes]:
    if jnp.issubdtype(getattr(leaf, "dtype", np.int32), jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), np.asarray(jax.random.key_data(leaf)).tobytes()
    return type(leaf).__name__, np.asarray(leaf).tobytes() if hasattr(leaf, "dtype") else repr(
        leaf
    ).encode()


def refusal(folder: Path, like: Any = None) -> str | None:
    """Return in which line a checkpoint is refused; None if it is loaded."""
    try:
        load_checkpoint(folder, like)
    except ValueError as error:
        return str(error)
    return None


def assert_same_state(found: Any, expected: Any) -> None:
    trees: list[Any] = [jax.tree.structure(tree) for tree in (found, expected)]
    assert trees[0] == trees[1]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert bits(one) == bits(other)


def test_all_that_a_training_has_comes_back_with_its_bits_types_and_libraries(
    tmp_path: Path,
) -> None:
    """Defects: fairseq2 1346 (loss scale), TransformerEngine 1730 (amax history) on resuming."""
    save_checkpoint(tmp_path / "new" / "folder", state(), about={"step": 3, "policy": "bf16"})
    found = load_checkpoint(tmp_path / "new" / "folder", like=state())
    assert_same_state(found.state, state())
    assert found.about == {"step": 3, "policy": "bf16"}
    by_path = load_checkpoint(found.file.parent).state
    assert by_path["['params']['hidden/w']"].tolist() == [[1, 2], [3, -0.0]]
    assert by_path["['numbers'][4]"] == -(10**400)
    assert str(jax.random.key_impl(by_path["['keys'][1]"])) == "rbg"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_keeps_every_bit(tmp_path: Path, dtype: Any) -> None:
    codes = np.arange(256, dtype=np.uint8)
    if dtype.name in ("bool", "int4", "uint4") or dtype.name.startswith(("float4", "float6")):
        codes = codes % {"bool": 2, "float6_e2m3fn": 64, "float6_e3m2fn": 64}.get(dtype.name, 16)
    array = codes.view(dtype).reshape(2, 2, -1)
    given = {"x": array, "transposed": array.T, "scalar": array[0, 0, 0], "none": array[:0]}
    save_checkpoint(tmp_path, given)
    found = load_checkpoint(tmp_path, like=given).state
    native = dtype.newbyteorder("=")
    for name, x in given.items():
        assert found[name].dtype == native
        assert found[name].tobytes() == np.asarray(x, native, order="C").tobytes()
    found["x"][...] = 0  # NumPy arrays may be written to


def test_weak_types_stay_weak(tmp_path: Path) -> None:
    """A weak float32 times a bfloat16 is a bfloat16: other bits, and one compilation more."""
    given = {"weak": jnp.asarray(2.0), "strong": jnp.float32(2)}
    save_checkpoint(tmp_path, given)
    found = load_checkpoint(tmp_path, like=given).state
    assert (found["weak"].weak_type, found["strong"].weak_type) == (True, False)
    other = load_checkpoint(tmp_path, like={"weak": jnp.float32(0), "strong": jnp.float32(0)}).state
    assert (other["weak"].weak_type, other["strong"].weak_type) == (True, False)


def test_a_number_of_python_stands_for_the_array_that_a_step_makes_of_it(tmp_path: Path) -> None:
    start = ps.DynamicLossScale()
    save_checkpoint(tmp_path, start.adjust(jnp.asarray(False)))
    found = load_checkpoint(tmp_path, like=start).state
    assert (float(found.factor), int(found.skipped)) == (2.0**14, 1)
    assert isinstance(found.factor, jax.Array)
    told = refusal(tmp_path, ps.DynamicLossScale(factor=single([1, 2])))
    assert told is not None
    assert told.endswith("leaf .factor is float32[]; like has float32[2]")


def test_what_differs_from_like_is_named(tmp_path: Path) -> None:
    def start(fmt: str) -> ps.DelayedScale:
        return ps.DelayedScale.start(fmt, length=2)

    save_checkpoint(tmp_path, {"w": single([1, 2]), "s": start("e4m3:scale=tensor")})
    file = str(tmp_path / "checkpoint-00000001.safetensors")
    fitting = {"w": single([0, 0]), "s": start("e4m3:scale=tensor")}
    others: dict[str, dict[str, Any]] = {
        "has not the leaf: ['v']": fitting | {"v": 1},
        "has a leaf that like has not: ['s'].factor": {"w": fitting["w"]},
        "leaf ['w'] is float32[2]; like has float32[3]": fitting | {"w": single([1, 2, 3])},
        "leaf ['w'] is float32[2]; like has int32[2]": fitting | {"w": np.ones(2, np.int32)},
        "DelayedScale(e5m2:scale=tensor, max, 0)": fitting | {"s": start("e5m2:scale=tensor")},
    }
    for said, like in others.items():
        told = refusal(tmp_path, like)
        assert told is not None
        assert "\n" not in told
        assert told.startswith(file)
        assert said in told


@pytest.mark.long
def test_functions_in_the_structure_have_no_address(tmp_path: Path) -> None:
    """Two processes have one and the same function at different addresses."""
    equinox: Any = pytest.importorskip("equinox")
    code = (
        "import sys, jax, equinox; from precsim.replay import *\n"
        "layer = equinox.nn.Lambda(jax.nn.relu), equinox.nn.Lambda(jax.numpy.tanh)\n"
        "arrays = equinox.filter(layer, equinox.is_array)\n"
        "save_checkpoint(sys.argv[1], {'n': 1, 'layer': arrays})\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    layer = equinox.nn.Lambda(jax.nn.relu), equinox.nn.Lambda(jnp.tanh)
    like = {"n": 0, "layer": equinox.filter(layer, equinox.is_array)}
    assert load_checkpoint(tmp_path, like=like).state["n"] == 1


def test_the_last_ones_are_kept_and_other_files_stay(tmp_path: Path) -> None:
    others = ["checkpoint-1.safetensors", "notes.txt", "checkpoint-00000001.safetensors.bak"]
    for name in others:
        (tmp_path / name).write_text("mine")
    for step in range(5):
        save_checkpoint(tmp_path, {"step": step})
    kept = [f"checkpoint-{n:08d}.safetensors" for n in (4, 5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, *kept])
    assert load_checkpoint(tmp_path).state == {"['step']": 4}
    save_checkpoint(tmp_path, {"step": 9}, keep=1)
    assert len(list(tmp_path.iterdir())) == len(others) + 1


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"leaf \['w'\] of type str; allowed are arrays of numbers"):
        save_checkpoint(tmp_path, {"w": "abc"})
    with pytest.raises(TypeError, match="of dtype object; allowed"):
        save_checkpoint(tmp_path, {"w": np.array([None])})
    with pytest.raises(TypeError, match="about has what JSON has not"):
        save_checkpoint(tmp_path, {}, about={"x": float("nan")})
    with pytest.raises(ValueError, match="keep is 0; allowed are integers from 1 on"):
        save_checkpoint(tmp_path, {}, keep=0)
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        load_checkpoint(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="which is a file; allowed are folders"):
        load_checkpoint(tmp_path / "file")


def test_a_full_disk_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"checkpoint-00000002.safetensors cannot be written: No sp"):
        save_checkpoint(tmp_path, {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]
    assert load_checkpoint(tmp_path).state == {"['step']": 1}


def test_other_tools_read_the_weights(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, {"w": single([1, 2])}, about={"step": 7})
    with safe_open(file, "np") as opened:
        assert opened.get_tensor("['w']").tolist() == [1, 2]
        assert json.loads(opened.metadata()["checkpoint"])["about"] == {"step": 7}


def test_arrays_beside_the_state_need_no_like(tmp_path: Path) -> None:
    losses = {"losses": single([3, 2, 1]), "events/block0/scores": np.ones((2, 7), np.int64)}
    save_checkpoint(tmp_path, {"w": 1}, arrays=losses)
    found = load_checkpoint(tmp_path, like={"w": 0})
    assert found.state == {"w": 1}
    assert {name: x.tolist() for name, x in found.arrays.items()} == {
        name: x.tolist() for name, x in losses.items()
    }
    with pytest.raises(TypeError, match="leaf arrays/names of dtype <U1; allowed"):
        save_checkpoint(tmp_path, {}, arrays={"names": ["a"]})


@pytest.mark.long
def test_the_recipe_with_orbax_keeps_each_bit(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    page = Path(__file__).parents[3] / "docs" / "how-to" / "checkpoint-your-own-loop.md"
    recipe = page.read_text("utf-8").partition(":name: orbax\n")[2].partition("```")[0]
    delayed = ps.DelayedScale.start("e4m3:scale=tensor", length=3).update(single([7]))
    narrow = jnp.asarray([1.5, -2], jnp.float8_e4m3fn)
    given = jax.tree.map(jnp.asarray, {"amax": delayed, "w": narrow, "scale": ps.NoLossScale()})
    given["key"] = jax.random.key(1)
    names: dict[str, Any] = {"folder": tmp_path.absolute(), "state": given, "jax": jax}
    exec(recipe, names)  # noqa: S102
    assert_same_state(names["restored"], given)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step, "w": single([step] * 4), "k": jax.random.key(1)})
    return tmp_path


def test_a_damaged_file_is_told_and_the_former_one_is_used(two: Path) -> None:
    file = two / "checkpoint-00000002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"00000002.* is no whole .*; checkpoint-00000001.* used"):
        assert load_checkpoint(two).state["['step']"] == 1
    for path in two.iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"00000002.*no whole checkpoint.*; the others are damaged"
    ):
        load_checkpoint(two)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a content that is cut, grown, or has other bytes, pieces or numbers in its header."""
    data = bytearray(content)
    header = 8 + int.from_bytes(content[:8], "little")
    at = rng.choice([rng.randrange(8), rng.randrange(8, header), rng.randrange(len(data))])
    match rng.randrange(7):
        case 0:
            return bytes(data[:at])
        case 1:
            data[at] ^= 1 << rng.randrange(8)
        case 2:
            data[at : at + rng.randrange(1, 40)] = bytes(rng.randrange(256) for _ in range(8))
        case 3:
            data += bytes(rng.randrange(1, 9))
        case 4:
            data[:8] = rng.choice([0, 1, header, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
        case 5:
            for digit in [k for k in range(8, header) if 48 <= data[k] < 58][
                :: rng.randrange(1, 9)
            ]:
                data[digit] = 48 + rng.randrange(10)
        case 6:
            other = rng.randrange(8, header)
            data[at], data[other] = data[other], data[at]
    return bytes(data)


def test_600_mutations_are_told_in_one_line_or_change_nothing(two: Path) -> None:
    rng = random.Random(0)
    file = two / "checkpoint-00000002.safetensors"
    content = file.read_bytes()
    (two / "checkpoint-00000001.safetensors").unlink()
    expected = load_checkpoint(two).state
    refused = 0
    for _ in range(600):
        file.write_bytes(mutated(content, rng))
        told = refusal(two)
        if told is None:
            assert_same_state(load_checkpoint(two).state, expected)
            continue
        refused += 1
        assert "\n" not in told
        assert told.startswith(f"{file} is no whole checkpoint: ")
        assert len(told) < 400 + len(str(file))
    assert refused > 400


LIES: dict[str, Any] = {
    "its fields are not": {},
    "its version is 2; allowed is 1": {"version": 2},
    "its field about is 3": {"about": 3},
    "its field structure is 'x'": {"structure": "x"},
    "its field leaves is": {"leaves": []},
    "nothing describes its tensor": {"leaves": {}},
    "has 16 bytes; float32[1000000000000] has others": {
        "w": {"dtype": "float32", "shape": [10**12]}
    },
    "its shape is [-4]": {"w": {"dtype": "float32", "shape": [-4]}},
    "its dtype is 'object'": {"w": {"dtype": "object", "shape": [4]}},
    "its dtype is 'load'": {"w": {"dtype": "load", "shape": [4]}},
    "it is no random key of kind 'rsa'": {"w": {"dtype": "uint32", "shape": [4], "key": "rsa"}},
    "it is described by 7": {"w": 7},
    "its value is 'ten'": {"step": {"number": "int", "value": "ten"}},
    "the file has no bytes of it": {"step": {"dtype": "float32", "shape": [10**12]}},
}


@pytest.mark.parametrize("said", LIES)
def test_files_whose_hash_is_right_and_whose_words_are_not(
    two: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What someone made on purpose: refused too, without the declared size being allocated."""
    lie = LIES[said]
    true = checkpoint._document

    def document(*arguments: Any) -> str:
        content = json.loads(true(*arguments))
        if not lie:
            return "[]"
        own = {f"['{name}']": words for name, words in lie.items() if name in ("w", "step")}
        content["leaves"] |= own
        return json.dumps(content | {k: v for k, v in lie.items() if k in content})

    monkeypatch.setattr(checkpoint, "_document", document)
    save_checkpoint(two, {"step": 2, "w": single([0] * 4)}, keep=1)
    told = refusal(two)
    assert told is not None
    assert said in told
