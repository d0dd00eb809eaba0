"""Functions by short names, for the tests of this folder."""

from collections.abc import Iterator

import precsim as ps
from conformance.emission.blocks import block_functions
from conformance.emission.command import rows
from conformance.emission.dots import dot_product
from conformance.emission.functions import Function, Rounding, roundings
from conformance.emission.layouts import Row
from conformance.vector_file import Task


def rounding(name: str) -> Rounding:
    """Return the function of "bf16 round e4m3 rne saturate" or "e4m3 add e4m3 rne infinity"."""
    source, operation, fmt, mode, rule = name.split()
    task = Task(operation=operation, format=fmt, rule=rule, mode=mode)
    return roundings(operation, [source], [task])[0]


def function_of(name: str) -> Function:
    """Return a rounding, the scale or element of "mxfp4 scale" or "mxfp4 rne", or a dot product."""
    words = name.split()
    if len(words) == 2:
        found = {f.name.rpartition(".")[2]: f for f in block_functions(mx(words[0]), ["rne"])}
        return found[words[1]]
    return rounding(name) if len(words) > 2 else dot_product(name)


def mx(name: str) -> ps.BlockFormat:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.BlockFormat)
    return fmt


def emitted(name: str, count: int = 0) -> Iterator[Row]:
    """Yield the cases of a function."""
    return rows(function_of(name), count, 754)
