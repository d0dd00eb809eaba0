"""Questions and answers: JSON in, JSON out, the standard library alone; bad input in one line."""

import base64
import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
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


def test_many_slow_requests_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precsim.explorer.answers.MOST_SECONDS", -1)
    found = answer({"question": "many", "requests": [DEFAULT, DEFAULT]})["answers"]
    assert found == [{"error": "requests take more than -1 seconds; ask fewer at once"}] * 2


VALUES: list[Any] = [
    *(None, True, 0, -1, 3, 10**30, 1.5, math.nan, math.inf, "", "x", "-", "1e999", "nan", "-inf"),
    *([], ["w"], [[]], [None], {}, {"kind": "float"}, {"a": []}, "1 x 3", "1, -inf, nan", "\ud800"),
    *(
        "fp16",
        "e4m3:sr",
        "q3.4:wrap",
        "nvfp4",
        "float(e=5,p=4)",
        "h100:fp16",
        "b200:nvfp4",
        "0x1ff",
    ),
    *("0b1_1", "9" * 90, "\0", "\n", "x.npy", "AAAA", "1/0", "kahan", "blocked0", "e8m0", ["fp16"]),
    *("fp16_fp16_fp32:exact", "q1100.1", "h100:e4m3:promote0", "q-1.0:sr", "int8", "mxfp4", "raw"),
    {"kind": "float", "precision": 3, "exponent_bits": 4, "bias": 10**9},
    {"kind": "float", "precision": 53, "exponent_bits": 1100, "specials": []},
    {"kind": "float", "precision": 1, "exponent_bits": 2, "is_signed": False},
    {"kind": "fixed", "integer_bits": -1100, "fraction_bits": 1100},
    {"kind": "fixed", "integer_bits": 0, "fraction_bits": 1, "is_signed": "no"},
]
FIELDS = sorted({name for request in REQUESTS for name in request} | {"file", "name", "tensor"})
FIELDS += ["mode", "overflow", "subnormals", "random_bits", "seed", "first", "code", "example"]


@pytest.mark.parametrize("seed", range(4))
def test_random_requests_get_an_answer_or_one_line(seed: int) -> None:
    """Requests of the page with fields exchanged for anything that JSON has; nothing is raised."""
    random = Random(seed)
    for _ in range(150):
        request = dict(random.choice(REQUESTS))
        for _ in range(random.randint(1, 3)):
            request[random.choice(FIELDS)] = random.choice(VALUES)
        found = answer(request)
        json.dumps(found, allow_nan=False)
        if "error" in found:
            assert list(found) == ["error"], request
            assert found["error"], request
            assert "\n" not in found["error"], request
            assert "--" not in found["error"], request


def _npy(head: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + b"\0" * 8


def _safetensors(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


def test_random_files_get_an_answer_or_one_line() -> None:
    random = Random(1)
    parts = ["1e999", "-1e999", "()", "[]", "(2,)", "(1e999,)", "'<f4'", "{}", "None", "{[]: 1}"]
    odd = [*VALUES, [0, 8], [0, 1e999], [0, 8, 9], [-1, 3], [2], "F32", "F16"]
    for _ in range(150):
        descr, shape = random.choice(parts), random.choice(parts)
        file = random.choice(
            [
                ("x.npy", _npy(f"{{'descr': {descr}, 'shape': {shape}}}")),
                ("x.npy", _npy(random.choice(parts))),
                ("x", _safetensors(random.choice(odd))),
                ("x", _safetensors({"w": random.choice(odd)})),
                *(
                    ("x", _safetensors({"w": {"dtype": dtype, "shape": of, "data_offsets": at}}))
                    for dtype, of, at in [
                        ("F32", [2], random.choice(odd)),
                        ("F32", random.choice(odd), [0, 8]),
                        (random.choice(odd), [2], [0, 8]),
                    ]
                ),
            ]
        )
        encoded = base64.b64encode(file[1]).decode()
        tensor = random.choice([None, "w", *odd])
        request = {"question": "histogram", "formats": ["fp16"], "file": encoded, "tensor": tensor}
        found = answer({**request, "name": file[0]})
        assert "bins" in found or list(found) == ["error"]


def test_one_bad_request_among_many_spoils_no_other() -> None:
    found = answer({"question": "many", "requests": [DEFAULT, {}, DEFAULT]})["answers"]
    assert found[0] == found[2]
    assert found[0]["value"] == "1"
    assert list(found[1]) == ["error"]
