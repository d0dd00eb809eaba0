"""One request of each question, as the page asks them."""

from typing import Any

ADDENDS = "2048, 1 x 9"
FAMOUS = {"a": "-2^13, -0.5, -0.25, -0.125", "b": "2^10, 1, 1, 1", "c": "2^23"}

REQUESTS: list[dict[str, Any]] = [
    {"question": "number", "value": "0.1", "format": "fp16"},
    {"question": "code", "code": "0x3c01", "format": "fp16"},
    {"question": "roundings", "value": "1+2**-11", "format": "fp16"},
    {"question": "line", "value": "2.6", "format": "e2m1", "view": "whole", "scale": "log"},
    {"question": "table", "format": "e2m1"},
    {"question": "formats"},
    {"question": "examples"},
    {"question": "histogram", "values": "1, 0, nan, 2**-30", "formats": ["fp16", "q3.4"]},
    {"question": "loss_scales", "values": "1e-3, 3e-8", "format": "fp16"},
    {"question": "block", "values": "1, 0.1, -7", "format": "mxfp4"},
    {"question": "block", "values": "1, 0.1, -7", "format": "nvfp4"},
    {
        "question": "sum",
        "addends": ADDENDS,
        "format": "fp16",
        "order": "kahan",
        "arrangement": "reversed",
    },
    {"question": "orders", "addends": ADDENDS, "format": "fp16"},
    {"question": "tensor_core", "machine": "h100:fp16", **FAMOUS},
]
