"""Files of a run: names, modes, whole contents; damaged ones are refused in one line."""

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.bisect import bisect_runs
from precsim.training.replay import files, stored
from precsim.training.replay.bits import load_state
from precsim.training.replay.files import file_name, write_whole
from precsim.training.replay.stored import read_run
from precsim.training.replay.weights import load_weights, save_weights
from tests.training.conftest import single

STATE = {"b": single([0.5, -2.0]), "w": single([[1, 2], [3, 4]])}
CONFORMANCE = Path(__file__).parents[3] / "conformance" / "replay"


def log(folder: Path, steps: int = 3, about: Any = ()) -> ps.replay.BitLog:
    folder.mkdir()
    made = ps.replay.BitLog(every=1, folder=folder, about=dict(about))
    for step in range(steps):
        made(step, {name: x + np.float32(step) for name, x in STATE.items()})
    return made


NAMES = [
    *("bf16", "q3.8_sr", "bf16,update=bf16:sr", "bf16,update=bf16-sr", "BF16", "con", "con.x"),
    *("nul", "", ".", "..", "../../x", "a/b", "fwd=h100:bf16->bf16", "q[/foo]", "e4m3[rtz]"),
    *("é" * 200, "x" * 300, "x" * 301, "a ", "a.", "a-12345678", "a\0b", "\ud800", "a\\b"),
    *("bf16,update=bf16-sr-e9f735c2", 'a"b', "a|b", "a?b", "a*b", "-", "lpt1.q"),
]


def test_file_names_are_safe_and_different() -> None:
    found = [file_name(name) for name in NAMES]
    assert len({name.lower() for name in found}) == len(NAMES)
    for name in found:
        assert name == name.lower()
        assert name.isascii()
        assert len(name) <= 90
        assert not set(name) & set('<>:"/|?*[]\\\0 ')
        assert name[0] not in ".-"
        assert name[-1] not in ".- "
        assert name.partition(".")[0] not in ("con", "nul", "lpt1")
    assert file_name("bf16_mixed") == "bf16_mixed"
    assert file_name("bf16,update=bf16:sr").startswith("bf16,update=bf16-sr-")


def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    """Defect: weights had mode 0600."""
    former = os.umask(0o027)
    try:
        save_weights(tmp_path / "w.safetensors", STATE)
        log(tmp_path / "run")
    finally:
        os.umask(former)
    written = [*tmp_path.glob("*.safetensors"), *tmp_path.glob("run/**/*.*")]
    assert len(written) == 5
    assert {path.stat().st_mode & 0o777 for path in written} == {0o640}


def test_a_full_disk_names_the_file_and_leaves_the_former_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_whole(path, "before")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a cannot be written: No space left on device") as error:
        write_whole(path, "after")
    assert error.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "before"


