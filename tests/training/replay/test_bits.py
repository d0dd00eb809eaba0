"""Hashes of a run's state: what changes them, what a `BitLog` stores and which difference."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.replay.bits import differing_element, state_arrays
from precsim.training.step import initial_state, make_step
from precsim.training.watched import UNGUARDED
from precsim.transform.tags import tag, tag_both, tagged_values
from tests.training.conftest import assert_same_bits, layered, single
from tests.training.test_loop import OneLayer

STATE = {"b": single([0.5, -2.0, 3.0]), "w": single([[1, 2], [3, 4]])}


def flipped(x: np.ndarray, at: int, bit: int) -> np.ndarray:
    words = x.copy().view(np.uint32)
    words.flat[at] ^= np.uint32(1 << bit)
    return words.view(np.float32)


def nan(pattern: int) -> dict[str, np.ndarray]:
    return {"w": np.array([pattern], np.uint32).view(np.float32)}


def test_what_is_no_number_has_no_hash() -> None:
    """Defect: the hash of an object was that of its address."""
    for leaf in (np.array([1, None, "abc"], object), np.array("x")):
        with pytest.raises(
            TypeError, match=r"state has leaf 'a' of dtype .* allowed are arrays of"
        ):
            ps.replay.hash_state({"a": leaf})


def test_one_flipped_bit_changes_the_hash_of_its_tensor_and_of_all() -> None:
    before = ps.replay.hash_state(STATE)
    for bit in (0, 22, 23, 31):
        after = ps.replay.hash_state(STATE | {"b": flipped(STATE["b"], 2, bit)})
        assert {name for name in before if before[name] != after[name]} == {"", "b"}
    zero, minus = (ps.replay.hash_state({"w": single([x])})[""] for x in (0.0, -0.0))
    assert zero != minus


def test_payload_and_sign_of_nan_change_nothing_and_nan_is_no_infinity() -> None:
    hashes = {
        ps.replay.hash_state(nan(p))[""] for p in (0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F800001)
    }
    assert len(hashes) == 1
    assert ps.replay.hash_state(nan(0x7F800000))[""] not in hashes
    narrow = [np.array([x], np.uint16).view(jnp.bfloat16) for x in (0x7FC0, 0xFFC1)]
    assert ps.replay.hash_state({"w": narrow[0]}) == ps.replay.hash_state({"w": narrow[1]})


def test_hashes_are_sha_256_of_path_dtype_shape_and_little_endian_bytes() -> None:
    x = single([[1, -2]])
    text = b"a/w float32 (1, 2) " + struct.pack("<2f", 1, -2)
    expected = hashlib.sha256(text).hexdigest()
    hashes = ps.replay.hash_state({"a": {"w": x}})
    assert hashes["a/w"] == expected
    assert hashes[""] == hashlib.sha256(expected.encode()).hexdigest()


def test_path_dtype_and_shape_matter() -> None:
    one = single([0, 0])
    states: Iterable[Any] = (
        {"w": one},
        {"v": one},
        {"w": one.astype(np.int32)},
        {"w": one.reshape(1, 2)},
        {"w": one.astype(np.float64)},
        {"w": {"w": one}},
        {"w": one[:1], "x": one[1:]},
    )
    assert len({ps.replay.hash_state(state)[""] for state in states}) == 7


def test_library_and_memory_order_do_not_matter() -> None:
    x = single([[1, 2, 3], [4, 5, 6]])
    expected = ps.replay.hash_state({"w": x})
    for same in (jnp.asarray(x), np.asfortranarray(x), x[::-1][::-1], x.astype(">f4")):
        got = ps.replay.hash_state({"w": same})
        assert got == expected, type(same)


def test_random_keys_are_left_out() -> None:
    states = [{"key": jax.random.key(seed), **STATE} for seed in (0, 1)]
    assert (
        ps.replay.hash_state(states[0])
        == ps.replay.hash_state(states[1])
        == ps.replay.hash_state(STATE)
    )
    assert set(state_arrays(states[0])) == set(STATE)


def test_bfloat16_and_numbers_of_python_are_hashed() -> None:
    hashes = ps.replay.hash_state({"w": jnp.ones(2, jnp.bfloat16), "k": 3})
    assert set(hashes) == {"", "w", "k"}
    other = ps.replay.hash_state({"w": jnp.full(2, 1 + 2.0**-7, jnp.bfloat16), "k": 3})
    assert (hashes["k"] == other["k"], hashes["w"] == other["w"]) == (True, False)


def run(log: ps.replay.BitLog, count: int, *, wrong: int | None = None) -> ps.replay.BitLog:
    """Log steps 0 to `count`, from step `wrong` on with one bit of b[2] changed."""
    for step in range(count + 1):
        state = {name: x + np.float32(step) for name, x in STATE.items()}
        if wrong is not None and step >= wrong:
            state["b"] = flipped(state["b"], 2, 0)
        log(step, state)
    return log


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    run(ps.replay.BitLog(every=2, folder=folder), 6)
    return folder


def test_every_and_restart_at_step_0() -> None:
    log = run(ps.replay.BitLog(every=3), 7)
    assert list(log.hashes) == [0, 3, 6]
    run(log, 3)
    assert list(log.hashes) == [0, 3]
    assert list(run(ps.replay.BitLog(every=1), 2).hashes) == [0, 1, 2]


def test_a_folder_may_be_a_string(tmp_path: Path) -> None:
    folder: Any = str(tmp_path)
    run(ps.replay.BitLog(every=1, folder=folder), 4)
    log = run(ps.replay.BitLog(every=1, stored=folder), 4)
    assert log.compared == 5


def test_equal_runs(stored: Path) -> None:
    log = run(ps.replay.BitLog(every=1, stored=stored), 5)
    assert (log.difference, log.compared) == (None, 3)
    assert log.stored_hashes.keys() == {0, 2, 4, 6}


def test_first_difference_is_named_with_element_and_both_patterns(stored: Path) -> None:
    log = run(ps.replay.BitLog(every=2, stored=stored), 6, wrong=3)
    pattern = int((STATE["b"] + np.float32(4)).view(np.uint32)[2])
    assert log.difference == ps.replay.BitDifference(
        step=4, tensor="b", element=(2,), ours=pattern ^ 1, theirs=pattern
    )
    assert str(log.difference) == (
        f"step 4: b[2] differs, 0x{pattern ^ 1:08x} against 0x{pattern:08x}"
    )
    assert log.compared == 4
    run(log, 6)  # a restart forgets
    assert log.difference is None


def test_without_stored_states_the_tensor_is_named(tmp_path: Path) -> None:
    run(ps.replay.BitLog(every=2, folder=tmp_path, keep_states=False), 2)
    assert not (tmp_path / "states").exists()
    log = run(ps.replay.BitLog(every=2, stored=tmp_path / "hashes.json"), 2, wrong=2)
    assert str(log.difference) == "step 2: b differs"


def test_a_tensor_that_only_one_run_has_is_named(stored: Path) -> None:
    for state, name in (({"b": STATE["b"]}, "w"), (STATE | {"a": STATE["b"]}, "a")):
        log = ps.replay.BitLog(every=2, stored=stored)
        log(0, state)
        assert log.difference == ps.replay.BitDifference(step=0, tensor=name)


def test_differing_element_of_scalars_shapes_and_dtypes() -> None:
    def difference(x: Any, y: Any) -> ps.replay.BitDifference:
        return differing_element(1, "w", {"w": x}, {"w": y})

    assert str(difference(np.float32(1), np.float32(2))) == (
        "step 1: w[0] differs, 0x3f800000 against 0x40000000"
    )
    one, other = (np.array([p, 5], np.uint32).view(np.float32) for p in (0x7FC00000, 0xFFC00001))
    assert difference(one, other).element is None  # NaN is NaN
    assert difference(one, other + single([0, 1])).element == (1,)
    for unlike in (single([1, 1]), np.ones(3, np.int32)):
        assert str(difference(single([1, 1, 1]), unlike)) == "step 1: w (shape or dtype) differs"
    assert difference(single([[1, 2], [3, 4]]), single([[1, 2], [3, 5]])).element == (1, 1)


def test_interrupted_run_leaves_what_was_finished(tmp_path: Path) -> None:
    log = ps.replay.BitLog(every=2, folder=tmp_path, about={"policy": "bf16"})
    run(log, 5)
    content = json.loads((tmp_path / "hashes.json").read_text())
    assert list(content["steps"]) == ["0", "2", "4"]
    assert (content["every"], content["about"]) == (2, {"policy": "bf16"})
    assert max(p.name for p in (tmp_path / "states").iterdir()) == "00000004.safetensors"
    assert not list(tmp_path.glob("*.tmp"))
    log.finish({"policy": "bf16", "seconds": 1})
    assert json.loads((tmp_path / "hashes.json").read_text())["about"]["seconds"] == 1
    run(log, 2)  # the states of a run that starts anew are replaced
    assert list(json.loads((tmp_path / "hashes.json").read_text())["steps"]) == ["0", "2"]


def test_stored_runs_without_common_steps_are_refused(stored: Path) -> None:
    assert ps.replay.BitLog(every=4, stored=stored).stored_hashes  # step 0 and 4 are common
    content = json.loads((stored / "hashes.json").read_text())
    del content["steps"]["0"]
    (stored / "hashes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"every is 5; .* has hashes of the steps 2, 4, 6 only"):
        ps.replay.BitLog(every=5, stored=stored)


def test_every_is_checked() -> None:
    with pytest.raises(ValueError, match=r"every is 0; allowed are integers from 1 on"):
        ps.replay.BitLog(every=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"is not a file of hashes: Expecting"),
        ("{}", "it has no 'steps'"),
        ("[]", "it is a list; allowed are an object"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "hashes.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        ps.replay.BitLog(every=1, stored=tmp_path)
    assert "hashes.json" in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"has no stored hashes \(looked for .*hashes\.json"
    ):
        ps.replay.BitLog(every=1, stored=tmp_path)


def test_tagged_values_are_those_of_the_forward_and_the_backward_pass() -> None:
    def fun(x: Any, g: Any) -> Any:
        y, back = jax.vjp(lambda x: tag_both(3 * tag(x, "input"), "tripled") * 2, x)
        return y, back(g)

    values = tagged_values(fun, single([2.0]), single([5.0]))
    assert {name: float(v[0]) for name, v in values.items()} == {
        "input": 2.0,
        "tripled": 6.0,
        "gradient of tripled": 10.0,
    }


def test_tags_are_no_operations_of_a_compiled_program() -> None:
    def operations(fun: Callable[..., Any]) -> int:
        text = jax.jit(fun).lower(jnp.ones(3)).compile().as_text() or ""
        return sum(" = f32[" in line for line in text.splitlines())

    def tagged(x: Any) -> Any:
        return tag_both(3 * x, "a") + tag(x, "b")

    def plain(x: Any) -> Any:
        return 3 * x + x

    assert operations(tagged) == operations(plain) > 0
    x = jnp.asarray(single([1.1, 2.2, 3.3]))
    assert_same_bits(jax.jit(tagged)(x), jax.jit(plain)(x))


@pytest.mark.long
def test_every_value_of_a_training_step_has_a_name_and_the_bits_that_the_step_uses() -> None:
    config = ps.TrainConfig(policy="fp32", batch_size=2)
    model, rng = OneLayer(), np.random.default_rng(0)
    state = initial_state(layered(config), model.init(rng, Problem((8, 8, 1), "float32", (), 10)))
    step = make_step(layered(config, model), f"auto{UNGUARDED}")
    batch = single(rng.uniform(0, 1, (2, 8, 8, 1))), np.array([3, 7], np.int32)
    values = tagged_values(step, state, *batch)
    names = list(values)
    order = ["input", "output", "logits", "cross_entropy 1"]
    order += ["gradient of logits", "gradient of output", "new w"]
    assert [n for n in names if n in order] == order
    after, _ = jax.jit(step)(state, *batch)
    for name, w in after.params.items():
        assert_same_bits(values[f"new {name}"], w, name)
        assert f"gradient of {name}" in names
