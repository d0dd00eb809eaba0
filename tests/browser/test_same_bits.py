"""Python in the tab computes the bits that this Python computes."""

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

import precsim as ps
from precsim.explorer.answers import MOST_REQUESTS, answer
from tests.browser.driving import open_panel, panels

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

pytestmark = pytest.mark.browser

ROUNDINGS = 10_000
FORMATS = (
    *("fp64", "fp32", "tf32", "bf16", "fp16", "e5m2", "e4m3", "e4m3fnuz", "ieee_e4m3", "e3m2"),
    *("e2m1", "e8m0", "p3109_k8p4se", "float(e=6,p=10)", "q3.4", "uq0.8", "q15.16"),
)
ASK = """async (requests) => {
    const { ask } = await import(new URL("transport.js", document.baseURI).href);
    return await ask({ question: "many", requests });
}"""


def asked(page: "Page", requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the answers of the page's Python, which takes several requests at once."""
    for k in range(0, len(requests), MOST_REQUESTS):
        answers = page.evaluate(ASK, requests[k : k + MOST_REQUESTS])
        assert "error" not in answers, answers
        yield from answers["answers"]


def random_number(draw: random.Random, fmt: ps.FloatFormat | ps.FixedPointFormat) -> Fraction:
    """Return a number of the size of a format's values: anywhere, near a value, or between two."""
    code = draw.getrandbits(fmt.width or 0)
    value = ps.oracle.decode_exact(code, fmt)
    try:
        middle = Fraction(value)
    except (ValueError, OverflowError):  # NaN, infinity
        return Fraction(draw.getrandbits(70), draw.getrandbits(60) + 1)
    ulp = Fraction(ps.oracle.ulp_exact(middle, fmt))
    return middle + ulp * draw.choice(
        [Fraction(0), Fraction(1, 2), Fraction(-1, 4), Fraction(draw.randint(-99, 99), 97)]
    )


def random_rounding(draw: random.Random) -> tuple[Fraction, ps.RoundingSpec, int]:
    """Return a number, a format with a rule, and random bits for the rule."""
    fmt = ps.get_format(draw.choice(FORMATS))
    assert isinstance(fmt, ps.FloatFormat | ps.FixedPointFormat)
    while True:
        mode = draw.choice([*ps.options.RoundingMode])
        try:
            spec = ps.RoundingSpec(format=fmt, mode=mode)
        except ValueError:  # the format has no such mode
            continue
        return random_number(draw, fmt), spec, draw.getrandbits(spec.num_random_bits or 0)


def test_roundings(tab: "Page") -> None:
    draw = random.Random(19)
    given = [random_rounding(draw) for _ in range(ROUNDINGS)]
    requests = [
        {
            "question": "number",
            "value": str(number),
            "format": ps.get_format(spec.format).name,
            "mode": str(spec.mode),
            "random_bits": bits,
        }
        for number, spec, bits in given
    ]
    wrong = []
    for (number, spec, bits), found in zip(given, asked(tab, requests), strict=True):
        value, flags = ps.oracle.round_exact(number, spec, random_bits=bits)
        raised = [str(flag.name) for flag in ps.oracle.Flags if flag in flags]
        names = {name.lower().replace("_", " ") for name in raised}
        code = int(found["code"], 16) if found["code"] else None
        expected = None if code is None else ps.oracle.encode_exact(value, spec.format)
        if code != expected or set(found["flags"]) != names or found["spec"] != str(spec):
            wrong.append((number, str(spec), bits, found))
    assert wrong == []


DOTS = 100
PRODUCTS = 16
MACHINES = ("v100:fp16", "a100:bf16", "a100:fp16", "a100:tf32", "h100:e4m3", "h100:fp16")


def random_dot(draw: random.Random) -> tuple[str, list[list[float]], float]:
    """Return a machine, operands of its formats and of very different sizes, and an accumulator."""
    machine = draw.choice(MACHINES)
    fmt = machine.partition(":")[2]

    def number() -> float:
        size = draw.uniform(-1, 1) * 2.0 ** draw.randint(-6, 6)
        return ps.oracle.round_exact(size, fmt).value

    first = ps.oracle.round_exact(draw.uniform(-1, 1) * 2.0 ** draw.randint(-4, 12), "fp16").value
    return machine, [[number() for _ in range(PRODUCTS)] for _ in "ab"], first


def test_dot_products_of_tensor_cores(tab: "Page") -> None:
    draw = random.Random(20)
    given = [random_dot(draw) for _ in range(DOTS)]
    requests = [
        {
            "question": "tensor_core",
            "machine": machine,
            "a": ", ".join(map(float.hex, a)),
            "b": ", ".join(map(float.hex, b)),
            "c": first.hex(),
        }
        for machine, (a, b), first in given
    ]
    wrong = []
    for (machine, (a, b), first), found in zip(given, asked(tab, requests), strict=True):
        expected = ps.oracle.fused_dot_exact(a, b, first, machine)
        if float.fromhex(found["result"]["hex_float"]) != expected:
            wrong.append((machine, a, b, first, expected, found["result"]))
    assert wrong == []


def test_what_is_asked_wrongly_gets_one_line(tab: "Page") -> None:
    refused = tab.evaluate(ASK, "no list")
    assert "requests is no list" in refused["error"]


def test_whatever_a_panel_asks_has_the_same_answer(served: "Page", tab: "Page") -> None:
    """Texts and drawings too, and the examples, which a stream of integers makes."""
    requests: list[dict[str, Any]] = []

    def keep(request: "Request") -> None:
        if request.method == "POST":
            requests.append(request.post_data_json or {})

    served.on("request", keep)
    for name in panels(served):
        open_panel(served, name, value="3.14159", format="e4m3", addends="0.1 x 20")
    questions = {request["question"] for request in requests}
    assert len(questions) >= len(panels(served))
    for request, found in zip(requests, asked(tab, requests), strict=True):
        assert found == answer(request), request
