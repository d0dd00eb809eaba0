"""How a function's cases are written: a hex file, TestFloat's columns, or a header for C."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from conformance.emission.codes import nan_codes, width
from conformance.emission.functions import Function, Inputs

Row: TypeAlias = tuple[Inputs, int, int | None]
"""Inputs, result and exceptions of one case."""

CHECKER = Path(__file__).with_name("checker.c")
ENDINGS = {"hex": ".hex", "testfloat": ".txt", "c": ".h"}
"""Layouts, and how the names of their files end."""


def lines(layout: str, function: Function, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a file; the rows are read one by one."""
    return {"hex": _hex, "testfloat": _testfloat, "c": _c}[layout](function, rows)


def header(function: Function) -> list[str]:
    """Return what a reader has to know, in lines of "key: value"."""
    nan = nan_codes(function.result)
    columns = [str(column) for column in function.columns]
    names = [*columns, f"result:{function.result}", *(["flags"] if function.has_flags else [])]
    words = f"{_inputs(function)} inputs of {_widest(function)} bits at most"
    nans = f"mask {nan.mask:x} from {nan.first:x} to {nan.last:x}"
    return [
        f"function: {function.name}",
        *(f"{key}: {value}" for key, value in function.facts.items()),
        f"columns: {' '.join(names)}",
        f"words: {words}, 1 result of {width(function.result)} bits",
        f"nan: {nans if nan.first <= nan.last else 'none'}",
        *(
            ["flags: 1 inexact, 2 underflow, 4 overflow, 8 infinite, 16 invalid"]
            * function.has_flags
        ),
    ]


def _digits(bits: int) -> int:
    return -(-bits // 4)


def _inputs(function: Function) -> int:
    return sum(column.count for column in function.columns)


def _widest(function: Function) -> int:
    return max(width(column.format) for column in function.columns)


def _hex(function: Function, rows: Iterable[Row]) -> Iterator[str]:
    """Lines of hexadecimal words, which Verilog's $readmemh reads; headers are comments."""
    yield from (f"// {line}" for line in header(function))
    count = 0
    for words in _words(function, rows, upper=False):
        count += 1
        yield " ".join(words)
    yield f"// cases: {count}"


def _testfloat(function: Function, rows: Iterable[Row]) -> Iterator[str]:
    """Lines as of testfloat_gen: operands, result, flags, in upper-case hexadecimal digits."""
    for words in _words(function, rows, upper=True):
        yield " ".join(words)


def _words(function: Function, rows: Iterable[Row], *, upper: bool) -> Iterator[list[str]]:
    kind = "X" if upper else "x"
    formats = [c.format for c in function.columns for _ in range(c.count)] + [function.result]
    digits = [f"0{_digits(width(fmt))}{kind}" for fmt in formats]
    for inputs, result, flags in rows:
        words = [format(x, spec) for x, spec in zip((*inputs, result), digits, strict=True)]
        yield words if flags is None else [*words, format(flags, f"02{kind}")]


def identifier(name: str) -> str:
    """Return a name in C.

    Examples
    --------
    >>> identifier("bf16_to_e4m3.rne.saturate")
    'bf16_to_e4m3_rne_saturate'
    """
    return re.sub(r"\W", "_", name)


def _c(function: Function, rows: Iterable[Row]) -> Iterator[str]:
    """Return a header with one array of words, and a `struct vectors` that describes it."""
    name = identifier(function.name)
    bits = next(n for n in (8, 16, 32, 64) if n >= max(_widest(function), width(function.result)))
    ending = "ULL" if bits == 64 else "U"
    nan = nan_codes(function.result)
    yield "/*"
    yield from (f" * {line}" for line in header(function))
    yield " */"
    yield f"static const uint{bits}_t {name}_words[] = {{"
    count = 0
    for inputs, result, flags in rows:
        count += 1
        words = [*inputs, result, *([] if flags is None else [flags])]
        yield "  " + ", ".join(f"0x{word:x}{ending}" for word in words) + ","
    yield "};"
    yield f"static const struct vectors {name} = {{"
    yield f'  "{function.name}", {name}_words, {bits // 8}, {count}, {_inputs(function)},'
    nans = ", ".join(f"0x{word:x}ULL" for word in nan)
    yield f"  {int(function.has_flags)}, {nans}"
    yield "};"