def test_a_step_is_appended_to_a_file_that_is_whole_after_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: the whole file was written anew at every step."""
    made = log(tmp_path / "run", 1, {"policy": "bf16"})
    file = tmp_path / "run" / "hashes.json"
    monkeypatch.setattr(stored, "write_run", None)  # no more of it
    monkeypatch.setattr(files, "write_whole", None)
    before = file.read_bytes()
    for step in (1, 2):
        made(step, STATE)
        content = json.loads(file.read_text())
        assert list(content["steps"]) == [str(k) for k in range(step + 1)]
        assert file.read_bytes().startswith(before.removesuffix(b"\n}}\n"))
    assert read_run(tmp_path / "run").hashes == made.hashes


def test_a_killed_run_leaves_a_readable_file(tmp_path: Path) -> None:
    """However far the last line came, the steps before it are there."""
    made = log(tmp_path / "run")
    file = tmp_path / "run" / "hashes.json"
    text = file.read_bytes()
    last = text.index(b',\n"2": ')
    for end in range(last, len(text), 3):
        file.write_bytes(text[:end])
        found = read_run(file).hashes
        assert found == {step: made.hashes[step] for step in found}
        assert len(found) >= (2 if end > last else 1)
    assert list(read_run(file).hashes) == [0, 1, 2]


def test_files_of_conformance_are_read() -> None:
    for path in CONFORMANCE.glob("*.json"):
        steps = json.loads(path.read_text())["steps"]
        assert read_run(path).hashes == {int(step): hashes for step, hashes in steps.items()}


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    def write(text: str) -> str:
        content = json.loads(text)
        other = change(content)
        return json.dumps(content if other is None else other)

    return write


HASH = "0" * 64
DAMAGED: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda _: "", "Expecting value"),
    "deep": (lambda _: "[" * 100_000, "nested too deeply"),
    "deep about": (lambda _: '{"about": ' * 100_000, "nested too deeply"),
    "a list": (lambda _: "[]", "it is a list; allowed are an object"),
    "no steps": (lambda _: "{}", "it has no 'steps'"),
    "an unknown field": (changed(lambda c: {**c, "extra": 1}), 'it has the field "extra"'),
    "about is text": (
        changed(lambda c: {**c, "about": "x"}),
        'about is "x"; allowed are an object',
    ),
    "steps are null": (changed(lambda c: {**c, "steps": None}), "steps is null"),
    "a NaN step": (changed(lambda c: {**c, "steps": {"NaN": {}}}), 'steps has "NaN"'),
    "a negative step": (changed(lambda c: {**c, "steps": {"-1": {}}}), 'steps has "-1"'),
    "a fraction": (changed(lambda c: {**c, "steps": {"1.5": {}}}), 'steps has "1.5"'),
    "a huge step": (changed(lambda c: {**c, "steps": {"9" * 5000: {}}}), 'steps has "99'),
    "no hashes": (changed(lambda c: {**c, "steps": {"0": [HASH]}}), "steps.0 is a list"),
    "no total": (changed(lambda c: {**c, "steps": {"0": {"w": HASH}}}), 'steps.0[""] is null'),
    "no digits": (
        changed(lambda c: {**c, "steps": {"0": {"": HASH, "w": HASH[:-1] + "g"}}}),
        'steps.0["w"] is "0000',
    ),
    "a number": (changed(lambda c: {**c, "steps": {"0": {"": 5}}}), 'steps.0[""] is 5'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_hashes_are_refused_with_file_and_field(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGED[name]
    log(tmp_path / "run", 1)
    file = tmp_path / "run" / "hashes.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match="is not a file of hashes") as error:
        ps.replay.BitLog(every=1, stored=tmp_path / "run")
    assert str(file) in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < len(str(file)) + 160
    assert "\n" not in str(error.value)


def test_hashes_that_are_no_text_or_no_file(tmp_path: Path) -> None:
    file = tmp_path / "hashes.json"
    file.write_bytes(b'{"steps": "\xff"}')
    with pytest.raises(ValueError, match=r"hashes.json is not a file of hashes: not UTF-8"):
        read_run(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError, match=r"hashes.json cannot be read: Is a directory"):
        read_run(tmp_path)


def test_states_are_those_of_the_hashes_or_refused(tmp_path: Path) -> None:
    made = log(tmp_path / "run", 2)
    run = read_run(tmp_path / "run")
    assert load_state(run, 1, STATE)["w"].tolist() == [[2, 3], [4, 5]]
    path = run.state_path(1)
    path.unlink()
    assert load_state(run, 1, STATE) is None

    def refused(like: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match) as error:
            load_state(run, 1, like)
        assert str(path) in str(error.value)
        path.unlink()

    for arrays, match in (
        ({"b": STATE["b"]}, "tensor 'w' has not the hash"),
        (STATE, "tensor 'w' has not the hash that hashes.json has for step 1"),
    ):
        save_weights(path, arrays)
        refused(STATE, match)
    states = {name: x + np.float32(1) for name, x in STATE.items()}
    for like, match in (
        ({**STATE, "m": STATE["b"]}, "has no tensor 'm'"),
        ({"b": STATE["b"]}, "has an unknown tensor 'w'"),
        (
            {**STATE, "w": single([1, 2])},
            r"tensor 'w' is float32\[2, 2\]; the run has float32\[2\]",
        ),
    ):
        save_weights(path, states)
        refused(like, match)
    path.write_bytes(b"\x08")
    refused(STATE, "is not a file of tensors")
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_weights(path)
    assert made.difference is None


def test_a_damaged_state_takes_the_element_and_not_the_finding(tmp_path: Path) -> None:
    log(tmp_path / "run", 2)
    (tmp_path / "run" / "states" / "00000001.safetensors").write_bytes(b"?")
    other = ps.replay.BitLog(every=1, stored=tmp_path / "run")
    other(1, STATE)
    assert other.difference is not None
    assert (other.difference.step, other.difference.element) == (1, None)
    assert "00000001.safetensors is not a file of tensors" in other.difference.tensor


SAID = {"policy": "fp32", "config": {"steps": 2, "batch_size": 8, "model": "mlp"}}


@pytest.mark.parametrize(
    ("about", "field"),
    [
        ({}, "about.policy"),
        ({"policy": "fp32"}, "about.config"),
        ({"policy": 5, "config": {}}, "about.policy is 5; allowed are a str"),
        ({"policy": "fp32", "config": []}, "about.config is a list"),
        ({"policy": "bf61", "config": {}}, "unknown policy 'bf61'"),
        ({"policy": "fp32", "config": {"stepz": 2}}, "about.config.stepz is 2"),
        ({"policy": "fp32", "config": {"seed": "1"}}, "about.config.seed is '1'"),
        ({"policy": "fp32", "config": {"seed": True}}, "about.config.seed is True"),
        ({"policy": "fp32", "config": {"model": None}}, "about.config.model is None"),
        ({"policy": "fp32", "config": {"learning_rate": float("nan")}}, "learning_rate is nan"),
        ({"policy": "fp32", "config": {"model": "rnn"}}, "model is 'rnn'"),
    ],
)
def test_bisect_names_what_a_run_does_not_say(about: Any, field: str, tmp_path: Path) -> None:
    ours, theirs = log(tmp_path / "a", about=about), log(tmp_path / "b", about=SAID)
    theirs(2, STATE)
    with pytest.raises(ValueError, match=r"hashes\.json") as error:
        bisect_runs(tmp_path / "a", tmp_path / "b")
    assert field in str(error.value)
    assert ours.hashes[1] == theirs.hashes[1]


def shuffled(data: bytes, rng: random.Random) -> bytes:
    """Damage a file: bytes changed, cut off, put in, or JSON values exchanged."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(made)) if made else 0
        match rng.randrange(5):
            case 0 if made:
                made[at] = rng.randrange(256)
            case 1:
                del made[at:]
            case 2 if made:
                made[at] ^= 1 << rng.randrange(8)
            case 3:
                made[at:at] = rng.choice(
                    (b"{", b"]", b'"', b"-", b"e9", b"null", b"NaN", b"9" * 30)
                )
            case _:
                old = rng.choice((b'"steps"', b"{", b'"0"', b'"a"', b"2", b"F32", b"[2,2]"))
                new = rng.choice((b"null", b"[]", b"{}", b"-1", b"1e999", b'""', b"true", b"[[[["))
                made = bytearray(bytes(made).replace(old, new, 1))
    return bytes(made)


def test_damage_gives_a_clean_read_or_one_line(tmp_path: Path) -> None:
    """Property: hashes, states and the two together, damaged at random, never fail otherwise."""
    log(tmp_path / "run", 2, SAID)
    log(tmp_path / "other", 2, SAID)(1, STATE)
    folder = tmp_path / "run"
    state = folder / "states" / "00000000.safetensors"
    whole = {file: file.read_bytes() for file in (folder / "hashes.json", state)}
    rng = random.Random(0)
    read = dict.fromkeys(whole, 0)
    for _ in range(600):
        file = rng.choice(list(whole))
        file.write_bytes(shuffled(whole[file], rng))
        try:
            load_state(read_run(folder), 0, STATE)
            read[file] += 1
        except ValueError as error:
            message = str(error)
            assert (message.count("\n"), message.count(str(folder)) > 0) == (0, True)
        file.write_bytes(whole[file])
    assert all(0 < count < 280 for count in read.values())
