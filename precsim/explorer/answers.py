"""From a question of the page to its answer: one function, JSON in and JSON out.

It runs on the standard library alone, so that it runs in a browser too.
"""

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from time import monotonic
from typing import Any

from precsim.explorer import bits, blocks, choices, data, line, ranges, sums, table
from precsim.explorer.asked import Asked, choice
from precsim.explorer.tensor_core import tensor_core

Answer = dict[str, Any]

MOST_REQUESTS = 500
"""Requests that "many" takes at once."""
MOST_SECONDS = 60
"""Time after which "many" begins no other request: numbers of 10,000 digits take a second each."""


def answer(request: Any) -> Answer:
    """Answer a question.

    Parameters
    ----------
    request : dict
        A JSON object: ``question`` is one of `QUESTIONS`, the others are its arguments. Exact
        numbers are texts.

    Returns
    -------
    dict
        A JSON object; ``{"error": "one line"}`` if the request is not understood.

    Examples
    --------
    >>> answer({"question": "number", "value": "0.1", "format": "e4m3"})["value"]
    '0.1015625'
    >>> answer({"question": "number", "value": "O.1", "format": "e4m3"})["error"][:22]
    "'o.1' is not a number;"
    """
    try:
        if not isinstance(request, Mapping):
            raise TypeError("a request is a JSON object with the name of a question")
        return QUESTIONS[choice(request, "question", QUESTIONS)](request)
    except (ValueError, TypeError) as error:
        return {"error": " ".join(str(error).split())}


def _about(asked: Asked) -> Answer:
    """Say what answers: the versions, and whether arrays can be computed with."""
    from precsim import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "precsim": __version__,
        "python": python,
        "platform": sys.platform,
        "has_numpy": find_spec("numpy") is not None,
        "questions": list(QUESTIONS),
    }


def _many(asked: Asked) -> Answer:
    """Answer several requests at once."""
    requests = asked.get("requests")
    if not isinstance(requests, list) or len(requests) > MOST_REQUESTS:
        raise ValueError(f"requests is no list of at most {MOST_REQUESTS} requests")
    if any(isinstance(r, Mapping) and r.get("question") == "many" for r in requests):
        raise ValueError("requests has the question 'many'; allowed are the others")
    end = monotonic() + MOST_SECONDS
    late = {"error": f"requests take more than {MOST_SECONDS} seconds; ask fewer at once"}
    return {"answers": [answer(each) if monotonic() <= end else late for each in requests]}


QUESTIONS: dict[str, Callable[[Asked], Answer]] = {
    "about": _about,
    "many": _many,
    "formats": choices.formats,
    "number": bits.number,
    "code": bits.code,
    "roundings": bits.roundings,
    "line": line.line,
    "table": table.table,
    "examples": data.examples,
    "tensors": data.tensors,
    "histogram": ranges.histogram,
    "loss_scales": ranges.loss_scales,
    "block": blocks.block,
    "sum": sums.sum_steps,
    "orders": sums.sum_orders,
    "tensor_core": tensor_core,
}
"""Question -> what answers it."""
