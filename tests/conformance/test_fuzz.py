"""Random inputs for every parser, and parsers that are wrong in each way that has to be noticed."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from conformance import fuzz
from conformance.fuzzing import limits
from conformance.fuzzing.inputs import changed_bytes, changed_text, sentence, words_of
from conformance.fuzzing.parser import Parser
from conformance.fuzzing.texts import TEXTS

ROOT = Path(__file__).parents[2]
GRAMMAR = {"start": ("a", "(<start>)", "<start><start>")}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance.fuzz", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_every_parser_survives_its_share() -> None:
    done = run("--inputs", "2000", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^(\w+) +(\d+) inputs, +(\d+) accepted, +0 faults", done.stdout, re.MULTILINE
    )
    assert [name for name, _, _ in rows] == list(fuzz.PARSERS)
    assert sum(int(inputs) for _, inputs, _ in rows) >= 2000
    assert sum(int(accepted) for _, _, accepted in rows) > 200


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "questions"])
def test_no_text_is_more_than_refused(name: str) -> None:
    """Whatever is a text, a surrogate alone among them."""
    parser, anything = TEXTS[name], st.text(st.characters(exclude_categories=()), max_size=60)
    settings = hypothesis.settings(deadline=None, derandomize=True, max_examples=40, database=None)

    @settings
    @hypothesis.given(anything | st.sampled_from(words_of(GRAMMAR)))
    def check(text: str) -> None:
        limits.begin()
        assert limits.fault_of(parser, text) is None

    check()


def refuse(text: str) -> Any:
    raise ValueError(text)


def key(text: str) -> Any:
    return dict.fromkeys("b")[text]


def hang(text: str) -> Any:
    while True:
        pass


def take_much(text: str) -> Any:
    return np.zeros(2 * limits.MOST_BYTES, np.uint8)


def recurse(text: str) -> Any:
    return recurse(text)


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (refuse, "one line", None),
        (refuse, "two\nlines", "is refused in 2 lines"),
        (refuse, "x" * 9_999, "is refused in 9999 characters"),
        (key, "a", "raises KeyError: 'a'"),
        (recurse, "a", "raises RecursionError"),
        (hang, "a", "takes more than 0.2 s"),
        (take_much, "a", "takes more than 100 MiB"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_faults_of_parsers_that_are_wrong(
    read: Any, given: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_SECONDS", 0.2)
    limits.begin()
    limits.limit_memory()
    try:
        found = limits.fault_of(Parser(read=read, make=str), given)
    finally:
        limits.free_memory()
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("read", "written", "said"),
    [
        (str.strip, str, None),
        (str.strip, "{}x".format, "which is read as something else"),
        (int, lambda n: f"{n}.", "which is refused: invalid literal"),
        (str.split, "".join, None),
        (lambda text: text + " ", str, "which is read as something else"),
    ],
)
def test_what_is_written_is_read_as_the_same(read: Any, written: Any, said: str | None) -> None:
    limits.begin()
    found = limits.fault_of(Parser(read=read, make=str, written=written), "12")
    assert found is None if said is None else said in str(found)


def test_a_process_that_dies_is_a_fault_of_its_input() -> None:
    script = (
        "import os, sys; from conformance import fuzz; from conformance.fuzzing.parser import Parser;"
        "die = lambda x: os.abort() if x == 5 else None;"
        "fuzz.PARSERS['x'] = Parser(read=die, make=lambda rng: fuzz_number());"
        "numbers = iter([0, 1, 2, 5, 3]); fuzz_number = lambda: next(numbers);"
        "found = fuzz.tried('x', 0, 0, 5); print(found.inputs, found.faults)"
    )
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "4 [Fault(number=3, given='', said='ends the process: -6')]" in done.stdout, done.stderr


def test_inputs_follow_from_seed_name_and_number() -> None:
    for name, parser in fuzz.PARSERS.items():
        first, again, other = (
            parser.make(fuzz.input_random(name, 0, number)) for number in (7, 7, 8)
        )
        assert first == again, name
        assert first != other or name == "devices", name


def test_unknown_parsers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        fuzz.main(["nope"])
    assert left.value.code == 2
    assert "unknown parser 'nope'; known are formats, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "given", "least"),
    [
        ("--workers", "0", 1),
        ("--workers", "-1", 1),
        ("--inputs", "0", 1),
        ("--inputs", "-5", 1),
        ("--first", "-5", 0),
        ("--first", "9" * 30, 0),
    ],
)
def test_runs_that_would_try_nothing_are_refused_in_one_line(
    option: str, given: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        fuzz.main(["devices", option, given])
    assert left.value.code == 2
    said = capsys.readouterr()
    allowed = f"allowed are integers from {least} to 1000000000"
    assert (said.out, said.err) == ("", f"error: {option} is {given}; {allowed}\n")


def test_help_says_that_each_parser_reads_at_least_one_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        fuzz.main(["--help"])
    assert "each reads at least one" in " ".join(capsys.readouterr().out.split())
    done = run("devices", "formats", "--inputs", "1")  # a process of its own, as the command forks
    assert done.stdout.endswith("2 inputs, 0 faults\n")


def test_sentences_end_and_changes_are_few() -> None:
    rng = random.Random(0)
    assert all(set(sentence(rng, GRAMMAR)) <= set("a()") for _ in range(100))
    texts = {changed_text(rng, "a" * 50, words_of(GRAMMAR)) for _ in range(100)}
    data = {changed_bytes(rng, bytes(50)) for _ in range(100)}
    assert min(len(texts), len(data)) > 50
