"""Questions and answers: JSON in, JSON out, the standard library alone; bad input in one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from precsim.explorer.answers import MOST_REQUESTS, QUESTIONS, answer
from tests.explorer.requests import REQUESTS

ROOT = Path(__file__).parent.parent.parent
DEFAULT = {"question": "number", "value": "1", "format": "fp16"}


def test_every_question_has_an_answer_that_is_json() -> None:
    asked = {request["question"] for request in REQUESTS}
    assert asked | {"about", "many", "tensors"} == set(QUESTIONS)
    for request in REQUESTS:
        found = answer(request)
        assert "error" not in found, found
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_answers_need_the_standard_library_alone_and_are_the_same_there() -> None:
    program = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from precsim.explorer.answers import answer
print(json.dumps(answer({{"question": "many", "requests": json.loads(sys.stdin.read())}})))
print(json.dumps(sorted(m for m in sys.modules if m in ("numpy", "jax", "ml_dtypes"))))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        input=json.dumps(REQUESTS),
        capture_output=True,
        text=True,
        check=True,
    )
    bare, loaded = map(json.loads, done.stdout.splitlines())
    assert loaded == []
    assert bare == answer({"question": "many", "requests": REQUESTS})


def test_about_names_the_version() -> None:
    found = answer({"question": "about"})
    assert found["precsim"] == ps.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["has_numpy"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (None, "a request is a JSON object"),
        ([], "a request is a JSON object"),
        ({}, "question is None; allowed are"),
        ({"question": ["number"]}, "question is ['number']; allowed are"),
        ({"question": "numbr"}, "did you mean 'number'?"),
        ({"question": "number"}, "format is None; allowed are texts"),
        (DEFAULT | {"value": 1}, "value is 1; allowed are texts"),
        (DEFAULT | {"value": "zz"}, "'zz' is not a number"),
        (DEFAULT | {"value": "1e999999999"}, "the exponent of"),
        (DEFAULT | {"value": "9**9**9"}, "is not a number"),
        (DEFAULT | {"value": "1" * 300_000}, "value has 300000 characters"),
        (DEFAULT | {"value": "1" * 2_000}, "is not a number of at most"),
        (DEFAULT | {"format": "fp15"}, "did you mean 'fp16'?"),
        (DEFAULT | {"format": "x" * 101}, "format has 101 characters"),
        (DEFAULT | {"format": "mxfp4"}, "allowed are formats of single numbers"),
        (DEFAULT | {"format": "float(e=inf,p=8)"}, "has no codes"),
        (DEFAULT | {"format": "float(e=16,p=11)"}, "has values that float64 has not"),
        (DEFAULT | {"mode": "up"}, "mode is 'up'; allowed are"),
        (DEFAULT | {"overflow": "wrap"}, "overflow is 'wrap' for fp16; allowed are"),
        (DEFAULT | {"random_bits": -1}, "random_bits is -1; allowed are integers from 0"),
        (DEFAULT | {"random_bits": 1.5}, "random_bits is 1.5"),
        ({"question": "code", "format": "e4m3", "code": "0x1ff"}, "code has more bits than e4m3"),
        ({"question": "code", "format": "e4m3", "code": "hello"}, "is 'hello'; allowed are bits"),
        ({"question": "many", "requests": 3}, "requests is no list"),
        ({"question": "many", "requests": [{}] * (MOST_REQUESTS + 1)}, "requests is no list"),
        ({"question": "many", "requests": [{"question": "many"}]}, "allowed are the others"),
    ],
)
def test_bad_input_gets_one_line(request_: Any, said: str) -> None:
    found = answer(request_)
    assert list(found) == ["error"]
    assert said in found["error"]
    assert "\n" not in found["error"]
    assert len(found["error"]) < 400


def test_one_bad_request_among_many_spoils_no_other() -> None:
    found = answer({"question": "many", "requests": [DEFAULT, {}, DEFAULT]})["answers"]
    assert found[0] == found[2]
    assert found[0]["value"] == "1"
    assert list(found[1]) == ["error"]
